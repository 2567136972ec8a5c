"""What cannot be believed is filled in from its own side of an edge, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from stseg.flow.edge_aware import confidence, fill_in, texture


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((3, height, width)).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (16, 40), (64, 96)])
def test_flow_that_is_the_same_everywhere_stays(shape: tuple[int, int]) -> None:
    flow = np.broadcast_to(np.float32([3.5, -2]), (*shape, 2))
    believed = np.random.default_rng(1).random(shape).astype(np.float32)
    np.testing.assert_allclose(fill_in(flow, believed, picture(*shape)), flow, rtol=1e-5)


def test_an_average_is_no_larger_than_what_is_averaged() -> None:
    rng = np.random.default_rng(2)
    flow = rng.normal(0, 5, (48, 64, 2)).astype(np.float32)
    filled = fill_in(flow, rng.random((48, 64)).astype(np.float32), picture(48, 64))
    assert filled.min() >= flow.min()
    assert filled.max() <= flow.max()


def test_the_unit_and_the_axes_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    flow = rng.normal(0, 5, (40, 56, 2)).astype(np.float32)
    believed, guide = rng.random((40, 56)).astype(np.float32), picture(40, 56)
    plain = fill_in(flow, believed, guide)
    np.testing.assert_allclose(fill_in(4 * flow, believed, guide), 4 * plain, rtol=1e-4, atol=1e-4)
    mirrored = fill_in(flow[:, ::-1], believed[:, ::-1], guide[:, :, ::-1])
    np.testing.assert_allclose(mirrored[:, ::-1], plain, rtol=1e-4, atol=1e-4)
    turned = fill_in(flow.swapaxes(0, 1), believed.T, guide.swapaxes(1, 2))
    np.testing.assert_allclose(turned.swapaxes(0, 1), plain, rtol=1e-4, atol=1e-4)


def test_motion_that_spread_over_an_edge_is_taken_back() -> None:
    """An object from column 40 on; its motion has spread eight columns over a still background."""
    guide = np.full((3, 60, 80), 0.2, np.float32)
    guide[:, :, 40:] = 0.8
    truth = np.zeros((60, 80, 2), np.float32)
    truth[:, 40:, 0] = 5
    flow = truth.copy()
    flow[:, 32:40, 0] = 5
    believed = np.ones((60, 80), np.float32)
    believed[:, 32:40] = 1e-3
    before, after = np.abs(flow - truth).mean(), np.abs(fill_in(flow, believed, guide) - truth)
    assert after.mean() < 0.1 * before
    assert after[:, 40:].max() < 0.01  # the object keeps its motion


def test_nothing_that_can_be_believed_is_no_trouble() -> None:
    flow = np.random.default_rng(4).normal(size=(20, 30, 2)).astype(np.float32)
    assert np.isfinite(fill_in(flow, np.zeros((20, 30), np.float32), picture(20, 30))).all()


def test_a_shift_is_believed_and_one_that_does_not_come_back_is_not() -> None:
    first = picture(40, 60)[0]
    second = np.roll(first, 3, axis=1)
    flow = np.broadcast_to(np.float32([3, 0]), (40, 60, 2))
    inside = np.s_[4:-4, 8:-8]
    assert confidence(flow, -flow, first, second)[inside].min() > 0.99
    astray = confidence(flow, -flow + np.float32([0, 2]), first, second)[inside]
    assert astray.max() < 0.01
    elsewhere = np.roll(first, 9, axis=1)
    assert confidence(flow, -flow, first, elsewhere)[inside].max() < 0.05


def rough(strength: float) -> np.ndarray:
    """A picture with random texture of that many gray levels."""
    noise = np.random.default_rng(6).normal(128, strength, (240, 427))
    return noise.round().clip(0, 255).astype(np.uint8)


def test_texture_is_what_has_slopes_in_every_direction() -> None:
    grid = (128, 224)
    even = np.full((240, 427), 90, np.uint8)
    assert texture(even, grid).max() < 1e-3
    edge = even.copy()
    edge[:, 200:] = 200
    assert texture(edge, grid).max() < 1e-3  # nobody sees how it moves along itself
    edge[120:, :] = 30
    told = texture(edge, grid)
    assert told[64, 105] > 0.99  # the corner
    assert told[20, 20] < 1e-3


def test_texture_counts_by_its_strength() -> None:
    means = [texture(rough(strength), (128, 224)).mean() for strength in (0, 0.5, 1, 10)]
    assert means == sorted(means)
    assert means[0] < 1e-3
    assert 0.2 < means[2] < 0.5
    assert means[3] > 0.95


def test_texture_does_not_depend_on_the_axes() -> None:
    gray = rough(0.5)
    told = texture(gray, (240, 427))
    np.testing.assert_allclose(texture(gray.T.copy(), (427, 240)), told.T, rtol=1e-3)
    np.testing.assert_allclose(texture(gray[:, ::-1].copy(), (240, 427)), told[:, ::-1], rtol=1e-3)
    assert told.dtype == np.float32
