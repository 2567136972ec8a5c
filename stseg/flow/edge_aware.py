"""Flow is believed where it is consistent; elsewhere it is filled in along the image's edges."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

STEPS = (16, 8, 4, 2, 1)
"""Distances between the sites that are averaged, one pass each; without the last one every second
site would have its own average, which shows as a comb."""

COLOUR = 0.02
"""Mean difference of red, green and blue, of 1, at which the weight has fallen to 1/e."""

BRIGHTNESS = 0.02
"""Difference of brightness, of 1, at which the confidence has fallen to 1/e."""

RETURN = (0.08, 0.02)
"""Pixels, and share of the flow, by which the way back may miss its start at 1/e."""

NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Half of the eight neighbours (rows, columns); the other half are these, seen from there."""

_LEAST = 1e-6

BLOCK = 7
"""Pixels a side of the block in which texture counts."""

FAINT = 1.8e-5
"""Smaller eigenvalue of the structure tensor, as OpenCV scales it, of texture that half believes:
slopes of half a gray level a pixel in every direction, about what a codec may leave out."""

_BLIND = 1e-4
"""What is left of the confidence without any texture."""


def texture(gray: UInt8[np.ndarray, "H W"], size: tuple[int, int]) -> Float32[np.ndarray, "h w"]:
    """How far there is anything to be found at each site, from almost 0 to 1.

    Of an even surface, or a straight edge, nobody sees the motion (Shi and Tomasi, CVPR 1994).
    What little texture it has a codec often leaves where it was, and a search finds, consistently
    to and fro, that it stands still.

    Args:
        gray: brightness of the frame.
        size: of the grid, (h, w).
    """
    least = cv2.resize(cv2.cornerMinEigenVal(gray, BLOCK), size[::-1], interpolation=cv2.INTER_AREA)
    return np.maximum(least / (least + FAINT), _BLIND)


def confidence(
    flow: Float32[np.ndarray, "h w 2"],
    back: Float32[np.ndarray, "h w 2"],
    first: Float32[np.ndarray, "h w"],
    second: Float32[np.ndarray, "h w"],
) -> Float32[np.ndarray, "h w"]:
    """How far the flow from one image to another can be believed, from almost 0 to 1.

    Where a surface is hidden in the second image there is nothing to be found: the flow back does
    not lead to the start again (Sundaram et al., ECCV 2010), and the brightness differs.

    Args:
        flow: from the first image to the second, in pixels of these images.
        back: from the second to the first.
        first: brightness of the one, from 0 to 1.
        second: of the other.
    """
    rows, columns = np.indices(first.shape, np.float32)
    where = columns + flow[..., 0], rows + flow[..., 1]
    border = cv2.BORDER_REPLICATE
    there = cv2.remap(back, *where, cv2.INTER_LINEAR, borderMode=border)
    looks = cv2.remap(second, *where, cv2.INTER_LINEAR, borderMode=border)
    missed = np.abs(flow + there).sum(axis=-1)
    allowed = RETURN[0] + RETURN[1] * np.abs(flow).sum(axis=-1)
    changed = cv2.blur(np.abs(first - looks), (3, 3))
    return np.exp(-missed / allowed - changed / BRIGHTNESS)


def fill_in(
    flow: Float32[np.ndarray, "h w 2"],
    confidence: Float32[np.ndarray, "h w"],
    guide: Float32[np.ndarray, "3 h w"],
) -> Float32[np.ndarray, "h w 2"]:
    """Averages of the flow, weighted by its confidence and by likeness of colour.

    A joint bilateral filter in the edge-avoiding "à trous" scheme (Dammertz et al., HPG 2010): each
    pass takes the eight neighbours at one distance, from far to near. Sums of flow and of
    confidence are carried along, so that what is believed nowhere near is filled in from afar.

    Args:
        flow: in any unit.
        confidence: from 0 to 1.
        guide: the image that the flow belongs to, from 0 to 1.
    """
    height, width = confidence.shape
    believed = np.maximum(confidence, _LEAST)
    sums = np.stack([flow[..., 0] * believed, flow[..., 1] * believed, believed])
    for step in STEPS:
        spread = sums.copy()
        for neighbour in NEIGHBOURS:
            down, right = step * neighbour[0], step * neighbour[1]
            if down >= height or abs(right) >= width:
                continue
            here = np.s_[:, : height - down, max(0, -right) : width - max(0, right)]
            there = np.s_[:, down:, max(0, right) : width + min(0, right)]
            unlike = np.abs(guide[here] - guide[there]).mean(axis=0) / COLOUR
            near = 0.5 * (neighbour[0] ** 2 + neighbour[1] ** 2)
            weight = np.exp(-unlike - near)
            spread[here] += weight * sums[there]
            spread[there] += weight * sums[here]
        sums = spread
    return np.ascontiguousarray((sums[:2] / sums[2]).transpose(1, 2, 0))
