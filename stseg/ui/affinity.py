"""Similarities of a result, computed when a tab asks for them and then kept."""

from __future__ import annotations

import threading
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Int, UInt8

from stseg import similarity
from stseg.records import Segmentation
from stseg.selection import subsequences

Cell = tuple[int, int]
"""A segment at a moment: number of the frame, linked label."""


def spread(count: int, most: int) -> Int[np.ndarray, " m"]:
    """Frames that stand for all ``count``: the middle ones of ``most`` equal parts, or just all."""
    parts = min(count, most)
    return ((np.arange(parts) + 0.5) * count / max(parts, 1)).astype(int)


class Affinity:
    """How alike the segments of a result are (``stseg.similarity``), by linked label.

    May be asked from several threads at once. NaN stands for a label without a site.

    Args:
        segmentation: the result.
    """

    def __init__(self, segmentation: Segmentation) -> None:
        self._segmentation = segmentation
        self._lock = threading.RLock()

    @property
    def known(self) -> bool:
        """Whether the result has latent representations at all."""
        return self._segmentation.latents.size > 0

    def at(self, frame: int, measure: str) -> Float32[np.ndarray, "k k"]:
        """Label against label in one frame."""
        return similarity.compare(self._linked()[frame], measure)

    def part(self, frame: int) -> range:
        """The frames that are linked together with this one: all, or its sub-sequence."""
        n, length = len(self._segmentation), self._segmentation.settings.subsequence
        return next(part for part in subsequences(n, length) if frame in part)

    def whole(self, measure: str, frame: int = 0) -> Float32[np.ndarray, "k k"]:
        """Label against label by their means over the frames that are linked with ``frame``."""
        return similarity.compare(self._mean(self.part(frame)), measure)

    def across(self, label: int, measure: str) -> Float32[np.ndarray, "n n"]:
        """One label at every frame against itself at every frame."""
        return similarity.across_time(self._linked(), label, measure)

    def among(
        self, frames: Int[np.ndarray, " m"], label: int, measure: str
    ) -> Float32[np.ndarray, "m m"]:
        """One label at some frames against itself at these, where all pairs would be too many."""
        return similarity.across_time(self._linked()[frames], label, measure)

    def between(self, first: Cell, second: Cell, measure: str = "cosine") -> float:
        """Similarity of one segment at one moment and another."""
        linked = self._linked()
        return float(similarity.compare(np.stack([linked[first], linked[second]]), measure)[0, 1])

    def points(self) -> Float32[np.ndarray, "n k 2"]:
        """Where each label lies at each frame in the plane of the principal components."""
        with self._lock:
            return self._points

    def names(self, threshold: float) -> UInt8[np.ndarray, "n k"]:
        """What each label becomes when those that are more alike than ``threshold`` fuse.

        Frame by frame: where labels start anew, each sub-sequence has its own.
        """
        linked = self._linked()
        with self._lock:
            return similarity.merged_names(self._segmentation, threshold, linked, self._areas)

    def typical(self, frame: int) -> tuple[int, ...]:
        """For each label the frame in which it is most like its mean, among those of ``whole``."""
        part = self.part(frame)
        here = self._linked()[part.start : part.stop]
        likeness = np.einsum("nkc,kc->nk", here, self._mean(part))
        return tuple(part.start + int(index) for index in likeness.argmax(axis=0))

    def read(self, pair: str) -> tuple[Cell, Cell] | None:
        """The two cells of ``frame.label-frame.label``; None for what belongs to another result."""
        try:
            first, second = (
                (int(frame), int(label))
                for frame, label in (cell.split(".") for cell in pair.split("-"))
            )
        except ValueError:
            return None
        n, k = self._linked().shape[:2]
        inside = all(0 <= frame < n and 0 <= label < k for frame, label in (first, second))
        return (first, second) if inside else None

    def _linked(self) -> np.ndarray:
        with self._lock:
            return self._latents

    def _mean(self, part: range) -> np.ndarray:
        linked, here = self._linked(), slice(part.start, part.stop)
        with self._lock:
            return similarity.mean_latents(linked[here], self._areas[here])

    @cached_property
    def _latents(self) -> np.ndarray:
        return similarity.linked_latents(self._segmentation)

    @cached_property
    def _areas(self) -> np.ndarray:
        return self._segmentation.areas()

    @cached_property
    def _points(self) -> np.ndarray:
        return similarity.plane(self._latents)
