"""The same network as a textbook has it: the reference for speed and for equal results."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

from stseg.unet.blocks import SpatialDown, SpatialUp
from stseg.unet.conv import Conv3d
from stseg.unet.norms import InstanceNorm, InstanceNormPerFrame

Network = TypeVar("Network", bound=nn.Module)


class _FrameNorm(nn.Module):
    """``nn.InstanceNorm2d`` on each frame."""

    def forward(self, x: Tensor) -> Tensor:
        frames = [nn.functional.instance_norm(frame) for frame in x.unbind(2)]
        return torch.stack(frames, dim=2)


def plain(network: Network) -> Network:
    """A copy of ``network`` of PyTorch's own modules, in the default layout.

    Its numbers are the same but for rounding; nothing in it knows of layouts, bfloat16 or caches.
    """
    copy = deepcopy(network)
    for parameter in copy.parameters():
        parameter.data = parameter.data.contiguous()
    _replace(copy)
    return copy


def _replace(module: nn.Module) -> None:
    for name, child in module.named_children():
        new = _plain(child)
        if new is child:
            _replace(child)
        else:
            setattr(module, name, new)


def _plain(module: nn.Module) -> nn.Module:
    if isinstance(module, SpatialDown | SpatialUp):
        return module.conv
    if isinstance(module, InstanceNormPerFrame):
        return _FrameNorm()
    if isinstance(module, InstanceNorm):
        return nn.InstanceNorm3d(module.channels)
    if isinstance(module, Conv3d):
        new = nn.Conv3d(
            module.in_channels,
            module.out_channels,
            (module.kernel_size[0], module.kernel_size[1], module.kernel_size[2]),
            padding=module.same,
        )
        new.weight, new.bias = module.weight, module.bias
        return new
    return module
