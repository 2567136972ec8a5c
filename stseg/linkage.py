"""One label for one segment through the video: overlap of consecutive triplets (Sec. 3.4)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, UInt8
from scipy.optimize import linear_sum_assignment


def overlap(
    known: UInt8[np.ndarray, "s h w"], new: UInt8[np.ndarray, "s h w"], k: int
) -> Float64[np.ndarray, "k k"]:
    """IoU of every known label (row) with every new segment (column), summed over s instants.

    Two empty segments count as the same (IoU 1), so that an unused label stays in its place.
    """
    total = np.zeros((k, k))
    for before, after in zip(known, new, strict=True):
        pairs = before.ravel().astype(np.intp) * k + after.ravel()
        common = np.bincount(pairs, minlength=k * k).reshape(k, k).astype(np.float64)
        union = common.sum(1, keepdims=True) + common.sum(0, keepdims=True) - common
        total += np.where(union > 0, common / np.maximum(union, 1), 1.0)
    return total


def match(scores: Float64[np.ndarray, "k k"], how: str) -> UInt8[np.ndarray, " k"]:
    """Label (row of ``scores``) of each segment (column).

    "greedy" is the paper's rule: every segment takes the label that it overlaps most, and two
    segments may share one. "one-to-one" maximises the sum over all permutations (Hungarian
    method): no label is ever lost.
    """
    if how == "greedy":
        return scores.argmax(axis=0).astype(np.uint8)
    labels, segments = linear_sum_assignment(scores, maximize=True)
    assignment = np.empty(scores.shape[1], np.uint8)
    assignment[segments] = labels
    return assignment


class Linker:
    """Follows the segments of one video, triplet by triplet.

    The first triplet names the labels by area, the largest first. Consecutive triplets of τ = 1
    share two frames, on which they are compared; for a larger τ they share none, and are compared
    instant by instant, one frame apart.

    Args:
        k: number of segments.
        how: see ``match``.
        tau: absolute temporal step of the triplets.
    """

    def __init__(self, k: int, how: str, tau: int = 1) -> None:
        self._k = k
        self._how = how
        self._shared = tau == 1
        self._known: np.ndarray | None = None

    def follow(self, segments: UInt8[np.ndarray, "3 h w"]) -> UInt8[np.ndarray, " k"]:
        """Linked label of each segment of the next triplet.

        Args:
            segments: argmax of the network's masks at the three instants, in order of time.
        """
        if self._known is None:
            areas = np.bincount(segments.ravel(), minlength=self._k)
            assignment = np.empty(self._k, np.uint8)
            assignment[np.argsort(-areas, kind="stable")] = np.arange(self._k, dtype=np.uint8)
        else:
            known, new = self._known, segments
            if self._shared:
                known, new = known[1:], new[:2]
            assignment = match(overlap(known, new, self._k), self._how)
        self._known = assignment[segments]
        return assignment
