"""Heads begun from directions: background, and sectors of where the rest goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stseg import training
from stseg.datasets import FlowSequence
from stseg.device import Device
from stseg.direction_heads import begin_direction_heads
from stseg.errors import InputError
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.train_settings import Stage, TrainSettings
from stseg.training import Trainer

B, T, H, W = 4, 3, 32, 56
WAYS = torch.tensor([[5.0, 5.0], [-5.0, 5.0], [-5.0, -5.0], [5.0, -5.0]])
"""A direction in each quarter of a turn."""


def four_ways() -> Tensor:
    """A still background before which four rectangles go along the diagonals."""
    flow = 0.01 * torch.randn(B, 2, T, H, W, generator=torch.Generator().manual_seed(0))
    for way, (row, column) in zip(WAYS, ((2, 2), (2, 30), (18, 2), (18, 30)), strict=True):
        flow[:, :, :, row : row + 9, column : column + 14] = way.view(1, 2, 1, 1, 1)
    return flow


class Seeing(SegmentationNetwork):
    """Its features are the flow itself, and its head for K = 4 knows what moves."""

    def features(self, volume: Tensor) -> Tensor:
        moves = volume.norm(dim=1, keepdim=True) > 1
        out = torch.cat((volume, moves.float(), 1 - moves.float()), dim=1)
        return out.contiguous()


@pytest.fixture
def seeing() -> Seeing:
    network = Seeing(NetworkSettings(levels=1, features=4, ks=(4, 2, 3, 5), relative=True))
    head = network.heads["4"]
    with torch.no_grad():
        weight = torch.zeros_like(head.get_parameter("weight"))
        weight[2, 3], weight[0, 2] = 9, 9  # the background is segment 2, what moves 0
        head.get_parameter("weight").copy_(weight)
        head.get_parameter("bias").zero_()
    return network


def test_what_moves_is_parted_by_its_direction(seeing: Seeing) -> None:
    flow = four_ways()
    before = {name: values.clone() for name, values in seeing.state_dict().items()}
    begin_direction_heads(seeing, [flow, flow.flip(0)], 4, (2, 3, 5), torch.Generator())
    moves = flow.norm(dim=1) > 1
    two, three, five = (seeing(flow, k).argmax(1) for k in (2, 3, 5))
    assert torch.equal(two, moves.long())
    quarter = torch.zeros(B, T, H, W, dtype=torch.long)
    for number, way in enumerate(WAYS, start=1):
        quarter[(flow == way.view(1, 2, 1, 1, 1)).all(dim=1)] = number
    assert torch.equal(three, (quarter + 1) // 2)
    assert torch.equal(five, quarter)
    changed = {n for n, values in seeing.state_dict().items() if not torch.equal(values, before[n])}
    assert changed == {f"heads.{k}.{part}" for k in (2, 3, 5) for part in ("weight", "bias")}


def test_a_run_begins_with_them_once(
    tmp_path: Path, cpu: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_heads: list[Sequence[int]] = []

    def noting(
        network: SegmentationNetwork,
        flows: Iterable[Tensor],
        known: int,
        ks: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        begun_heads.append(ks)
        begin_direction_heads(network, flows, known, ks, generator)

    monkeypatch.setattr(training, "begin_direction_heads", noting)
    flow = four_ways()[0].transpose(0, 1).repeat(4, 1, 1, 1)
    sequences = [FlowSequence("four", flow.half())]
    settings = TrainSettings(
        network=NetworkSettings(levels=2, features=4, ks=(4, 2, 3), relative=True),
        motion_model="affine",
        stages=(Stage((16, 28), 2, 1e-3),),
        batch=2,
    )
    start = Trainer(settings, sequences, tmp_path / "start", cpu).network
    begun = replace(settings, direction_heads=(4, 3))  # K = 2 tells what is background
    run = Trainer(begun, sequences, tmp_path / "run", cpu, start=start)
    new = {
        name
        for name, values in run.network.state_dict().items()
        if not torch.equal(values, start.state_dict()[name])
    }
    assert new == {f"heads.{k}.{part}" for k in (4, 3) for part in ("weight", "bias")}
    list(run.run())
    weights = {name: values.clone() for name, values in run.network.state_dict().items()}
    again = Trainer(begun, sequences, tmp_path / "run", cpu, start=start)
    # Counted, since the weights of the state would replace those that were begun again.
    assert begun_heads == [(4, 3)]
    for name, values in again.network.state_dict().items():
        assert torch.equal(values, weights[name]), name


def test_heads_that_cannot_be_begun_get_a_sentence() -> None:
    network = NetworkSettings(ks=(4, 2))
    with pytest.raises(InputError, match="no head for K = 7 that could be begun from directions"):
        TrainSettings(network=network, direction_heads=(2, 7))
    with pytest.raises(InputError, match="none is left to tell what is background"):
        TrainSettings(network=network, direction_heads=(2, 4))
    # A head that is drawn anew does not know what is background.
    mixed = TrainSettings(
        network=NetworkSettings(ks=(4, 2, 3)), only_heads=(4, 3), direction_heads=(3,)
    )
    assert mixed.trained_before == (2,)
    with pytest.raises(InputError, match="drawn anew or begun"):
        replace(mixed, only_heads=(4, 2, 3))
