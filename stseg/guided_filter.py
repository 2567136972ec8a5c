"""Masks whose borders follow those of the flow: a guided filter with the flow as its guide.

He, Sun and Tang, "Guided image filtering", PAMI 2013, with two channels of guide; fitted at half
the size (He and Sun, "Fast guided filter", arXiv:1505.00996).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

_HALF = 2


@dataclass(frozen=True)
class GuideSettings:
    """How masks follow the flow; measured in ``benchmarks/learning.md``.

    Attributes:
        radius: of the windows, in sites of the masks; even.
        epsilon: variance of the flow, in units of its mean magnitude squared, below which a window
            has no edge to follow. The larger, the smoother the masks.
    """

    radius: int = 4
    epsilon: float = 1e-4


GUIDE = GuideSettings()


def guided(
    masks: Float32[np.ndarray, "t h w k"],
    flow: Float32[np.ndarray, "2 t h w"],
    settings: GuideSettings = GUIDE,
) -> Float32[np.ndarray, "t h w k"]:
    """Masks that are, in every small window, nearly a linear function of the flow there.

    Each window fits m = a · f + b by least squares with ``epsilon`` |a|² added, and a site takes
    the mean of the fits of all windows that see it. What adds up to one does so afterwards, but
    for the clipping to 0 and 1.

    Args:
        masks: soft masks, from 0 to 1.
        flow: optical flow of the same instants, in any unit.
        settings: size of the windows, and what counts as an edge.
    """
    magnitude = float(np.sqrt(np.square(flow).sum(axis=0)).mean())
    guide = np.moveaxis(flow, 0, -1) / np.float32(max(magnitude, 1e-6))  # (t, h, w, 2)
    return np.stack([_one(*each, settings) for each in zip(masks, guide, strict=True)])


def _one(
    masks: Float32[np.ndarray, "h w k"], guide: Float32[np.ndarray, "h w 2"], how: GuideSettings
) -> Float32[np.ndarray, "h w k"]:
    size = (masks.shape[1], masks.shape[0])  # as OpenCV has it
    half = (max(1, size[0] // _HALF), max(1, size[1] // _HALF))
    mean = _Windows(half, how.radius // _HALF)
    # Variances are differences: a thing that moves fast before what is still needs the digits.
    m = _resized(masks, half, cv2.INTER_AREA).astype(np.float64)
    g = _resized(guide, half, cv2.INTER_AREA).astype(np.float64)
    u, v = g[..., :1], g[..., 1:]
    means = mean(np.concatenate([u, v, u * u, v * v, u * v], axis=-1))
    mean_u, mean_v = means[..., :1], means[..., 1:2]
    uu = means[..., 2:3] - mean_u * mean_u + how.epsilon
    vv = means[..., 3:4] - mean_v * mean_v + how.epsilon
    uv = means[..., 4:] - mean_u * mean_v
    determinant = uu * vv - uv * uv
    mean_m = mean(m)
    um = mean(u * m) - mean_u * mean_m
    vm = mean(v * m) - mean_v * mean_m
    by_u = (vv * um - uv * vm) / determinant
    by_v = (uu * vm - uv * um) / determinant
    rest = mean_m - by_u * mean_u - by_v * mean_v

    result = _resized(mean(by_u), size, cv2.INTER_LINEAR)
    result *= guide[..., :1]
    part = _resized(mean(by_v), size, cv2.INTER_LINEAR)
    part *= guide[..., 1:]
    result += part
    result += _resized(mean(rest), size, cv2.INTER_LINEAR)
    return np.clip(result, 0, 1, out=result).astype(np.float32)


class _Windows:
    """Means over the part of each window that lies in the picture."""

    def __init__(self, size: tuple[int, int], radius: int) -> None:
        self._side = (2 * radius + 1, 2 * radius + 1)
        self._share = 1 / self._sum(np.ones((size[1], size[0], 1)))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        total = self._sum(values)
        total *= self._share
        return total

    def _sum(self, values: np.ndarray) -> np.ndarray:
        total = cv2.boxFilter(
            values, -1, self._side, normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        return np.asarray(total).reshape(values.shape)  # OpenCV drops a single channel


def _resized(values: np.ndarray, size: tuple[int, int], how: int) -> np.ndarray:
    made = cv2.resize(values, size, interpolation=how)
    return np.asarray(made).reshape(size[1], size[0], -1)
