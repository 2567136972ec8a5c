"""Values read along the motion."""

from __future__ import annotations

import pytest
import torch

from stseg.correspondence import read_along

SIZE = (12, 20)


def moving(dx: float, dy: float) -> torch.Tensor:
    """One motion everywhere, given in sites, (1, 2, 1, h, w) as a fraction of the frame."""
    h, w = SIZE
    return torch.tensor([dx / w, dy / h]).view(1, 2, 1, 1, 1).expand(1, 2, 1, h, w)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, 0), (0, -2), (-4, 5)])
def test_whole_sites_are_a_shift(dx: int, dy: int) -> None:
    values = torch.rand(1, 3, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    read, inside = read_along(values, moving(dx, dy))
    shifted = values.roll((-dy, -dx), (3, 4))
    where = inside[:, None].expand_as(values)
    torch.testing.assert_close(read[where], shifted[where], rtol=0, atol=1e-5)
    h, w = SIZE
    assert int(inside.sum()) == (h - abs(dy)) * (w - abs(dx))


def test_between_sites_it_is_bilinear() -> None:
    ramp = torch.arange(SIZE[1], dtype=torch.float64).expand(1, 1, 1, *SIZE)
    read, inside = read_along(ramp, moving(0.25, 0.5).double())
    where = inside[:, None].clone()
    where[..., -1] = False  # half a site from the border the ramp ends
    torch.testing.assert_close(read[where], (ramp + 0.25)[where])


def test_each_volume_and_instant_has_its_own_motion() -> None:
    values = torch.rand(2, 1, 2, *SIZE)
    motion = torch.cat([moving(dx, 0) for dx in (1, 2, 3, 4)], dim=2)
    motion = motion.view(1, 2, 2, 2, *SIZE).transpose(1, 2)[0]
    read, _ = read_along(values, motion)
    for b in range(2):
        for s in range(2):
            alone, _ = read_along(values[b : b + 1, :, s : s + 1], motion[b : b + 1, :, s : s + 1])
            torch.testing.assert_close(read[b : b + 1, :, s : s + 1], alone)


def test_gradients_reach_the_values() -> None:
    values = torch.rand(1, 2, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    motion = 0.3 * torch.rand(1, 2, 1, 4, 5, dtype=torch.float64) - 0.1
    assert torch.autograd.gradcheck(lambda v: read_along(v, motion)[0], values)
