"""Pictures of what a score is about: what was found, what was missed, what is false."""

from __future__ import annotations

import base64
from itertools import islice

import numpy as np
from jaxtyping import Bool, UInt8

from stseg.errors import InputError
from stseg.records import Segmentation
from stseg.render import jpeg, shrink
from stseg.scoring import SequenceScore
from stseg.truth import VOID, ground_truth
from stseg.video import read_frames

FOUND, FALSE, MISSED = (0, 114, 178), (213, 94, 0), (240, 228, 66)
"""Colours of the three verdicts, told apart in the common colour-vision deficiencies."""

STRENGTH = 0.6
SIDE = 427


def verdict(
    image: UInt8[np.ndarray, "H W 3"],
    ours: Bool[np.ndarray, "H W"],
    truth: Bool[np.ndarray, "H W"],
) -> UInt8[np.ndarray, "H W 3"]:
    """The frame with what was found, what is false and what was missed in their colours."""
    drawn = image.astype(np.float32)
    for where, colour in ((ours & truth, FOUND), (ours & ~truth, FALSE), (truth & ~ours, MISSED)):
        drawn[where] += STRENGTH * (np.array(colour, np.float32) - drawn[where])
    return drawn.round().astype(np.uint8)


def extremes(segmentation: Segmentation, result: SequenceScore, subsequence: int) -> dict[str, str]:
    """Pictures of the frames with the best and the worst J, as base64 of a JPEG.

    Args:
        segmentation: that was scored.
        result: its scores.
        subsequence: frames for which the foreground was chosen at once; 0 for the whole video.

    Returns:
        ``best`` and ``worst``; nothing where the frames of the clip cannot be read.
    """
    order = np.argsort(result.j, kind="stable")
    chosen = {"worst": result.frames[order[0]], "best": result.frames[order[-1]]}
    clip, step = segmentation.clip, subsequence or len(segmentation)
    truth, drawn = ground_truth(clip), {}
    try:
        images = read_frames(clip, max(chosen.values()) + 1)
        for index, image in enumerate(islice(images, max(chosen.values()) + 1)):
            for name in (name for name, frame in chosen.items() if frame == index):
                ours = np.isin(segmentation.labels(index), result.chosen[index // step])
                codes = truth.codes(index)
                picture = shrink(verdict(image, ours & (codes != VOID), codes > 0), SIDE)
                drawn[name] = base64.b64encode(jpeg(picture).tobytes()).decode()
    except InputError:
        return {}  # with cached flow the frames are not needed for the scores
    return drawn
