"""Charts of a ``Segmentation`` as plain pictures; the screen puts the words beside them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8

from stseg.render import palette


def area_timeline(
    areas: Float32[np.ndarray, "n k"], width: int = 900, height: int = 90
) -> UInt8[np.ndarray, "height width 3"]:
    """Share of the frame that each label covers, over the frames, as stacked bands.

    Label 0 is at the top. Every frame has a column of the same width, from the left.

    Args:
        areas: shares of each frame, summing to 1 over k (``Segmentation.areas``).
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """
    frame = np.arange(width) * len(areas) // width
    ends = np.cumsum(areas, axis=1)[frame]  # (width, k): where each band ends, as a share
    row = (np.arange(height) + 0.5) / height
    passed = (row[:, None, None] >= ends[None]).sum(axis=2)
    return palette()[np.minimum(passed, areas.shape[1] - 1)]
