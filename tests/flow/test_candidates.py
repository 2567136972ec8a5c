"""What a site is offered: motion of the frame, the way back turned round, what speaks for it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stseg.flow.candidates import KINDS, difference, frame_motion, turned_back
from stseg.flow.dis import DIS
from stseg.synthetic import SceneSettings, render


def quadratic(height: int, width: int) -> np.ndarray:
    rows, columns = np.indices((height, width), np.float32)
    y, x = rows / height - 0.5, columns / width - 0.5
    return np.stack([2 + 3 * x - y + 2 * x * y, -1 + x + 0.5 * y * y - x * x], axis=-1)


def test_the_motion_of_the_frame_is_known_though_a_third_of_it_moves_otherwise() -> None:
    expected = quadratic(64, 112)
    flow = expected.copy()
    flow[10:50, 20:75] += [6.0, -3.0]  # 31 % of the sites
    found = frame_motion(flow, np.ones((64, 112), np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_what_is_not_believed_does_not_bend_the_motion_of_the_frame() -> None:
    expected = quadratic(64, 112)
    flow, believed = expected.copy(), np.ones((64, 112), np.float32)
    flow[:, :45] = 0  # two fifths of the frame, and nobody believes it
    believed[:, :45] = 0
    np.testing.assert_allclose(frame_motion(flow, believed)[:, 45:], expected[:, 45:], atol=0.05)


@pytest.mark.parametrize("size", [(16, 16), (16, 64)])
def test_the_smallest_frames_have_a_motion(size: tuple[int, int]) -> None:
    flow = np.full((*size, 2), 1.5, np.float32)
    np.testing.assert_allclose(frame_motion(flow, np.ones(size, np.float32)), flow, atol=1e-3)


def test_the_way_back_is_looked_up_where_the_flow_leads() -> None:
    flow = np.zeros((8, 12, 2), np.float32)
    flow[..., 0] = 3
    back = np.zeros_like(flow)
    back[:, 6:] = [-3, 1]
    turned = turned_back(back, flow)
    np.testing.assert_array_equal(turned[:, 3:], np.broadcast_to(np.float32([3, -1]), (8, 9, 2)))
    np.testing.assert_array_equal(turned[:, :3], 0)


def test_brightness_speaks_for_the_flow_that_made_the_frame() -> None:
    rng = np.random.default_rng(0)
    first = cv2.GaussianBlur(rng.integers(0, 255, (60, 80), np.uint8), (0, 0), 1.5)
    second = np.roll(first, 4, axis=1)
    right, wrong = (np.full((30, 40, 2), (u, 0), np.float32) for u in (2.0, -2.0))  # 4 pixels
    inside = np.s_[:, 3:-3]
    assert difference(right, first, second)[inside].max() < 1e-6
    assert difference(wrong, first, second)[inside].mean() > 0.02


def test_a_pair_is_offered_all_kinds_on_the_grid() -> None:
    clip = render(SceneSettings(frames=2, seed=3))
    dis = DIS()
    first, second = (dis.prepare(frame) for frame in clip.frames)
    offered = dis.candidates(first, second)
    rows, columns = first.guide.shape[1:]
    assert offered.flows.shape == (len(KINDS), 2, rows, columns)
    assert offered.differences.shape == (len(KINDS), rows, columns)
    assert offered.confidence.shape == (rows, columns)
    filled = offered.flows[KINDS.index("filled")].transpose(1, 2, 0)
    scale = np.float32([clip.settings.size[1] / columns, clip.settings.size[0] / rows])
    np.testing.assert_allclose(dis.between(first, second, clip.settings.size), filled * scale)
