"""Where the sites of one instant are at the next one: values read along the motion."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def read_along(
    values: Float[Tensor, "b c s h w"], motion: Float[Tensor, "b 2 s h w"]
) -> tuple[Float[Tensor, "b c s h w"], Bool[Tensor, "b s h w"]]:
    """Values of a later instant at the places that the sites of an earlier one move to.

    The value at p is that of ``values`` at p + motion(p), bilinear between the centres of sites.
    Gradients flow into ``values``.

    Args:
        values: of the later instants.
        motion: from each earlier instant to its later one, as a fraction of the width and height
            of the frame.

    Returns:
        The values, and whether each place is inside the frame; outside, the nearest site inside is
        read.
    """
    b, _, s, h, w = values.shape
    where = []
    for length, axis, moved in ((w, 4, motion[:, :1]), (h, 3, motion[:, 1:])):
        centres = (2 * torch.arange(length, device=motion.device, dtype=motion.dtype) + 1) / length
        shape = [1] * 5
        shape[axis] = length
        where.append(centres.view(shape) - 1 + 2 * moved)  # the frame is from -1 to 1
    places = torch.cat(where, dim=1)
    inside = (places.abs() <= 1).all(dim=1)
    grid = places.movedim(1, -1).flatten(0, 1).to(values)  # (b s, h, w, 2)
    flat = values.transpose(1, 2).flatten(0, 1)
    read = F.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    return read.unflatten(0, (b, s)).transpose(1, 2), inside
