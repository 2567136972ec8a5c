"""Fields into volumes, and masks that move along a flow."""

from __future__ import annotations

import numpy as np
import pytest

from stseg.spool import Spool
from stseg.volume import FlowFields, fitting_centres, move_masks, triplet


def fields(count: int, backward: bool = True) -> FlowFields:
    """Field i forwards is (i, 0), field i backwards (-i, 1): from frame i + 1 to frame i."""
    flow = FlowFields()
    for index in range(count):
        forward = np.zeros((2, 4, 6), np.float16)
        forward[0] = index
        flow.forward.append(forward)
        if backward:
            back = np.ones((2, 4, 6), np.float16)
            back[0] = -index
            flow.backward.append(back)
    return flow


def test_a_field_is_found_by_the_frame_where_it_starts() -> None:
    flow = fields(5)
    assert flow.at(3, backward=False)[:, 0, 0].tolist() == [3, 0]
    assert flow.at(3, backward=True)[:, 0, 0].tolist() == [-2, 1]
    assert flow.at(3, backward=True).dtype == np.float32


@pytest.mark.parametrize(
    ("tau", "frames"), [(1, (4, 5, 6)), (3, (2, 5, 8)), (-1, (6, 5, 4)), (-2, (7, 5, 3))]
)
def test_triplets(tau: int, frames: tuple[int, int, int]) -> None:
    assert triplet(5, tau) == frames


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("reach", [1, 2, 3])
def test_a_triplet_fits_where_all_its_frames_have_a_field(reach: int, backward: bool) -> None:
    tau = -reach if backward else reach
    there = range(1, 6) if backward else range(5)  # of the 6 frames of a clip
    fitting = [c for c in range(-9, 15) if all(each in there for each in triplet(c, tau))]
    assert list(fitting_centres(5, tau)) == fitting
    assert bool(fitting) == (reach < 3)


def test_a_volume_keeps_the_order_asked_for() -> None:
    flow = fields(6)
    ahead = flow.volume((1, 3, 5), backward=False)
    assert ahead.shape == (2, 3, 4, 6)
    assert ahead.dtype == np.float32
    assert ahead[0, :, 0, 0].tolist() == [1, 3, 5]
    back = flow.volume((5, 3, 1), backward=True)
    assert back[0, :, 0, 0].tolist() == [-4, -2, 0]
    assert (back[1] == 1).all()


def test_closing_frees_both_directions() -> None:
    flow = fields(3)
    flow.close()
    assert (len(flow.forward), len(flow.backward)) == (0, 0)
    assert isinstance(flow.forward, Spool)


def disc(x: float, y: float, h: int = 40, w: int = 60) -> np.ndarray:
    """Two soft masks: a disc and the rest."""
    rows, columns = np.mgrid[:h, :w]
    inside = 1 / (1 + np.exp(np.hypot(columns - x, rows - y) - 8))
    return np.stack([inside, 1 - inside]).astype(np.float32)


def test_masks_move_by_the_flow_in_source_pixels() -> None:
    # The source is 3 times as wide and twice as high as the grid.
    flow = np.empty((2, 40, 60), np.float32)
    flow[0], flow[1] = 3 * 5, 2 * -4
    moved = move_masks(disc(25, 20), flow, (80, 180))
    np.testing.assert_allclose(moved, disc(30, 16), atol=1e-4)


def test_moved_masks_still_sum_to_one(rng: np.random.Generator) -> None:
    masks = rng.random((3, 40, 60)).astype(np.float32)
    masks /= masks.sum(0)
    flow = rng.normal(0, 9, (2, 40, 60)).astype(np.float32)
    moved = move_masks(masks, flow, (40, 60))
    np.testing.assert_allclose(moved.sum(0), 1, atol=1e-5)
    assert moved.dtype == np.float32
    assert moved.min() >= 0


def test_masks_without_motion_stay() -> None:
    masks = disc(20, 20)
    moved = move_masks(masks, np.zeros((2, 40, 60), np.float32), (40, 60))
    np.testing.assert_allclose(moved, masks, atol=1e-6)


def test_what_comes_in_at_the_border_repeats_it() -> None:
    masks = np.zeros((2, 10, 20), np.float32)
    masks[0, :, :5], masks[1, :, 5:] = 1, 1
    flow = np.zeros((2, 10, 20), np.float32)
    flow[0] = 4
    moved = move_masks(masks, flow, (10, 20))
    assert (moved[0, :, :9] == 1).all()
    assert (moved[1, :, 9:] == 1).all()
