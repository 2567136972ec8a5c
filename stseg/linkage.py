"""One label for one segment through the video: consecutive triplets compared (Sec. 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from scipy.optimize import linear_sum_assignment

from stseg.latents import cosines, join

SIMILARITY = "+similarity"
"""End of the names of the linkages that look at χ, too."""


def overlap(
    known: UInt8[np.ndarray, "s h w"], new: UInt8[np.ndarray, "s h w"], k: int
) -> Float64[np.ndarray, "k k"]:
    """IoU of every known label (row) with every new segment (column), summed over s instants.

    A label and a segment that are empty at all of these instants count as the same (IoU 1 each), so
    that an unused label stays in its place. Where both are empty at some of them only, the others
    decide: one that is missing for an instant is not called like an unused label.
    """
    total, held = np.zeros((k, k)), np.zeros((k, k), bool)
    for before, after in zip(known, new, strict=True):
        pairs = before.ravel().astype(np.intp) * k + after.ravel()
        common = np.bincount(pairs, minlength=k * k).reshape(k, k).astype(np.float64)
        union = common.sum(1, keepdims=True) + common.sum(0, keepdims=True) - common
        total += common / np.maximum(union, 1)
        held |= union > 0
    return np.where(held, total, len(known))


def similarity(
    known: Float32[np.ndarray, "s k c"], new: Float32[np.ndarray, "s k c"]
) -> Float64[np.ndarray, "k k"]:
    """Cosine of χ of every known label (row) and every new segment (column), mean over s instants.

    A label or segment without a site is similar to nothing: 0.
    """
    each = [cosines(before, after) for before, after in zip(known, new, strict=True)]
    return np.mean(each, axis=0)


def uses_similarity(how: str) -> bool:
    """Whether this linkage looks at χ, too."""
    return how.endswith(SIMILARITY)


def match(scores: Float64[np.ndarray, "k k"], how: str) -> UInt8[np.ndarray, " k"]:
    """Label (row of ``scores``) of each segment (column).

    "greedy" is the paper's rule: every segment takes the label that it overlaps most, and two
    segments may share one. "one-to-one" maximises the sum over all permutations (Hungarian
    method): no label is ever lost. What follows a "+" says how scores are made, and changes
    nothing here.
    """
    if how.removesuffix(SIMILARITY) == "greedy":
        return scores.argmax(axis=0).astype(np.uint8)
    labels, segments = linear_sum_assignment(scores, maximize=True)
    assignment = np.empty(scores.shape[1], np.uint8)
    assignment[segments] = labels
    return assignment


@dataclass(frozen=True)
class Partition:
    """What linkage sees of s instants: who holds each site, and χ of each of them.

    Attributes:
        holders: segment or label of each site.
        latents: χ of each segment or label at each instant.
    """

    holders: UInt8[np.ndarray, "s h w"]
    latents: Float32[np.ndarray, "s k c"]

    def named(self, assignment: UInt8[np.ndarray, " k"]) -> Partition:
        """The same partition by label, segments that share one together."""
        k = len(assignment)
        areas = [np.bincount(each.ravel(), minlength=k) for each in self.holders]
        joined = [
            join(latents, area, assignment)
            for latents, area in zip(self.latents, areas, strict=True)
        ]
        return Partition(assignment[self.holders], np.stack(joined))


class Linker:
    """Follows the segments of one video, triplet by triplet.

    The first triplet names the labels by area, the largest first. Consecutive triplets of τ = 1
    share two frames, on which they are compared (one, where every second triplet is left out); for
    a larger τ they share none, and are compared instant by instant, one frame apart.

    The score of label l and segment m, over the s instants compared, is Σ_s IoU(l, m) and, where
    the linkage ends in "+similarity", ω · (1/s) Σ_s cos(χ_l, χ_m) more: what moves alike is linked
    where places alone leave a doubt.

    Args:
        k: number of segments.
        how: see ``match``.
        tau: absolute temporal step of the triplets.
        weight: ω.
    """

    def __init__(self, k: int, how: str, tau: int = 1, weight: float = 1.0) -> None:
        self._k = k
        self._how = how
        self._shared = tau == 1
        self._weight = weight
        self._known: Partition | None = None

    def forget(self) -> None:
        """Name the labels anew at the next triplet."""
        self._known = None

    def follow(
        self,
        segments: UInt8[np.ndarray, "3 h w"],
        latents: Float32[np.ndarray, "3 k c"] | None = None,
        frames: int = 1,
    ) -> UInt8[np.ndarray, " k"]:
        """Linked label of each segment of the next triplet.

        Args:
            segments: argmax of the network's masks at the three instants, in order of time.
            latents: χ of the segments at these instants; only for a linkage by similarity.
            frames: from the triplet before to this one, 1 or 2.
        """
        found = self._seen(segments, latents)
        known = self._known
        if known is None:
            areas = np.bincount(segments.ravel(), minlength=self._k)
            assignment = np.empty(self._k, np.uint8)
            assignment[np.argsort(-areas, kind="stable")] = np.arange(self._k, dtype=np.uint8)
        elif self._shared:
            assignment = self._compare(
                Partition(known.holders[frames:], known.latents[frames:]),
                Partition(found.holders[:-frames], found.latents[:-frames]),
            )
        else:
            assignment = self._compare(known, found)
        self._known = found.named(assignment)
        return assignment

    def beside(
        self,
        known: Partition,
        segments: UInt8[np.ndarray, "s h w"],
        latents: Float32[np.ndarray, "s k c"] | None = None,
    ) -> UInt8[np.ndarray, " k"]:
        """Linked label of each segment of any partition, given labels of the same instants."""
        return self._compare(known, self._seen(segments, latents))

    def _seen(self, segments: np.ndarray, latents: np.ndarray | None) -> Partition:
        if not uses_similarity(self._how):  # nobody will look at them
            latents = np.zeros((len(segments), self._k, 0), np.float32)
        elif latents is None:
            raise ValueError(f"Linkage {self._how!r} needs the latent vectors of the segments.")
        return Partition(segments, latents)

    def _compare(self, known: Partition, new: Partition) -> np.ndarray:
        scores = overlap(known.holders, new.holders, self._k)
        if uses_similarity(self._how):
            scores += self._weight * similarity(known.latents, new.latents)
        return match(scores, self._how)
