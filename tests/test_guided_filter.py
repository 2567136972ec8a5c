"""The guided filter: against windows fitted one by one, and what it does to borders."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional

from stseg.guided_filter import GuideSettings, guided


def enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w, c) → (H, W, c), by an independent bilinear interpolation."""
    planes = torch.from_numpy(values).movedim(-1, 0)[None]
    return functional.interpolate(planes, size, mode="bilinear")[0].movedim(0, -1).numpy()


def halved(values: np.ndarray) -> np.ndarray:
    h, w, c = values.shape
    return values.reshape(h // 2, 2, w // 2, 2, c).mean((1, 3))


def one_by_one(masks: np.ndarray, flow: np.ndarray, how: GuideSettings) -> np.ndarray:
    """The same from the definition, in float64: a ridge regression for each window."""
    out = []
    magnitude = np.hypot(flow[0], flow[1]).mean()
    for m, f in zip(masks, np.moveaxis(flow, 0, -1) / magnitude, strict=True):
        small, guide = halved(m), halved(f)
        h, w, k = small.shape
        radius = how.radius // 2
        fits = np.zeros((h, w, 3, k))

        def window(y: int, x: int, r: int = radius) -> tuple[slice, slice]:
            return slice(max(y - r, 0), y + r + 1), slice(max(x - r, 0), x + r + 1)

        for y, x in product(range(h), range(w)):
            g = guide[window(y, x)].reshape(-1, 2)
            p = small[window(y, x)].reshape(-1, k)
            centred = g - g.mean(0)
            normal = centred.T @ centred / len(g) + how.epsilon * np.eye(2)
            slope = np.linalg.solve(normal, centred.T @ (p - p.mean(0)) / len(g))
            fits[y, x] = np.concatenate([slope, [p.mean(0) - g.mean(0) @ slope]])
        averaged = np.zeros_like(fits)
        for y, x in product(range(h), range(w)):
            averaged[y, x] = fits[window(y, x)].mean((0, 1))
        large = enlarged(averaged.reshape(h, w, -1), m.shape[:2]).reshape(*m.shape[:2], 3, k)
        value = f[..., :1] * large[:, :, 0] + f[..., 1:] * large[:, :, 1] + large[:, :, 2]
        out.append(value.clip(0, 1))
    return np.stack(out)


def smooth(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers that change slowly over the last two axes."""
    return rng.standard_normal(shape).cumsum(-1).cumsum(-2).astype(np.float32) / 10


@pytest.mark.parametrize("radius", [2, 4])
def test_as_windows_fitted_one_by_one(rng: np.random.Generator, radius: int) -> None:
    flow = smooth(rng, 2, 2, 12, 20)
    masks = np.moveaxis(np.abs(smooth(rng, 2, 3, 12, 20)), 1, -1)
    masks /= masks.sum(-1, keepdims=True)
    how = GuideSettings(radius, 1e-2)
    found = guided(masks, flow, how)
    np.testing.assert_allclose(found, one_by_one(masks, flow, how), atol=2e-4)


def border(place: float, softness: float, size: tuple[int, int] = (32, 48)) -> np.ndarray:
    """Two masks (1, h, w, 2) that meet in a vertical line."""
    columns = np.arange(size[1], dtype=np.float32)
    left = 1 / (1 + np.exp((columns - place) / softness))
    planes = np.broadcast_to(left, size)
    return np.stack([planes, 1 - planes], axis=-1)[None].astype(np.float32)


def step(place: int, size: tuple[int, int] = (32, 48)) -> np.ndarray:
    """Flow (2, 1, h, w) that changes at a column."""
    flow = np.zeros((2, 1, *size), np.float32)
    flow[0, ..., :place], flow[1, ..., place:] = 3.0, 1.0
    return flow


def test_a_soft_border_moves_to_that_of_the_flow() -> None:
    masks = border(place=21.5, softness=2.0)
    found = guided(masks, step(24))
    assert (masks.argmax(-1)[0, 16] == 0).sum() == 22
    np.testing.assert_array_equal(found.argmax(-1)[0, 16] == 0, np.arange(48) < 24)


def test_where_the_flow_is_smooth_nothing_moves() -> None:
    masks = border(place=23.5, softness=1.0)
    for flow in (np.ones((2, 1, 32, 48), np.float32), np.zeros((2, 1, 32, 48), np.float32)):
        found = guided(masks, flow)
        np.testing.assert_array_equal(found.argmax(-1), masks.argmax(-1))


@pytest.mark.parametrize("size", [(1, 6), (6, 1), (1, 1)])
def test_a_side_may_be_a_single_site(size: tuple[int, int], rng: np.random.Generator) -> None:
    masks = rng.dirichlet([1, 1, 1], (2, *size)).astype(np.float32)
    flow = rng.normal(size=(2, 2, *size)).astype(np.float32)
    found = guided(masks, flow)
    assert found.shape == masks.shape
    assert found.min() >= 0
    assert found.max() <= 1


def test_masks_stay_masks_in_any_order(rng: np.random.Generator) -> None:
    flow = smooth(rng, 2, 3, 32, 48)
    masks = np.moveaxis(np.abs(smooth(rng, 3, 4, 32, 48)), 1, -1) + 0.1
    masks /= masks.sum(-1, keepdims=True)
    found = guided(masks, flow)
    assert found.min() >= 0
    assert found.max() <= 1
    clipped = (found == 0).any(-1)
    assert clipped.mean() < 0.5
    np.testing.assert_allclose(found.sum(-1)[~clipped], 1, atol=1e-4)
    turned = guided(np.ascontiguousarray(masks[..., [2, 0, 3, 1]]), flow)
    np.testing.assert_allclose(turned, found[..., [2, 0, 3, 1]], atol=1e-6)
    np.testing.assert_allclose(guided(masks, 10 * flow), found, atol=1e-3)  # the unit is the same
