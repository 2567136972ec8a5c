"""Scores of masks: region similarity J and contour accuracy F of DAVIS (Perazzi et al., 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt8

BOUNDARY_TOLERANCE = 0.008
"""Distance, as a fraction of the image diagonal, at which contours still match."""


def region_similarity(mask: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]) -> float:
    """J: intersection over union; 1 where both are empty."""
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def contour_accuracy(mask: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"]) -> float:
    """F: harmonic mean of the precision and recall of the contour.

    Contours match within 0.8 % of the image diagonal, by dilation with a disk as in the official
    code. Of two empty contours F is 1; of one it is 0.
    """
    radius = int(np.ceil(BOUNDARY_TOLERANCE * np.hypot(*mask.shape)))
    ours, theirs = contour(mask), contour(truth)
    count, expected = int(ours.sum()), int(theirs.sum())
    if count == 0 or expected == 0:
        return float(count == expected)
    disk = _disk(radius)
    precision = int((ours & cv2.dilate(theirs, disk)).sum()) / count
    recall = int((theirs & cv2.dilate(ours, disk)).sum()) / expected
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def contour(mask: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """1 at sites whose right, lower or lower right neighbour differs (the official definition)."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    edge = padded[:-1, :-1] ^ padded[:-1, 1:]
    edge |= padded[:-1, :-1] ^ padded[1:, :-1]
    edge |= padded[:-1, :-1] ^ padded[1:, 1:]
    return edge.astype(np.uint8)


def _disk(radius: int) -> np.ndarray:
    axis = np.arange(-radius, radius + 1)
    return (axis[:, None] ** 2 + axis**2 <= radius**2).astype(np.uint8)


@dataclass(frozen=True)
class Statistics:
    """Mean, recall and decay of one score over the frames of a sequence.

    Attributes:
        mean: over the frames.
        recall: fraction of the frames above 0.5.
        decay: mean of the first quarter of the frames minus that of the last.
    """

    mean: float
    recall: float
    decay: float


def statistics(scores: Float64[np.ndarray, " n"]) -> Statistics:
    """Statistics of the official DAVIS protocol; ``scores`` are those of the frames that count."""
    if not len(scores):
        return Statistics(float("nan"), float("nan"), float("nan"))
    edges = np.rint(np.linspace(1, len(scores), 5) + 1e-10).astype(int) - 1
    first = scores[edges[0] : edges[1] + 1].mean()
    last = scores[edges[3] : edges[4] + 1].mean()
    return Statistics(float(scores.mean()), float((scores > 0.5).mean()), float(first - last))
