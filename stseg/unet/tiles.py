"""3x3x3 convolutions over few instants with fewer multiplications, for processors without bfloat16.

Winograd's minimal filtering F(4x4, 3x3) as in Lavin and Gray, CVPR 2016: tiles of 4x4 outputs, each
from 6x6 inputs that are mixed, multiplied at 36 points and mixed again. All instants of a site lie
beside each other as channels, so that the taps over time are part of the products. The mixing is
sums and differences of whole rows, in bands of the picture that stay in the processor's cache: that
is what it costs, and why it pays with many channels alone. (``stseg.flow.winograd`` has kernels of
any shape, whose pictures are a fifth as large and are mixed by matrix products.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from stseg.unet.layout import instants_in_time

TILE = 4
WINDOW = TILE + 2
POINTS = WINDOW**2
BAND = 2**21
"""Numbers of a band at the points, 8 MB: half and twice as many are slower."""

TAPS = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
"""G of Lavin and Gray: what a kernel of three is at the six points."""


def weigh(plane: Float[Tensor, "m n 3 3"]) -> Float[Tensor, "36 n m"]:
    """What ``convolve`` takes of the weights of a 2D convolution, in float32."""
    taps = torch.from_numpy(TAPS).to(plane.device)
    points = torch.einsum("ir,js,mnrs->ijnm", taps, taps, plane.double())
    return points.flatten(0, 1).float().contiguous()


def convolve(
    x: Float[Tensor, "1 c t h w"], weights: Float[Tensor, "36 n m"]
) -> Float[Tensor, "1 d t h w"]:
    """A convolution of float32 numbers that keeps the size, zero beyond the borders.

    It differs from the direct one by rounding, some 1e-5 of the result.

    Args:
        x: a lone volume in any layout; fastest where its instants lie beside each other.
        weights: of all instants at once (``stseg.unet.conv.folded_weight``), as ``weigh`` has them:
            n = t c and m = t d.

    Returns:
        The result, with the instants of a site beside each other.
    """
    t, h, w = x.shape[2:]
    sites = x[0].permute(2, 3, 1, 0)  # (h, w, t, c)
    n, m = weights.shape[1:]
    down, across = -(-h // TILE), -(-w // TILE)
    bands = -(-down * across * POINTS * max(n, m) // BAND)
    most = -(-down // bands)
    memory = _Memory(x, most, across, n, m)
    out = x.new_empty(down * TILE, across * TILE, m)
    for first in range(0, down, most):
        rows = min(most, down - first)
        top = first * TILE
        _band(sites, top, out[top : top + rows * TILE], weights, memory, rows)
    kept = out[:h, :w].contiguous()  # the same but where the size is no multiple of the tile's
    return instants_in_time(kept.permute(2, 0, 1)[None], t)


class _Memory:
    """What a band needs, taken once for all bands.

    Args:
        like: whose type and device the numbers have.
        rows: of tiles, at most.
        across: tiles in a row.
        n: channels of the input, of all instants.
        m: channels of the output.
    """

    def __init__(self, like: Tensor, rows: int, across: int, n: int, m: int) -> None:
        wide = across * TILE + 2
        self.across, self.n, self.m = across, n, m
        self.padded = like.new_zeros(rows * TILE + 2, wide, n)
        self._down = like.new_empty(WINDOW * rows * wide * n)
        self._points = like.new_empty(POINTS * rows * across * n)
        self._products = like.new_empty(POINTS * rows * across * m)
        self._up = like.new_empty(TILE * WINDOW * rows * across * m)
        mixed = WINDOW * max(rows * wide * n // WINDOW + 1, rows * across * max(n, m))
        self._scratch = like.new_empty(4 * mixed)

    def down(self, rows: int) -> Tensor:
        """Rows of tiles mixed down the picture, (6, rows, wide, n)."""
        return _part(self._down, WINDOW, rows, self.padded.shape[1], self.n)

    def points(self, rows: int) -> Tensor:
        """Tiles at the points, (6, 6, rows, across, n)."""
        return _part(self._points, WINDOW, WINDOW, rows, self.across, self.n)

    def products(self, rows: int) -> Tensor:
        """Products at the points, (6, 6, rows, across, m)."""
        return _part(self._products, WINDOW, WINDOW, rows, self.across, self.m)

    def up(self, rows: int) -> Tensor:
        """Products mixed down the picture, (4, 6, rows, across, m)."""
        return _part(self._up, TILE, WINDOW, rows, self.across, self.m)

    def scratch(self, like: Tensor) -> Sequence[Tensor]:
        """Four tensors of this shape."""
        return _part(self._scratch, 4, *like.shape).unbind()


def _part(flat: Tensor, *shape: int) -> Tensor:
    return flat[: int(np.prod(shape))].view(shape)


def _band(
    sites: Float[Tensor, "h w t c"],
    top: int,
    out: Float[Tensor, "rows wide m"],
    weights: Float[Tensor, "36 n m"],
    memory: _Memory,
    rows: int,
) -> None:
    """Fill ``out``, whose first row is the picture's row ``top``."""
    _copy_padded(sites, top - 1, memory.padded)
    down, points = memory.down(rows), memory.points(rows)
    products, up = memory.products(rows), memory.up(rows)
    last = (rows - 1) * TILE + 1
    _to_points([memory.padded[i : i + last : TILE] for i in range(WINDOW)], down, memory)
    last = (memory.across - 1) * TILE + 1
    columns = [down[:, :, j : j + last : TILE] for j in range(WINDOW)]
    _to_points(columns, points.transpose(0, 1), memory)
    torch.bmm(points.view(POINTS, -1, memory.n), weights, out=products.view(POINTS, -1, memory.m))
    _from_points(products, up, memory)
    tiles = out.view(rows, TILE, memory.across, TILE, memory.m).permute(3, 1, 0, 2, 4)
    _from_points(up.transpose(0, 1), tiles, memory)


def _copy_padded(
    sites: Float[Tensor, "h w t c"], top: int, padded: Float[Tensor, "rows wide n"]
) -> None:
    """Rows of the picture from ``top`` on, into the padded band; zero beyond the picture."""
    h, w = sites.shape[:2]
    bottom = top + len(padded)
    first, last = max(top, 0), min(bottom, h)
    inside = padded[first - top : last - top, 1 : w + 1]
    inside.view(*inside.shape[:2], *sites.shape[2:]).copy_(sites[first:last])
    padded[: first - top].zero_()
    padded[last - top :].zero_()


def _to_points(x: Sequence[Tensor], out: Tensor, memory: _Memory) -> None:
    """Six inputs at the six points, along one side (Bᵀ of Lavin and Gray)."""
    even, odd, lower, upper = memory.scratch(x[0])
    torch.sub(x[4], x[2], alpha=4, out=even)
    torch.sub(x[3], x[1], alpha=4, out=odd)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.sub(x[4], x[2], out=even)
    torch.sub(x[3], x[1], out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    torch.sub(x[0], x[2], out=lower)
    torch.add(even, lower, alpha=4, out=out[0])
    torch.sub(x[5], x[3], out=upper)
    torch.sub(upper, odd, alpha=4, out=out[5])


def _from_points(x: Tensor, out: Tensor, memory: _Memory) -> None:
    """Four outputs from the six points, along one side (Aᵀ of Lavin and Gray)."""
    near, near_odd, far, far_odd = memory.scratch(x[0])
    torch.add(x[1], x[2], out=near)
    torch.sub(x[1], x[2], out=near_odd)
    torch.add(x[3], x[4], out=far)
    torch.sub(x[3], x[4], out=far_odd)
    torch.add(near_odd, far_odd, alpha=2, out=out[1])
    torch.add(near, far, alpha=4, out=out[2])
    torch.add(near.add_(far), x[0], out=out[0])
    torch.add(near_odd.add_(far_odd, alpha=8), x[5], out=out[3])
