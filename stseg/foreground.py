"""Which segments are the moving objects, without ground truth (compare Sec. 4.2, where it is used).

The background is what moves like the border of the frame: a quadratic field is fitted to the sites
along the border with the L1 distance (``stseg.motion.fit_motion``), which the objects that cross
the border hardly bend. A site moves on its own where its flow is many times as far from that field
as the border itself is, and a label as far as its sites do. Labels that hold a good part of the
border are background all the same: what a camera passes close by has parallax, and objects are
looked at.

``benchmarks/README.md`` tells which rules were tried, and what they lose against a choice with the
ground truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, UInt8

from stseg.motion import fit_motion, motion_model
from stseg.records import Segmentation
from stseg.selection import subsequences

CHOICE = 10
"""Frames for which the foreground is chosen at once where linkage has no sub-sequences."""

BACKGROUND_MODEL = "quadratic"
"""Motion model of the background of one frame."""

FAR = 12.0
"""A site moves on its own that is this many times as far from the background as the border is."""

ROUNDING = 0.002
"""Distances to the background, as shares of the mean flow, that are none: flow is in float16."""

MOVES = 0.6
"""Labels are foreground of whose sites at least this share moves of that of the best label."""

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
    length = segmentation.settings.subsequence or CHOICE
    for part in subsequences(len(segmentation), length):
        chosen = moving_labels(segmentation, part)
        for frame in part:
            yield np.isin(segmentation.labels(frame), chosen)


def moving_labels(
    segmentation: Segmentation,
    frames: Sequence[int],
    distances: Sequence[Float32[np.ndarray, "h w"]] | None = None,
) -> tuple[int, ...]:
    """The labels that make up the foreground of some frames, chosen without ground truth.

    Score of a label: the share of its sites whose flow is further from the motion of the background
    (L1) than ``FAR`` medians of the border, averaged over the frames that have the label.
    Candidates hold at most ``BORDER`` of the border and at least ``LEAST`` of the frame; the
    foreground are those with at least ``MOVES`` of the best candidate's score. It is empty where
    there is no candidate, or no motion but that of the background.

    Args:
        segmentation: what to choose from.
        frames: those of a sub-sequence.
        distances: ``own_motion`` of every frame of the clip, where somebody has it already.
    """
    k = segmentation.k
    scores = np.zeros((len(frames), k))
    present = np.zeros((len(frames), k), bool)
    areas, border = np.zeros(k), np.zeros(k)
    for row, frame in enumerate(frames):
        labels = segmentation.labels_on_grid(frame)
        distance = distances[frame] if distances else own_motion(segmentation.motion(frame))
        usual = float(np.median(distance[_ring((labels.shape[0], labels.shape[1]))]))
        moving = labels[distance > max(FAR * usual, ROUNDING)]
        sites = np.bincount(labels.ravel(), minlength=k)
        areas += sites / labels.size
        border += border_shares(labels, k)
        scores[row] = np.bincount(moving, minlength=k) / np.maximum(sites, 1)
        present[row] = sites > 0
    score = scores.sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    candidate = (border <= BORDER * len(frames)) & (areas >= LEAST * len(frames))
    score[~candidate] = 0
    chosen = (score > 0) & (score >= MOVES * score.max())
    return tuple(int(label) for label in np.flatnonzero(chosen))


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
