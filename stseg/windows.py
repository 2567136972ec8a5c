"""Windows of the frame, magnified: training samples in which no place means anything (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Windows:
    """One window of the frame for each sample, of the frame's shape.

    Attributes:
        zoom: (b,) how many times it is magnified, at least 1.
        top: (b,) where it is, from 0 (at the top) to 1 (at the bottom).
        left: (b,) the same from left to right.
    """

    zoom: Float[Tensor, " b"]
    top: Float[Tensor, " b"]
    left: Float[Tensor, " b"]


def draw_windows(b: int, most: float, generator: torch.Generator) -> Windows:
    """Windows magnified 1 to ``most`` times (the logarithm is uniform), anywhere in the frame."""
    drawn = torch.rand(3, b, generator=generator)
    return Windows(most ** drawn[0], drawn[1], drawn[2])


def magnify(
    flow: Float[Tensor, "b 2 t h w"], windows: Windows, size: tuple[int, int]
) -> Float[Tensor, "b 2 t y x"]:
    """What the windows show, by area averaging.

    Vectors keep their length: the network is blind to the scale.

    Args:
        flow: of the whole frame, in pixels a frame, at least as fine as the windows shall be.
        windows: one for each sample.
        size: (y, x) of the result.
    """
    h, w = flow.shape[3:]
    seen = []
    for sample, zoom, top, left in zip(
        flow, windows.zoom.tolist(), windows.top.tolist(), windows.left.tolist(), strict=True
    ):
        rows, columns = round(h / zoom), round(w / zoom)
        first, start = round(top * (h - rows)), round(left * (w - columns))
        window = sample[..., first : first + rows, start : start + columns]
        seen.append(F.interpolate(window, size, mode="area"))
    return torch.stack(seen)
