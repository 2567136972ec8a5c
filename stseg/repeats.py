"""Frames that repeat the one before them, as a conversion of the frame rate leaves them (ours).

A video of 24 frames a second that was made one of 30 shows every fourth frame twice. Between the
two nothing moves, and a triplet with such an instant says that everything stopped and went on: no
motion model that is linear in time explains it. So triplets are made of the frames that differ, and
a frame that repeats another takes its masks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float16, Float32, UInt8

from stseg.linkage import match, overlap
from stseg.spool import Spool
from stseg.timeline import FramePrediction, Timeline
from stseg.volume import FlowFields

SMALL = 0.15
"""A field is still below this share of what moves before and after it.

In the sequences of DAVIS2016, where nothing is doubled, the smallest share was 0.16. Frames that
were doubled and coded anew with a usual quality have less than 0.1; where little moves and the
quality is low, what the codec moves hides them, and they count as any frame.
"""

REACH = 4
"""No more than so many still fields follow one another: what is still for longer stands still."""


class DistinctFrames:
    """The frames of a clip that repeat no other one, and the flow between them.

    They are counted by themselves: of frames a b b c, c is number 2. A field between repeats is
    recognised by its strength alone, the root mean square of its vectors, against that of the
    fields before and after it. What stands still for longer is no repeat.

    Args:
        flow: of the clip; it grows between calls of ``look``.
    """

    def __init__(self, flow: FlowFields) -> None:
        self._flow = flow
        self._strengths: list[float] = []
        self._decided = 0  # fields
        self._moving: list[int] = []  # fields between frames that differ
        self._frames = 0

    def look(self, frames: int, ended: bool) -> int:
        """How many distinct frames are known.

        Args:
            frames: frames of the clip so far; the flow between them is there.
            ended: whether there are no more.
        """
        self._frames = frames
        fields = self._flow.forward if len(self._flow.forward) else self._flow.backward
        while len(self._strengths) < frames - 1:
            self._strengths.append(_strength(fields[len(self._strengths)]))
        while self._decided < len(self._strengths):
            repeats = self._repeats(self._decided, ended)
            if repeats is None:
                break
            if not repeats:
                self._moving.append(self._decided)
            self._decided += 1
        return min(len(self._moving) + 1, frames)

    def copies(self, distinct: int) -> range:
        """Frames of the clip that show a distinct frame, of those that were looked at."""
        known = distinct < len(self._moving)
        return range(self.first(distinct), self._moving[distinct] + 1 if known else self._frames)

    def first(self, distinct: int) -> int:
        """The first frame of the clip that shows a distinct frame.

        One that is not known yet is as far behind the last known one as if none repeated.
        """
        known = len(self._moving)
        if distinct > known:
            return self.first(known) + distinct - known
        return self._moving[distinct - 1] + 1 if distinct else 0

    def shown_at(self, frame: int) -> int:
        """Which distinct frame a frame of the clip shows."""
        return bisect_left(self._moving, frame)

    @property
    def moving(self) -> tuple[int, ...]:
        """The fields between frames that differ, of those decided."""
        return tuple(self._moving)

    @property
    def repeated(self) -> int:
        """Frames that repeat the one before them, of those decided."""
        return self._decided - len(self._moving)

    def at(self, frame: int, backward: bool) -> Float32[np.ndarray, "2 h w"]:
        """Motion from a distinct frame to the next one, or to the one before it."""
        return self._flow.at(self._source(frame, backward), backward)

    def volume(self, frames: Sequence[int], backward: bool) -> Float32[np.ndarray, "2 t h w"]:
        """The fields of these distinct frames as one volume of flow."""
        return self._flow.volume([self._source(each, backward) for each in frames], backward)

    def _source(self, distinct: int, backward: bool) -> int:
        """The copy of a distinct frame that lies beside the neighbour its motion leads to."""
        return self.first(distinct) if backward else self._moving[distinct]

    def _repeats(self, field: int, ended: bool) -> bool | None:
        """Whether nothing moves in a field alone; None where what follows has to be waited for."""
        first, own = max(field - REACH, 0), self._strengths[field]
        near = self._strengths[first : field + REACH + 1]
        moving = [first + index for index, each in enumerate(near) if own < SMALL * each]
        # An end of the clip stands for motion, so that its first and last frame may repeat, too.
        at_first = -1 if first == 0 else first - 1
        before = max((each for each in moving if each < field), default=at_first)
        after = min((each for each in moving if each > field), default=first + len(near))
        if after == len(self._strengths) and not ended and after - before <= REACH + 1:
            return None
        return bool(moving) and after - before <= REACH + 1


class ClipLine:
    """A timeline of distinct frames, told for every frame of the clip.

    Where labels start anew between two copies of a frame, the later ones are named as the frame
    after them is, whose segments overlap theirs.

    Args:
        line: what says something of each distinct frame.
        distinct: what the line was given as its flow.
        subsequence: that of the line, in frames of the clip; 0 is the whole clip.
    """

    def __init__(self, line: Timeline, distinct: DistinctFrames, subsequence: int = 0) -> None:
        self._line = line
        self._distinct = distinct
        self._subsequence = subsequence
        self._waiting: tuple[list[int], FramePrediction] | None = None

    def advance(self, frames: int, ended: bool) -> Iterator[tuple[int, FramePrediction]]:
        """Predictions of the frames of the clip that can be decided now, in order.

        Args:
            frames: see ``DistinctFrames.look``.
            ended: see there.
        """
        known = self._distinct.look(frames, ended)
        for index, prediction in self._line.advance(known, ended):
            yield from self._released(prediction)
            copies = self._distinct.copies(index)
            same = [each for each in copies if self._part(each) == self._part(copies[0])]
            for frame in same:
                yield frame, prediction
            if len(same) < len(copies):
                self._waiting = list(copies)[len(same) :], prediction
        if ended:
            yield from self._released(None)

    def _released(self, after: FramePrediction | None) -> Iterator[tuple[int, FramePrediction]]:
        if self._waiting is None:
            return
        frames, prediction = self._waiting
        self._waiting = None
        if after is not None:
            scores = overlap(_segments(after), _segments(prediction), len(prediction.masks))
            names = after.assignment[match(scores, "one-to-one")]
            prediction = replace(prediction, assignment=names)
        for frame in frames:
            yield frame, prediction

    def _part(self, frame: int) -> int:
        return frame // self._subsequence if self._subsequence else 0


def _segments(prediction: FramePrediction) -> UInt8[np.ndarray, "1 h w"]:
    return prediction.masks.argmax(0).astype(np.uint8)[None]


def moving_fields(flow: Float16[np.ndarray, "n 2 h w"]) -> tuple[int, ...]:
    """Which fields of a clip's flow are between frames that differ."""
    fields = FlowFields(Spool(flow.nbytes))
    for field in flow:
        fields.forward.append(field)
    distinct = DistinctFrames(fields)
    distinct.look(len(flow) + 1, ended=True)
    fields.close()
    return distinct.moving


def _strength(field: np.ndarray) -> float:
    """Root mean square of the vectors of a field (2, h, w), in its own unit."""
    vectors = field.astype(np.float32)
    return float(np.sqrt(np.mean(np.einsum("chw,chw->hw", vectors, vectors))))
