"""The U-net's skeleton: five slots that any module with the right shapes can fill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, cat, nn
from torch.nn import functional as F

from stseg.unet.blocks import Spec
from stseg.unet.layout import is_stacked, join_channels

ModuleFactory = Callable[[Spec], nn.Module]

SPATIAL = (1, 2, 2)


class ModuleShapeError(ValueError):
    """A module returned another shape than its slot asks for."""


@dataclass(frozen=True)
class Blocks:
    """The five recombinable modules of the network: each slot makes a module from a ``Spec``."""

    left: ModuleFactory
    down: ModuleFactory
    transit: ModuleFactory
    right: ModuleFactory
    up: ModuleFactory


def _checked(slot: str, spec: Spec, module: nn.Module, x: Tensor, size: tuple[int, ...]) -> Tensor:
    out = module(x)
    expected = (x.shape[0], spec.channels_out, *size)
    actual = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    if actual != expected:
        raise ModuleShapeError(
            f"The module in slot '{slot}' of level {spec.level} ({type(module).__name__}) must "
            f"return shape {expected} for input {tuple(x.shape)}, but it returned {actual}."
        )
    return out


class UNet(nn.Module):
    """U-net over (t, h, w) volumes, from five modules (Sec. 3.5, Fig. 2).

    Level l has ``features * 2**l`` channels. On the way down each level passes ``left`` and
    ``down``; ``transit`` carries its features over; on the way up ``up`` doubles the size and
    ``right`` joins both. Inputs of any size are padded by replication to a multiple of the
    total scale, and the output is cropped back.

    Args:
        blocks: the five modules.
        channels_in: channels of the input volume.
        features: channels of the top level and of the output.
        levels: number of levels, at least 1.
    """

    def __init__(self, blocks: Blocks, channels_in: int, features: int, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.multiple = SPATIAL[1] ** (levels - 1)
        width = [features * 2**level for level in range(levels)]
        last = levels - 1
        self.specs: dict[str, Spec] = {}

        def build(slot: str, make: ModuleFactory, specs: list[Spec]) -> nn.ModuleList:
            self.specs.update({f"{slot}{spec.level}": spec for spec in specs})
            return nn.ModuleList(make(spec) for spec in specs)

        every, inner = range(levels), range(last)
        self.left = build(
            "left",
            blocks.left,
            [Spec(n, n == last, width[n - 1] if n else channels_in, width[n]) for n in every],
        )
        self.down = build(
            "down", blocks.down, [Spec(n, False, width[n], width[n], SPATIAL) for n in inner]
        )
        self.transit = build(
            "transit", blocks.transit, [Spec(n, n == last, width[n], width[n]) for n in every]
        )
        self.up = build(
            "up", blocks.up, [Spec(n, False, width[n + 1], width[n], SPATIAL) for n in inner]
        )
        self.right = build(
            "right", blocks.right, [Spec(n, False, 2 * width[n], width[n]) for n in inner]
        )

    def _run(self, slot: str, level: int, x: Tensor, size: tuple[int, ...]) -> Tensor:
        module = getattr(self, slot)[level]
        return _checked(slot, self.specs[f"{slot}{level}"], module, x, size)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h w"]:
        """Features of every site, (b, features, t, h, w).

        Raises:
            ModuleShapeError: a module broke the contract of its slot; the message names both.
        """
        if len(x) > 1 and x.device.type == "cpu" and not torch.is_grad_enabled():
            # The features of one volume stay in the processor's cache, those of a batch do not.
            return cat([self._features(volume) for volume in x.split(1)])
        if x.device.type != "cpu" and not is_stacked(x):
            # To convert every weight to bfloat16 takes longer than it saves on a few volumes.
            with torch.autocast(x.device.type, enabled=False):
                return self._features(x)
        return self._features(x)

    def _features(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        pad = (-width % self.multiple, -height % self.multiple)
        if any(pad):
            x = F.pad(x, (0, pad[0], 0, pad[1], 0, 0), mode="replicate")
        carried = []
        for level in range(self.levels):
            size = tuple(x.shape[2:])
            x = self._run("left", level, x, size)
            carried.append(self._run("transit", level, x, size))
            if level < self.levels - 1:
                half = (size[0], size[1] // SPATIAL[1], size[2] // SPATIAL[2])
                x = self._run("down", level, x, half)
        x = carried[-1]
        for level in reversed(range(self.levels - 1)):
            side = carried[level]
            size = tuple(side.shape[2:])
            x = join_channels(side, self._run("up", level, x, size))
            x = self._run("right", level, x, size)
        return x[..., :height, :width]
