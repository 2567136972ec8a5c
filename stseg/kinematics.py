"""A motion model in plain terms: translation, divergence, curl and deformation at a point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from stseg.motion import MotionModel, Term

UNITS = {
    "right": "px",
    "down": "px",
    "speed": "px",
    "divergence": "%",
    "rotation": "degrees",
    "deformation": "%",
    "residual": "px",
}
"""The terms of ``MotionOverTime.readable``, in its order, and how they count: so many a frame."""


@dataclass(frozen=True)
class MotionOverTime:
    """Parameters of each label's motion, read at its centroid, for every frame.

    With J = (u_x, u_y; v_x, v_y) the Jacobian of the model at the centroid, in source pixels a
    frame per source pixel, x right and y down. NaN where a label is too small to tell.

    Attributes:
        translation: (u, v) at the centroid, in pixels a frame.
        divergence: u_x + v_y, the relative growth of area a frame.
        curl: v_x - u_y, twice the angular velocity, in radians a frame; positive turns clockwise
            on the screen, since y points down.
        hyperbolic: (u_x - v_y, u_y + v_x): stretch along the axes and along the diagonals, a frame.
        residual: mean L1 distance of the flow to the model at the label's sites, in pixels a frame.
        reconstruction: L_r (eq. 3) of the frame's triplet.
    """

    translation: Float32[np.ndarray, "n k 2"]
    divergence: Float32[np.ndarray, "n k"]
    curl: Float32[np.ndarray, "n k"]
    hyperbolic: Float32[np.ndarray, "n k 2"]
    residual: Float32[np.ndarray, "n k"]
    reconstruction: Float32[np.ndarray, " n"]

    @property
    def speed(self) -> Float32[np.ndarray, "n k"]:
        """Length of the translation, in pixels a frame."""
        return np.hypot(self.translation[..., 0], self.translation[..., 1])

    @property
    def rotation(self) -> Float32[np.ndarray, "n k"]:
        """Half of the curl as an angle: degrees a frame, positive clockwise on the screen."""
        return np.degrees(self.curl / 2)

    @property
    def deformation(self) -> Float32[np.ndarray, "n k"]:
        """Length of the hyperbolic terms: how fast the shape is sheared, a frame.

        The square root of (u_x - v_y)² + (u_y + v_x)², which no rotation of the axes changes.
        """
        return np.hypot(self.hyperbolic[..., 0], self.hyperbolic[..., 1])

    def readable(self) -> dict[str, Float32[np.ndarray, "n k"]]:
        """The terms as people read them, in the units of ``UNITS``."""
        return {
            "right": self.translation[..., 0],
            "down": self.translation[..., 1],
            "speed": self.speed,
            "divergence": 100 * self.divergence,
            "rotation": self.rotation,
            "deformation": 100 * self.deformation,
            "residual": self.residual,
        }


def centroids(masks: Float[Tensor, "b k h w"]) -> tuple[Tensor, Tensor]:
    """The centroid of each mask: x and y of shape (b, k), in [0, 1]; 0.5 for an empty one."""
    h, w = masks.shape[2:]
    mass = masks.sum(dim=(2, 3), dtype=torch.float64)
    safe = torch.where(mass > 0, mass, 1)
    x = (masks.sum(dim=2).double() @ torch.linspace(0, 1, w, dtype=torch.float64)) / safe
    y = (masks.sum(dim=3).double() @ torch.linspace(0, 1, h, dtype=torch.float64)) / safe
    return torch.where(mass > 0, x, 0.5), torch.where(mass > 0, y, 0.5)


def read_out(
    model: MotionModel, theta: Float[Tensor, "b k q"], x: Tensor, y: Tensor, t: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(u, v), (u_x, v_x) and (u_y, v_y) of the models at the points x, y, t of shape (b, k).

    Derivatives are by the x and y of the model, which run from 0 to 1 over the grid.
    """
    parameters = theta.double()

    def total(terms: tuple[Term | None, ...], dx: int, dy: int) -> Tensor:
        out = torch.zeros_like(x)
        for index, term in enumerate(terms):
            if term is None or term[0] < dx or term[1] < dy:
                continue
            factor = (term[0] if dx else 1) * (term[1] if dy else 1)
            value = factor * x ** (term[0] - dx) * y ** (term[1] - dy) * t ** term[2]
            out = out + parameters[..., index] * value
        return out

    both = model.u, model.v
    return (
        (total(both[0], 0, 0), total(both[1], 0, 0)),
        (total(both[0], 1, 0), total(both[1], 1, 0)),
        (total(both[0], 0, 1), total(both[1], 0, 1)),
    )
