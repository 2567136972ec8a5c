"""Magnified windows of the frame: what they show, where they are, and how far things travel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stseg.augment import AugmentSettings
from stseg.datasets import FlowSequence
from stseg.device import Device
from stseg.errors import InputError
from stseg.losses import LossSettings
from stseg.network import NetworkSettings
from stseg.train_settings import Stage, TrainSettings
from stseg.training import Trainer
from stseg.windows import Windows, draw_windows, magnify

STILL = AugmentSettings(global_motion=0.0, corrupt=0.0, flip=False, reverse=False)


def windows(zoom: float, top: float, left: float) -> Windows:
    return Windows(*(torch.tensor([float(value)]) for value in (zoom, top, left)))


def test_the_whole_frame_is_area_averaged() -> None:
    flow = torch.randn(1, 2, 3, 16, 28, generator=torch.Generator().manual_seed(0))
    seen = magnify(flow, windows(1, 0.3, 0.8), (8, 14))
    assert torch.allclose(seen, flow.unflatten(4, (14, 2)).unflatten(3, (8, 2)).mean((4, 6)))


@pytest.mark.parametrize(
    ("top", "left", "row", "column"), [(0, 0, 0, 0), (1, 0, 8, 0), (0.5, 1, 4, 14)]
)
def test_a_window_shows_its_place_and_vectors_keep_their_length(
    top: float, left: float, row: int, column: int
) -> None:
    flow = torch.randn(1, 2, 3, 16, 28, generator=torch.Generator().manual_seed(0))
    seen = magnify(flow, windows(2, top, left), (8, 14))
    assert torch.equal(seen, flow[..., row : row + 8, column : column + 14])


def test_windows_lie_everywhere_and_are_of_every_size() -> None:
    drawn = draw_windows(4000, 2.0, torch.Generator().manual_seed(0))
    assert 1 <= float(drawn.zoom.min()) < 1.01
    assert 1.99 < float(drawn.zoom.max()) <= 2
    assert float(drawn.zoom.median()) == pytest.approx(2**0.5, abs=0.03)
    for place in (drawn.top, drawn.left):
        assert 0 <= float(place.min()) < 0.01
        assert 0.99 < float(place.max()) <= 1


def test_each_sample_has_its_own_window() -> None:
    flow = torch.randn(1, 2, 3, 16, 28).expand(3, -1, -1, -1, -1)
    several = draw_windows(3, 2.0, torch.Generator().manual_seed(0))
    seen = magnify(flow, several, (8, 14))
    assert seen.shape == (3, 2, 3, 8, 14)
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_things_travel_further_where_the_window_is_smaller(tmp_path: Path, cpu: Device) -> None:
    """Training sees windows where the stored flow is finer than the stage, else whole frames."""
    grid = (16, 28)
    flow = torch.randn(9, 2, *grid, generator=torch.Generator().manual_seed(0)).half()
    sequence = FlowSequence("noise", flow, flow + 1, (160, 280))
    settings = TrainSettings(
        network=NetworkSettings(levels=2, features=4),
        losses=LossSettings(along_motion=True),
        augment=replace(STILL, zoom=2.0),
        stages=(Stage((8, 14), 1, 1e-3), Stage(grid, 1, 1e-3)),
        batch=2,
    )
    run = Trainer(settings, [sequence], tmp_path, cpu)
    seen, error, travel = run._filmed([0, 1], (8, 14))
    assert error is not None
    assert torch.allclose(error, torch.tensor(-1.0), atol=0.01)
    factor = travel.flatten(1) * torch.tensor([280.0, 160.0])
    assert torch.allclose(factor[:, 0], factor[:, 1])
    assert (factor > 1).all()
    assert (factor < 2).all()
    assert factor[0, 0] != factor[1, 0]
    whole, _, whole_travel = run._filmed([0, 1], grid)
    assert torch.equal(whole, run._training.batch([0, 1], grid, reference=True))
    assert torch.equal(whole_travel, run._training.travel([0, 1]))
    assert seen.shape == (2, 2, 3, 8, 14)
    assert sum(1 for _ in run.run()) == 2


@pytest.mark.parametrize("zoom", [0.5, 0.0, float("nan")])
def test_a_window_larger_than_the_frame_gets_a_sentence(zoom: float) -> None:
    with pytest.raises(InputError, match="Give 1 or more"):
        replace(STILL, zoom=zoom)


def test_one_upright_sequence_takes_no_detail_from_the_others(tmp_path: Path, cpu: Device) -> None:
    chance = torch.Generator().manual_seed(0)
    sizes = {"lying": (16, 28), "upright": (28, 16)}
    sequences = [
        FlowSequence(name, torch.randn(9, 2, *size, generator=chance).half(), size=size)
        for name, size in sizes.items()
    ]
    settings = TrainSettings(
        network=NetworkSettings(levels=2, features=4),
        augment=replace(STILL, zoom=2.0),
        stages=(Stage((8, 14), 1, 1e-3),),
    )
    run = Trainer(settings, sequences, tmp_path, cpu)
    numbers = list(range(len(run._training)))
    flow, _, travel = run._filmed(numbers, (8, 14))
    zoom = travel.flatten(1) * torch.tensor([28.0, 16.0])
    assert (zoom > 1).all()
    assert float(zoom.max()) > 1.5
    assert flow.shape[-2:] == (8, 14)
