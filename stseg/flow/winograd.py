"""Convolutions of stride 1 with fewer multiplications, for processors without bfloat16.

Winograd's minimal filtering (Lavin and Gray, CVPR 2016): the picture is cut into overlapping
tiles, tiles and kernel are evaluated at a few points, multiplied there, and the product is
interpolated. A 3x3 kernel on tiles of 4x4 needs a quarter of the multiplications, a kernel of five
on tiles of six a third. The result differs from the plain convolution by rounding only.

``Direct`` and ``Winograd`` have the same steps, so that what uses them is written once. Every step
is linear: a picture that several kernels filter is spread once, and a sum of several products is
collected once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

BAND = 2**18
"""Numbers that are spread or collected at a time: a megabyte stays near the processor."""

POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 4 / 3, -4 / 3)
"""Where polynomials are evaluated, and at infinity; small numbers keep the rounding small."""


@runtime_checkable
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
    """Winograd's minimal filtering on tiles of 4x4, or of 6 where the kernel is a line.

    Args:
        kernel: (kh, kw), odd, no more than 5 each; 1 leaves that side alone.
    """

    def __init__(self, kernel: tuple[int, int]) -> None:
        tile = 6 if 1 in kernel else 4  # larger ones along both sides cost more than they save
        rows, columns = (_matrices(tile, side) for side in kernel)
        self._kernel = kernel
        self._tile = (rows[0].shape[0], columns[0].shape[0])
        self._window = (rows[0].shape[1], columns[0].shape[1])
        # Both sides at once: a tile is one vector, row by row.
        self._outputs, self._taps, self._inputs = (
            torch.from_numpy(np.kron(down, across)).to(dtype)
            for down, across, dtype in zip(
                rows, columns, (torch.float32, torch.float64, torch.float32), strict=True
            )
        )

    def weigh(self, kernel: Float[Tensor, "o c kh kw"]) -> Float[Tensor, "p c o"]:
        """The kernel at the p points."""
        points = torch.einsum("pk,ock->pco", self._taps, kernel.double().flatten(2))
        return points.float().contiguous()

    def spread(self, x: Float[Tensor, "1 c h w"]) -> Float[Tensor, "p n c"]:
        """The n tiles of a picture at the p points."""
        _, channels, h, w = x.shape
        (kh, kw), (th, tw), window = self._kernel, self._tile, self._window
        right, below = kw // 2 + -w % tw, kh // 2 + -h % th
        sites = F.pad(x[0].permute(1, 2, 0), (0, 0, kw // 2, right, kh // 2, below))
        tiles = sites.unfold(0, window[0], th).unfold(1, window[1], tw).permute(3, 4, 0, 1, 2)
        out = sites.new_empty(len(self._inputs), tiles.shape[2] * tiles.shape[3] * channels)
        for band, at in self._bands(tiles.shape[2], tiles.shape[3] * channels):
            vectors = tiles[:, :, band].reshape(len(self._inputs), -1)
            torch.mm(self._inputs, vectors, out=out[:, at])
        return out.view(len(self._inputs), -1, channels)

    def _bands(self, rows: int, row: int) -> Iterator[tuple[slice, slice]]:
        """Bands of tile rows that stay in the processor's cache, and their sites in a product.

        Args:
            rows: number of tile rows.
            row: numbers in one of them, at one point.
        """
        many = max(1, BAND // (row * len(self._inputs)))
        for first in range(0, rows, many):
            last = min(first + many, rows)
            yield slice(first, last), slice(first * row, last * row)

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
        (h, w), (th, tw), channels = size, self._tile, product.shape[2]
        down, across = -(-h // th), -(-w // tw)
        sites = product.new_empty(down, th, across, tw, channels)
        for band, at in self._bands(down, across * channels):
            tiles = self._outputs @ product.flatten(1)[:, at]
            sites[band] = tiles.view(th, tw, -1, across, channels).permute(2, 0, 3, 1, 4)
        return sites.view(down * th, across * tw, channels)[:h, :w].permute(2, 0, 1)[None]


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


def _matrices(tile: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices of F(tile, side): points to outputs, taps to points, inputs to points.

    The product of two polynomials of m and r coefficients is known by its values at m + r - 1
    points: s = V⁻¹ [(V_r g) ⊙ (V_m d)] with Vandermonde's V. Filtering is the transpose of it:
    y = V_mᵀ [(V_r g) ⊙ (V⁻ᵀ x)].
    """
    if side == 1:
        one = np.ones((1, 1))
        return one, one, one
    count = tile + side - 1
    powers = np.vander(np.array(POINTS[: count - 1]), count, increasing=True)

    def values(coefficients: int) -> np.ndarray:
        """Values of a polynomial at the points; at infinity it is its last coefficient."""
        last = np.zeros((1, coefficients))
        last[0, -1] = 1
        return np.concatenate([powers[:, :coefficients], last])

    return values(tile).T, values(side), np.linalg.inv(values(count)).T
