"""Flow sequence → volumes (t - τ, t, t + τ), forwards or backwards in time (Sec. 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float32

from stseg.spool import Spool


@runtime_checkable
class Motion(Protocol):
    """Fields that volumes are made of."""

    def at(self, frame: int, backward: bool) -> Float32[np.ndarray, "2 h w"]:
        """Motion from ``frame`` to the next one, or to the one before it."""
        ...

    def volume(self, frames: Sequence[int], backward: bool) -> Float32[np.ndarray, "2 t h w"]:
        """The fields of these frames as one volume of flow."""
        ...


@dataclass(frozen=True)
class FlowFields:
    """Flow of a clip on the network's grid, as it is known so far.

    Attributes:
        forward: entry i is the motion from frame i to frame i + 1, (2, h, w) float16.
        backward: entry i is the motion from frame i + 1 to frame i; empty where nobody asked.
    """

    forward: Spool = field(default_factory=Spool)
    backward: Spool = field(default_factory=Spool)

    def at(self, frame: int, backward: bool) -> Float32[np.ndarray, "2 h w"]:
        """Motion from ``frame`` to the next one, or to the one before it."""
        field_ = self.backward[frame - 1] if backward else self.forward[frame]
        return field_.astype(np.float32)

    def volume(self, frames: Sequence[int], backward: bool) -> Float32[np.ndarray, "2 t h w"]:
        """The fields of these frames as one volume of flow."""
        return np.stack([self.at(frame, backward) for frame in frames], axis=1)

    def close(self) -> None:
        """Free memory and files."""
        self.forward.close()
        self.backward.close()


def triplet(centre: int, tau: int) -> tuple[int, int, int]:
    """Frames of the volume at ``centre``. A negative τ runs backwards in time."""
    return centre - tau, centre, centre + tau


def fitting_centres(fields: int, tau: int) -> range:
    """Centres of the triplets of τ that fit into a clip of so many fields; empty where none does.

    Forwards all frames but the last have a field, backwards all but the first.
    """
    first = 0 if tau > 0 else 1
    return range(first + abs(tau), first + fields - abs(tau))


def move_masks(
    masks: Float32[np.ndarray, "k h w"],
    flow: Float32[np.ndarray, "2 h w"],
    size: tuple[int, int],
) -> Float32[np.ndarray, "k h w"]:
    """Masks carried one frame along ``flow``: value at p is that at p - flow(p).

    The flow at p stands for the flow at the site that moves to p, which is right inside smooth
    motion and off by one motion at its borders.

    Args:
        masks: soft masks on the network's grid.
        flow: motion on the same grid, in pixels of the source.
        size: (H, W) of the source.
    """
    h, w = flow.shape[1:]
    y, x = np.mgrid[:h, :w].astype(np.float32)
    map_x = x - flow[0] * (w / size[1])
    map_y = y - flow[1] * (h / size[0])
    stacked = np.ascontiguousarray(masks.transpose(1, 2, 0))
    moved = cv2.remap(stacked, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    moved = np.ascontiguousarray(moved.transpose(2, 0, 1))
    total: np.ndarray = moved.sum(axis=0)
    return moved / np.maximum(total, 1e-6)
