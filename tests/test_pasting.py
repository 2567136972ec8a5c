"""Pasted objects: they go where their flow says, and nothing else changes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stseg.augment import AugmentSettings
from stseg.errors import InputError
from stseg.pasting import paste_objects

B, T, H, W = 24, 3, 64, 112
TRAVEL = torch.tensor([1 / W, 1 / H]).view(1, 2, 1, 1, 1).expand(B, -1, -1, -1, -1)


@pytest.fixture
def flow(chance: torch.Generator) -> Tensor:
    """A pan with a little noise."""
    pan = torch.tensor([3.0, -1.0]).view(1, 2, 1, 1, 1)
    return pan + 0.01 * torch.randn(B, 2, T, H, W, generator=chance)


def pasted(flow: Tensor, most: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The flow with objects, and the sites (b, t, h, w) that they hold."""
    error = torch.ones_like(flow)
    out, left = paste_objects(flow, error, TRAVEL, most, torch.Generator().manual_seed(seed))
    assert left is not None
    return out, left[:, 0] == 0


def test_only_objects_change_and_carry_no_error(flow: Tensor) -> None:
    out, inside = pasted(flow, 3)
    assert torch.equal(out.movedim(1, -1)[~inside], flow.movedim(1, -1)[~inside])
    assert not torch.isclose(out, flow).all(dim=1)[inside].any()
    share = inside.float().mean()
    assert 0.01 < share < 0.4


def test_some_samples_have_none_and_none_has_more_than_asked_for(flow: Tensor) -> None:
    _, inside = pasted(flow, 1)
    empty = ~inside.flatten(1).any(dim=1)
    assert 0 < int(empty.sum()) < B
    out, _ = pasted(flow, 0)
    assert torch.equal(out, flow)


def test_an_object_is_where_its_flow_takes_it(flow: Tensor) -> None:
    """The centre of a whole object moves by its mean flow from instant to instant."""
    out, inside = pasted(flow, 1)
    rows, columns = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    seen = 0
    for sample in range(B):
        held = inside[sample]
        border = held[:, [0, -1]].any() or held[:, :, [0, -1]].any()
        if border or not held.flatten(1).any(dim=1).all():
            continue
        seen += 1
        centres = [
            torch.stack((columns[each].float().mean(), rows[each].float().mean())) for each in held
        ]
        mean = out[sample, :, 1][:, held[1]].mean(dim=1)
        torch.testing.assert_close(centres[2] - centres[1], mean, atol=0.7, rtol=0.1)
        torch.testing.assert_close(centres[1] - centres[0], mean, atol=0.7, rtol=0.1)
    assert seen >= 3


def test_motion_of_an_object_is_affine_and_its_own(flow: Tensor) -> None:
    out, inside = pasted(flow, 1)
    y, x = torch.meshgrid(torch.arange(H).float(), torch.arange(W).float(), indexing="ij")
    for sample in inside.flatten(1).any(dim=1).nonzero().flatten().tolist():
        held = inside[sample, 1]
        if held.sum() < 10:
            continue
        design = torch.stack((torch.ones(int(held.sum())), x[held], y[held]), dim=1).double()
        found = out[sample, :, 1][:, held].T.double()
        fitted = design @ torch.linalg.lstsq(design, found).solution
        torch.testing.assert_close(fitted, found, atol=1e-4, rtol=1e-4)


def test_objects_share_three_motions_far_apart(flow: Tensor) -> None:
    """Of twelve objects in a sample, all move in three directions at most."""
    out, inside = pasted(flow, 12)
    beside = out - flow.mean(dim=(2, 3, 4), keepdim=True)
    turns = torch.atan2(beside[:, 1], beside[:, 0]) / (2 * math.pi) % 1
    most = 0
    for sample in range(B):
        found = turns[sample][inside[sample]]
        if not len(found):
            continue
        # The little rotation and growth blur a direction by less than a sixteenth of a turn.
        held = torch.histc(found, 48, 0, 1) > 0
        starts = int((held & ~held.roll(1)).sum())
        most = max(most, starts)
        assert starts <= 3
    assert most == 3


def test_the_seed_decides_and_the_device_of_chance_is_the_cpu(flow: Tensor) -> None:
    one, other = pasted(flow, 2, seed=5)[0], pasted(flow, 2, seed=5)[0]
    assert torch.equal(one, other)
    assert not torch.equal(one, pasted(flow, 2, seed=6)[0])


def test_still_flow_gets_still_objects() -> None:
    out, _ = pasted(torch.zeros(B, 2, T, H, W), 3)
    assert torch.equal(out, torch.zeros_like(out))


def test_single_fields_and_no_error(chance: torch.Generator) -> None:
    flow = torch.randn(B, 2, 1, H, W, generator=chance) + 5
    out, error = paste_objects(flow, None, TRAVEL, 2, chance)
    assert error is None
    assert out.shape == flow.shape
    assert not torch.equal(out, flow)


def test_fewer_than_no_objects_get_a_sentence() -> None:
    with pytest.raises(InputError, match="-1 objects"):
        AugmentSettings(objects=-1)


def test_only_the_chosen_share_of_the_samples_may_have_objects(flow: Tensor) -> None:
    many = flow.repeat(4, 1, 1, 1, 1)
    travel = TRAVEL.repeat(4, 1, 1, 1, 1)

    def empty(chance: float) -> float:
        own = torch.Generator().manual_seed(0)
        out, _ = paste_objects(many, None, travel, 12, own, chance)
        return float((out == many).flatten(1).all(dim=1).float().mean())

    assert empty(1.0) < 0.2
    assert 0.4 < empty(0.5) < 0.7
    assert empty(0.0) == 1
