"""From the triplets that a video holds to one prediction for every frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from stseg.linkage import Linker, match, overlap
from stseg.volume import FlowFields, move_masks, triplet

BATCH = 4
"""Volumes in one pass of the network."""

Predict = Callable[[list[np.ndarray]], np.ndarray]
"""Volumes (2, t, h, w) → soft masks (b, k, t, h, w)."""


@dataclass(frozen=True)
class FramePrediction:
    """Masks of one frame in the order of the network, and the linked label of each.

    Attributes:
        masks: soft masks, summing to 1 over k.
        assignment: linked label of each of the network's segments.
    """

    masks: Float32[np.ndarray, "k h w"]
    assignment: UInt8[np.ndarray, " k"]

    def labels(self) -> UInt8[np.ndarray, "h w"]:
        """Linked labels on the network's grid."""
        return self.assignment[self.masks.argmax(0)]


class Timeline:
    """Predicts and links the frames of one video in order, as its flow arrives.

    A frame t has the central prediction of its triplet (t - τ, t, t + τ) where this fits into the
    video. The first and the last |τ| frames that have flow take the prediction of the triplet |τ|
    frames further in, at its first or last instant. Where that does not fit either (a video hardly
    longer than a triplet) the triplet of t repeats the fields at the ends of the video. The last
    frame has no motion to a next one (the first frame, for negative τ): it takes the masks of its
    neighbour, moved along the neighbour's flow.

    With several τ the first one is the reference: where the triplets of the others fit, their
    central predictions are matched to it one-to-one by IoU, and the soft masks are averaged.

    Args:
        flow: fields of the clip; it grows between calls of ``advance``.
        predict: the network.
        k: number of segments.
        taus: temporal steps; the first is the reference.
        linkage: how segments are linked over time.
        size: (H, W) of the source, which is the unit of the flow.
        subsequence: link anew at every multiple of so many frames; 0 never does.
    """

    def __init__(
        self,
        flow: FlowFields,
        predict: Predict,
        k: int,
        taus: Sequence[int],
        linkage: str,
        size: tuple[int, int],
        subsequence: int = 0,
    ) -> None:
        self._flow = flow
        self._predict = predict
        self._k = k
        self._taus = tuple(taus)
        self._linkage = linkage
        self._size = size
        self._subsequence = subsequence
        self._tau = self._taus[0]
        self._reach = abs(self._tau)
        self._linker = Linker(k, linkage, self._reach)
        # The first frame with a field is 0 forwards and 1 backwards.
        self._first = 0 if self._tau > 0 else 1
        self._next_centre = self._first + self._reach
        self._next_frame = 0
        self._triplets: dict[int, tuple[np.ndarray, np.ndarray]] = {}
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
        while self._next_centre < stop:
            count = min(BATCH, stop - self._next_centre)
            if count < BATCH and not ended:
                break
            self._predict_centres(range(self._next_centre, self._next_centre + count), frames)
            self._next_centre += count
            yield from self._decided(frames, last, ended)
        if ended:
            yield from self._decided(frames, last, ended)

    def _predict_centres(self, centres: range, frames: int) -> None:
        masks = self._run(self._tau, [triplet(centre, self._tau) for centre in centres])
        for tau in self._taus[1:]:
            first, last = (0, frames - 2) if tau > 0 else (1, frames - 1)
            fitting = [c for c in centres if first + abs(tau) <= c <= last - abs(tau)]
            if not fitting:
                continue
            others = self._run(tau, [triplet(centre, tau) for centre in fitting])
            for centre, other in zip(fitting, others, strict=True):
                reference = masks[centre - centres.start]  # (3, k, h, w)
                reference[1] += _aligned(reference[1], other[1])
        masks[:, 1] /= masks[:, 1].sum(axis=1, keepdims=True)
        for centre, three in zip(centres, masks, strict=True):
            segments = three.argmax(axis=1).astype(np.uint8)
            if self._subsequence and centre % self._subsequence == 0:
                self._linker = Linker(self._k, self._linkage, self._reach)
            self._triplets[centre] = three, self._linker.follow(segments)

    def _run(self, tau: int, volumes: Sequence[tuple[int, int, int]]) -> np.ndarray:
        """Masks (b, 3, k, h, w) of these triplets, their instants in order of time."""
        backward = tau < 0
        fields = [self._flow.volume(frames, backward) for frames in volumes]
        masks = np.moveaxis(self._predict(fields), 2, 1)
        return masks[:, ::-1].copy() if backward else masks.copy()

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
        for centre, instant in (
            (frame, 1),
            (frame + self._reach, 0),
            (frame - self._reach, 2),
        ):
            fits = centre >= self._first + self._reach
            if fits and (not ended or centre <= last - self._reach):
                if centre not in self._triplets:
                    return None  # still to come
                masks, assignment = self._triplets[centre]
                return FramePrediction(masks[instant], assignment)
        return self._repeated_ends(frame, last) if ended else None

    def _repeated_ends(self, frame: int, last: int) -> FramePrediction:
        """For a video too short: the triplet of ``frame`` with the fields at the ends repeated."""
        inside = [min(max(each, self._first), last) for each in triplet(frame, self._tau)]
        masks = self._run(self._tau, [(inside[0], inside[1], inside[2])])[0]
        segments = masks.argmax(axis=1).astype(np.uint8)
        if self._latest is None:
            assignment = self._linker.follow(segments)
        else:
            scores = overlap(self._latest.labels()[None], segments[1][None], self._k)
            assignment = match(scores, self._linkage)
        return FramePrediction(masks[1], assignment)

    def _moved(self, neighbour: FramePrediction, frame: int) -> FramePrediction:
        """The prediction of ``frame``, carried to the next frame in the direction of τ."""
        flow = self._flow.at(frame, backward=self._tau < 0)
        return FramePrediction(move_masks(neighbour.masks, flow, self._size), neighbour.assignment)


def _aligned(reference: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Masks ``other`` in the order of ``reference``, matched one-to-one by IoU."""
    maps = [masks.argmax(0).astype(np.uint8)[None] for masks in (reference, other)]
    assignment = match(overlap(maps[0], maps[1], len(reference)), "one-to-one")
    aligned = np.empty_like(other)
    aligned[assignment] = other
    return aligned
