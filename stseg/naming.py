"""Labels of one result in the names, and so in the colours, of another of the same clip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias
from weakref import ref

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from scipy.optimize import linear_sum_assignment

from stseg.records import Segmentation, label_map

_LOOKED_AT = 48
"""Frames, evenly spread, by which ``Naming`` tells labels apart: a long clip costs no more."""

_TRUTHS = 12
"""The same of masks of the ground truth, which are read from files at their full size."""

_REMEMBERED = 8
"""Pairs of results."""

Truths: TypeAlias = Callable[[int, tuple[int, int]], UInt8[np.ndarray, "h w"] | None]
"""Objects of a frame at a size (h, w), 0 for none, or None where nobody knows them."""

Table: TypeAlias = UInt8[np.ndarray, "256"]
"""Of names by label."""


def matching(first: Segmentation, other: Segmentation) -> UInt8[np.ndarray, " k"]:
    """The label of ``first`` that each label of ``other`` overlaps, one-to-one over the clip.

    The sum of the IoUs over the whole clip is maximised (Hungarian method). Labels of ``other``
    that are left over, where it has more, take the numbers that nobody has.
    """
    return _matching(first, other, range(min(len(first), len(other))))


def matching_at(
    first: Segmentation, index: int, masks: Float32[np.ndarray, "k h w"]
) -> UInt8[np.ndarray, " k"]:
    """The same for the soft masks of frame ``index`` alone, which nobody has linked."""
    labels = first.labels_on_grid(index)
    segments = label_map(masks, (labels.shape[0], labels.shape[1]))
    return _one_to_one(_shared(labels, segments, (first.k, len(masks))))


class Naming:
    """Takes labels of results to the names of another one, and remembers the latest pairs.

    Results are told apart by identity, and are not kept: a run that goes on makes a new record of
    every step.
    """

    def __init__(self) -> None:
        self._known: list[tuple[ref[Segmentation], ref[Segmentation], Table]] = []
        self._truth: tuple[ref[Segmentation], Table] | None = None

    def table(self, shown: Segmentation, other: Segmentation) -> Table:
        """Entry a is what label a of ``other`` is called in ``shown``: a permutation.

        Matched as by ``matching``, over at most 48 frames.
        """
        known = [each for each in self._known if None not in (each[0](), each[1]())]
        for one, another, table in known:
            if one() is shown and another() is other:
                return table
        table = _table(shown, other)
        self._known = [*known[1 - _REMEMBERED :], (ref(shown), ref(other), table)]
        return table

    def of_truth(self, shown: Segmentation, frames: Sequence[int], truths: Truths) -> Table:
        """Entry a is the label of ``shown`` that object a of the ground truth overlaps: as above.

        Args:
            shown: the result.
            frames: those whose ground truth is known, in order; at most 12 are looked at.
            truths: the ground truth of its clip.
        """
        known = self._truth
        if known is None or known[0]() is not shown:
            known = self._truth = ref(shown), _truth_table(shown, frames, truths)
        return known[1]


def _truth_table(shown: Segmentation, frames: Sequence[int], truths: Truths) -> Table:
    pairs = []
    there = [index for index in frames if index < len(shown)]
    for place in _spread(len(there), _TRUTHS):
        index = there[place]
        labels = shown.labels_on_grid(index)
        objects = truths(index, (labels.shape[0], labels.shape[1]))
        if objects is not None:
            pairs.append((labels, objects))
    count = 1 + max((int(objects.max()) for _, objects in pairs), default=0)
    joint = np.zeros((shown.k, count))
    for labels, objects in pairs:
        joint += _shared(labels, objects, joint.shape)
    return permutation(np.arange(count, dtype=np.uint8), _one_to_one(joint))


def _table(shown: Segmentation, other: Segmentation) -> Table:
    own = np.arange(other.k, dtype=np.uint8)
    if shown is other:
        return permutation(own, own)
    frames = _spread(min(len(shown), len(other)), _LOOKED_AT)
    return permutation(own, _matching(shown, other, frames))


def _spread(frames: int, most: int) -> list[int]:
    """At most so many frames of a clip, evenly spread."""
    spread = np.linspace(0, frames - 1, min(frames, most)).round().astype(int)
    found: list[int] = np.unique(spread).tolist()
    return found


def permutation(labels: UInt8[np.ndarray, " k"], names: UInt8[np.ndarray, " k"]) -> Table:
    """A table that takes each label to its name, and the numbers that are left to those left."""
    table, every = np.empty(256, np.uint8), np.arange(256, dtype=np.uint8)
    table[labels] = names
    table[np.setdiff1d(every, labels)] = np.setdiff1d(every, names)
    return table


def _matching(
    first: Segmentation, other: Segmentation, frames: Iterable[int]
) -> UInt8[np.ndarray, " k"]:
    joint = np.zeros((first.k, other.k))
    for index in frames:
        joint += _shared(first.labels_on_grid(index), other.labels_on_grid(index), joint.shape)
    return _one_to_one(joint)


def _shared(
    labels: UInt8[np.ndarray, "h w"], others: UInt8[np.ndarray, "h w"], shape: tuple[int, ...]
) -> Float64[np.ndarray, "k l"]:
    """Sites that each label has in common with each of the others."""
    pairs = labels.astype(np.intp) * shape[1] + others
    return np.bincount(pairs.ravel(), minlength=shape[0] * shape[1]).reshape(shape).astype(float)


def _one_to_one(joint: Float64[np.ndarray, "k l"]) -> UInt8[np.ndarray, " l"]:
    """The row of each column, so that the sum of the IoUs is largest; beyond the last for more."""
    union = joint.sum(1, keepdims=True) + joint.sum(0, keepdims=True) - joint
    rows, columns = linear_sum_assignment(joint / np.maximum(union, 1), maximize=True)
    own, others = joint.shape
    renamed = np.full(others, 255, np.uint8)
    renamed[columns] = rows
    free = (label for label in range(others + own) if label not in rows)
    for label in np.flatnonzero(renamed == 255):
        renamed[label] = next(free)
    return renamed
