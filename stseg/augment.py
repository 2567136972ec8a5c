"""Augmentation of flow triplets for training (Sec. 4.3). Never used at evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stseg.errors import InputError
from stseg.motion import FittedMotion, MotionModel

MOST_GLOBAL = 100
"""Times as much motion as a sample has; with more of it nothing of the sample is left."""


@dataclass(frozen=True)
class AugmentSettings:
    """Which augmentations are on, and how strong.

    Attributes:
        global_motion: largest ratio of the magnitude of the added space-time flow to that of the
            triplet; each sample draws its own, evenly from 0. 0 turns it off.
        corrupt: chance that one of the instants of a sample is replaced by noise in the network's
            input (the loss still sees the true flow). 0 turns it off.
        flip: mirror left and right with chance 1/2.
        reverse: reverse time with chance 1/2 (instants in the other order, vectors negated).
        exaggerate: largest factor by which the error of a rough estimate is multiplied in the
            network's input (ours); each sample draws its own between the inverse and it, evenly by
            the logarithm, so that rougher estimates than those of the training clips are seen, too.
            1 turns it off.
        objects: largest number of objects pasted into a sample (``stseg.pasting``; ours), which
            only training does, since it knows how far they go. 0 turns it off.
        pasted: chance that a sample is one of those that may have objects.
        zoom: largest magnification of a sample (ours): it shows a window of the frame, up to so
            many times magnified, but never finer than the flow is stored, so that a place in the
            frame means nothing (``stseg.windows``). 1 turns it off.

    Raises:
        InputError: the objects are less than none, ``corrupt`` or ``pasted`` is no chance, the
            global motion is less than none or without bound, or a factor is less than 1.
    """

    global_motion: float = 2.0
    corrupt: float = 0.1
    flip: bool = True
    reverse: bool = True
    exaggerate: float = 1.0
    objects: int = 0
    pasted: float = 1.0
    zoom: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.global_motion <= MOST_GLOBAL:
            raise InputError(
                f"A global motion cannot be {self.global_motion} times that of a sample. Give 0 to "
                f"{MOST_GLOBAL}."
            )
        if not 0 <= self.corrupt <= 1:
            raise InputError(f"Instants cannot be lost with chance {self.corrupt}. Give 0 to 1.")
        if self.objects < 0:
            raise InputError(f"There cannot be {self.objects} objects in a sample. Give 0 or more.")
        if not 0 <= self.pasted <= 1:
            raise InputError(f"Objects cannot be pasted with chance {self.pasted}. Give 0 to 1.")
        if not self.exaggerate >= 1:
            raise InputError(
                f"Errors cannot be exaggerated {self.exaggerate} times. Give 1 or more."
            )
        if not self.zoom >= 1:
            raise InputError(f"A window cannot be magnified {self.zoom} times. Give 1 or more.")


def _magnitude(flow: Tensor) -> Tensor:
    return torch.hypot(flow[:, :1], flow[:, 1:]).mean(dim=(1, 2, 3, 4), keepdim=True)


def add_global_motion(
    flow: Float[Tensor, "b 2 t h w"],
    model: MotionModel,
    strength: float,
    generator: torch.Generator,
) -> Float[Tensor, "b 2 t h w"]:
    """Add one random polynomial flow to each triplet, as a moving camera would.

    The monomial parameters are uniform; the field is scaled to between 0 and ``strength`` times
    the mean magnitude of the triplet.
    """
    b, _, t, h, w = flow.shape
    theta = torch.rand(b, 1, model.parameters, generator=generator) - 0.5
    added = FittedMotion.from_parameters(model, (t, h, w), theta.to(flow)).flow()[:, 0]
    ratio = strength * torch.rand(b, 1, 1, 1, 1, generator=generator).to(flow)
    return flow + added * ratio * _magnitude(flow) / _magnitude(added).clamp_min(1e-6)


def corrupt_instant(
    flow: Float[Tensor, "b 2 t h w"], chance: float, generator: torch.Generator
) -> Float[Tensor, "b 2 t h w"]:
    """Replace one instant of some samples by smooth noise of the same magnitude.

    The network has to take the segments of that instant from its neighbours.
    """
    b, c, t, h, w = flow.shape
    hit = torch.rand(b, generator=generator) < chance
    instant = torch.randint(t, (b,), generator=generator)
    coarse = torch.randn(b, c, 4, 7, generator=generator).to(flow)
    noise = torch.nn.functional.interpolate(coarse, (h, w), mode="bicubic") * _magnitude(flow)[:, 0]
    out = flow.clone()
    for sample in hit.nonzero().flatten().tolist():
        out[sample, :, instant[sample]] = noise[sample]
    return out


def augment(
    flow: Float[Tensor, "b 2 t h w"],
    model: MotionModel,
    settings: AugmentSettings,
    generator: torch.Generator,
    reference: Float[Tensor, "b 2 t h w"] | None = None,
) -> tuple[Float[Tensor, "b 2 t h w"], Float[Tensor, "b 2 t h w"]]:
    """The network's input and the flow that the loss is measured on: ``turn``, then ``disturb``.

    Args:
        flow: triplets, in pixels a frame.
        model: motion model of the global motion.
        settings: what is on.
        generator: source of chance, on the CPU.
        reference: better flow of the same frames for the loss; None takes ``flow``.
    """
    better, error = turn(flow, settings, generator, reference)
    return disturb(better, error, model, settings, generator)


def turn(
    flow: Float[Tensor, "b 2 t h w"],
    settings: AugmentSettings,
    generator: torch.Generator,
    reference: Float[Tensor, "b 2 t h w"] | None = None,
) -> tuple[Float[Tensor, "b 2 t h w"], Float[Tensor, "b 2 t h w"] | None]:
    """Flips and reversals: what is left is still the motion of something that could be filmed.

    Returns:
        The flow for the loss, and the error of what the network sees; None where both are one.
    """
    b = flow.shape[0]
    better = flow if reference is None else reference
    error = None if reference is None else flow - reference  # of the estimate that the network sees
    if settings.flip:
        flip = torch.rand(b, generator=generator) < 0.5
        better, error = _where(flip, _mirrored, better, error)
    if settings.reverse:
        turned = torch.rand(b, generator=generator) < 0.5
        better, error = _where(turned, _reversed, better, error)
    return better, error


def disturb(
    better: Float[Tensor, "b 2 t h w"],
    error: Float[Tensor, "b 2 t h w"] | None,
    model: MotionModel,
    settings: AugmentSettings,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "b 2 t h w"], Float[Tensor, "b 2 t h w"]]:
    """Global motion, for input and loss; errors and a corrupted instant, for the input alone.

    Args:
        better: flow for the loss.
        error: of what the network sees; None where both are one.
        model: motion model of the global motion.
        settings: what is on.
        generator: source of chance, on the CPU.
    """
    if settings.global_motion > 0:
        better = add_global_motion(better, model, settings.global_motion, generator)
    volume = better if error is None else better + _exaggerated(error, settings, generator)
    if settings.corrupt > 0 and better.shape[2] > 1:
        volume = corrupt_instant(volume, settings.corrupt, generator)
    return volume, better


def _exaggerated(error: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    if settings.exaggerate == 1:
        return error
    drawn = 2 * torch.rand(error.shape[0], 1, 1, 1, 1, generator=generator) - 1
    return error * (settings.exaggerate**drawn).to(error)


def _mirrored(flow: Tensor) -> Tensor:
    return flow.flip(4) * flow.new_tensor([-1, 1]).view(1, 2, 1, 1, 1)


def _reversed(flow: Tensor) -> Tensor:
    return -flow.flip(2)


def _where(
    hit: Tensor, change: Callable[[Tensor], Tensor], flow: Tensor, error: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """``change`` applied to the samples that are hit; linear, so that it serves the error too."""
    hit = hit.to(flow.device)[:, None, None, None, None]
    changed = torch.where(hit, change(flow), flow)
    return changed, None if error is None else torch.where(hit, change(error), error)
