"""Soft masks: as they are kept, and what they say at the size of the source."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from jaxtyping import Float32, UInt8


def label_map(
    masks: Float32[np.ndarray, "k h w"], size: tuple[int, int]
) -> UInt8[np.ndarray, "H W"]:
    """Label of each pixel: soft masks enlarged bilinearly to ``size`` (H, W), then the argmax."""
    shape = (size[1], size[0])
    return largest(
        cv2.resize(np.ascontiguousarray(mask), shape, interpolation=cv2.INTER_LINEAR)
        for mask in masks
    )


def largest(planes: Iterable[np.ndarray]) -> UInt8[np.ndarray, "h w"]:
    """Which plane is the largest at each site; the first one where several are.

    ``argmax`` of the stack, plane by plane: seven times as fast.
    """
    rest = iter(planes)
    best = next(rest).copy()
    labels = np.zeros(best.shape, np.uint8)
    for index, plane in enumerate(rest, 1):
        np.copyto(labels, np.uint8(index), where=plane > best)
        np.maximum(best, plane, out=best)
    return labels


def quantise(masks: Float32[np.ndarray, "k h w"]) -> UInt8[np.ndarray, "k h w"]:
    """Soft masks in steps of 1/255, which is how a ``Segmentation`` keeps them."""
    return np.rint(masks * 255).astype(np.uint8)


def dequantise(masks: UInt8[np.ndarray, "k h w"]) -> Float32[np.ndarray, "k h w"]:
    """Soft masks from what ``quantise`` gave; they sum to 1 within 1/255 a mask."""
    return masks.astype(np.float32) / 255
