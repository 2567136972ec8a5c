"""Who moves alike: similarity of segments by their latent vectors χ, a map of them, and merging.

χ of a segment is the mean over its sites of the standardised last-layer features. Segments that
move alike lie in the same direction, so that everything here compares directions (cosines); dot
products weigh in how far a segment lies from the mean motion. All of it goes by linked label.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from stseg.errors import InputError
from stseg.latents import cosines
from stseg.records import Segmentation
from stseg.selection import subsequences

MEASURES = ("cosine", "dot")
"""How two χ are compared: by the angle between them, or by their dot product, divided by c."""


def check_choice(threshold: float = 1.0, measure: str = MEASURES[0]) -> None:
    """Refuse a merge threshold or a measure that there is not, before the work. InputError."""
    if measure not in MEASURES:
        raise InputError(
            f"There is no similarity {measure!r}. Choose one of {', '.join(MEASURES)}."
        )
    if not -1 <= threshold <= 1:
        raise InputError(
            f"The merge threshold is {threshold}, but a similarity is from -1 to 1. Choose for "
            "instance 0.8."
        )


def compare(
    latents: Float[np.ndarray, "m c"], measure: str = "cosine"
) -> Float32[np.ndarray, "m m"]:
    """Similarity of every χ with every other.

    Args:
        latents: rows of zeros stand for segments without a site.
        measure: one of ``MEASURES``.

    Returns:
        A symmetric matrix; NaN where one of both has no site.

    Raises:
        InputError: there is no such measure.
    """
    check_choice(measure=measure)
    absent = ~latents.any(axis=1)
    rows = latents.astype(np.float64)
    if measure == "cosine":
        matrix = cosines(rows, rows)
        np.fill_diagonal(matrix, 1.0)
    else:
        matrix = rows @ rows.T / max(latents.shape[1], 1)
    matrix[absent] = np.nan
    matrix[:, absent] = np.nan
    return matrix.astype(np.float32)


def across_time(
    linked: Float32[np.ndarray, "n k c"], label: int, measure: str = "cosine"
) -> Float32[np.ndarray, "n n"]:
    """Similarity of one linked segment with itself at all other frames; NaN where it is absent.

    Args:
        linked: χ by linked label (see ``linked_latents``).
        label: the segment.
        measure: one of ``MEASURES``.
    """
    return compare(linked[:, label], measure)


def linked_latents(segmentation: Segmentation) -> Float32[np.ndarray, "n k c"]:
    """χ by linked label at every frame. It reads all masks: keep it for what follows."""
    n, k, c = segmentation.latents.shape
    each = [segmentation.linked_latents(index) for index in range(len(segmentation))]
    return np.stack(each) if each else np.zeros((n, k, c), np.float32)


def mean_latents(
    linked: Float32[np.ndarray, "n k c"], areas: Float32[np.ndarray, "n k"]
) -> Float32[np.ndarray, "k c"]:
    """χ of each linked segment over the whole clip: the mean weighted by its areas.

    Args:
        linked: χ by linked label.
        areas: share of the frame of each label (``Segmentation.areas``).
    """
    total = np.einsum("nk,nkc->kc", areas.astype(np.float64), linked)
    return (total / np.maximum(areas.sum(axis=0), 1e-12)[:, None]).astype(np.float32)


def plane(linked: Float32[np.ndarray, "n k c"]) -> Float32[np.ndarray, "n k 2"]:
    """Map of all χ of a clip: their first two principal components, NaN where a label is absent.

    The sign of each axis is such that the farthest point lies on its positive side.
    """
    n, k, c = linked.shape
    flat = linked.reshape(n * k, c).astype(np.float64)
    present = flat.any(axis=1)
    out = np.full((n * k, 2), np.nan, np.float32)
    if present.any():
        centred = flat[present] - flat[present].mean(axis=0)
        _, axes = np.linalg.eigh(centred.T @ centred)  # rising eigenvalues
        points = centred @ axes[:, ::-1][:, :2]
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
        farthest = np.take_along_axis(points, np.abs(points).argmax(axis=0)[None], axis=0)
        out[present] = points * np.where(farthest < 0, -1, 1)
    return out.reshape(n, k, 2)


def merge(
    similarity: Float32[np.ndarray, "k k"] | Float64[np.ndarray, "k k"], threshold: float
) -> UInt8[np.ndarray, " k"]:
    """Labels after those that move alike are fused; the lowest label names a group.

    Agglomerative clustering with average linkage: two groups fuse while the mean similarity
    between their members is above ``threshold``. At 1 nothing merges, at -1 everything does that
    has a site; labels without one stay by themselves.

    Args:
        similarity: cosines of ``mean_latents``; NaN for labels without a site.
        threshold: from -1 to 1.

    Returns:
        For each label the one that it becomes.

    Raises:
        InputError: the threshold is out of its range.
    """
    check_choice(threshold)
    labels = np.arange(len(similarity), dtype=np.uint8)
    seen = np.flatnonzero(~np.isnan(np.diag(similarity)))
    if len(seen) < 2 or threshold == 1:
        return labels
    if threshold == -1:
        labels[seen] = seen[0]
        return labels
    distance = 1 - similarity[np.ix_(seen, seen)].astype(np.float64)
    distance = np.maximum((distance + distance.T) / 2, 0)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), method="average")
    limit = np.nextafter(1 - threshold, 0)  # above the threshold, not at it
    groups = fcluster(tree, limit, criterion="distance")
    for group in np.unique(groups):
        members = seen[groups == group]
        labels[members] = members[0]
    return labels


def merged(segmentation: Segmentation, threshold: float) -> Segmentation:
    """The same result with the labels fused that move alike over the whole clip.

    Where labels are linked anew (``settings.subsequence``), they are fused within each sub-sequence
    by what they are there. Nothing is computed again: masks and latents stay, and only the labels
    that segments are linked to change. The record says so in its settings.

    Raises:
        InputError: the threshold is out of its range.
    """
    return relabelled(segmentation, threshold, merged_names(segmentation, threshold))


def merged_names(
    segmentation: Segmentation,
    threshold: float,
    linked: Float32[np.ndarray, "n k c"] | None = None,
    areas: Float32[np.ndarray, "n k"] | None = None,
) -> UInt8[np.ndarray, "n k"]:
    """For each label at each frame the one that it becomes.

    The labels of two sub-sequences have nothing to do with each other, so that each has names of
    its own, all the same in its frames.

    Args:
        segmentation: the result.
        threshold: as ``merge`` takes it.
        linked: χ by linked label, where somebody has them already.
        areas: share of each frame of each label, likewise.

    Raises:
        InputError: the threshold is out of its range.
    """
    linked = linked_latents(segmentation) if linked is None else linked
    areas = segmentation.areas() if areas is None else areas
    n, k = len(segmentation), segmentation.k
    names = np.zeros((n, k), np.uint8)
    for part in subsequences(n, segmentation.settings.subsequence) if n else ():
        here = slice(part.start, part.stop)
        names[here] = merge(compare(mean_latents(linked[here], areas[here])), threshold)
    return names


def relabelled(
    segmentation: Segmentation,
    threshold: float,
    names: UInt8[np.ndarray, " k"] | UInt8[np.ndarray, "n k"],
) -> Segmentation:
    """``merged``, where it is known already what each label becomes.

    Args:
        segmentation: the result.
        threshold: what ``names`` were made with; the settings of the record will have it.
        names: for each label the one that it becomes (``merge``), the same at all frames or at
            each frame (``merged_names``).
    """
    settings = replace(segmentation.settings, merge=threshold)
    assignment = segmentation.assignment
    fused = np.broadcast_to(names, assignment.shape)
    labels = np.take_along_axis(fused, assignment, axis=1)
    if segmentation.fused is not None:
        fused = np.take_along_axis(fused, segmentation.fused, axis=1)
    return replace(segmentation, settings=settings, assignment=labels, fused=fused)
