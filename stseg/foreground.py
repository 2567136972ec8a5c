"""Which segments are the moving objects, without ground truth (compare Sec. 4.2, where it is used).

The background is what moves like the border of the frame: a quadratic field is fitted to the sites
along the border with the L1 distance (``stseg.motion.fit_motion``), which the objects that cross
the border hardly bend. How far a site's flow is from that field, measured by how far the border
itself is and on a logarithmic scale, says how sure it is that the site moves on its own; a label
does as its sites do. What is sure but slow beside what moves most is something that the camera
passes by, or waves. Labels that hold a good part of the border are background all the same: objects
are looked at.

``benchmarks/README.md`` tells which rules were tried, and what they lose against a choice with the
ground truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from stseg.motion import fit_motion, motion_model
from stseg.records import Segmentation
from stseg.selection import subsequences

CHOICE = 10
"""Frames for which the foreground is chosen at once where linkage has no sub-sequences."""

BACKGROUND_MODEL = "quadratic"
"""Motion model of the background of one frame."""

NEAR, FAR = 6.0, 48.0
"""Distances to the background, in medians of the border, at which a site surely belongs to it and
surely moves on its own."""

ROUNDING = 0.002
"""Distances to the background, as shares of the mean flow, that are none: flow is in float16."""

MOVES = 0.6
"""Labels are foreground whose score is at least this share of the best label's."""

SLOW = 0.15
"""Labels are background whose distance is below this share of that of the label that moves most."""

BORDER = 0.25
"""A label that holds more than this share of the border of the frame is background."""

MARGIN = 0.05
"""Width of the border, as a share of the shorter side."""

LEAST = 0.0005
"""Labels that cover a smaller share of a sub-sequence are too small to be told to move."""


def foreground_masks(segmentation: Segmentation) -> Iterator[Bool[np.ndarray, "H W"]]:
    """Mask of the moving objects of each frame at the size of the source, without ground truth.

    The choice is made once per sub-sequence of the linkage, or per ``CHOICE`` frames.
    """
    for part in _parts(segmentation):
        chosen = moving_labels(segmentation, part)
        for frame in part:
            yield np.isin(segmentation.labels(frame), chosen)


class Foreground:
    """The labels of ``foreground_masks`` frame by frame, chosen when somebody asks and then kept.

    May be asked from several threads at once. Of a result that still grows the frames that are
    there so far tell them.

    Args:
        segmentation: the clip.
    """

    def __init__(self, segmentation: Segmentation) -> None:
        self._segmentation = segmentation
        self._known: dict[range, tuple[int, ...]] = {}

    def labels(self, index: int) -> tuple[int, ...]:
        """The labels that make up the foreground of a frame."""
        part = next(part for part in _parts(self._segmentation) if index in part)
        if part not in self._known:
            self._known[part] = moving_labels(self._segmentation, part)
        return self._known[part]


def _parts(segmentation: Segmentation) -> Iterator[range]:
    return subsequences(len(segmentation), segmentation.settings.subsequence or CHOICE)


def moving_labels(
    segmentation: Segmentation,
    frames: Sequence[int],
    distances: Sequence[Float32[np.ndarray, "h w"]] | None = None,
) -> tuple[int, ...]:
    """The labels that make up the foreground of some frames, chosen without ground truth.

    Score of a site: 0 where its flow is no further from the motion of the background (L1) than
    ``NEAR`` medians of the border, 1 from ``FAR`` on, by the logarithm in between. Score and
    distance of a label: the means over its sites, and over the frames that have the label.
    Candidates hold at most ``BORDER`` of the border and at least ``LEAST`` of the frame. The one
    whose area times distance is largest moves most. Foreground are the candidates with at least
    ``MOVES`` of the best one's score and ``SLOW`` of the distance of the one that moves most. It is
    empty where there is no candidate, or no motion but that of the background.

    Args:
        segmentation: what to choose from.
        frames: those of a sub-sequence.
        distances: ``own_motion`` of every frame of the clip, where somebody has it already.
    """
    k = segmentation.k
    shape = (len(frames), k)
    scores, far, areas, border = (np.zeros(shape) for _ in range(4))
    for row, frame in enumerate(frames):
        labels = segmentation.labels_on_grid(frame)
        distance = distances[frame] if distances else own_motion(segmentation.motion(frame))
        sites = np.bincount(labels.ravel(), minlength=k)
        areas[row] = sites / labels.size
        border[row] = border_shares(labels, k)
        far[row] = _means(distance, labels, sites)
        scores[row] = _means(_certainty(distance), labels, sites)
    seen = np.maximum((areas > 0).sum(axis=0), 1)
    score, reach = scores.sum(axis=0) / seen, far.sum(axis=0) / seen
    area = areas.mean(axis=0)
    candidate = (border.mean(axis=0) <= BORDER) & (area >= LEAST)
    score[~candidate] = 0
    most = reach[np.argmax(area * reach * candidate)]
    chosen = (score > 0) & (score >= MOVES * score.max()) & (reach >= SLOW * most)
    return tuple(int(label) for label in np.flatnonzero(chosen))


def _certainty(distance: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """How sure it is that each site moves on its own, from 0 to 1."""
    usual = float(np.median(distance[_ring((distance.shape[0], distance.shape[1]))]))
    near = max(NEAR * usual, ROUNDING)
    times = np.maximum(distance, near) / near
    sure: Float32[np.ndarray, "h w"] = np.minimum(np.log(times) / np.log(FAR / NEAR), 1)
    return sure.astype(np.float32, copy=False)


def _means(
    values: Float32[np.ndarray, "h w"],
    labels: UInt8[np.ndarray, "h w"],
    sites: Int64[np.ndarray, " k"],
) -> Float64[np.ndarray, " k"]:
    """Mean over the sites of each label; 0 for one that has none."""
    return np.bincount(labels.ravel(), values.ravel(), len(sites)) / np.maximum(sites, 1)


def own_motion(flow: Float32[np.ndarray, "2 h w"]) -> Float32[np.ndarray, "h w"]:
    """L1 distance of the flow of one frame to that of its background, over its mean L1 norm.

    Args:
        flow: in any unit.
    """
    field = torch.from_numpy(np.ascontiguousarray(flow, np.float32))[None, :, None]  # (1, 2, 1, …)
    ring = torch.from_numpy(_ring((flow.shape[1], flow.shape[2])))[None, None, None]
    background = fit_motion(field, ring.to(field), motion_model(BACKGROUND_MODEL))
    distance: Float32[np.ndarray, "h w"] = background.residual(field)[0, 0, 0].numpy()
    return distance / max(float(np.abs(flow).sum(axis=0).mean()), 1e-6)


def border_shares(labels: UInt8[np.ndarray, "h w"], k: int) -> Float64[np.ndarray, " k"]:
    """Share of the border of the frame that each label holds."""
    ring = _ring((labels.shape[0], labels.shape[1]))
    return np.bincount(labels[ring], minlength=k) / np.count_nonzero(ring)


def _ring(size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The sites along the border."""
    width = max(1, round(MARGIN * min(size)))
    ring = np.ones(size, bool)
    ring[width:-width, width:-width] = False
    return ring
