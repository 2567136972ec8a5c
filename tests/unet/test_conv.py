"""The convolution whose gradient can be trusted in bfloat16: against float32, on a CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stseg.unet.conv import Conv3d

KERNELS = [(3, 3, 3), (1, 3, 3), (1, 1, 1)]


def twins(channels: tuple[int, int], kernel: tuple[int, int, int]) -> tuple[Conv3d, Conv3d]:
    """Two convolutions of equal weights that bfloat16 holds exactly."""
    torch.manual_seed(0)
    one, other = Conv3d(*channels, kernel), Conv3d(*channels, kernel)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.copy_(parameter.bfloat16())
    other.load_state_dict(one.state_dict())
    return one, other


def volume(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).bfloat16().float()


def gap(actual: Tensor, expected: Tensor) -> float:
    """Largest difference beyond bfloat16's own rounding, relative to the root mean square."""
    scale = expected.float().square().mean().sqrt()
    rounding = expected.float().abs() / 256
    difference = (actual.float() - expected.float()).abs() - rounding
    return float(difference.max() / scale)


def both_ways(conv: Conv3d, x: Tensor, grad: Tensor, *, half: bool) -> tuple[Tensor, ...]:
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        out = conv(x)
    out.backward(grad.to(out.dtype))
    assert x.grad is not None
    assert conv.weight.grad is not None
    assert conv.bias is not None
    assert conv.bias.grad is not None
    return out.detach(), x.grad, conv.weight.grad, conv.bias.grad


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("shape", [(2, 16, 3, 12, 14), (1, 2, 3, 9, 7), (2, 33, 1, 6, 5)])
def test_bfloat16_agrees_with_float32(
    kernel: tuple[int, int, int], last: bool, shape: tuple[int, ...]
) -> None:
    half, full = twins((shape[1], 24), kernel)
    x, grad = volume(*shape), volume(shape[0], 24, *shape[2:])
    given = x.to(memory_format=torch.channels_last_3d) if last else x
    measured = both_ways(half, given, grad, half=True)
    expected = both_ways(full, x, grad, half=False)
    assert measured[0].dtype == torch.bfloat16
    assert measured[1].dtype == measured[2].dtype == measured[3].dtype == torch.float32
    for name, one, two in zip(("out", "x", "weight", "bias"), measured, expected, strict=True):
        assert gap(one, two) < 0.02, name


def test_the_size_that_crashes_plain_torch() -> None:
    """64 to 32 channels on the paper's half grid: AMX fails on the gradient of these weights."""
    half, full = twins((64, 32), (3, 3, 3))
    half.weight.data = half.weight.data.to(memory_format=torch.channels_last_3d)
    x, grad = volume(1, 64, 3, 64, 112), volume(1, 32, 3, 64, 112)
    given = x.to(memory_format=torch.channels_last_3d)
    measured = both_ways(half, given, grad, half=True)
    expected = both_ways(full, x, grad, half=False)
    for name, one, two in zip(("out", "x", "weight", "bias"), measured, expected, strict=True):
        assert gap(one, two) < 0.02, name
    # The mean of the errors is much smaller than the largest one: rounding, not a wrong kernel.
    weight = (measured[2] - expected[2]).square().mean().sqrt()
    assert weight < 5e-3 * expected[2].square().mean().sqrt()


@pytest.mark.parametrize("kernel", KERNELS)
def test_float32_is_the_plain_convolution(kernel: tuple[int, int, int]) -> None:
    conv, _ = twins((5, 7), kernel)
    plain = nn.Conv3d(5, 7, kernel, padding=tuple(side // 2 for side in kernel))
    plain.load_state_dict(conv.state_dict())
    x = volume(2, 5, 3, 8, 6)
    torch.testing.assert_close(conv(x), plain(x), rtol=0, atol=0)
    assert conv(x).shape == (2, 7, 3, 8, 6)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("rows", [1, 2, 7, 8])
def test_a_lone_volume_is_the_plain_convolution(kernel: tuple[int, int, int], rows: int) -> None:
    conv, _ = twins((5, 7), kernel)
    plain = nn.Conv3d(5, 7, kernel, padding=conv.same).double()
    plain.load_state_dict(conv.state_dict())
    x, grad = volume(1, 5, 3, rows, 6), volume(1, 7, 3, rows, 6)
    found = both_ways(conv, x, grad, half=False)
    seen = x.double().requires_grad_()
    out = plain(seen)
    out.backward(grad.double())
    assert plain.bias is not None
    wanted = (out.detach(), seen.grad, plain.weight.grad, plain.bias.grad)
    for one, other in zip(found, wanted, strict=True):
        assert other is not None
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


def test_a_bias_learns_where_the_weights_stay() -> None:
    conv, full = twins((4, 6), (3, 3, 3))
    conv.weight.requires_grad_(False)
    x, grad = volume(2, 4, 3, 8, 8), volume(2, 6, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(x)
    out.backward(grad.bfloat16())
    assert conv.weight.grad is None
    assert conv.bias is not None
    assert conv.bias.grad is not None
    assert gap(conv.bias.grad, both_ways(full, x, grad, half=False)[3]) < 0.02


def kernels_of(conv: nn.Module, x: Tensor) -> set[str]:
    """What PyTorch calls on the way there and back."""
    activity = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity]) as profile:
        conv(x).sum().backward()
    return {event.key for event in profile.key_averages()}


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="oneDNN is not built in")
def test_a_lone_volume_goes_to_onednn_both_ways() -> None:
    x = volume(1, 8, 3, 16, 14).requires_grad_()
    found = kernels_of(Conv3d(8, 8, (3, 3, 3)), x)
    assert "aten::mkldnn_convolution" in found
    assert not [name for name in found if "slow_conv" in name]
    plain = kernels_of(nn.Conv3d(8, 8, 3, padding=1), x)
    assert [name for name in plain if "slow_conv" in name], "PyTorch's rule has changed"


def test_without_a_gradient_the_values_are_the_same() -> None:
    conv, _ = twins((16, 24), (3, 3, 3))
    x = volume(1, 16, 3, 12, 14)
    with torch.autocast("cpu", torch.bfloat16):
        learning = conv(x).detach()
        with torch.no_grad():
            using = conv(x)
        with torch.inference_mode():
            inferring = conv(x)
    assert using.dtype == learning.dtype == torch.bfloat16
    assert gap(using, learning) < 0.02
    assert gap(inferring, learning) < 0.02


def test_a_bfloat16_input_needs_no_autocast() -> None:
    conv, full = twins((16, 24), (3, 3, 3))
    x, grad = volume(1, 16, 3, 12, 14), volume(1, 24, 3, 12, 14)
    out = conv(x.bfloat16())
    out.backward(grad.bfloat16())
    expected = both_ways(full, x, grad, half=False)
    assert conv.weight.grad is not None
    assert gap(out.detach(), expected[0]) < 0.02
    assert gap(conv.weight.grad, expected[2]) < 0.02


def test_frozen_weights_and_inputs_get_no_gradient() -> None:
    conv, _ = twins((4, 4), (3, 3, 3))
    x = volume(1, 4, 3, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        conv(x).sum().backward()
    assert x.grad is None
    assert conv.weight.grad is not None
    conv, _ = twins((4, 4), (3, 3, 3))
    conv.requires_grad_(False)
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        conv(x).sum().backward()
    assert x.grad is not None
    assert conv.weight.grad is None


def test_the_gradient_of_the_bias_is_summed_in_float32() -> None:
    """8,192 ones: a bfloat16 sum would stop at 256."""
    conv, _ = twins((1, 1), (1, 1, 1))
    x = volume(1, 1, 2, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(x)
    out.backward(torch.ones_like(out))
    assert conv.bias is not None
    assert conv.bias.grad is not None
    assert float(conv.bias.grad) == 8192


def test_channels_last_stays_through_bfloat16() -> None:
    conv, _ = twins((16, 24), (3, 3, 3))
    x = volume(2, 16, 3, 8, 8).to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(x)
    assert out.is_contiguous(memory_format=torch.channels_last_3d)
