"""A 3D convolution that is fast on CPUs and GPUs, with gradients that can be trusted everywhere."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stseg.unet import tiles
from stseg.unet.layout import instants_in_channels, instants_in_time, is_stacked

Triple = tuple[int, int, int]


@cache
def weight_gradient_type() -> torch.dtype:
    """Number type in which the gradient of convolution weights is right on this processor.

    oneDNN's bfloat16 kernel for it is broken on processors with AMX (PyTorch 2.11 to 2.13: wrong
    values, endless loops, crashes), and right, 2.3 times as fast as float32, on those that have
    AVX-512 bf16 alone. Where PyTorch does not tell, float32 is safe.
    """
    tell = getattr(torch.cpu, "get_capabilities", dict)
    known: dict[str, bool] = tell()
    plain = known.get("avx512_bf16", False) and not known.get("amx_tile", True)
    return torch.bfloat16 if plain else torch.float32


@cache
def multiplies_bfloat16() -> bool:
    """Whether oneDNN convolves in bfloat16 on this processor.

    Where it does not, PyTorch has a path of its own that adds up in bfloat16, with a gradient of
    the input that is off by several percent, and gives up the layout.
    """
    return bool(torch.backends.mkldnn.is_available()) and bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Triple) -> Tensor:
    """Convolution of bfloat16 numbers; in float32 where the processor lacks the other."""
    if multiplies_bfloat16() or not torch.backends.mkldnn.is_available():
        return F.conv3d(x, weight, bias, padding=padding)
    bias = None if bias is None else bias.float()
    ones = (1, 1, 1)
    out: Tensor = torch.mkldnn_convolution(
        x.float(), weight.float(), bias, padding, stride=ones, dilation=ones, groups=1
    )
    return out.to(x.dtype)


class _BFloat16Conv3d(torch.autograd.Function):
    """Convolution in bfloat16, with the gradient of its weights in a type that can be trusted."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: Triple
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        ctx.biased = bias is not None
        return _convolve(x, weight, bias, padding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = _convolve(grad, turned_weight(weight), None, ctx.padding)
        biased = ctx.biased and ctx.needs_input_grad[2]
        if ctx.needs_input_grad[1] or biased:
            exact, ones = weight_gradient_type(), (1, 1, 1)
            _, *found = torch.ops.aten.convolution_backward(
                grad.to(exact),
                x.to(exact),
                weight.to(exact),
                [len(weight)] if biased else None,
                ones,
                ctx.padding,
                ones,
                False,
                (0, 0, 0),
                1,
                (False, ctx.needs_input_grad[1], biased),
            )
            grad_weight, grad_bias = (
                None if each is None else each.to(weight.dtype) for each in found
            )
        return grad_x, grad_weight, grad_bias, None


def turned_weight(weight: Float[Tensor, "d c s r q"]) -> Float[Tensor, "c d s r q"]:
    """Weights with which the gradient of the output is convolved to that of the input.

    For odd kernels and outputs of the input's size. oneDNN is quicker at it than at its own way
    back, and its largest layers gain most.
    """
    last = torch.channels_last_3d
    return weight.flip(2, 3, 4).transpose(0, 1).contiguous(memory_format=last)


MOST_FOLDED = 4
"""Instants up to which time is folded into channels: beyond, too many of the products are zero."""


def folded_weight(weight: Float[Tensor, "d c s r q"], instants: int) -> Float[Tensor, "m n r q"]:
    """Weights of the 2D convolution that does all instants of a 3D one at once, m = instants · d.

    Its channels are those of all instants, instant by instant: the block that takes instant j to
    instant i is the tap j - i of the 3D kernel, or zero beyond it.
    """
    d, c, taps, rows, columns = weight.shape
    here = torch.arange(instants, device=weight.device)
    tap = here[None, :] - here[:, None] + taps // 2  # (to, from)
    which = tap.unsqueeze(-1) == torch.arange(taps, device=weight.device)
    blocks = which.to(weight.dtype).flatten(0, 1) @ weight.permute(2, 0, 1, 3, 4).flatten(1)
    blocks = blocks.view(instants, instants, d, c, rows, columns).permute(0, 2, 1, 3, 4, 5)
    return blocks.reshape(instants * d, instants * c, rows, columns)


def _folded_convolution(
    x: Float[Tensor, "b c t h w"],
    weight: Float[Tensor, "d c s r q"],
    bias: Float[Tensor, " d"] | None,
    padding: Triple,
) -> Float[Tensor, "b d t h w"]:
    """A 3D convolution over few instants as a 2D one over all their channels.

    A GPU has few channels to work with otherwise, and its 2D kernels are better than its 3D ones.
    """
    t = x.shape[2]
    plane = folded_weight(weight, t).contiguous(memory_format=torch.channels_last)
    bias = None if bias is None else bias.repeat(t)
    out = F.conv2d(instants_in_channels(x), plane, bias, padding=padding[1:])
    return instants_in_time(out, t)


def _in_two_halves(
    x: Float[Tensor, "1 c t h w"],
    weight: Float[Tensor, "d c s r q"],
    bias: Float[Tensor, " d"] | None,
    padding: Triple,
) -> Float[Tensor, "1 d t h w"]:
    """The convolution of a lone volume as that of a batch of its upper and its lower half.

    PyTorch sends float32 batches to oneDNN forwards and backwards, and a lone volume to kernels
    that are several times slower, unless it is very wide.
    """
    rows, border = x.shape[3], padding[1]
    half = -(-rows // 2)
    padded = F.pad(x, (0, 0, border, border + 2 * half - rows))
    halves = torch.cat((padded[..., : half + 2 * border, :], padded[..., half:, :]))
    out = F.conv3d(halves, weight, bias, padding=(padding[0], 0, padding[2]))
    return torch.cat(out.split(1), dim=3)[..., :rows, :]


ENOUGH_CHANNELS, FEW_THREADS = 64, 4
"""Where tiles pay: fewer channels cost what they save, and with more threads nobody looked."""


@cache
def multiplies_slowly() -> bool:
    """Whether a multiplication is dear beside what it takes to save three of four.

    True of processors with AVX2 and no more, on which it was measured.
    """
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


class _Tiled:
    """The convolution by tiles (``stseg.unet.tiles``), with its weights at the points kept."""

    def __init__(self) -> None:
        self._kept: tuple[Tensor, int, Tensor] | None = None

    def __reduce__(self) -> tuple[type[_Tiled], tuple[()]]:
        return _Tiled, ()  # copies and files have the weights once

    def forget(self) -> None:
        """Give up what is kept: ten times the weights themselves."""
        self._kept = None

    def __call__(
        self,
        x: Float[Tensor, "1 c t h w"],
        weight: Float[Tensor, "d c s r q"],
        bias: Float[Tensor, " d"] | None,
    ) -> Float[Tensor, "1 d t h w"]:
        """The convolution of a lone volume; no gradient."""
        out = tiles.convolve(x, self._weights(weight, x.shape[2]))
        return out if bias is None else out.add_(bias.view(-1, 1, 1, 1))

    def _weights(self, weight: Tensor, instants: int) -> Tensor:
        kept = self._kept  # another thread may replace it
        # Versions do not tell: optimisers and loading can change weights behind their back.
        if kept is None or kept[1] != instants or not torch.equal(kept[0], weight):
            own = weight.detach().clone()
            kept = self._kept = own, instants, tiles.weigh(folded_weight(own, instants))
        return kept[2]


class Conv3d(nn.Conv3d):
    """``nn.Conv3d`` of stride 1, safe to train under bfloat16 autocast on a CPU, and fast there.

    A float32 volume that comes alone goes to oneDNN, too: PyTorch's own rule sends only batches and
    very wide volumes there, and the rest to a path that is nine times slower. Without gradients,
    many channels go by tiles where that pays (``stseg.unet.tiles``). On a GPU all instants are
    convolved at once where that pays (``stseg.unet.layout``). The numbers are the same but for
    rounding.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        kernel: odd (t, h, w) extents; the output has the size of the input.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: Triple) -> None:
        self.same: Triple = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        super().__init__(channels_in, channels_out, kernel, padding=self.same)
        many = min(channels_in, channels_out) >= ENOUGH_CHANNELS
        self.tiled = _Tiled() if many and kernel == (3, 3, 3) else None

    def train(self, mode: bool = True) -> Conv3d:
        """As every module's; for training nothing is kept beside the weights."""
        if mode and self.tiled is not None:
            self.tiled.forget()
        super().train(mode)
        return self

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h w"]:
        """Convolve; the size stays."""
        if input.device.type != "cpu":
            return self._on_gpu(input)
        bf16 = torch.bfloat16
        autocast = torch.is_autocast_enabled("cpu")
        cast = autocast and torch.get_autocast_dtype("cpu") == bf16
        if torch.is_grad_enabled():
            if cast or input.dtype == bf16:
                bias = None if self.bias is None else self.bias.to(bf16)
                out: Tensor = _BFloat16Conv3d.apply(
                    input.to(bf16), self.weight.to(bf16), bias, self.same
                )
                return out
            lone = len(input) == 1 and input.dtype == torch.float32 and not autocast
            if lone and torch.backends.mkldnn.is_available():
                return _in_two_halves(input, self.weight, self.bias, self.same)
        elif input.dtype == torch.float32 and not autocast and torch.backends.mkldnn.is_available():
            few = len(input) == 1 and 1 < input.shape[2] <= MOST_FOLDED
            quick = multiplies_slowly() and torch.get_num_threads() <= FEW_THREADS
            if self.tiled is not None and few and quick:
                return self.tiled(input, self.weight, self.bias)
            ones = (1, 1, 1)
            return torch.mkldnn_convolution(
                input, self.weight, self.bias, self.same, stride=ones, dilation=ones, groups=1
            )
        return super().forward(input)

    def _on_gpu(self, x: Tensor) -> Tensor:
        if not is_stacked(x):
            return F.conv3d(x, self.weight.contiguous(), self.bias, padding=self.same)
        if self.kernel_size == (1, 1, 1):  # one matrix product, in whatever layout
            return F.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)
        apart = self.kernel_size[0] == 1 and x.shape[2] > 1
        if apart or x.shape[2] > MOST_FOLDED:
            return super().forward(x)
        return _folded_convolution(x, self.weight, self.bias, self.same)
