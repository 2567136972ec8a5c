"""Blocks of the paper's U-net: double convolution, spatial-only down and up (Sec. 3.5, Fig. 2)."""

from __future__ import annotations

from dataclasses import dataclass

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stseg.unet.conv import Conv3d
from stseg.unet.layout import site_order
from stseg.unet.norms import InstanceNorm, InstanceNormPerFrame

LEAK = 0.01


@dataclass(frozen=True)
class Spec:
    """What the skeleton asks of one module.

    Attributes:
        level: depth in the U, 0 at full resolution.
        bottleneck: whether this is the lowest level.
        channels_in: channels of the module's input.
        channels_out: channels that its output must have.
        scale: (t, h, w) factor by which a ``down`` divides and an ``up`` multiplies the size; all
            ones for the other slots.
    """

    level: int
    bottleneck: bool
    channels_in: int
    channels_out: int
    scale: tuple[int, int, int] = (1, 1, 1)


def _double_conv(spec: Spec, kernel: tuple[int, int, int], norm: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        Conv3d(spec.channels_in, spec.channels_out, kernel),
        norm(spec.channels_out),
        nn.LeakyReLU(LEAK),
        Conv3d(spec.channels_out, spec.channels_out, kernel),
        norm(spec.channels_out),
        nn.LeakyReLU(LEAK),
    )


class DoubleConv(nn.Module):
    """Two 3x3x3 convolutions, each followed by instance norm and leaky ReLU.

    Maps (b, channels_in, t, h, w) to (b, channels_out, t, h, w).
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.layers = _double_conv(spec, (3, 3, 3), InstanceNorm)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h w"]:
        """Apply both convolutions."""
        out: Tensor = self.layers(x)
        return out


class DoubleConv2d(nn.Module):
    """The same frame by frame: 1x3x3 convolutions and statistics of one frame at a time.

    With these on both sides the network is the frame-by-frame predecessor that the paper compares
    with: no frame influences another. Maps (b, channels_in, t, h, w) to (b, channels_out, t, h, w).
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.layers = _double_conv(spec, (1, 3, 3), InstanceNormPerFrame)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h w"]:
        """Apply both convolutions."""
        out: Tensor = self.layers(x)
        return out


class SpatialDown(nn.Module):
    """Halve height and width by a strided 1x2x2 convolution; time is left alone.

    Its cells do not overlap, so that it is one matrix product over cells gathered into channels:
    the same numbers as the strided convolution, much faster backwards on a CPU.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.conv = nn.Conv3d(spec.channels_in, spec.channels_out, spec.scale, stride=spec.scale)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h2 w2"]:
        """Reduce the size by the spec's scale."""
        _, rows, columns = self.conv.stride
        sites = site_order(x)
        cells = rearrange(x, f"b c t (h r) (w s) -> b {sites} (r s c)", r=rows, s=columns)
        weight = rearrange(self.conv.weight, "d c 1 r s -> d (r s c)")
        out = F.linear(cells, weight, self.conv.bias)
        return rearrange(out, f"b {sites} d -> b d t h w")


class SpatialUp(nn.Module):
    """Double height and width by a transposed 1x2x2 convolution; time is left alone.

    One matrix product, as in ``SpatialDown`` (PyTorch 2.13 takes minutes for the gradient of a
    bfloat16 transposed convolution on a CPU).
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose3d(
            spec.channels_in, spec.channels_out, spec.scale, stride=spec.scale
        )

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h2 w2"]:
        """Enlarge the size by the spec's scale."""
        _, rows, columns = self.conv.stride
        weight = rearrange(self.conv.weight, "c d 1 r s -> (r s d) c")
        bias = None if self.conv.bias is None else self.conv.bias.repeat(rows * columns)
        sites = site_order(x)
        cells = F.linear(rearrange(x, f"b c t h w -> b {sites} c"), weight, bias)
        # Channels stay last while the cells are laid out: whole rows of them are copied.
        larger = sites.replace("h", "(h r)").replace("w", "(w s)")
        out = rearrange(cells, f"b {sites} (r s d) -> b {larger} d", r=rows, s=columns)
        return rearrange(out, f"b {sites} d -> b d t h w")
