"""Convolutions of stride 1 with fewer multiplications, for processors without bfloat16.

Winograd's minimal filtering (Lavin and Gray, CVPR 2016): the picture is cut into overlapping
tiles, tiles and kernel are evaluated at a few points, multiplied there, and the product is
interpolated. A 3x3 kernel on tiles of 4x4 needs a quarter of the multiplications, a kernel of five
on tiles of four 0.4 of them. The result differs from the plain convolution by rounding only.

``Direct`` and ``Winograd`` have the same steps, so that what uses them is written once. Every step
is linear: a picture that several kernels filter is spread once, and a sum of several products is
collected once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

TILE = 4
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
"""Where polynomials are evaluated, and at infinity; small numbers keep the rounding small."""


class Convolution(Protocol):
    """A convolution of stride 1 that keeps the size of the picture, in steps."""

    def weigh(self, kernel: Float[Tensor, "o c kh kw"]) -> Tensor:
        """What ``multiply`` takes of a kernel; computed once."""

    def spread(self, x: Float[Tensor, "1 c h w"]) -> Tensor:
        """What ``multiply`` takes of a picture."""

    def multiply(self, spread: Tensor, weights: Tensor, onto: Tensor | None = None) -> Tensor:
        """Product of a picture and a kernel; added to the product ``onto``, in place."""

    def collect(self, product: Tensor, size: tuple[int, int]) -> Float[Tensor, "1 o h w"]:
        """The picture (channels-last) that a product stands for; ``size`` is (h, w)."""


class Direct:
    """The library's own convolution.

    Args:
        kernel: (kh, kw), both odd.
        dtype: of the weights.
    """

    def __init__(self, kernel: tuple[int, int], dtype: torch.dtype = torch.float32) -> None:
        self._padding = (kernel[0] // 2, kernel[1] // 2)
        self._dtype = dtype

    def weigh(self, kernel: Float[Tensor, "o c kh kw"]) -> Float[Tensor, "o c kh kw"]:
        """The kernel itself."""
        return kernel.to(self._dtype, memory_format=torch.channels_last)

    def spread(self, x: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 c h w"]:
        """The picture itself."""
        return x

    def multiply(self, spread: Tensor, weights: Tensor, onto: Tensor | None = None) -> Tensor:
        """The convolution."""
        out = F.conv2d(spread, weights, padding=self._padding)
        return out if onto is None else onto.add_(out)

    def collect(self, product: Tensor, size: tuple[int, int]) -> Float[Tensor, "1 o h w"]:
        """The product itself."""
        return product


class Winograd:
    """Winograd's minimal filtering, on tiles of 4 along each side that the kernel has.

    Args:
        kernel: (kh, kw), odd, no more than 5 each; 1 leaves that side alone.
    """

    def __init__(self, kernel: tuple[int, int]) -> None:
        self._kernel = kernel
        self._rows, self._columns = (_matrices(side) for side in kernel)

    def weigh(self, kernel: Float[Tensor, "o c kh kw"]) -> Float[Tensor, "p c o"]:
        """The kernel at the p points."""
        rows, columns = self._rows.taps.double(), self._columns.taps.double()
        points = torch.einsum("pi,qj,ocij->qpco", rows, columns, kernel.double())
        return points.float().flatten(0, 1).contiguous()

    def spread(self, x: Float[Tensor, "1 c h w"]) -> Float[Tensor, "p n c"]:
        """The n tiles of a picture at the p points."""
        _, channels, h, w = x.shape
        (kh, kw), rows, columns = self._kernel, self._rows, self._columns
        right, below = kw // 2 + -w % columns.tile, kh // 2 + -h % rows.tile
        sites = F.pad(x[0].permute(1, 2, 0), (0, 0, kw // 2, right, kh // 2, below))[None]
        if kh > 1:  # tiles of rows: (points, tiles down, w, c)
            tiles = sites[0].unfold(0, rows.window, rows.tile).permute(3, 0, 1, 2)
            sites = (rows.inputs @ tiles.flatten(1)).view(rows.window, *tiles.shape[1:])
        if kw > 1:  # tiles of columns: (points, points, tiles down, tiles across, c)
            tiles = sites.unfold(2, columns.window, columns.tile).permute(4, 0, 1, 2, 3)
            sites = columns.inputs @ tiles.flatten(1)
        return sites.view(rows.window * columns.window, -1, channels)

    def multiply(
        self,
        spread: Float[Tensor, "p n c"],
        weights: Float[Tensor, "p c o"],
        onto: Float[Tensor, "p n o"] | None = None,
    ) -> Float[Tensor, "p n o"]:
        """A product of matrices at each point."""
        return torch.bmm(spread, weights) if onto is None else onto.baddbmm_(spread, weights)

    def collect(
        self, product: Float[Tensor, "p n o"], size: tuple[int, int]
    ) -> Float[Tensor, "1 o h w"]:
        """Tiles interpolated and laid side by side."""
        (h, w), rows, columns = size, self._rows, self._columns
        across = columns.outputs @ product.view(columns.window, -1)
        both = rows.outputs @ across.view(columns.tile, rows.window, -1)
        down = -(-h // rows.tile)
        tiles = both.view(columns.tile, rows.tile, down, -(-w // columns.tile), product.shape[2])
        sites = tiles.permute(2, 1, 3, 0, 4).reshape(down * rows.tile, -1, product.shape[2])
        return sites[:h, :w].permute(2, 0, 1)[None]


class Conv(nn.Conv2d):
    """A convolution of stride 1 that keeps the size of a single picture, by either method."""

    def fold(self, make: Callable[[tuple[int, int]], Convolution]) -> None:
        """Choose the method, once the weights are there."""
        self._method = make((self.kernel_size[0], self.kernel_size[1]))
        self._weights = self._method.weigh(self.weight)

    def forward(self, x: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 o h w"]:
        """The convolution, and the bias."""
        method = self._method
        product = method.multiply(method.spread(x), self._weights)
        out = method.collect(product, (x.shape[2], x.shape[3]))
        bias = self.bias[:, None, None].to(out.dtype) if self.bias is not None else 0
        return out.add_(bias)


@dataclass(frozen=True)
class _Matrices:
    """One side of the filtering.

    Attributes:
        tile: outputs of a tile.
        window: inputs of a tile, which is also the number of points.
        outputs: points to outputs, (tile, window).
        taps: taps of the kernel to points, (window, side).
        inputs: inputs to points, (window, window).
    """

    tile: int
    window: int
    outputs: Tensor
    taps: Tensor
    inputs: Tensor


def _matrices(side: int) -> _Matrices:
    """Matrices of F(4, side) for a kernel of ``side`` taps.

    The product of two polynomials of m and r coefficients is known by its values at m + r - 1
    points: s = V⁻¹ [(V_r g) ⊙ (V_m d)] with Vandermonde's V. Filtering is the transpose of it:
    y = V_mᵀ [(V_r g) ⊙ (V⁻ᵀ x)].
    """
    tile = 1 if side == 1 else TILE
    count = tile + side - 1
    powers = np.vander(np.array(POINTS[: count - 1]), count, increasing=True)

    def values(coefficients: int) -> np.ndarray:
        """Values of a polynomial at the points; at infinity it is its last coefficient."""
        last = np.zeros((1, coefficients))
        last[0, -1] = 1
        return np.concatenate([powers[:, :coefficients], last])

    three = values(tile).T, values(side), np.linalg.inv(values(count)).T
    outputs, taps, inputs = (torch.from_numpy(each.copy()).float() for each in three)
    return _Matrices(tile, count, outputs, taps, inputs)
