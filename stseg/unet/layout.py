"""How volumes lie in memory: channels together, and the instants of a site beside them or apart."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

FEW = 8
"""Volumes up to which a GPU waits for its orders: fewer, larger kernels win, whatever they move."""


def is_stacked(x: Float[Tensor, "b c t h w"]) -> bool:
    """Whether the instants of a site lie beside each other, so that planes of all are convolved.

    On a GPU that is a rule; on a CPU they lie as the convolution before left them.
    """
    if x.device.type == "cpu":
        return x.shape[2] > 1 and x.stride(2) < x.stride(4)
    return torch.is_grad_enabled() or len(x) > FEW


def instants_in_channels(x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b m h w"]:
    """A plane of the channels of all instants, channels last; a view where it can be."""
    return x.permute(0, 3, 4, 2, 1).flatten(3).contiguous().permute(0, 3, 1, 2)


def instants_in_time(plane: Float[Tensor, "b m h w"], t: int) -> Float[Tensor, "b c t h w"]:
    """The way back from ``instants_in_channels``: a view."""
    return plane.unflatten(1, (t, -1)).transpose(1, 2)


def site_order(x: Float[Tensor, "b c t h w"]) -> str:
    """In which order the sites of a volume lie in memory, as einops writes it."""
    return "h w t" if is_stacked(x) else "t h w"


def join_channels(
    a: Float[Tensor, "b c t h w"], b: Float[Tensor, "b d t h w"]
) -> Float[Tensor, "b c+d t h w"]:
    """Both volumes' channels, those of ``a`` first; the layout is that of ``a``."""
    if is_stacked(a):
        last = [each.permute(0, 3, 4, 2, 1) for each in (a, b)]
        return torch.cat(last, dim=-1).permute(0, 4, 3, 1, 2)
    if is_stacked(b):
        return torch.cat([each.movedim(1, -1) for each in (a, b)], dim=-1).movedim(-1, 1)
    return torch.cat((a, b), dim=1)
