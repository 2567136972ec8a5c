"""Scores where the ground truth has several objects: labels are assigned to them optimally."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8
from scipy.optimize import linear_sum_assignment

Joint = Int64[np.ndarray, "k o"]
"""Sites of each label (row) on each object (column); column 0 is the background."""


def joint_counts(
    labels: UInt8[np.ndarray, "H W"],
    codes: Int32[np.ndarray, "H W"],
    k: int,
    objects: Sequence[int],
) -> Joint:
    """Sites that a label and an object share in one frame.

    Args:
        labels: linked labels, below ``k``.
        codes: object of each site; 0 is the background, and so is what ``objects`` does not list.
            Void sites, below 0, are not counted.
        k: number of labels.
        objects: codes of the objects, without the background.
    """
    order = np.argsort(objects)
    known = np.asarray(objects, np.int32)[order]
    place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    columns = np.where(known[place] == codes, order[place] + 1, 0)
    pairs = labels.astype(np.int64) * (len(objects) + 1) + columns
    counts = np.bincount(pairs[codes >= 0], minlength=k * (len(objects) + 1))
    return counts.reshape(k, len(objects) + 1).astype(np.int64)


def assign(joint: Joint) -> dict[int, int]:
    """Object → label, one-to-one, with the largest sum of IoU (Hungarian algorithm).

    Objects are numbered from 1. One that meets no label, or finds none left, is not in the answer.

    Args:
        joint: sum of ``joint_counts`` over the annotated frames of a sub-sequence, as one volume.
    """
    iou = _iou(joint)
    rows, columns = linear_sum_assignment(-iou)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {column + 1: row for row, column in pairs if iou[row, column] > 0}


def _iou(joint: Joint) -> Float64[np.ndarray, "k o2"]:
    inside = joint[:, 1:].astype(np.float64)
    union = joint.sum(axis=1, keepdims=True) + joint.sum(axis=0)[1:] - inside
    return inside / np.maximum(union, 1)


def objects_iou(parts: Sequence[Sequence[Joint]]) -> float | None:
    """Mean IoU over the objects of a video; None where it has none.

    Each object takes one label in each sub-sequence (``assign``). Its IoU is the mean over the
    annotated frames: 1 where neither it nor its label is there, 0 where it has no label.

    Args:
        parts: for each sub-sequence, the ``joint_counts`` of its annotated frames.
    """
    scores: list[list[float]] = []
    for frames in parts:
        if not frames:
            continue
        chosen = assign(np.sum(frames, axis=0))
        for joint in frames:
            iou = _iou(joint)
            scores.append(
                [
                    _score(joint, iou, object_, chosen.get(object_))
                    for object_ in range(1, joint.shape[1])
                ]
            )
    return float(np.mean(scores)) if scores and scores[0] else None


def _score(joint: Joint, iou: np.ndarray, object_: int, label: int | None) -> float:
    sites = int(joint[:, object_].sum())
    ours = 0 if label is None else int(joint[label].sum())
    if not sites and not ours:
        return 1.0
    return 0.0 if label is None else float(iou[label, object_ - 1])
