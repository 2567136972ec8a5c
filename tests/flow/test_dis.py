"""DIS: a known shift is found, in pixels of the source, at every size that a video may have."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stseg.flow.dis import DIS, MAX_SIDE


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture with detail of some 6 pixels."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (height // 6 + 2, width // 6 + 2, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def pair(height: int, width: int, dx: int, dy: int) -> tuple[np.ndarray, np.ndarray]:
    """Two views of one texture; what is in the first moves by (dx, dy) to the second."""
    margin = max(abs(dx), abs(dy))
    large = texture(height + 2 * margin, width + 2 * margin)
    first = large[margin : margin + height, margin : margin + width]
    second = large[margin - dy : margin - dy + height, margin - dx : margin - dx + width]
    return first.copy(), second.copy()


def between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    dis = DIS()
    size = (first.shape[0], first.shape[1])
    return dis.between(dis.prepare(first), dis.prepare(second), size)


@pytest.mark.parametrize(("dx", "dy"), [(3, 0), (0, -2), (-5, 4), (0, 0)])
def test_a_shift_is_found(dx: int, dy: int) -> None:
    flow = between(*pair(120, 160, dx, dy))
    assert flow.shape == (120, 160, 2)
    assert flow.dtype == np.float32
    inside = flow[12:-12, 12:-12]
    assert np.median(inside[..., 0]) == pytest.approx(dx, abs=0.1)
    assert np.median(inside[..., 1]) == pytest.approx(dy, abs=0.1)
    assert np.abs(inside - [dx, dy]).mean() < 0.3


@pytest.mark.parametrize("size", [(300, 1536), (1536, 300), (1100, 2000)])
def test_large_frames_are_reduced_and_vectors_keep_the_pixels_of_the_source(
    size: tuple[int, int],
) -> None:
    first, second = pair(*size, 12, -6)
    dis = DIS()
    prepared = dis.prepare(first)
    assert max(prepared.shape) == MAX_SIDE
    assert prepared.shape[0] / prepared.shape[1] == pytest.approx(size[0] / size[1], rel=0.01)
    flow = dis.between(prepared, dis.prepare(second), size)
    assert flow.shape[:2] == prepared.shape
    assert np.median(flow[..., 0]) == pytest.approx(12, abs=0.3)
    assert np.median(flow[..., 1]) == pytest.approx(-6, abs=0.3)


def test_a_frame_that_fits_is_not_reduced() -> None:
    image = texture(MAX_SIDE // 2, MAX_SIDE)
    prepared = DIS().prepare(image)
    np.testing.assert_array_equal(prepared, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


@pytest.mark.parametrize("size", [(16, 16), (16, 64), (64, 16), (17, 23), (33, 16), (16, 2000)])
def test_the_smallest_frames_of_a_video_have_flow(size: tuple[int, int]) -> None:
    first, second = pair(*size, 1, 0)
    flow = between(first, second)
    assert np.isfinite(flow).all()
    assert np.abs(flow).max() < 50


def test_frames_without_texture_do_not_move() -> None:
    gray = np.full((64, 96, 3), 127, np.uint8)
    assert np.abs(between(gray, gray)).max() < 1e-3


def test_the_same_frames_give_the_same_flow() -> None:
    first, second = pair(96, 128, 2, 1)
    np.testing.assert_array_equal(between(first, second), between(first, second))


def test_frames_that_are_views_of_larger_ones_are_accepted() -> None:
    first, second = pair(96, 128, 2, 1)
    plain = between(first[:, ::-1].copy(), second[:, ::-1].copy())
    np.testing.assert_array_equal(between(first[:, ::-1], second[:, ::-1]), plain)
