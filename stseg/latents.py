"""Latent vectors χ of segments: joined by label, and compared."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Float64, Integer, UInt8

_TINY = 1e-12


def join(
    latents: Float32[np.ndarray, "k c"],
    areas: Integer[np.ndarray, " k"],
    assignment: UInt8[np.ndarray, " k"],
) -> Float32[np.ndarray, "k c"]:
    """χ by linked label: the mean over the sites of all segments that bear it.

    Args:
        latents: χ of each segment.
        areas: sites of each segment.
        assignment: label of each segment.

    Returns:
        χ of each label; zeros for a label without a site.
    """
    sums = np.zeros(latents.shape, np.float64)
    np.add.at(sums, assignment, latents * areas[:, None].astype(np.float64))
    sites = np.bincount(assignment, weights=areas, minlength=len(latents))
    return (sums / np.maximum(sites, 1)[:, None]).astype(np.float32)


def cosines(
    one: Float[np.ndarray, "m c"], other: Float[np.ndarray, "n c"]
) -> Float64[np.ndarray, "m n"]:
    """Cosine of the angle between every row of ``one`` and every row of ``other``.

    It is 0 where a row is zero, as that of a segment without a site.
    """
    rows = [each.astype(np.float64) for each in (one, other)]
    first, second = (
        each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), _TINY) for each in rows
    )
    return np.clip(first @ second.T, -1.0, 1.0)
