"""What defines a training run; it is kept in the checkpoint's card (Sec. 4.1 and 4.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from stseg.augment import AugmentSettings
from stseg.errors import InputError
from stseg.losses import LossSettings
from stseg.motion import FitSettings, motion_model
from stseg.network import NetworkSettings
from stseg.records import K_RANGE, SEED_MAX


@dataclass(frozen=True)
class Stage:
    """A part of the training at one resolution (coarse to fine).

    Attributes:
        size: (h, w) of the volumes.
        steps: optimiser steps.
        learning_rate: Adam's step at the start; it falls along a cosine to ``final`` of it.
        final: fraction of the learning rate that is left at the end.
        beta: weight of L_c in this stage; None takes that of the run. Without L_c at first the
            masks find the borders of motions, with it they then agree over time.

    Raises:
        InputError: a value is out of its range.
    """

    size: tuple[int, int]
    steps: int
    learning_rate: float
    final: float = 0.1
    beta: float | None = None

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise InputError(
                f"A stage of {self.size[0]}x{self.size[1]} has no sites. 64x112 and 128x224 serve."
            )
        if self.steps < 1:
            raise InputError(f"A stage of {self.steps} steps trains nothing. Give 1 or more.")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(
                f"A stage cannot learn at a rate of {self.learning_rate}. Give about 0.0005."
            )
        if not 0 <= self.final < math.inf:
            raise InputError(
                f"{self.final} of a learning rate cannot be left at the end. Give about 0.1."
            )
        if self.beta is not None:
            LossSettings(beta=self.beta)  # the same range, and the same sentence

    def rate(self, step: int) -> float:
        """Learning rate of step ``step`` of the stage, from 0."""
        cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.learning_rate * (self.final + (1 - self.final) * cosine)


@dataclass(frozen=True)
class TrainSettings:
    """Everything that defines a training run; it is kept in the checkpoint's card.

    Attributes:
        network: the network; the first of its K is the one that is validated.
        motion_model: name of the segments' motion model in ``stseg.motion.MODELS``.
        losses: β and η.
        fit: how motion models are fitted.
        augment: augmentations.
        stages: resolutions, steps and learning rates, in order.
        instants: fields in a volume: 3, or 1 for the frame-by-frame predecessor.
        taus: temporal steps of the volumes.
        batch: volumes in an optimiser step.
        clip: largest norm of the gradient; where the first leads, of its own and of the others'.
        spread: how many times larger than PyTorch draws them the weights of the heads start; heads
            of a trained network stay as they are, unless they are drawn anew. With 1 the segments
            are alike at first, and more than two may never come to differ.
        direction_heads: begin these heads from the directions of what the first of those that stay
            as they are on a trained network calls other than background
            (``stseg.direction_heads``).
        only_heads: draw these heads anew and train nothing else, on a trunk that is there already;
            all of them are validated. Empty trains the whole network.
        first_leads: whether only the loss at the first K moves the trunk, as if it were trained
            alone, while the other heads learn from its features as they are. Else the trunk
            follows the mean of the losses.
        held_out: fraction at the end of each sequence for validation.
        validate_every: steps between validations.
        seed: of the weights, the order of the volumes and the augmentations. Two runs on one
            CPU with the same number of threads agree; other machines round otherwise, and on a GPU
            some sums have no fixed order.

    Raises:
        InputError: the network has a head that no checkpoint may have, or lacks one of those that
            are named, all are to be begun from directions, the first is to lead where it is alone
            or the trunk stays, a stage is smaller than one site of the
            network's coarsest level, there is no such motion model, or a number is out of its
            range.
    """

    network: NetworkSettings = field(default_factory=lambda: NetworkSettings(ks=(4,)))
    motion_model: str = "quadratic-time"
    losses: LossSettings = field(default_factory=LossSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    stages: tuple[Stage, ...] = (
        Stage((64, 112), 6000, 5e-4),
        Stage((128, 224), 1800, 2e-4, final=0.02),
    )
    instants: int = 3
    taus: tuple[int, ...] = (1,)
    batch: int = 4
    clip: float = 1.0
    spread: float = 1.0
    direction_heads: tuple[int, ...] = ()
    only_heads: tuple[int, ...] = ()
    first_leads: bool = False
    held_out: float = 0.1
    validate_every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        ks = self.network.ks
        if max(ks) > K_RANGE[1] or len(set(ks)) < len(ks):
            raise InputError(
                f"Heads for K = {', '.join(map(str, ks))} cannot be trained together. Give each K "
                f"once, from {K_RANGE[0]} to {K_RANGE[1]}."
            )
        motion_model(self.motion_model)
        if not self.taus or 0 in self.taus:
            raise InputError("Volumes need temporal steps τ other than 0. Give for instance 1.")
        if self.instants < 1:
            raise InputError(f"A volume has at least 1 instant, not {self.instants}. Give 3 or 1.")
        if not 0 < self.clip < math.inf:
            raise InputError(f"A gradient cannot be bounded by {self.clip}. Give about 1.")
        if not 0 < self.spread < math.inf:
            raise InputError(f"Heads cannot start {self.spread} times as large. Give more than 0.")
        if self.batch < 1:
            raise InputError(f"A batch has at least 1 volume, not {self.batch}. Give 1 or more.")
        if not self.stages:
            raise InputError("A run without a stage trains nothing. Give at least one.")
        least = 2 ** (self.network.levels - 1)  # the frame is one site of the coarsest level then
        for stage in self.stages:
            if min(stage.size) < least:
                raise InputError(
                    f"A stage of {stage.size[0]}x{stage.size[1]} is too small for a network of "
                    f"{self.network.levels} levels. Give sides of {least} or more."
                )
            if self.instants * math.prod(side // least for side in stage.size) < 2:
                raise InputError(
                    f"A stage of {stage.size[0]}x{stage.size[1]} leaves a single number to "
                    "normalise at the coarsest level. Give larger sides, or more instants."
                )
        if not 0 <= self.seed <= SEED_MAX:
            raise InputError(f"The seed {self.seed} is out of range. Give 0 to {SEED_MAX}.")
        if self.validate_every < 1:
            raise InputError(f"Validating every {self.validate_every} steps cannot be done.")
        if not 0 <= self.held_out < 1:
            raise InputError(f"{self.held_out} is no fraction to hold out. Give 0 to less than 1.")
        for heads, what in (
            (self.only_heads, "trained alone"),
            (self.direction_heads, "begun from directions"),
        ):
            lacking = sorted(set(heads) - set(self.network.ks))
            if lacking:
                raise InputError(
                    f"The network has no head for K = {', '.join(map(str, lacking))} that could "
                    f"be {what}. It has those for K = {', '.join(map(str, self.network.ks))}."
                )
        if self.first_leads and (self.only_heads or len(self.network.ks) < 2):
            raise InputError(
                "The first head leads others on a trunk that is trained. Name more heads than one "
                "and train all of them, or let none lead."
            )
        if self.direction_heads and not self.trained_before:
            raise InputError(
                "If all heads are drawn anew or begun from directions, none is left to tell what "
                "is background. Name some of them."
            )

    @property
    def trained_before(self) -> tuple[int, ...]:
        """The K whose heads begin as they were on the trained network."""
        renewed = {*self.only_heads, *self.direction_heads}
        return tuple(k for k in self.network.ks if k not in renewed)

    @property
    def trained_ks(self) -> tuple[int, ...]:
        """The K whose heads are trained."""
        return self.only_heads or self.network.ks

    @property
    def validated_ks(self) -> tuple[int, ...]:
        """The K whose mean loss on the held-out volumes tells which checkpoint is the best."""
        return self.only_heads or self.network.ks[:1]

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)
