"""Fit on one clip: training goes on with the flow of the clip alone, from a trained model."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from stseg.accumulation import accumulate_gradients, move_training
from stseg.augment import AugmentSettings, disturb, turn
from stseg.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from stseg.datasets import FlowSequence, TripletSet
from stseg.device import Device, Frugal, choose_device
from stseg.errors import Cancelled, InputError, Stop, heed
from stseg.loss_chart import CURVES, Curve
from stseg.losses import Losses, LossSettings, joint_losses
from stseg.motion import FitSettings, motion_model
from stseg.records import K_RANGE, SEED_MAX, TAU_MAX, Clip, grid_for
from stseg.repeats import DistinctFrames
from stseg.train_settings import Stage, TrainSettings
from stseg.variants import VARIANTS, model_path
from stseg.volume import FlowFields
from stseg.windows import sample_volumes

logger = logging.getLogger(__name__)

NAMES = ("loss", "reconstruction", "consistency")

SHARE = 0.25
"""Weight of the other head that each step trains beside the chosen one, so that all stay usable."""

CHECKED = 6
"""Volumes that the loss of the whole clip is measured on, evenly spread over it."""


@dataclass(frozen=True)
class AdaptationSettings:
    """How a model is fitted to one clip.

    Attributes:
        k: the number of segments whose head is fitted; the other heads follow along.
        taus: temporal steps of the triplets; the sign does not matter, since time is reversed at
            random. Those that the clip is too short for are left out, with a warning.
        eta: fraction of sites that L_c leaves out (eq. 5), 0 to 1.
        beta: weight of L_c (eq. 6); 0 fits without it.
        steps: optimiser steps.
        learning_rate: Adam's step at the start; it falls along a cosine to a twentieth. A larger
            one lowers the loss further, but learns what is wrong with the flow, too (measured
            in ``benchmarks/README.md``).
        size: (h, w) of the volumes of a landscape clip; turned for portrait.
        batch: volumes in an optimiser step.
        seed: of the order of the volumes and the augmentations.

    Raises:
        InputError: a value is out of its range.
    """

    k: int = 4
    taus: tuple[int, ...] = (1,)
    eta: float = 0.01
    beta: float = 1.0
    steps: int = 50
    learning_rate: float = 1e-5
    size: tuple[int, int] = (64, 112)
    batch: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = K_RANGE
        for right, sentence in (
            (low <= self.k <= high, f"K is {self.k}; choose one from {low} to {high}."),
            (self.taus, "No τ is given. Choose at least one, for instance τ = 1."),
            (
                all(1 <= abs(tau) <= TAU_MAX for tau in self.taus),
                f"τ is a step of 1 to {TAU_MAX} frames, not {', '.join(map(str, self.taus))}.",
            ),
            (0 <= self.eta <= 1, f"η is {self.eta}, but it is a fraction from 0 to 1."),
            (0 <= self.beta <= 100, f"β is {self.beta}; choose one from 0 to 100."),
            (1 <= self.steps <= 100_000, f"{self.steps} steps cannot be done; choose 1 or more."),
            (
                0 < self.learning_rate <= 0.1,
                f"A learning rate of {self.learning_rate} does not learn; choose about 0.00001.",
            ),
            (
                min(self.size) >= 16 and max(self.size) <= 512,
                f"A grid of {self.size[0]}x{self.size[1]} does not serve; 64x112 and 128x224 do.",
            ),
            (1 <= self.batch <= 256, f"A batch has at least 1 volume, not {self.batch}."),
            (
                0 <= self.seed <= SEED_MAX,
                f"The seed {self.seed} is out of range; choose one from 0 to {SEED_MAX}.",
            ),
        ):
            if not right:
                raise InputError(sentence)


@dataclass(frozen=True)
class AdaptationProgress:
    """Where the fit is, after a step; the first is step 0, before anything changed.

    Attributes:
        step: steps done so far.
        steps: steps in all.
        losses: L, L_r and L_c of this step's (augmented) volumes at the chosen K; empty at step 0.
        clip_losses: the same over the clip itself, without augmentation, where this step measured
            it.
        masks: soft masks of the watched frame on the network's grid, where this step made them.
        seconds: since the fit began.
    """

    step: int
    steps: int
    losses: Mapping[str, float]
    clip_losses: Mapping[str, float] | None
    masks: Float32[np.ndarray, "k h w"] | None
    seconds: float


class Adaptation:
    """Training on the flow of one clip, from a trained model.

    Iterate over ``run()``; ``save()`` writes the model as it is then, also after a stop. Volumes
    are passed one by one and their gradients added up, so that a stop never waits for a whole
    batch.

    Args:
        base: name of a variant or path of a checkpoint to start from.
        clip: whose flow it is: its name and size.
        flow: the clip's flow; only the forward fields count.
        settings: how.
        device: where.

    Raises:
        InputError: the model is not there or has no head for K, or the clip is too short for every
            τ.
    """

    def __init__(
        self,
        base: str,
        clip: Clip,
        flow: FlowFields,
        settings: AdaptationSettings,
        device: Device | None = None,
    ) -> None:
        self.settings = settings
        self.step = 0
        self._base = base
        self._clip = clip
        self._device = device or choose_device()
        self._checkpoint = load_checkpoint(model_path(base))
        self.network = self._checkpoint.network.to(self._device.torch)
        ks = self.network.settings.ks
        if settings.k not in ks:
            raise InputError(
                f"Model {base!r} gives K = {', '.join(map(str, ks))} segments, not {settings.k}. "
                "Choose one of these, or another model."
            )
        self._others = [k for k in ks if k != settings.k]
        trained = trained_with(self._checkpoint)
        self._model = motion_model(trained.motion_model)
        self._fit = trained.fit
        self._augment = trained.augment
        self._losses = replace(trained.losses, beta=settings.beta, eta=settings.eta)
        self._instants = trained.instants
        self._distinct = DistinctFrames(flow)
        self._distinct.look(len(flow.forward) + 1, ended=True)
        fields = [torch.from_numpy(flow.forward[index]) for index in self._distinct.moving]
        needed = {abs(tau): (trained.instants - 1) * abs(tau) + 2 for tau in settings.taus}
        taus = [tau for tau, frames in needed.items() if frames <= len(fields) + 1]
        if not taus:
            least, there, read = min(needed), len(fields) + 1, len(flow.forward) + 1
            longer = "Read more of its frames" if read < clip.frames else "Give a longer clip"
            differ = " that differ" if there < read else ""
            raise InputError(
                f"{clip.name} has {there} frame{'' if there == 1 else 's'}{differ}, but a fit with "
                f"τ = {least} needs at least {needed[least]}. {longer}"
                f"{', or choose a smaller τ' if least > 1 else ''}."
            )
        self._left_out = tuple(
            f"τ = {tau} is left out: its triplets need {frames} frames, and {clip.name} has "
            f"{len(fields) + 1}."
            for tau, frames in needed.items()
            if tau not in taus
        )
        for note in self._left_out:
            logger.warning("%s", note)
        sequence = FlowSequence(clip.name, torch.stack(fields), size=clip.size)
        self._volumes = TripletSet([sequence], trained.instants, taus, held_out=0.0)
        # The masks that are shown are those of the first τ, whose volumes come first.
        self._reach = trained.instants // 2 * taus[0]
        self._shown = max(len(fields) - 2 * self._reach, 1)
        turned = grid_for(clip.size) != grid_for((1, 2))
        self._size = settings.size[::-1] if turned else settings.size
        self._grid = grid_for(clip.size)
        self._optimiser = torch.optim.Adam(
            self.network.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99)
        )
        self._frugal = Frugal(self._device, self._move, most=1)
        self._generator = torch.Generator().manual_seed(settings.seed)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is otherwise than asked for, as sentences: a τ, or what memory has changed."""
        return (*self._left_out, *self._frugal.notes)

    def run(
        self, stop: Stop | None = None, frame: int = 0, every: int = 10
    ) -> Iterator[AdaptationProgress]:
        """Fit, one step for each value taken. A stop ends it quietly; what is learnt is kept.

        Args:
            stop: asked before and after each pass of one volume.
            frame: the frame to watch.
            every: steps between two pictures and two measurements on the clip.
        """
        stop = stop or (lambda: False)
        begun = time.perf_counter()
        steps = self.settings.steps
        pictured = self.step
        try:
            if self.step == 0:
                yield self._told({}, True, frame, stop, begun)
            while self.step < steps:
                losses = self._train_step(stop)
                self.step += 1
                whole = self.step % every == 0 or self.step == steps
                told = self._told(losses, whole, frame, stop, begun)
                pictured = self.step if whole else pictured
                yield told
        except Cancelled:
            if self.step > pictured:  # the picture is to be of what is kept
                seconds, masks = time.perf_counter() - begun, self._masks(frame)
                yield AdaptationProgress(self.step, steps, {}, None, masks, seconds)

    def save(self, path: Path) -> None:
        """Write the model as a checkpoint: its card says what it was fitted to, and how.

        Raises:
            InputError: the file cannot be written.
        """
        earlier = self._checkpoint.card.get("fitted")
        card = {
            **self._checkpoint.card,
            "fitted": {
                "base": self._base if self._base in VARIANTS else Path(self._base).name,
                "clip": self._clip.name,
                "settings": {
                    name: list(value) if isinstance(value, tuple) else value
                    for name, value in asdict(self.settings).items()
                },
                "steps": self.step,
                # What was fitted may be fitted again: the weights have seen that clip, too.
                **({"before": earlier} if earlier else {}),
            },
            "date": datetime.now(UTC).date().isoformat(),
            "trained_on": self._device.name,
            "torch": torch.__version__,
        }
        save_checkpoint(path, self.network, card)

    def _told(
        self, losses: Mapping[str, float], whole: bool, frame: int, stop: Stop, begun: float
    ) -> AdaptationProgress:
        clip_losses = self._clip_losses(stop) if whole else None
        masks = self._masks(frame) if whole else None
        seconds = time.perf_counter() - begun
        return AdaptationProgress(
            self.step, self.settings.steps, losses, clip_losses, masks, seconds
        )

    def _train_step(self, stop: Stop) -> dict[str, float]:
        settings = self.settings
        stage = Stage(self._size, settings.steps, settings.learning_rate, final=0.05)
        for group in self._optimiser.param_groups:
            group["lr"] = stage.rate(self.step)
        chosen = torch.randint(len(self._volumes), (settings.batch,), generator=self._generator)
        ks = [settings.k]
        if self._others:
            other = torch.randint(len(self._others), (1,), generator=self._generator)
            ks.append(self._others[int(other)])
        self.network.train()

        def losses(part: Sequence[tuple[Tensor, ...]], device: Device) -> tuple[Tensor, Tensor]:
            heed(stop, "fit")
            ((volume, flow, motion),) = part
            each = self._losses_of(volume, flow, motion, ks, device)
            total = each[0].total
            if len(each) > 1:
                total = (total + SHARE * each[1].total) / (1 + SHARE)
            heed(stop, "fit")
            return total, _three(each[0])

        volumes = [self._augmented(number) for number in chosen.tolist()]
        told = accumulate_gradients(self._frugal, self.network, volumes, losses)
        heed(stop, "fit")
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimiser.step()
        return _named(told)

    def _augmented(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """One volume: what the network sees, what the losses look at, and where sites move to."""
        drawn = sample_volumes(
            self._volumes, [number], self._size, self._augment.zoom, self._generator
        )
        flow, error = turn(drawn.flow.to(self._device.torch), self._augment, self._generator)
        motion = flow * drawn.travel.to(flow)
        return *disturb(flow, error, self._model, self._augment, self._generator), motion

    def _losses_of(
        self, volume: Tensor, flow: Tensor, motion: Tensor, ks: list[int], device: Device
    ) -> list[Losses]:
        flow, motion = flow.to(device.torch), motion.to(device.torch)
        with device.autocast():
            features = self.network.features(volume.to(device.torch))
            masks = [self.network.masks(features, k) for k in ks]
        return joint_losses(masks, flow, self._model, self._losses, self._fit, motion)

    @torch.no_grad()
    def _clip_losses(self, stop: Stop) -> dict[str, float]:
        """Mean losses over some volumes of the clip, as they are."""
        self.network.eval()
        count = min(CHECKED, len(self._volumes))
        ks = [self.settings.k]

        def losses(numbers: Sequence[int], device: Device) -> Tensor:
            heed(stop, "fit")
            flow = self._volumes.batch(numbers, self._size)
            motion = flow * self._volumes.travel(numbers)
            return _three(self._losses_of(flow, flow, motion, ks, device)[0]).cpu()

        spread = np.linspace(0, len(self._volumes) - 1, count).round().astype(int).tolist()
        return _named(torch.stack(self._frugal.run(spread, losses)).mean(dim=0))

    @torch.no_grad()
    def _masks(self, frame: int) -> np.ndarray:
        """Soft masks of the watched frame on the network's own grid."""
        self.network.eval()
        nearest = min(max(self._distinct.shown_at(frame) - self._reach, 0), self._shown - 1)

        def masks(numbers: Sequence[int], device: Device) -> Tensor:
            volume = self._volumes.batch(numbers, self._grid).to(device.torch)
            with device.autocast():
                return self.network(volume, self.settings.k).float().cpu()

        (whole,) = self._frugal.run([nearest], masks)
        centre: np.ndarray = whole[0, :, self._instants // 2].numpy()
        return centre

    def _move(self, device: Device) -> None:
        self._device = device
        move_training(self.network, self._optimiser, device)


def trained_with(checkpoint: Checkpoint) -> TrainSettings:
    """Motion model, losses, fit, augmentation and instants of a training, from the card it left.

    A card that does not say takes those of the paper.

    Raises:
        InputError: the card says something that this version does not know.
    """
    single = checkpoint.network.settings.architecture == "predecessor"
    plain = TrainSettings(
        network=checkpoint.network.settings,
        motion_model="quadratic" if single else "quadratic-time",
        instants=1 if single else 3,
    )
    said = checkpoint.card.get("settings") if isinstance(checkpoint.card, Mapping) else None
    if not isinstance(said, Mapping):
        return plain
    try:
        if said["instants"] not in (1, 3):
            raise ValueError(f"volumes of {said['instants']} instants")
        return replace(
            plain,
            motion_model=motion_model(said["motion_model"]).name,
            losses=LossSettings(**said.get("losses", {})),
            fit=FitSettings(**said["fit"]),
            augment=AugmentSettings(**said["augment"]),
            instants=int(said["instants"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"The card of this model describes no training that STSeg knows ({str(error)[:200]}). "
            "Update STSeg, or choose another model."
        ) from error


def curves_of(
    told: Sequence[AdaptationProgress], colours: Sequence[str] = (*CURVES.values(), "#009e73")
) -> list[Curve]:
    """Loss curves of a fit: L, L_r and L_c of the steps, and L of the clip itself.

    Args:
        told: what ``Adaptation.run`` yielded.
        colours: of the four, in this order.
    """
    *shades, shade = colours
    steps = [each for each in told if each.losses]
    curves = [
        Curve(name, [each.step for each in steps], [each.losses[key] for each in steps], colour)
        for key, name, colour in zip(NAMES, CURVES, shades, strict=True)
    ]
    known = [(each.step, each.clip_losses["loss"]) for each in told if each.clip_losses is not None]
    at, whole = [step for step, _ in known], [loss for _, loss in known]
    return [*curves, Curve("L of the clip as it is", at, whole, shade, marked=True)]


def _three(losses: Losses) -> Tensor:
    return torch.stack([losses.total, losses.reconstruction, losses.consistency]).detach()


def _named(values: Tensor) -> dict[str, float]:
    return dict(zip(NAMES, values.tolist(), strict=True))
