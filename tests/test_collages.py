"""Collages: the flow is that of what is seen, and equal seeds give equal clips."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks.collages import _draw, _flow, _layers, collage

SIZE = (120, 214)


def pictures(count: int = 3) -> list[np.ndarray]:
    """Smooth noise: something to hold on to everywhere, and no finer than a pixel can tell."""
    rng = np.random.default_rng(0)
    rough = [cv2.GaussianBlur(rng.normal(0, 1, (*SIZE, 3)), (0, 0), 3) for _ in range(count)]
    return [np.clip(128 + 400 * each, 0, 255).astype(np.uint8) for each in rough]


@pytest.mark.parametrize("seed", range(6))
def test_the_flow_leads_to_what_is_seen(seed: int) -> None:
    layers = _layers(np.random.default_rng(seed), pictures(), 2)
    (first, here), (second, there) = (_draw(layers, t, SIZE) for t in range(2))
    flow = _flow(layers, here, 0)
    rows, columns = np.indices(SIZE, np.float32)
    where = columns + flow[..., 0], rows + flow[..., 1]
    inside = (where[0] > 1) & (where[0] < SIZE[1] - 2) & (where[1] > 1) & (where[1] < SIZE[0] - 2)
    met = cv2.remap(there.astype(np.float32), *where, cv2.INTER_NEAREST, borderValue=255)
    even = cv2.erode(here, np.ones((5, 5))) == cv2.dilate(here, np.ones((5, 5)))
    visible = inside & (met == here) & even  # borders are soft
    assert visible.mean() > 0.1

    def missed(dx: float) -> float:
        looks = cv2.remap(second, where[0] + np.float32(dx), where[1], cv2.INTER_LINEAR)
        return float(np.median(np.abs(looks - first)[visible]))

    assert missed(0) < 2
    assert missed(1) > 3 * missed(0)


def test_equal_seeds_give_equal_clips_and_others_do_not() -> None:
    clips = [collage(np.random.default_rng(seed), pictures(), 3) for seed in (4, 4, 5)]
    for frames, flow in clips:
        assert [each.shape for each in frames] == [(*SIZE, 3)] * 3
        assert [each.shape for each in flow] == [(*SIZE, 2)] * 2
        assert all(np.isfinite(each).all() for each in (*frames, *flow))
    one, same, other = clips
    for part in range(2):
        assert all(np.array_equal(a, b) for a, b in zip(one[part], same[part], strict=True))
        assert not np.array_equal(one[part][0], other[part][0])


def test_something_moves_otherwise_than_the_background() -> None:
    apart = 0
    for seed in range(10):
        _, (flow,) = collage(np.random.default_rng(seed), pictures(), 2)
        spread = np.ptp(flow.reshape(-1, 2), axis=0)
        apart += bool(spread.max() > 1)
    assert apart >= 8
