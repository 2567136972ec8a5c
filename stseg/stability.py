"""Temporal consistency of linked labels: what no table of the paper shows (Sec. 3.4, Sec. 4.2).

Three measures, from the strictest to the coarsest:

- *label flicker*, per site: the label of frame t is carried along the flow to frame t + 1 and
  compared with the label there;
- *identity switches*, per label: the label's region as a whole is found under another label at
  t + 1;
- *long-term stability*, per video: J where the foreground is chosen once for the whole video,
  against once per sub-sequence.

Carrying. A site p of frame t moves to p + s·flow(p), where s takes source pixels to sites of the
grid, and leaves its label there, shared among the four sites around by bilinear weights. The sum
D(q) of all weights that reach a site q of frame t + 1 is 1 where motion is smooth, more where
things collide (one of them is occluded) and less where something is uncovered or comes into the
frame. So |D(q) - 1| > ``OCCLUSION`` is the test for occlusions; it takes nothing but the flow.
Elsewhere the carried label of q is the one with the largest weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from stseg.linkage import match
from stseg.records import Segmentation
from stseg.selection import oracle_foreground, subsequences

OCCLUSION = 0.25
"""Sites whose density of arriving sites is further than this from 1 are left out."""

PRESENT = 0.001
"""A label is present where it covers at least this share of the sites: 29 of a grid of 128x224."""


def carried_labels(
    labels: UInt8[np.ndarray, "h w"],
    flow: Float32[np.ndarray, "2 h w"],
    size: tuple[int, int],
    k: int,
) -> tuple[UInt8[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Labels carried one frame along ``flow``, and the sites that are not occluded there.

    Args:
        labels: of frame t, below ``k``.
        flow: motion from frame t to frame t + 1 on the same grid, in pixels of the source.
        size: (H, W) of the source.
        k: number of labels.

    Returns:
        The carried label of each site of frame t + 1 (0 where none arrives), and whether the site
        counts: as many sites arrive as smooth motion would bring.
    """
    h, w = labels.shape
    y, x = np.mgrid[:h, :w].astype(np.float32)
    to_x, to_y = x + flow[0] * (w / size[1]), y + flow[1] * (h / size[0])
    left, top = np.floor(to_x).astype(np.int64), np.floor(to_y).astype(np.int64)
    weights: Float64[np.ndarray, "k sites"] = np.zeros((k, h * w))
    for column, row in ((left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)):
        share = (1 - np.abs(to_x - column)) * (1 - np.abs(to_y - row))
        inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
        place = labels[inside].astype(np.int64) * (h * w) + (row * w + column)[inside]
        weights += np.bincount(place, share[inside], minlength=k * h * w).reshape(k, -1)
    visible = np.abs(weights.sum(axis=0) - 1) <= OCCLUSION
    return weights.argmax(axis=0).astype(np.uint8).reshape(h, w), visible.reshape(h, w)


def transitions(segmentation: Segmentation, frame: int) -> Int64[np.ndarray, "k k"]:
    """Sites of each label of ``frame``, carried to the next frame (row), by label there (column).

    Occluded sites are left out. The diagonal holds the sites that keep their label.
    """
    k = segmentation.k
    labels = segmentation.labels_on_grid(frame)
    flow, size = segmentation.motion(frame), segmentation.clip.size
    carried, visible = carried_labels(labels, flow, size, k)
    after = segmentation.labels_on_grid(frame + 1)
    pairs = carried[visible].astype(np.int64) * k + after[visible]
    return np.bincount(pairs, minlength=k * k).reshape(k, k).astype(np.int64)


def linked_pairs(segmentation: Segmentation) -> list[int]:
    """Frames t that are to agree with frame t + 1.

    Left out are pairs across two sub-sequences, where linkage starts anew, and the pair with the
    frame that has no prediction of its own (the last one; the first, for negative τ): its masks
    are those of its neighbour, carried along the flow. A clip of two frames keeps its only pair.
    """
    n, part = len(segmentation), segmentation.settings.subsequence
    borrowed = n - 2 if segmentation.settings.taus[0] > 0 else 0
    pairs = [t for t in range(n - 1) if n == 2 or t != borrowed]
    return [t for t in pairs if not part or (t + 1) % part]


def carried_counts(segmentation: Segmentation) -> Iterator[Int64[np.ndarray, "k k"]]:
    """``transitions`` of the frames of ``linked_pairs``."""
    return (transitions(segmentation, frame) for frame in linked_pairs(segmentation))


def flicker(carried: Iterable[Int64[np.ndarray, "k k"]]) -> float:
    """Label flicker: share of the sites whose linked label changes against the carried label.

    flicker = 1 - Σ_t Σ_a C_t[a, a] / Σ_t Σ_ab C_t[a, b], with the counts C_t of ``transitions``
    over the frames t of ``linked_pairs``: 0 for labels that move exactly as the flow does, 1 where
    every label changes at every frame. NaN where nothing can be compared (one frame, or all
    occluded). Labels on the grid follow motion in whole sites: borders that are right to the
    nearest site still flicker a little where motion is slower than ``OCCLUSION`` sites a frame.

    Args:
        carried: ``carried_counts``, or those of some frames.
    """
    same = total = 0
    for counts in carried:
        same += int(np.trace(counts))
        total += int(counts.sum())
    return 1 - same / total if total else float("nan")


@dataclass(frozen=True)
class Switches:
    """Identity switches of a video.

    Attributes:
        count: number of switches.
        chances: number of times that a label could have switched.
    """

    count: int
    chances: int

    @property
    def rate(self) -> float:
        """Switches by chance; NaN where there was none."""
        return self.count / self.chances if self.chances else float("nan")


def identity_switches(carried: Iterable[Int64[np.ndarray, "k k"]]) -> Switches:
    """Switches without ground truth: labels whose region goes on under another label.

    A label a that covers at least ``PRESENT`` of the sites that can be compared of frame t (carried
    to frame t + 1, without occlusions) switches where max_b C_t[a, b] > C_t[a, a]: another label
    has more of its region there. Each present label of each frame of ``linked_pairs`` is a chance.

    Args:
        carried: ``carried_counts``.
    """
    count = chances = 0
    for counts in carried:
        present = counts.sum(axis=1) >= _least(int(counts.sum()))
        count += int((present & (counts.max(axis=1) > counts.diagonal())).sum())
        chances += int(present.sum())
    return Switches(count, chances)


def _least(sites: int) -> float:
    return max(PRESENT * sites, 1)


@dataclass(frozen=True)
class LongTerm:
    """Mean J of a video by how often its foreground is chosen.

    Attributes:
        whole: chosen once for the whole video.
        parts: chosen once per sub-sequence.
    """

    whole: float
    parts: float

    @property
    def loss(self) -> float:
        """What choosing only once costs; 0 for labels that keep their meaning."""
        return self.parts - self.whole


def long_term(
    counts: Int64[np.ndarray, "m 2 k"], frames: Sequence[int], n: int, length: int = 10
) -> LongTerm:
    """Long-term stability: J of a foreground chosen once, against once per ``length`` frames.

    Both are oracle choices (``stseg.selection.oracle_foreground``) on labels linked through the
    whole video; where linkage started anew its parts are joined first, see ``joined``.

    Args:
        counts: ``stseg.selection.label_counts`` of each frame that is scored, at least one.
        frames: their numbers.
        n: frames of the video.
        length: frames of a sub-sequence.
    """
    once = [float(np.mean(list(_chosen_j(counts, frames, n, part)))) for part in (0, length)]
    return LongTerm(once[0], once[1])


def _chosen_j(
    counts: Int64[np.ndarray, "m 2 k"], frames: Sequence[int], n: int, length: int
) -> Iterator[float]:
    """J of each scored frame with the best choice of its sub-sequence, from counts alone."""
    for part in subsequences(n, length):
        own = counts[[frame in part for frame in frames]]
        if len(own):
            yield from region_similarities(own, oracle_foreground(own.sum(axis=0)))


def region_similarities(
    counts: Int64[np.ndarray, "m 2 k"], chosen: Sequence[int]
) -> Iterator[float]:
    """J of each frame where these labels are the foreground; 1 where it is empty on both sides.

    Args:
        counts: ``stseg.selection.label_counts`` of each frame.
        chosen: the labels.
    """
    for outside, inside in counts:
        union = inside.sum() + outside[list(chosen)].sum()
        yield float(inside[list(chosen)].sum() / union) if union else 1.0


def joined(segmentation: Segmentation) -> Segmentation:
    """The same masks with labels linked through the whole video.

    Where linkage started anew (``settings.subsequence``), the labels of the new part are matched
    to those of the old by the IoU of the regions at the seam, the old ones carried along the flow
    and occlusions left out, in the way that ``settings.linkage`` says. Labels that are not seen at
    the seam (all of them, where the picture is cut) take one each of those that are left.
    """
    part = segmentation.settings.subsequence
    if not part:
        return segmentation
    assignment = segmentation.assignment.copy()
    renamed = np.arange(segmentation.k, dtype=np.uint8)
    for frame in range(len(segmentation)):
        if frame and frame % part == 0:
            # Rows of the seam are the old part's own labels; ``renamed`` says what they are called.
            seam = np.zeros((segmentation.k, segmentation.k))
            np.add.at(seam, renamed, transitions(segmentation, frame - 1).astype(np.float64))
            union = seam.sum(1, keepdims=True) + seam.sum(0, keepdims=True) - seam
            iou = np.where(union > 0, seam / np.maximum(union, 1), 1.0)
            left = match(iou, "one-to-one")
            renamed = np.where(seam.any(0), match(iou, segmentation.settings.linkage), left)
        assignment[frame] = renamed[segmentation.assignment[frame]]
    settings = replace(segmentation.settings, subsequence=0)
    # What was fused has other names now, and nobody asks for them.
    return replace(segmentation, settings=settings, assignment=assignment, fused=None)
