"""What training makes smaller: agreement with a teacher, and the paper's losses as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stseg.augment import AugmentSettings
from stseg.datasets import FlowSequence
from stseg.device import Device
from stseg.errors import InputError
from stseg.losses import LossSettings, joint_losses
from stseg.motion import MODELS, FitSettings
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.objectives import Imitation, MotionObjective, agreement_loss
from stseg.train_settings import Stage, TrainSettings
from stseg.training import Trainer

SIZE = (3, 8, 12)
PAPER = MotionObjective(MODELS["affine-time"], FitSettings())
NETWORK = NetworkSettings(levels=2, features=4, ks=(4, 2))


def soft(chance: torch.Generator, b: int = 2, k: int = 4) -> Tensor:
    return torch.randn(b, k, *SIZE, generator=chance, dtype=torch.float64).softmax(1)


def network(seed: int) -> SegmentationNetwork:
    torch.manual_seed(seed)
    made = SegmentationNetwork(NETWORK)
    made.spread_heads(10.0, NETWORK.ks)
    return made.eval()


# --- the distance --------------------------------------------------------------------------------


def test_who_agrees_pays_nothing_and_who_does_not_pays(chance: torch.Generator) -> None:
    masks, wanted = soft(chance), soft(chance)
    assert float(agreement_loss(wanted, wanted)) == pytest.approx(0, abs=1e-12)
    nearer = (masks + wanted) / 2
    assert 0 < float(agreement_loss(nearer, wanted)) < float(agreement_loss(masks, wanted))


def test_by_hand() -> None:
    """Four sites, of which the teacher calls one another; the pupil does not know."""
    wanted = torch.tensor([1.0, 1.0, 1.0, 0.0]).double()
    wanted = torch.stack([wanted, 1 - wanted]).view(1, 2, 1, 1, 4)
    known = torch.tensor([1.0, 1.0, 1.0, 0.5]).double()
    masks = torch.stack([known, 1 - known]).view(1, 2, 1, 1, 4)
    weight = 1 + 0.3 / (0.25 + 0.05)  # of the one site; of the others 1
    expected = weight * torch.tensor(2.0).log() / (3 + weight)
    assert float(agreement_loss(masks, wanted)) == pytest.approx(float(expected))


def test_the_order_of_the_segments_and_of_the_samples_means_nothing(
    chance: torch.Generator,
) -> None:
    masks, wanted = soft(chance), soft(chance)
    expected = float(agreement_loss(masks, wanted))
    for order in ([2, 0, 3, 1], [3, 2, 1, 0]):
        assert float(agreement_loss(masks[:, order], wanted[:, order])) == pytest.approx(expected)
    assert float(agreement_loss(masks.flip(0), wanted.flip(0))) == pytest.approx(expected)
    alone = [float(agreement_loss(masks[i : i + 1], wanted[i : i + 1])) for i in range(2)]
    assert sum(alone) / 2 == pytest.approx(expected)


def test_the_gradient_is_that_of_the_value(chance: torch.Generator) -> None:
    logits = torch.randn(1, 3, 2, 3, 4, generator=chance, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn(1, 3, 2, 3, 4, generator=chance, dtype=torch.float64).softmax(1)
    assert torch.autograd.gradcheck(lambda z: agreement_loss(z.softmax(1), wanted), (logits,))


def test_what_is_wanted_for_certain_or_not_at_all_breaks_nothing() -> None:
    wanted = torch.zeros(1, 2, *SIZE)
    wanted[:, 0] = 1  # the second segment is empty
    logits = torch.zeros(1, 2, *SIZE)
    logits[:, 1] = 200.0  # as sure of the opposite as float32 can be
    logits.requires_grad_()
    loss = agreement_loss(logits.softmax(1), wanted)
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(loss)
    assert not logits.grad.any()


# --- the objectives ------------------------------------------------------------------------------


def test_the_papers_losses_are_those_of_the_paper(chance: torch.Generator, cpu: Device) -> None:
    heads, flow = [soft(chance), soft(chance, k=2)], torch.randn(2, 2, *SIZE, generator=chance)
    heads = [masks.float() for masks in heads]
    weights = LossSettings(beta=0.5)
    told = PAPER(heads, flow, flow, weights, cpu)
    expected = joint_losses(heads, flow, PAPER.model, weights, PAPER.fit)
    assert [float(each.total) for each in told] == [float(each.total) for each in expected]


def test_a_pupil_is_told_what_its_teacher_says_and_how_it_does_by_itself(
    chance: torch.Generator, cpu: Device
) -> None:
    teacher, pupil = network(0), network(1)
    flow = torch.randn(2, 2, *SIZE, generator=chance)
    heads = [pupil(flow, k) for k in NETWORK.ks]
    told = Imitation(teacher, PAPER)(heads, flow, flow, LossSettings(), cpu)
    paper = joint_losses(heads, flow, PAPER.model, LossSettings(), PAPER.fit)
    for k, masks, each, known in zip(NETWORK.ks, heads, told, paper, strict=True):
        expected = agreement_loss(masks, teacher(flow, k)).detach()
        assert float(each.total.detach()) == pytest.approx(float(expected))
        assert float(each.reconstruction) == pytest.approx(float(known.reconstruction.detach()))
        assert float(each.consistency) == pytest.approx(float(known.consistency.detach()))
    sum(each.total for each in told).backward()
    assert all(part.grad is not None for part in pupil.parameters())
    assert all(part.grad is None for part in teacher.parameters())


# --- the loop ------------------------------------------------------------------------------------


def rough_sequences() -> list[FlowSequence]:
    """A rectangle that moves against its background, seen through noise."""
    chance = torch.Generator().manual_seed(3)
    flow = torch.zeros(14, 2, 16, 28)
    flow[:, 0] = -1
    for t in range(14):
        flow[t, :, 3:12, 4 + t % 5 : 18 + t % 5] = 2.0
    rough = flow + 0.7 * torch.randn(flow.shape, generator=chance)
    return [FlowSequence("seen", rough.half(), flow.half())]


def settings(steps: int, rate: float) -> TrainSettings:
    return TrainSettings(
        network=NETWORK,
        motion_model="affine",
        stages=(Stage((16, 28), steps, rate),),
        batch=2,
        held_out=0.3,
        augment=AugmentSettings(corrupt=0.0),
    )


def test_a_pupil_comes_to_agree_with_its_teacher(tmp_path: Path, cpu: Device) -> None:
    teacher = network(0)
    before = {name: each.clone() for name, each in teacher.state_dict().items()}
    sequences = rough_sequences()
    run = Trainer(settings(60, 3e-3), sequences, tmp_path, cpu, start=network(1), teacher=teacher)
    first = run._validate()
    last = [progress.validation for progress in run.run()][-1]
    assert first is not None
    assert last is not None
    assert last < 0.6 * first
    after = teacher.state_dict()
    assert all(torch.equal(each, after[name]) for name, each in before.items())
    assert all(part.requires_grad for part in teacher.parameters())


def test_the_teacher_sees_the_better_flow(tmp_path: Path, cpu: Device) -> None:
    """One step on a flow without error, from the teacher's own weights, has nothing to change."""
    (rough,) = rough_sequences()
    assert rough.reference is not None
    fine = replace(rough, flow=rough.reference)
    teacher = network(0)
    losses = []
    for name, sequence in (("fine", fine), ("rough", rough)):
        run = Trainer(
            settings(1, 1e-5), [sequence], tmp_path / name, cpu, start=teacher, teacher=teacher
        )
        losses += [progress.losses["loss"] for progress in run.run()]
    assert losses[0] == pytest.approx(0, abs=1e-5)
    assert losses[1] > 1e-3


def test_a_teacher_without_the_head_gets_a_sentence(tmp_path: Path, cpu: Device) -> None:
    torch.manual_seed(0)
    teacher = SegmentationNetwork(replace(NETWORK, ks=(2, 3)))
    with pytest.raises(InputError, match=r"no head for K = 4. .* train those for K = 2, 3"):
        Trainer(settings(1, 1e-3), rough_sequences(), tmp_path, cpu, teacher=teacher)
