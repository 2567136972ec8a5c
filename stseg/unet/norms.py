"""Instance normalisation over a volume, and frame by frame."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stseg.unet.layout import is_stacked

EPSILON = 1e-5


class _NormaliseSites(torch.autograd.Function):
    """Normalise each channel over its sites; same numbers as ``F.instance_norm``.

    Forwards it is group norm with one channel a group, which keeps the channels-last layout that
    instance norm gives up (3 times slower on a CPU). Backwards PyTorch's group norm is slow on a
    CPU, so that the sums over sites are matrix products here: sites lie along rows, channels are
    contiguous.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        channels, sites = x.shape[1], x[0, 0].numel()
        out, _, scale = torch.native_group_norm(
            _laid_out(x), None, None, x.shape[0], channels, sites, channels, EPSILON
        )
        ctx.save_for_backward(out, scale)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = grads
        out, scale = ctx.saved_tensors
        rows, grad_rows = _rows(out), _rows(grad)
        ones = rows.new_ones(1, 1, rows.shape[1]).expand(rows.shape[0], 1, -1)
        share = scale.float().unsqueeze(1) / rows.shape[1]
        mean = torch.bmm(ones, grad_rows) * share
        slope = torch.bmm(ones, grad_rows * rows) * share
        scale = scale.to(rows.dtype).unsqueeze(1)
        # (grad - its mean - its slope along ``out``) · scale, in two passes over memory.
        result = torch.addcmul(mean.to(rows.dtype).neg_(), grad_rows, scale)
        result.addcmul_(rows, slope.to(rows.dtype), value=-1)
        return result.unflatten(1, out.shape[2:]).movedim(-1, 1)


class _NormaliseRows(torch.autograd.Function):
    """The same on a GPU, for sites along rows (b, n, c): statistics in float32, layout kept.

    PyTorch's own kernels give up the layout there, which costs two more passes on either side.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        exact = torch.promote_types(rows.dtype, torch.float32)
        mean = rows.mean(1, keepdim=True, dtype=exact)
        norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=exact)
        variance = (norm.square() / rows.shape[1] - mean.square()).clamp_min(0)
        scale = torch.rsqrt(variance + EPSILON)
        shift = (-mean * scale).to(rows.dtype)
        scale = scale.to(rows.dtype)
        out = torch.addcmul(shift, rows, scale)
        ctx.save_for_backward(out, scale)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = grads
        out, scale = ctx.saved_tensors
        exact = torch.promote_types(grad.dtype, torch.float32)
        mean = grad.mean(1, keepdim=True, dtype=exact)
        slope = (grad * out).mean(1, keepdim=True, dtype=exact)
        shifted = torch.addcmul(-mean.to(grad.dtype), out, slope.to(grad.dtype), value=-1)
        return (shifted + grad) * scale


def _laid_out(x: Tensor) -> Tensor:
    """``x`` in one of the two layouts that the kernel takes; the same memory where it can be.

    It refuses axes of length one, as of a single frame, whose stride is not that of the layout.
    """
    last = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    if x.is_contiguous() and not x.is_contiguous(memory_format=last):
        return x
    strides, step = [0] * x.dim(), 1
    for axis in (1, *range(x.dim() - 1, 1, -1), 0):
        strides[axis], step = step, step * x.shape[axis]
    return x.contiguous(memory_format=last).as_strided(x.shape, strides)


def _rows(x: Tensor) -> Tensor:
    return x.movedim(1, -1).flatten(1, -2)  # (b, c, sites...) → (b, n, c)


class InstanceNorm(nn.Module):
    """Zero mean and unit variance for each channel of each sample, over (t, h, w).

    No parameters. The layout of the input stays.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Normalise ``x``."""
        return _normalise(x)


class InstanceNormPerFrame(InstanceNorm):
    """Zero mean and unit variance for each channel of each frame, over (h, w)."""

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Normalise each frame of ``x``."""
        b, _, t, _, _ = x.shape
        frames = x.transpose(1, 2).flatten(0, 1)  # (b t, c, h, w)
        return _normalise(frames).unflatten(0, (b, t)).transpose(1, 2)


def _normalise(x: Tensor) -> Tensor:
    if x.device.type == "cpu" and torch.is_grad_enabled() and x.dtype == torch.bfloat16:
        out: Tensor = _NormaliseSites.apply(x)
        return out
    if x.dim() == 5 and is_stacked(x):
        order = (0, 3, 4, 2, 1)  # (b, h, w, t, c), as convolutions leave it there
        last = x.permute(order)
        if x.device.type == "cpu":
            plane = last.flatten(2, 3).movedim(-1, 1)  # the norm does not ask which instant
            normed = F.group_norm(plane, x.shape[1], eps=EPSILON).movedim(1, -1)
            return normed.unflatten(2, last.shape[2:4]).permute(0, 4, 3, 1, 2)
        rows: Tensor = _NormaliseRows.apply(last.flatten(1, 3))
        return rows.unflatten(1, last.shape[1:4]).permute(0, 4, 3, 1, 2)
    return F.group_norm(x, x.shape[1], eps=EPSILON)
