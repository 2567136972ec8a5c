"""The fast network gives what the textbook's gives: the reference of every speed-up."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stseg.network import NetworkSettings, SegmentationNetwork, normalise_flow
from stseg.unet import ARCHITECTURES
from stseg.unet.blocks import SpatialUp, Spec
from stseg.unet.conv import Conv3d
from stseg.unet.plain import plain


def moving_square(count: int, size: tuple[int, int] = (32, 56)) -> Tensor:
    """Volumes (b, 2, 3, h, w) of a smooth motion with a square that moves otherwise."""
    y, x = torch.meshgrid(*(torch.linspace(0, 1, side) for side in size), indexing="ij")
    ground = torch.stack([x - 0.4, 0.5 - y])[None, :, None].repeat(count, 1, 3, 1, 1)
    for index in range(count):
        ground[index, :, :, 8 : 20 + index, 10 : 30 + index] = torch.tensor([2.0, -1])[
            :, None, None, None
        ]
    return ground


def small(architecture: str) -> SegmentationNetwork:
    torch.manual_seed(0)
    settings = NetworkSettings(architecture, levels=3, features=16, ks=(4,))
    return SegmentationNetwork(settings).eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_plain_holds_nothing_but_pytorchs_own_modules(architecture: str) -> None:
    ours = plain(small(architecture))
    kinds = {type(each) for each in ours.modules()}
    assert not kinds & {Conv3d, SpatialUp}
    state = small(architecture).state_dict()
    assert sum(each.numel() for each in ours.parameters()) == sum(
        each.numel() for each in state.values()
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("last", [False, True], ids=["default", "channels last"])
def test_fast_in_float32_equals_plain(architecture: str, last: bool) -> None:
    network = small(architecture)
    reference = plain(network)
    if last:
        network = network.channels_last()
    volumes = moving_square(3)
    with torch.inference_mode():
        expected = reference.masks(reference.trunk._features(normalise_flow(volumes)), 4)
        got = network(volumes, 4)
    assert not torch.allclose(expected, torch.full_like(expected, 0.25), atol=0.05)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("architecture", ["paper", "predecessor"])
def test_fast_in_bfloat16_has_the_labels_of_plain(architecture: str) -> None:
    network = small(architecture)
    reference = plain(network)
    volumes = moving_square(2, (64, 112))
    with torch.inference_mode():
        expected = reference(volumes, 4)
        with torch.autocast("cpu", torch.bfloat16):
            got = network.channels_last()(volumes, 4)
    assert (got - expected).abs().mean() < 0.01
    certain = expected.amax(1) > expected.topk(2, dim=1).values[:, 1] + 0.05
    assert certain.float().mean() > 0.3
    assert (got.argmax(1) == expected.argmax(1))[certain].float().mean() > 0.995


def test_one_after_the_other_equals_the_batch() -> None:
    network = small("paper")
    volumes = moving_square(3)
    with torch.inference_mode():
        alone = network.trunk(volumes)
        batch = network.trunk._features(volumes)
    torch.testing.assert_close(alone, batch, rtol=1e-4, atol=1e-5)
    assert network.trunk(volumes[:0]).shape == (0, 16, 3, 32, 56)


def test_with_a_gradient_the_batch_stays_whole() -> None:
    network = small("paper")
    seen: list[int] = []
    network.trunk.left[0].register_forward_hook(lambda _, __, out: seen.append(len(out)))
    network.trunk(moving_square(3))
    assert seen == [3]


@pytest.mark.parametrize("shape", [(1, 3, 3, 9, 11), (2, 3, 1, 5, 4)])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (1, 1, 1)])
def test_a_volume_alone_has_the_numbers_of_pytorch(
    shape: tuple[int, ...], kernel: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    conv, x = Conv3d(3, 5, kernel), torch.randn(shape)
    expected = nn.functional.conv3d(x, conv.weight, conv.bias, padding=conv.same)
    with torch.no_grad():
        torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)


def test_double_precision_still_works() -> None:
    conv = Conv3d(3, 5, (3, 3, 3)).double()
    with torch.no_grad():
        assert conv(torch.randn(1, 3, 3, 5, 5, dtype=torch.float64)).dtype == torch.float64


def test_up_keeps_channels_last() -> None:
    torch.manual_seed(0)
    up = SpatialUp(Spec(0, False, 8, 4, (1, 2, 2)))
    x = torch.randn(2, 8, 3, 5, 7)
    expected = up.conv(x)
    got = up(x.to(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert got.is_contiguous(memory_format=torch.channels_last_3d)
