"""Windows of the frame, magnified: training samples in which no place means anything (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stseg.datasets import TripletSet


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


@dataclass(frozen=True)
class Sample:
    """Volumes as training sees them, before anything else is done to them.

    Attributes:
        flow: what the network sees, in pixels a frame.
        reference: what the losses are measured on; None where that is ``flow``.
        travel: how far a pixel a frame goes from instant to instant, in widths and heights of what
            the volume shows.
    """

    flow: Float[Tensor, "b 2 t h w"]
    reference: Float[Tensor, "b 2 t h w"] | None
    travel: Float[Tensor, "b 2 1 1 1"]


def sample_volumes(
    volumes: TripletSet,
    numbers: Sequence[int],
    size: tuple[int, int],
    zoom: float,
    generator: torch.Generator,
) -> Sample:
    """These volumes, each in a window of its own.

    Args:
        volumes: where they are from.
        numbers: which.
        size: (h, w) of the result.
        zoom: largest magnification; it is less where the flow is not stored so finely, and where
            the whole frame is as fine as it can be, whole frames are given.
        generator: draws the windows.
    """
    rows, columns = volumes.size
    zoom = min(zoom, rows / size[0], columns / size[1])
    windows = draw_windows(len(numbers), zoom, generator) if zoom > 1 else None
    whole = (round(zoom * size[0]), round(zoom * size[1]))

    def seen(reference: bool) -> Tensor:
        if windows is None:
            return volumes.batch(numbers, size, reference)
        return magnify(volumes.batch(numbers, whole, reference), windows, size)

    travel = volumes.travel(numbers)
    if windows is not None:
        travel = travel * windows.zoom.to(travel).view(-1, 1, 1, 1, 1)
    return Sample(seen(False), seen(True) if volumes.rough else None, travel)
