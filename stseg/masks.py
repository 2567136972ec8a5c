"""Soft masks: as they are kept, and what they say at the size of the source."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, UInt8


def label_map(
    masks: Float32[np.ndarray, "k h w"], size: tuple[int, int]
) -> UInt8[np.ndarray, "H W"]:
    """Label of each pixel: soft masks enlarged bilinearly to ``size`` (H, W), then the argmax."""
    stacked = np.ascontiguousarray(masks.transpose(1, 2, 0))
    large = cv2.resize(stacked, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    best = large[..., 0].copy()
    labels = np.zeros(size, np.uint8)
    for index in range(1, masks.shape[0]):  # K passes over planes: faster than argmax on axis -1
        plane = large[..., index]
        above = plane > best
        labels[above] = index
        np.maximum(best, plane, out=best)
    return labels


def quantise(masks: Float32[np.ndarray, "k h w"]) -> UInt8[np.ndarray, "k h w"]:
    """Soft masks in steps of 1/255, which is how a ``Segmentation`` keeps them."""
    return np.rint(masks * 255).astype(np.uint8)


def dequantise(masks: UInt8[np.ndarray, "k h w"]) -> Float32[np.ndarray, "k h w"]:
    """Soft masks from what ``quantise`` gave; they sum to 1 within 1/255 a mask."""
    return masks.astype(np.float32) / 255
