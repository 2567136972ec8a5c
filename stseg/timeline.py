"""From the triplets that a video holds to one prediction for every frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from stseg.linkage import Linker, Partition, match, overlap
from stseg.records import dequantise, quantise
from stseg.volume import Motion, fitting_centres, move_masks, triplet

BATCH = 4
"""Volumes in one pass of the network, where that is faster than one at a time."""

Triplet = tuple[int, int, int]


@dataclass(frozen=True)
class Prediction:
    """What the network says of b triplets, instants in the order of the volume.

    Attributes:
        masks: soft masks, 255 for certainty (see ``stseg.records.quantise``).
        segments: argmax of the masks.
        latents: χ of each segment at each instant; zeros for one without a site.
    """

    masks: UInt8[np.ndarray, "b t k h w"]
    segments: UInt8[np.ndarray, "b t h w"]
    latents: Float32[np.ndarray, "b t k c"]


Predict = Callable[[Sequence[Triplet], bool], Prediction]
"""Frames of some triplets, and whether they are of backward flow → what the network says."""


@dataclass(frozen=True)
class FramePrediction:
    """One frame, in the order of the network, and the linked label of each segment.

    Attributes:
        masks: soft masks, 255 for certainty.
        assignment: linked label of each of the network's segments.
        latents: χ of each segment; zeros for one without a site.
    """

    masks: UInt8[np.ndarray, "k h w"]
    assignment: UInt8[np.ndarray, " k"]
    latents: Float32[np.ndarray, "k c"]

    def labels(self) -> UInt8[np.ndarray, "h w"]:
        """Linked labels on the network's grid."""
        return self.assignment[self.masks.argmax(0)]

    def linked(self) -> Partition:
        """The frame by linked label, as linkage takes it."""
        segments = self.masks.argmax(0).astype(np.uint8)[None]
        return Partition(segments, self.latents[None]).named(self.assignment)


class Timeline:
    """Predicts and links the frames of one video in order, as its flow arrives.

    A frame t has the central prediction of its triplet (t - τ, t, t + τ) where this fits into the
    video. The first and the last |τ| frames that have flow take the prediction of the triplet |τ|
    frames further in, at its first or last instant. Where that does not fit either (a video hardly
    longer than a triplet) the triplet of t repeats the fields at the ends of the video. The last
    frame has no motion to a next one (the first frame, for negative τ): it takes the masks of its
    neighbour, moved along the neighbour's flow. Its latents are those of the neighbour.

    With a stride of 2 only every second triplet is predicted, the last one that fits always. The
    frames between are the last instant of one triplet and the first of the next, and take the mean
    of both predictions, made as that of several τ.

    With several τ the first one is the reference: where the triplets of the others fit, their
    central predictions are matched to it one-to-one by IoU, and the soft masks are averaged; so
    are the latents, each over the τ whose triplet has a site of the segment.

    Args:
        flow: fields of the clip; it grows between calls of ``advance``.
        predict: the network.
        k: number of segments.
        taus: temporal steps; the first is the reference.
        linkage: how segments are linked over time.
        size: (H, W) of the source, which is the unit of the flow.
        subsequence: link anew at every multiple of so many frames; 0 never does.
        similarity: weight of the similarity of χ in the linkages that use it.
        stride: frames from one triplet to the next; 2 only for a single τ of 1 or -1.
        batch: triplets that the network is asked for at a time.
        number: of a frame in the clip, by which sub-sequences count, where it is another one.
    """

    def __init__(
        self,
        flow: Motion,
        predict: Predict,
        k: int,
        taus: Sequence[int],
        linkage: str,
        size: tuple[int, int],
        subsequence: int = 0,
        similarity: float = 1.0,
        stride: int = 1,
        batch: int = BATCH,
        number: Callable[[int], int] = int,
    ) -> None:
        self._flow = flow
        self._number = number
        self._predict = predict
        self._k = k
        self._taus = tuple(taus)
        self._size = size
        self._subsequence = subsequence
        self._tau = self._taus[0]
        self._reach = abs(self._tau)
        self._linker = Linker(k, linkage, self._reach, similarity)
        # The first frame with a field is 0 forwards and 1 backwards.
        self._first = 0 if self._tau > 0 else 1
        self._stride = stride
        self._batch = batch
        self._begin = self._first + self._reach  # the first triplet that fits
        self._centre: int | None = None  # of the latest triplet
        self._next_frame = 0
        self._triplets: dict[int, tuple[_Seen, np.ndarray]] = {}
        self._latest: FramePrediction | None = None

    def advance(self, frames: int, ended: bool) -> Iterator[tuple[int, FramePrediction]]:
        """Predictions of the frames that can be decided now, in order.

        Args:
            frames: frames read so far; their flow is in ``flow``.
            ended: whether there are no more.
        """
        last = frames - 2 if self._tau > 0 else frames - 1  # last frame with a field, so far
        furthest = max(abs(tau) for tau in self._taus)
        # Before the end nobody knows which triplets fit: only those with room on all sides go on.
        stop = last - self._reach + 1 if ended else frames - 1 - furthest
        while centres := self._open_centres(stop, ended):
            self._predict_centres(centres, frames)
            yield from self._decided(frames, last, ended)
        if ended:
            yield from self._decided(frames, last, ended)

    def _open_centres(self, stop: int, ended: bool) -> list[int]:
        """Centres of the next pass of the network, below ``stop``; before the end a full one."""
        begin = self._begin if self._centre is None else self._centre + self._stride
        centres = list(range(begin, stop, self._stride))
        latest = centres[-1] if centres else self._centre
        if ended and self._begin < stop and (latest is None or latest < stop - 1):
            centres.append(stop - 1)
        return centres[: self._batch] if ended or len(centres) >= self._batch else []

    def _predict_centres(self, centres: Sequence[int], frames: int) -> None:
        triplets = [triplet(centre, self._tau) for centre in centres]
        seen = {c: [one] for c, one in zip(centres, self._run(self._tau, triplets), strict=True)}
        for tau in self._taus[1:]:
            fits = fitting_centres(frames - 1, tau)
            fitting = [centre for centre in centres if centre in fits]
            if not fitting:
                continue
            others = self._run(tau, [triplet(centre, tau) for centre in fitting])
            for centre, other in zip(fitting, others, strict=True):
                seen[centre].append(other)
        for centre, every in seen.items():
            before = centre - 1 if self._centre is None else self._centre
            if self._part(centre) != self._part(before):
                self._linker.forget()
            one = _averaged(every)
            assignment = self._linker.follow(one.segments, one.latents, centre - before)
            self._triplets[centre] = one, assignment
            self._centre = centre

    def _run(self, tau: int, triplets: Sequence[Triplet]) -> list[_Seen]:
        """What the network says of these triplets, their instants in order of time."""
        told = self._predict(triplets, tau < 0)
        order = slice(None, None, -1 if tau < 0 else 1)
        return [
            _Seen(masks[order], segments[order], latents[order])
            for masks, segments, latents in zip(
                told.masks, told.segments, told.latents, strict=True
            )
        ]

    def _decided(
        self, frames: int, last: int, ended: bool
    ) -> Iterator[tuple[int, FramePrediction]]:
        while self._next_frame < frames:
            prediction = self._at(self._next_frame, last, ended)
            if prediction is None:
                return
            yield self._next_frame, prediction
            self._latest = prediction
            self._next_frame += 1
            for centre in [c for c in self._triplets if c < self._next_frame - self._reach]:
                del self._triplets[centre]

    def _at(self, frame: int, last: int, ended: bool) -> FramePrediction | None:
        """Prediction of ``frame``, or None while it is open."""
        if frame < self._first:
            neighbour = self._at(self._first, last, ended)
            return None if neighbour is None else self._moved(neighbour, self._first)
        if ended and frame > last:
            assert self._latest is not None
            return self._moved(self._latest, last)
        final = last - self._reach if ended else None
        if frame in self._triplets:
            one, assignment = self._triplets[frame]
            return one.at(1).named(assignment)
        beside = [(frame + self._reach, 0), (frame - self._reach, 2)]
        if any(self._to_come(centre, final) for centre in (frame, frame + self._reach)):
            return None
        if self._part(frame + self._reach) != self._part(frame):
            beside.reverse()  # the labels are those of the frame's own sub-sequence
        found = [(centre, instant) for centre, instant in beside if centre in self._triplets]
        if found:
            parts = found if self._stride > 1 else found[:1]
            seen = _mean([self._triplets[centre][0].at(instant) for centre, instant in parts])
            return seen.named(self._names(frame, found[0][0], seen))
        return self._repeated_ends(frame, last) if ended else None

    def _names(self, frame: int, centre: int, seen: _Instant) -> UInt8[np.ndarray, " k"]:
        """Linked labels of ``frame``, which the triplet of ``centre`` shows.

        Where that triplet belongs to another sub-sequence its labels have other names, and those
        of the frame before are taken, if it is of the same sub-sequence as ``frame``.
        """
        own = self._part(frame)
        if self._part(centre) != own and frame and self._part(frame - 1) == own:
            before = self._latest
            if before is not None:
                segments, latents = seen.segments[None], seen.latents[None]
                return self._linker.beside(before.linked(), segments, latents)
        return self._triplets[centre][1]

    def _part(self, frame: int) -> int:
        """Which sub-sequence a frame belongs to."""
        return self._number(frame) // self._subsequence if self._subsequence else 0

    def _to_come(self, centre: int, final: int | None) -> bool:
        """Whether a triplet will be predicted; ``final`` is the last that fits, once known."""
        if centre < self._begin or (self._centre is not None and centre <= self._centre):
            return False
        regular = (centre - self._begin) % self._stride == 0
        return regular if final is None else centre == final or (regular and centre < final)

    def _repeated_ends(self, frame: int, last: int) -> FramePrediction:
        """For a video too short: the triplet of ``frame`` with the fields at the ends repeated."""
        inside = [min(max(each, self._first), last) for each in triplet(frame, self._tau)]
        (one,) = self._run(self._tau, [(inside[0], inside[1], inside[2])])
        if self._latest is None:
            assignment = self._linker.follow(one.segments, one.latents)
        else:
            known = self._latest.linked()
            assignment = self._linker.beside(known, one.segments[1:2], one.latents[1:2])
        return one.at(1).named(assignment)

    def _moved(self, neighbour: FramePrediction, frame: int) -> FramePrediction:
        """The prediction of ``frame``, carried to the next frame in the direction of τ."""
        flow = self._flow.at(frame, backward=self._tau < 0)
        moved = move_masks(dequantise(neighbour.masks), flow, self._size)
        return replace(neighbour, masks=quantise(moved))


@dataclass(frozen=True)
class _Instant:
    """What the network says of one frame."""

    masks: UInt8[np.ndarray, "k h w"]
    segments: UInt8[np.ndarray, "h w"]
    latents: Float32[np.ndarray, "k c"]

    def named(self, assignment: UInt8[np.ndarray, " k"]) -> FramePrediction:
        """The frame with the linked labels of its segments."""
        return FramePrediction(self.masks, assignment, self.latents)


@dataclass(frozen=True)
class _Seen:
    """What the network says of one triplet, instants in order of time."""

    masks: UInt8[np.ndarray, "3 k h w"]
    segments: UInt8[np.ndarray, "3 h w"]
    latents: Float32[np.ndarray, "3 k c"]

    def at(self, instant: int) -> _Instant:
        """One of the three frames."""
        return _Instant(self.masks[instant], self.segments[instant], self.latents[instant])


def _averaged(seen: Sequence[_Seen]) -> _Seen:
    """The first one, its central instant averaged with those of the others."""
    first = seen[0]
    if len(seen) == 1:
        return first
    mean = _mean([each.at(1) for each in seen])
    masks, segments, latents = first.masks.copy(), first.segments.copy(), first.latents.copy()
    masks[1], segments[1], latents[1] = mean.masks, mean.segments, mean.latents
    return _Seen(masks, segments, latents)


def _mean(seen: Sequence[_Instant]) -> _Instant:
    """One frame as several triplets show it: put into the order of the first, and averaged."""
    first, *others = seen
    if not others:
        return first
    k = len(first.masks)
    total = first.masks.astype(np.float32)
    latents = first.latents.copy()
    counts = _present(first.segments, k).astype(np.float32)
    for other in others:
        scores = overlap(first.segments[None], other.segments[None], k)
        place = match(scores, "one-to-one")
        total[place] += other.masks
        latents[place] += other.latents
        counts[place] += _present(other.segments, k)
    masks = quantise(total / total.sum(axis=0))
    segments = masks.argmax(axis=0).astype(np.uint8)
    latents /= np.maximum(counts, 1)[:, None]
    latents[~_present(segments, k)] = 0
    return _Instant(masks, segments, latents)


def _present(segments: UInt8[np.ndarray, "h w"], k: int) -> Bool[np.ndarray, " k"]:
    return np.bincount(segments.ravel(), minlength=k) > 0
