"""Blocks: the matrix products of down and up are the strided convolutions they stand for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stseg.unet.blocks import LEAK, DoubleConv, DoubleConv2d, SpatialDown, SpatialUp, Spec

DOWN = Spec(0, False, 6, 10, (1, 2, 2))
UP = Spec(0, False, 10, 6, (1, 2, 2))


def volume(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (SpatialDown(DOWN), (2, 6, 3, 8, 12)),
        (SpatialUp(UP), (2, 10, 3, 4, 6)),
        (SpatialDown(DOWN), (1, 6, 1, 2, 2)),
        (SpatialUp(UP), (1, 10, 1, 1, 1)),
    ],
    ids=["down", "up", "smallest down", "smallest up"],
)
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_down_and_up_are_their_own_convolution(
    block: SpatialDown | SpatialUp, shape: tuple[int, ...], last: bool
) -> None:
    x = volume(*shape)
    given = x.to(memory_format=torch.channels_last_3d) if last else x
    torch.testing.assert_close(block(given), block.conv(x), rtol=1e-5, atol=1e-5)
    # The gradients of input, weight and bias agree, too.
    pairs = []
    for run in (block, block.conv):
        block.zero_grad()
        twin = x.clone().requires_grad_()
        out = run(twin)
        out.backward(volume(*out.shape))
        pairs.append([twin.grad, block.conv.weight.grad.clone(), block.conv.bias.grad.clone()])
    for one, two in zip(*pairs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "spec", "shape"),
    [
        (SpatialDown, Spec(0, False, 2, 3, (1, 2, 2)), (1, 2, 2, 4, 2)),
        (SpatialUp, Spec(0, False, 3, 2, (1, 2, 2)), (1, 3, 2, 2, 1)),
    ],
)
def test_gradients_in_float64(
    make: type[SpatialDown | SpatialUp], spec: Spec, shape: tuple[int, ...]
) -> None:
    block = make(spec).double()
    x = volume(*shape, dtype=torch.float64).requires_grad_()
    parameters = tuple(block.parameters())

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        values = {"conv.weight": weight, "conv.bias": bias}
        return torch.func.functional_call(block, values, (x,))

    assert torch.autograd.gradcheck(run, (x, *parameters))
    torch.testing.assert_close(block(x), block.conv(x))


@pytest.mark.parametrize("make", [SpatialDown, SpatialUp])
def test_instants_do_not_meet_in_down_and_up(make: type[SpatialDown | SpatialUp]) -> None:
    block = make(Spec(0, False, 4, 4, (1, 2, 2)))
    x = volume(1, 4, 3, 4, 4)
    other = x.clone()
    other[:, :, 0] += 1
    one, two = block(x), block(other)
    torch.testing.assert_close(one[:, :, 1:], two[:, :, 1:], rtol=0, atol=0)
    assert not torch.allclose(one[:, :, 0], two[:, :, 0])


@pytest.mark.parametrize("make", [SpatialDown, SpatialUp])
def test_bfloat16_agrees_with_float32(make: type[SpatialDown | SpatialUp]) -> None:
    block = make(Spec(0, False, 16, 16, (1, 2, 2)))
    x = volume(1, 16, 3, 8, 8)
    full = block(x)
    grad = volume(*full.shape)
    full.backward(grad)
    expected = block.conv.weight.grad.clone()
    block.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        half = block(x)
    half.backward(grad.to(half.dtype))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), full, rtol=0.02, atol=0.03)
    wrong = (block.conv.weight.grad - expected).abs().max()
    assert wrong < 0.03 * expected.abs().max()


@pytest.mark.parametrize("make", [DoubleConv, DoubleConv2d])
def test_a_double_convolution_by_its_definition(make: type[DoubleConv | DoubleConv2d]) -> None:
    spec = Spec(0, False, 3, 5)
    block = make(spec)
    time = 3 if make is DoubleConv else 1
    convs = [layer for layer in block.layers if isinstance(layer, nn.Conv3d)]
    assert [conv.kernel_size for conv in convs] == [(time, 3, 3)] * 2
    assert [conv.in_channels for conv in convs] == [3, 5]
    x = volume(2, 3, 3, 6, 8)
    out = x
    for conv in convs:
        out = nn.functional.conv3d(out, conv.weight, conv.bias, padding=(time // 2, 1, 1))
        if make is DoubleConv:
            out = nn.functional.instance_norm(out)
        else:
            frames = [nn.functional.instance_norm(frame) for frame in out.unbind(2)]
            out = torch.stack(frames, 2)
        out = nn.functional.leaky_relu(out, LEAK)
    torch.testing.assert_close(block(x), out, rtol=1e-4, atol=1e-4)


def test_frames_do_not_meet_in_the_2d_block_but_do_in_the_3d_one() -> None:
    x = volume(1, 4, 3, 6, 6)
    other = x.clone()
    other[:, :, 0] *= 3
    other[:, :, 0, :3] += 2
    for make, meets in ((DoubleConv, True), (DoubleConv2d, False)):
        block = make(Spec(0, False, 4, 4))
        one, two = block(x)[:, :, 1:], block(other)[:, :, 1:]
        assert torch.equal(one, two) is not meets
