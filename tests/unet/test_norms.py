"""Instance normalisation: PyTorch's own numbers, frame by frame too, in the layout that came."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from stseg.unet.norms import EPSILON, InstanceNorm, InstanceNormPerFrame, _NormaliseSites

SHAPES = [(2, 5, 3, 8, 7), (1, 3, 1, 4, 4), (3, 1, 2, 1, 5)]


def volume(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (x * torch.logspace(-1, 1, shape[1])[None, :, None, None, None] + 2).to(dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_numbers_are_those_of_torch(shape: tuple[int, ...]) -> None:
    x, twin = volume(*shape).requires_grad_(), volume(*shape).requires_grad_()
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours, theirs = InstanceNorm(shape[1])(x), nn.InstanceNorm3d(shape[1])(twin)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    ours.backward(grad)
    theirs.backward(grad)
    torch.testing.assert_close(x.grad, twin.grad, rtol=1e-4, atol=1e-4)
    assert nn.InstanceNorm3d(1).eps == EPSILON
    assert not list(InstanceNorm(4).parameters())


@pytest.mark.parametrize("shape", SHAPES)
def test_each_frame_has_the_numbers_of_the_2d_norm(shape: tuple[int, ...]) -> None:
    x, twin = volume(*shape).requires_grad_(), volume(*shape).requires_grad_()
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours = InstanceNormPerFrame(shape[1])(x)
    norm = nn.InstanceNorm2d(shape[1])
    theirs = torch.stack([norm(frame) for frame in twin.unbind(2)], dim=2)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    ours.backward(grad)
    theirs.backward(grad)
    torch.testing.assert_close(x.grad, twin.grad, rtol=1e-4, atol=1e-4)


def test_frames_differ_from_the_volume() -> None:
    x = volume(1, 2, 3, 6, 6)
    x[:, :, 1] += 10
    assert not torch.allclose(InstanceNorm(2)(x), InstanceNormPerFrame(2)(x), atol=0.1)


ORDERS = ["b c t h w", "b t h w c", "b h w t c"]


@pytest.mark.parametrize("norm", [InstanceNorm, InstanceNormPerFrame])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(1, 8, 1, 6, 7), (1, 8, 3, 6, 7), (2, 8, 1, 4, 1)])
def test_every_layout_is_taken_in_bfloat16_under_a_gradient(
    norm: type[InstanceNorm], order: str, shape: tuple[int, ...]
) -> None:
    lies = rearrange(volume(*shape).bfloat16(), f"b c t h w -> {order}").contiguous()
    x = rearrange(lies, f"{order} -> b c t h w").requires_grad_()
    out = norm(shape[1])(x)
    torch.testing.assert_close(out.float(), norm(shape[1])(x.float()), rtol=0.01, atol=0.03)
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() < 0.1  # whatever is normalised has the same sum


@pytest.mark.parametrize("norm", [InstanceNorm, InstanceNormPerFrame])
def test_bfloat16_under_a_gradient_agrees_with_float32(norm: type[InstanceNorm]) -> None:
    x = volume(2, 5, 3, 12, 10).bfloat16()
    half, full = x.clone().requires_grad_(), x.float().requires_grad_()
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    out, expected = norm(5)(half), norm(5)(full)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=0.01, atol=0.02)
    out.backward(grad)
    expected.backward(grad.float())
    assert half.grad is not None
    assert full.grad is not None
    for channel in range(5):  # channels have gradients of other sizes
        wrong = (half.grad[:, channel].float() - full.grad[:, channel]).abs().max()
        assert wrong < 0.03 * full.grad[:, channel].abs().max()


@pytest.mark.parametrize("shape", [(2, 3, 2, 3, 4), (1, 1, 1, 2, 2), (2, 2, 6, 5)])
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_the_own_backward_is_the_gradient(shape: tuple[int, ...], last: bool) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if last:
        layout = torch.channels_last_3d if x.dim() == 5 else torch.channels_last
        x = x.to(memory_format=layout)
    assert torch.autograd.gradcheck(_NormaliseSites.apply, x.requires_grad_())


def test_the_own_forward_is_instance_norm() -> None:
    x = volume(2, 5, 3, 8, 7, dtype=torch.float64)
    expected = F.instance_norm(x, eps=EPSILON)
    torch.testing.assert_close(_NormaliseSites.apply(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grad", [True, False])
def test_the_layout_stays(dtype: torch.dtype, grad: bool) -> None:
    layout = torch.channels_last_3d
    x = volume(2, 8, 3, 6, 10, dtype=dtype).to(memory_format=layout)
    with torch.set_grad_enabled(grad):
        assert InstanceNorm(8)(x).is_contiguous(memory_format=layout)
        plain = InstanceNorm(8)(x.contiguous())
        assert plain.is_contiguous()
        torch.testing.assert_close(InstanceNorm(8)(x), plain, rtol=0.01, atol=0.02)


def test_the_layout_stays_backwards_in_bfloat16() -> None:
    layout = torch.channels_last_3d
    x = volume(2, 8, 3, 6, 10, dtype=torch.bfloat16).to(memory_format=layout).requires_grad_()
    out = InstanceNorm(8)(x)
    out.backward(torch.ones_like(out))
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=layout)


def test_a_constant_channel_becomes_zero() -> None:
    x = torch.full((1, 2, 3, 4, 4), 5.0)
    assert (InstanceNorm(2)(x).abs() < 1e-3).all()
    half = x.bfloat16().requires_grad_()
    out = InstanceNorm(2)(half)
    out.backward(torch.ones_like(out))
    assert half.grad is not None
    assert half.grad.isfinite().all()
