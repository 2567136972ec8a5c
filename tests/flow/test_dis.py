"""DIS: a known shift is found, in pixels of the source, at every size that a video may have."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stseg.flow import FlowSettings, estimator, to_grid
from stseg.flow.dis import DIS, MAX_SIDE
from stseg.records import grid_for
from stseg.synthetic import SceneSettings, render


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


def between(first: np.ndarray, second: np.ndarray, name: str = "dis") -> np.ndarray:
    dis = estimator(FlowSettings(name))
    size = (first.shape[0], first.shape[1])
    return dis.between(dis.prepare(first), dis.prepare(second), size)


BOTH = pytest.mark.parametrize("name", ["dis", "dis-plain"])


@BOTH
@pytest.mark.parametrize(("dx", "dy"), [(3, 0), (0, -2), (-5, 4), (0, 0)])
def test_a_shift_is_found(dx: int, dy: int, name: str) -> None:
    flow = between(*pair(120, 160, dx, dy), name)
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
    gray = prepared.gray.shape
    assert max(gray) == MAX_SIDE
    assert gray[0] / gray[1] == pytest.approx(size[0] / size[1], rel=0.01)
    flow = dis.between(prepared, dis.prepare(second), size)
    assert flow.shape[:2] == tuple(map(min, grid_for(size), gray))
    assert np.median(flow[..., 0]) == pytest.approx(12, abs=0.3)
    assert np.median(flow[..., 1]) == pytest.approx(-6, abs=0.3)


def test_a_frame_that_fits_is_not_reduced() -> None:
    image = texture(100, 200)
    prepared = DIS().prepare(image)
    assert prepared.gray.shape == (100, 200)
    np.testing.assert_allclose(prepared.guide, image.transpose(2, 0, 1) / 255, rtol=1e-6)


def test_the_way_back_is_found_by_the_same_frames() -> None:
    first, second = pair(96, 128, 3, 1)
    dis = DIS()
    frames = dis.prepare(first), dis.prepare(second)
    there = dis.between(*frames, (96, 128))
    back = dis.between(*frames[::-1], (96, 128))
    np.testing.assert_array_equal(
        back, between(second, first, "dis-plain")
    )  # nothing is left of the pair before
    assert np.median(there[..., 0]) == pytest.approx(3, abs=0.1)
    assert np.median(back[..., 0]) == pytest.approx(-3, abs=0.1)


@pytest.mark.parametrize("paths", ["orbit", "cross"])
def test_borders_of_what_moves_are_better_than_those_of_the_bare_search(paths: str) -> None:
    clip = render(SceneSettings(frames=4, seed=5, speed=6.0, paths=paths))
    dis, bare = DIS(), cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grid = grid_for(clip.settings.size)
    errors = []
    for t, exact in enumerate(clip.flow):
        frames = [dis.prepare(image) for image in clip.frames[t : t + 2]]
        plain = bare.calc(
            *(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY) for i in clip.frames[t : t + 2]), None
        )
        ours = dis.between(*frames, clip.settings.size)
        edge = cv2.morphologyEx(clip.labels[t], cv2.MORPH_GRADIENT, np.ones((21, 21), np.uint8))
        near = cv2.resize(edge, grid[::-1], interpolation=cv2.INTER_NEAREST) > 0
        truth = to_grid(exact.transpose(1, 2, 0), grid)
        errors.append(
            [np.abs(to_grid(flow, grid) - truth)[:, near].mean() for flow in (ours, plain)]
        )
    ours_mean, plain_mean = np.mean(errors, axis=0)
    assert ours_mean < 0.85 * plain_mean


@BOTH
@pytest.mark.parametrize("size", [(16, 16), (16, 64), (64, 16), (17, 23), (33, 16), (16, 2000)])
def test_the_smallest_frames_of_a_video_have_flow(size: tuple[int, int], name: str) -> None:
    first, second = pair(*size, 1, 0)
    flow = between(first, second, name)
    assert np.isfinite(flow).all()
    assert np.abs(flow).max() < 50


@BOTH
def test_frames_without_texture_do_not_move(name: str) -> None:
    gray = np.full((64, 96, 3), 127, np.uint8)
    assert np.abs(between(gray, gray, name)).max() < 1e-3


@BOTH
def test_a_frame_that_is_there_twice_does_not_move(name: str) -> None:
    image = texture(96, 128)
    assert np.abs(between(image, image, name)).max() < 1e-2


@BOTH
def test_the_same_frames_give_the_same_flow(name: str) -> None:
    first, second = pair(96, 128, 2, 1)
    np.testing.assert_array_equal(between(first, second, name), between(first, second, name))


def test_frames_that_are_views_of_larger_ones_are_accepted() -> None:
    first, second = pair(96, 128, 2, 1)
    plain = between(first[:, ::-1].copy(), second[:, ::-1].copy())
    np.testing.assert_array_equal(between(first[:, ::-1], second[:, ::-1]), plain)
