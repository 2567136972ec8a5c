"""The training loop: unlabelled flow in, checkpoint out (Sec. 4.1 and 4.3)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stseg.accumulation import accumulate_gradients, move_training
from stseg.augment import disturb, turn
from stseg.checkpoint import save_checkpoint
from stseg.datasets import FlowSequence, FlowStore, TripletSet, digest, digest_of_flow, laid_as
from stseg.device import Device, Frugal
from stseg.direction_heads import begin_direction_heads
from stseg.distributed import ALONE, Team
from stseg.errors import InputError
from stseg.losses import LossSettings
from stseg.motion import motion_model
from stseg.network import SegmentationNetwork
from stseg.objectives import Imitation, MotionObjective, Objective
from stseg.pasting import paste_objects
from stseg.run_folder import VALIDATION, RunFolder, RunState
from stseg.train_settings import Stage, TrainSettings
from stseg.windows import sample_volumes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """What the loop tells after a step.

    Attributes:
        step: steps done so far.
        steps: steps in all.
        losses: L, L_r and L_c of this step at the first K.
        validation: L on the held-out volumes, where this step measured it.
        seconds: duration of the step.
    """

    step: int
    steps: int
    losses: Mapping[str, float]
    validation: float | None
    seconds: float


_VALIDATION_VOLUMES = 64
_BATCHES_OF_DIRECTIONS = 16


class _Heads(nn.Module):
    """Masks of several heads from one pass of the trunk: what data parallel work wraps.

    Where the first leads, the trunk learns nothing from the masks of the others.
    """

    def __init__(self, network: SegmentationNetwork, first_leads: bool) -> None:
        super().__init__()
        self.network = network
        self._first_leads = first_leads

    def forward(self, volume: Tensor, ks: Sequence[int]) -> list[Tensor]:
        features = self.network.features(volume)
        followed = features.detach() if self._first_leads else features
        return [
            self.network.masks(followed if place else features, k) for place, k in enumerate(ks)
        ]


class Trainer:
    """Trains a network on cached flow, resumes where a run was cut, keeps the best.

    The folder of a run holds ``state.safetensors`` (weights, optimiser, random state),
    ``best.safetensors`` (the checkpoint with the lowest validation loss of the latest stage), and
    the loss curve as ``losses.csv`` and ``losses.png``.

    Data parallel: each process of the team draws the whole batch, which is cheap, and trains on its
    share of it, so that the numbers are those of one process whatever the size of the team. Only
    rank 0 writes; all must see the folder.

    Args:
        settings: what to train.
        sequences: cached flow of the training sequences. Those that stand upright while the first
            stage lies (or the other way round) are mirrored on the diagonal (``laid_as``).
        folder: where the run lives. A state in there is resumed if its settings, its data and the
            weights that it began with are the same.
        device: where to train.
        card: what else the checkpoint should say (data, licence).
        save_seconds: time between two saved states.
        start: network whose weights the run begins with; None draws them.
        team: the processes that share the run.
        teacher: network whose masks on the better flow are imitated (``stseg.objectives``); None
            trains with the losses of the paper.

    Raises:
        InputError: no volume fits into the sequences, the folder holds another run, the batch
            cannot be shared evenly, ``start`` is a network with other settings, or the teacher
            lacks a head.
    """

    def __init__(
        self,
        settings: TrainSettings,
        sequences: Sequence[FlowSequence],
        folder: Path,
        device: Device,
        card: Mapping[str, Any] | None = None,
        save_seconds: float = 60,
        start: SegmentationNetwork | None = None,
        team: Team = ALONE,
        teacher: SegmentationNetwork | None = None,
    ) -> None:
        if settings.batch % team.size:
            raise InputError(
                f"A batch of {settings.batch} volumes cannot be shared evenly by {team.size} "
                f"processes. Give a batch that is a multiple of {team.size}."
            )
        self.settings = settings
        self._device = device
        self._card = dict(card or {})
        self._save_seconds = save_seconds
        self._team = team
        self._model = motion_model(settings.motion_model)
        self._objective = _objective(MotionObjective(self._model, settings.fit), settings, teacher)
        identity = {
            "settings": _plain(settings),
            "data": digest_of_flow(sequences),
            "start": None if start is None else digest(start.state_dict()),
            "teacher": None if teacher is None else digest(teacher.state_dict()),
        }
        self._files = RunFolder(folder, identity, _plain(TrainSettings()))
        store = _store(laid_as(sequences, settings.stages[0].size), device)
        common = (store, settings.instants, settings.taus, settings.held_out)
        self._training = TripletSet(*common)
        self._validation = TripletSet(*common, validation=True)
        if not len(self._training):
            raise InputError(
                "No volume fits into these sequences. Give longer ones or a smaller τ."
            )
        torch.manual_seed(settings.seed)
        self.network = SegmentationNetwork(settings.network).channels_last().to(device.torch)
        if start is not None:
            if start.settings != settings.network:
                raise InputError(
                    f"The run needs a network with {settings.network}. The one to start from has "
                    f"{start.settings}. Start from another checkpoint, or train another variant."
                )
            self.network.load_state_dict(start.state_dict())
        else:
            self.network.spread_heads(settings.spread, settings.network.ks)
        if settings.only_heads:
            self.network.requires_grad_(False)
            for k in settings.only_heads:
                self.network.renew_head(k)
            self.network.spread_heads(settings.spread, settings.only_heads)
        self._generator = torch.Generator().manual_seed(settings.seed)
        if settings.direction_heads and not self._files.begun:
            self._begin_heads(settings.direction_heads)
        self._heads: nn.Module = _Heads(self.network, settings.first_leads)
        if team.size > 1:
            # Heads that a step does not draw have no gradient, and Adam leaves them alone.
            self._heads = DistributedDataParallel(
                self._heads, find_unused_parameters=len(settings.trained_ks) > 1
            )
        self._optimiser = torch.optim.Adam(
            self.network.parameters(), lr=settings.stages[0].learning_rate
        )
        self._frugal = Frugal(device, self._move)
        self.step = 0
        self._rows: list[list[Any]] = []
        self._best: tuple[int, float] | None = None  # (stage, validation loss)
        self._whole = True  # no step is half done
        self._resume()

    def run(self) -> Iterator[Progress]:
        """Train to the end, one step for each value taken. Stopping early loses nothing saved.

        What is saved is always the state after a whole step. A validation that was cut is made
        when the run goes on.
        """
        saved = time.monotonic()
        try:
            self._validate_where_due()
            while self.step < self.settings.steps:
                start = time.perf_counter()
                named = self._train_step()
                validation = self._validate_where_due()
                seconds = time.perf_counter() - start
                self._rows[-1][-1] = seconds
                if time.monotonic() - saved > self._save_seconds:
                    self.save()
                    saved = time.monotonic()
                yield Progress(self.step, self.settings.steps, named, validation, seconds)
        finally:
            # Cut while Adam changed the weights: the state that was saved last stays.
            if self.step and self._whole:
                self.save()

    def save(self) -> None:
        """Write the state and the loss curve; each file is whole or not there."""
        if not self._team.leads:
            return
        state = RunState(
            step=self.step,
            best=self._best,
            rows=self._rows,
            network=self.network.state_dict(),
            adam=self._optimiser.state_dict()["state"],
            generator=self._generator.get_state(),
        )
        self._files.write(state, self.settings.steps)

    def _resume(self) -> None:
        if not self._files.begun:
            return
        state = self._files.read()
        self.network.load_state_dict(state.network)
        optimiser = self._optimiser.state_dict()
        self._optimiser.load_state_dict({**optimiser, "state": state.adam})
        self._generator.set_state(state.generator)
        self.step, self._best, self._rows = state.step, state.best, state.rows

    def _stage(self, step: int) -> tuple[int, Stage, float]:
        """Number, stage and learning rate of a step, counted from 0."""
        before = 0
        for number, stage in enumerate(self.settings.stages):
            if step < before + stage.steps:
                return number, stage, stage.rate(step - before)
            before += stage.steps
        last = self.settings.stages[-1]
        return len(self.settings.stages) - 1, last, last.learning_rate * last.final

    def _stage_ends(self) -> bool:
        ends, total = set(), 0
        for stage in self.settings.stages:
            total += stage.steps
            ends.add(total)
        return self.step in ends

    def _train_step(self) -> dict[str, float]:
        """One step and its row; one that is cut leaves what ``save`` writes as it was before."""
        before = self._generator.get_state()
        self._whole = False
        try:
            named = self._gradient()
        except BaseException:  # no weight has changed yet
            self._generator.set_state(before)
            self._whole = True
            raise
        self._optimiser.step()
        self.step += 1
        self._rows.append([self.step, *named.values(), None, 0.0])
        self._whole = True
        return named

    def _gradient(self) -> dict[str, float]:
        """Leave the gradient of the next step in the parameters; L, L_r and L_c at the first K."""
        _, stage, rate = self._stage(self.step)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        numbers = self._drawn()
        flow, error, travel = self._filmed(numbers, stage.size)
        motion = flow * travel  # what is added next moves nothing
        volume, flow = disturb(flow, error, self._model, self.settings.augment, self._generator)
        mine = self._team.share(self.settings.batch)
        volume, flow, motion = volume[mine], flow[mine], motion[mine]
        drawn = self._drawn_ks()
        self.network.train()

        def losses(part: Sequence[int], device: Device) -> tuple[Tensor, Tensor]:
            here = torch.as_tensor(part)
            return self._losses_of(volume[here], flow[here], motion[here], drawn, stage, device)

        items = range(len(volume))
        if self._team.size == 1:
            told = accumulate_gradients(self._frugal, self.network, items, losses)
        else:  # the others would wait for ever for a process that goes in more parts than they
            self._optimiser.zero_grad(set_to_none=True)
            total, told = losses(items, self._device)
            total.backward()
        for parameters in self._learners():
            torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        loss, reconstruction, consistency = self._team.mean(told).tolist()
        return {"loss": loss, "reconstruction": reconstruction, "consistency": consistency}

    def _learners(self) -> list[list[nn.Parameter]]:
        """Parameters whose gradients are bounded together: one head's must not shrink another's."""
        if not self.settings.first_leads:
            return [list(self.network.parameters())]
        followers = [
            parameter
            for k in self.settings.trained_ks[1:]
            for parameter in self.network.heads[str(k)].parameters()
        ]
        following = set(followers)
        return [[each for each in self.network.parameters() if each not in following], followers]

    def _drawn(self) -> list[int]:
        """Numbers of the triplets of a batch."""
        size = (self.settings.batch,)
        drawn: list[int] = torch.randint(
            len(self._training), size, generator=self._generator
        ).tolist()
        return drawn

    def _filmed(
        self, numbers: Sequence[int], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Flow that could have been filmed, the error that the network sees, and its travel."""
        augment = self.settings.augment
        drawn = sample_volumes(self._training, numbers, size, augment.zoom, self._generator)
        flow, error = turn(drawn.flow, augment, self._generator, drawn.reference)
        if augment.objects:
            flow, error = paste_objects(
                flow, error, drawn.travel, augment.objects, self._generator, augment.pasted
            )
        return flow, error, drawn.travel

    def _begin_heads(self, ks: Sequence[int]) -> None:
        size = self.settings.stages[0].size
        batches = (self._filmed(self._drawn(), size)[0] for _ in range(_BATCHES_OF_DIRECTIONS))
        there = (flow.to(self._device.torch) for flow in batches)
        known = self.settings.trained_before[0]
        begin_direction_heads(self.network, there, known, ks, self._generator)

    def _drawn_ks(self) -> list[int]:
        """The K of this step: the first and one other, which share the trunk's pass.

        Heads that are trained alone count alike: any two of them. The choice has a chance of its
        own: the samples are the same whichever heads a run trains.
        """
        ks = self.settings.trained_ks
        if len(ks) == 1:
            return [ks[0]]
        seed = (1_000_003 * self.settings.seed + self.step) % 2**32  # it takes no more bits
        chance = torch.Generator().manual_seed(seed)
        if self.settings.only_heads:
            order = torch.randperm(len(ks), generator=chance)
            return [ks[int(place)] for place in order[:2]]
        other = torch.randint(len(ks) - 1, (1,), generator=chance)
        return [ks[0], ks[1 + int(other)]]

    def _losses_of(
        self,
        volume: Tensor,
        flow: Tensor,
        motion: Tensor,
        ks: Sequence[int],
        stage: Stage,
        device: Device,
    ) -> tuple[Tensor, Tensor]:
        """Mean loss over the heads, and L, L_r and L_c of the first.

        Where the first leads it is the sum: each has the whole of its own loss.
        """
        volume, flow, motion = (each.to(device.torch) for each in (volume, flow, motion))
        with device.autocast():
            masks = self._heads(volume, ks)
        each = self._objective(masks, flow, motion, self._weights(stage), device)
        first = each[0]
        told = torch.stack([first.total, first.reconstruction, first.consistency]).detach()
        totals = torch.stack([losses.total for losses in each])
        return totals.sum() if self.settings.first_leads else totals.mean(), told

    def _move(self, device: Device) -> None:
        self._device = device
        move_training(self.network, self._optimiser, device)

    def _weights(self, stage: Stage) -> LossSettings:
        losses = self.settings.losses
        return losses if stage.beta is None else replace(losses, beta=stage.beta)

    def _validate_where_due(self) -> float | None:
        """Validate after the step just done, where that is due and was not done before it was cut.

        The loss goes into the row of the step, which a state of an older version may lack.
        """
        row = self._rows[-1] if self._rows and self._rows[-1][0] == self.step else None
        due = self.step % self.settings.validate_every == 0 or self._stage_ends()
        if not self.step or not due or (row is not None and row[VALIDATION] is not None):
            return None
        loss = self._validate()
        if row is not None:
            row[VALIDATION] = loss
        return loss

    @torch.no_grad()
    def _validate(self) -> float | None:
        """Loss on the held-out volumes, without augmentation; keeps the best checkpoint."""
        number, stage, _ = self._stage(self.step - 1)  # of the step just done
        count = min(_VALIDATION_VOLUMES, len(self._validation))
        if count == 0:
            self._keep(float("nan"))
            return None
        self.network.eval()
        indices = torch.linspace(0, len(self._validation) - 1, count).round().long().tolist()
        indices = indices[self._team.share(count)]
        total = torch.zeros((), device=self._device.torch)
        for start in range(0, len(indices), self.settings.batch):
            part = indices[start : start + self.settings.batch]
            for sums in self._frugal.run(part, partial(self._validation_loss, stage)):
                total += sums.to(total.device)
        loss = float(self._team.mean(total)) * self._team.size / count
        if self._best is None or (-number, loss) < (-self._best[0], self._best[1]):
            self._keep(loss)
            self._best = (number, loss)  # only now: a run that is cut before keeps it again
        return loss

    def _validation_loss(self, stage: Stage, part: Sequence[int], device: Device) -> Tensor:
        """Sum of the losses of these held-out volumes."""
        size = stage.size
        with device.autocast():
            volume = self._validation.batch(part, size).to(device.torch)
            masks = self._heads(volume, self.settings.validated_ks)
        better = self._validation.batch(part, size, reference=True)
        motion = (better * self._validation.travel(part)).to(device.torch)
        better = better.to(device.torch)
        each = self._objective(masks, better, motion, self._weights(stage), device)
        return torch.stack([losses.total for losses in each]).mean() * len(part)

    def _keep(self, loss: float) -> None:
        if not self._team.leads:
            return
        card = {
            **self._card,
            "settings": _plain(self.settings),
            "step": self.step,
            "validation_loss": loss,
            "date": datetime.now(UTC).date().isoformat(),
            "trained_on": self._device.name,
            "torch": torch.__version__,
        }
        if not self._files.begun:
            self.save()  # without a state beside it a checkpoint is taken for somebody else's
        save_checkpoint(self._files.best_file, self.network, card)


def _objective(
    paper: MotionObjective, settings: TrainSettings, teacher: SegmentationNetwork | None
) -> Objective:
    if teacher is None:
        return paper
    lacking = [str(k) for k in settings.trained_ks if str(k) not in teacher.heads]
    if lacking:
        raise InputError(
            f"The teacher has no head for K = {', '.join(lacking)}. Give one that has, or train "
            f"those for K = {', '.join(teacher.heads)}."
        )
    # A copy: it is laid out and moved.
    return Imitation(deepcopy(teacher).channels_last().eval().requires_grad_(False), paper)


def _store(sequences: Sequence[FlowSequence], device: Device) -> FlowStore:
    """The flow on the device, or beside it where it does not fit."""
    try:
        return FlowStore(sequences, device.torch)
    except torch.OutOfMemoryError:
        logger.warning("The flow does not fit on %s: it stays in main memory.", device.name)
    return FlowStore(sequences)


def _plain(settings: TrainSettings) -> dict[str, Any]:
    """The settings as JSON reads them back: tuples become lists."""

    def listed(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: listed(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return [listed(item) for item in value]
        return value

    plain: dict[str, Any] = listed(asdict(settings))
    return plain
