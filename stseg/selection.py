"""K segments → foreground, by sub-sequence (Sec. 4.2)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int64, UInt8


def subsequences(frames: int, length: int) -> Iterator[range]:
    """Consecutive parts of ``length`` frames; the last may be shorter. 0 gives the whole video.

    The authors' scripts count triplets instead, so that their first part has one frame more.
    """
    step = length or frames
    for start in range(0, frames, step):
        yield range(start, min(start + step, frames))


def label_counts(
    labels: UInt8[np.ndarray, "H W"],
    truth: Bool[np.ndarray, "H W"],
    k: int,
    void: Bool[np.ndarray, "H W"] | None = None,
) -> Int64[np.ndarray, "2 k"]:
    """Sites of each label outside (row 0) and inside (row 1) the ground truth, but for ``void``."""
    joint = truth.astype(np.intp) * k + labels
    counted = joint.ravel() if void is None else joint[~void]
    return np.bincount(counted, minlength=2 * k).reshape(2, k)


def oracle_foreground(counts: Int64[np.ndarray, "2 k"]) -> tuple[int, ...]:
    """The labels whose union has the best IoU with the ground truth of a sub-sequence.

    All 2^k - 1 choices are tried on the counts summed over its frames, as one volume. (The authors'
    script adds label after label as long as the IoU grows; trying all finds at least as much.)
    Where the ground truth has no foreground at all, no label is chosen.

    Args:
        counts: sum of ``label_counts`` over the frames that have ground truth.
    """
    k = counts.shape[1]
    if not counts[1].any():
        return ()
    chosen = (np.arange(1, 2**k)[:, None] >> np.arange(k)) & 1  # (2^k - 1, k)
    inside, outside = chosen @ counts[1], chosen @ counts[0]
    iou = inside / np.maximum(counts[1].sum() + outside, 1)
    best = int(iou.argmax())
    return tuple(int(label) for label in np.flatnonzero(chosen[best]))
