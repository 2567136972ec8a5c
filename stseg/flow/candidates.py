"""What the flow of a site may be, and what speaks for each: the search, and what is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

Field = Float32[np.ndarray, "h w 2"]
Plane = Float32[np.ndarray, "h w"]

KINDS = ("found", "filled", "frame", "back")
"""What the search found; that, filled in along edges; the motion of the whole frame; what the way
back says, turned round."""

STRIDE = 4
"""Rows and columns from one site to the next that the motion of the frame is fitted to."""

_REFITS = ((1, 2), (3, 3), (6, 4))
"""Terms of the model (a constant, affine, quadratic), and fits of it, from the stiffest on."""

_CUT = 1.5
"""Residual, in medians of the field, at which a site has a quarter of its weight."""

_LEAST_DOUBT = 1e-3
_LEAST_SQUARE = 1e-4


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a pair of frames offers each site of the first one.

    Attributes:
        flows: one field for each of ``KINDS``, in pixels of the grid.
        confidence: of what was found, from 0 to 1 (``edge_aware.confidence``).
        differences: of brightness, from 0 to 1, between a site and where each flow leads.
        guide: the first frame, from 0 to 1.
    """

    flows: Float32[np.ndarray, "4 2 h w"]
    confidence: Plane
    differences: Float32[np.ndarray, "4 h w"]
    guide: Float32[np.ndarray, "3 h w"]


def frame_motion(flow: Field, confidence: Plane) -> Field:
    """The quadratic motion of what moves as most of the frame does.

    As ``global_motion.relative_flow``, for one field and with confidences, in a third of the time:
    refits of growing freedom, in which sites far off hardly weigh (Geman and McClure's function).

    Args:
        flow: of a pair, in any unit.
        confidence: how far each site counts.
    """
    rows, columns = np.indices(confidence.shape) / np.reshape(confidence.shape, (2, 1, 1)) - 0.5
    ones = np.ones_like(rows)
    terms = np.stack([ones, rows, columns, rows * columns, rows**2, columns**2], axis=-1)
    some = np.s_[::STRIDE, ::STRIDE]
    basis = terms[some].reshape(-1, 6)
    values = flow[some].reshape(-1, 2).astype(np.float64)
    believed = confidence[some].ravel() + _LEAST_DOUBT
    left = values - np.median(values, axis=0)
    for count, refits in _REFITS:
        part = basis[:, :count]
        for _ in range(refits):
            weighted = part * _weights(left, believed)[:, None]
            normal = weighted.T @ part + 1e-9 * np.eye(count)
            parameters = np.linalg.solve(normal, weighted.T @ values)
            left = values - part @ parameters
    return (terms @ parameters).astype(np.float32)


def _weights(
    left: Float64[np.ndarray, "n 2"], believed: Float32[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    squares = np.square(left).sum(axis=1)
    median = max(float(np.median(squares)), _LEAST_SQUARE)
    return believed / np.square(1 + squares / (_CUT**2 * median))


def turned_back(back: Field, flow: Field) -> Field:
    """The flow that the way back asks for: its opposite, where ``flow`` leads. Both in pixels."""
    rows, columns = _places(flow.shape[0], flow.shape[1])
    where = columns + flow[..., 0], rows + flow[..., 1]
    return -cv2.remap(back, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@lru_cache(maxsize=4)
def _places(height: int, width: int) -> Float32[np.ndarray, "2 h w"]:
    """Row and column of each pixel; not to be changed."""
    places = np.indices((height, width), np.float32)
    places.flags.writeable = False
    return places


def difference(
    flow: Field,
    first: UInt8[np.ndarray, "H W"],
    second: UInt8[np.ndarray, "H W"],
) -> Plane:
    """How far the brightness of the second frame, where the flow leads, is from that of the first.

    Args:
        flow: in pixels of its own grid, which may be coarser than the frames.
        first: brightness of the one frame.
        second: of the other.

    Returns:
        From 0 to 1, averaged over the pixels of each site.
    """
    rows, columns = _places(first.shape[0], first.shape[1])
    pixels = np.divide(first.shape[::-1], flow.shape[1::-1], dtype=np.float32)
    size = first.shape[1], first.shape[0]
    fine = cv2.resize(flow, size, interpolation=cv2.INTER_LINEAR) * pixels
    where = columns + fine[..., 0], rows + fine[..., 1]
    border = cv2.BORDER_REPLICATE
    looks = cv2.remap(second.astype(np.float32), *where, cv2.INTER_LINEAR, borderMode=border)
    changed = np.abs(first - looks)
    return cv2.resize(changed, flow.shape[1::-1], interpolation=cv2.INTER_AREA) / 255
