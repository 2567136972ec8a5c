"""The fast RAFT equals the authors' procedure: same weights, none of the short cuts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stseg.device import Device, choose_device
from stseg.flow.plain_raft import encode, plain_flow, plain_raft
from stseg.flow.raft import LARGE, SMALL, Raft, RaftNetwork, RaftSize
from stseg.flow.winograd import Convolution, Direct, Winograd

Make = Callable[[tuple[int, int]], Convolution]


def network(size: RaftSize) -> RaftNetwork:
    """Untrained, with batch norms that change something."""
    torch.manual_seed(0)
    made = RaftNetwork(size)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            for each in (module.weight, module.bias, module.running_mean):
                nn.init.uniform_(each, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return made


def frames(h: int, w: int) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.rand(1, 3, h, w) * 2 - 1 for _ in range(2)]


@pytest.mark.parametrize("size", [LARGE, SMALL])
@pytest.mark.parametrize("make", [Direct, Winograd])
def test_the_flow_is_that_of_the_authors_procedure(size: RaftSize, make: Make) -> None:
    made, (first, second) = network(size), frames(128, 152)
    expected = plain_raft(made.state_dict(), first, second, 4)
    made.fold(make)
    with torch.inference_mode():
        features = [made.fnet(frame) for frame in (first, second)]
        flow, _ = made.refine(*features, made.cnet(first), 4)
        again, _ = made.refine(*features, made.cnet(first), 4)  # in the memory of the first run
    assert expected.abs().mean() > 0.05  # something moves
    assert (flow - expected).abs().max() < 1e-3
    assert torch.equal(flow, again)


@pytest.mark.parametrize("size", [(131, 150), (64, 96)])
def test_frames_of_any_size_have_the_same_flow_from_both(
    size: tuple[int, int], tmp_path: Path
) -> None:
    weights = network(SMALL).state_dict()
    torch.save(weights, tmp_path / "small.pth")
    rng = np.random.default_rng(0)
    images = [(rng.random((*size, 3)) * 255).astype(np.uint8) for _ in range(2)]
    raft = Raft(tmp_path / "small.pth", 3, choose_device("cpu", bfloat16=False))
    flow = raft.between(*(raft.prepare(image) for image in images), size)
    assert np.abs(flow - plain_flow(weights, *images, 3)).max() < 1e-3


@pytest.mark.parametrize("size", [LARGE, SMALL])
def test_folded_encoders_are_the_encoders(size: RaftSize) -> None:
    made, (frame, _) = network(size), frames(64, 96)
    weights = {name: each.clone() for name, each in made.state_dict().items()}
    made.fold(Winograd)
    with torch.inference_mode():
        for name in ("fnet", "cnet"):
            expected = encode(weights, name, frame)
            assert (getattr(made, name)(frame) - expected).abs().max() < 1e-3 * expected.std()


def test_bfloat16_is_near_float32(tmp_path: Path) -> None:
    """Emulated where the processor has none: slow but the same numbers."""
    torch.save(network(LARGE).state_dict(), tmp_path / "large.pth")
    rng = np.random.default_rng(0)
    images = [(rng.random((64, 96, 3)) * 255).astype(np.uint8) for _ in range(2)]
    plain = choose_device("cpu", bfloat16=False)
    half: Device = replace(plain, bfloat16=True)
    flows = []
    for device in (plain, half):
        raft = Raft(tmp_path / "large.pth", 2, device)
        prepared = [raft.prepare(image) for image in images]
        flows.append(raft.between(*prepared, (64, 96)))
    apart = np.hypot(*(flows[0] - flows[1]).transpose(2, 0, 1)).mean()
    assert 0 < apart < 0.05 * np.hypot(*flows[0].transpose(2, 0, 1)).mean()
