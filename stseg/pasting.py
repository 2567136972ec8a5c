"""Objects that move by themselves, pasted into flow for training (ours, after Sec. 4.3).

Footage with one moving object teaches to tell what moves from what does not. Where several motions
are in a sample, the losses ask for several segments, if each motion is seen in several places: one
quadratic model explains three objects in three places nearly as well as three models do. No label
is made of what is pasted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_RADII = (0.04, 0.2)
"""Mean radius of an object, as a fraction of the frame's height."""

_MOTIONS = 3
"""Motions in a sample; each object has one of them."""

_SPEEDS = (0.3, 2.0)
"""Speed of an object beside what is behind it, in mean magnitudes of the sample's flow."""

_SPIN = 0.15
"""Largest rotation and growth: what they do at the rim, as a share of the speed."""

_WAVES = (2, 3, 4)
"""Waves around the outline of an object, each of up to a sixth of its radius."""


@dataclass(frozen=True)
class _Objects:
    """One object of each sample, all values (b, 1, 1, 1, 1) but for ``centre`` and ``speed``."""

    centre: Tensor  # (b, 2, 1, 1, 1), x and y as fractions of the frame
    radius: Tensor  # fraction of the height
    speed: Tensor  # (b, 2, 1, 1, 1), pixels a frame
    spin: Tensor  # pixels a frame, at the rim
    growth: Tensor  # the same
    phases: tuple[Tensor, ...]
    heights: tuple[Tensor, ...]


def paste_objects(
    flow: Float[Tensor, "b 2 t h w"],
    error: Float[Tensor, "b 2 t h w"] | None,
    travel: Float[Tensor, "b 2 1 1 1"],
    most: int,
    generator: torch.Generator,
    chance: float = 1.0,
) -> tuple[Float[Tensor, "b 2 t h w"], Float[Tensor, "b 2 t h w"] | None]:
    """Each sample with none to ``most`` objects in front, which go where their flow says.

    An object has a smooth random outline. It moves by one of the sample's three translations,
    whose directions are a sixth of a turn apart at least, and by a little rotation and growth of
    its own, constant over the sample.

    Args:
        flow: triplets, in pixels a frame.
        error: of what the network sees; none is left on an object. None where there is none.
        travel: how far a pixel a frame goes from instant to instant, in widths and heights.
        most: largest number of objects in a sample.
        generator: source of chance, on the CPU.
        chance: that a sample is one of those that may have objects.

    Returns:
        The flow and the error with the objects.
    """
    b = flow.shape[0]
    counts = torch.randint(most + 1, (b,), generator=generator)
    if chance < 1:
        counts *= torch.rand(b, generator=generator) < chance
    motions = _motions(flow, generator)
    behind = flow.mean(dim=(2, 3, 4), keepdim=True)
    for number in range(most):
        chosen = torch.randint(_MOTIONS, (b,), generator=generator).to(flow.device)
        own = motions[torch.arange(b, device=flow.device), chosen].view(b, 2, 1, 1, 1)
        drawn = _drawn(behind, own, generator)
        place, inside = _placed(drawn, flow, travel)
        inside &= (number < counts).to(flow.device).view(b, 1, 1, 1)
        turned = torch.stack((-place[:, 1], place[:, 0]), dim=1)
        moved = drawn.speed + (drawn.growth * place + drawn.spin * turned) / drawn.radius
        hit = inside[:, None]
        flow = torch.where(hit, moved, flow)
        error = None if error is None else error.masked_fill(hit, 0)
    return flow, error


def _motions(flow: Tensor, generator: torch.Generator) -> Float[Tensor, "b m 2"]:
    """Translations in pixels a frame, beside what is behind."""
    b = flow.shape[0]
    first = torch.rand(b, 1, generator=generator)
    apart = torch.arange(_MOTIONS) / _MOTIONS
    turns = first + apart + torch.rand(b, _MOTIONS, generator=generator) / (2 * _MOTIONS)
    pace = torch.rand(b, _MOTIONS, generator=generator)
    pace = _SPEEDS[0] + (_SPEEDS[1] - _SPEEDS[0]) * pace
    angle = 2 * math.pi * turns
    directions = torch.stack((angle.cos(), angle.sin()), dim=2)
    magnitude = torch.hypot(flow[:, 0], flow[:, 1]).mean(dim=(1, 2, 3))[:, None, None]
    return (pace[..., None] * directions).to(flow) * magnitude


def _drawn(behind: Tensor, own: Tensor, generator: torch.Generator) -> _Objects:
    """One object of each sample, with the motion ``own`` beside what is ``behind``."""

    def even(low: float, high: float, parts: int = 1) -> Tensor:
        drawn = torch.rand(own.shape[0], parts, 1, 1, 1, generator=generator)
        return (low + (high - low) * drawn).to(own)

    centre, radius = even(0.1, 0.9, 2), even(*_RADII)
    pace = torch.hypot(own[:, :1], own[:, 1:])
    spin, growth = (even(-_SPIN, _SPIN) * pace for _ in range(2))
    phases = tuple(even(0.0, 2 * math.pi) for _ in _WAVES)
    return _Objects(
        centre, radius, behind + own, spin, growth, phases, tuple(even(0.0, 1 / 6) for _ in _WAVES)
    )


def _placed(
    drawn: _Objects, flow: Tensor, travel: Tensor
) -> tuple[Float[Tensor, "b 2 t h w"], Bool[Tensor, "b t h w"]]:
    """Of every site: where it is from the object's centre, in heights, and whether it is inside."""
    t, h, w = flow.shape[2:]
    rows, columns, instants = (
        torch.arange(side, device=flow.device, dtype=flow.dtype) for side in (h, w, t)
    )
    y, x = torch.meshgrid((rows + 0.5) / h, (columns + 0.5) / w, indexing="ij")
    sites = torch.stack((x, y))[None, :, None]
    when = instants.view(1, 1, t, 1, 1) - (t - 1) / 2
    place = sites - drawn.centre - when * drawn.speed * travel  # widths and heights
    # Frames have square pixels: what one width is in heights, travel tells.
    place = place * torch.cat(
        (travel[:, 1:] / travel[:, :1], torch.ones_like(travel[:, 1:])), dim=1
    )
    angle = torch.atan2(place[:, 1:], place[:, :1])
    rim = drawn.radius * (
        1
        + sum(
            height * torch.cos(waves * angle + phase)
            for waves, height, phase in zip(_WAVES, drawn.heights, drawn.phases, strict=True)
        )
    )
    inside = place.square().sum(dim=1, keepdim=True) < rim.square()
    return place, inside[:, 0]
