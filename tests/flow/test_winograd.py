"""Winograd's convolutions equal the library's, for every kernel and size that RAFT has."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from stseg.flow.winograd import Conv, Convolution, Direct, Winograd

KERNELS = [(3, 3), (1, 5), (5, 1), (5, 5), (1, 3)]


def picture(channels: int, h: int, w: int) -> torch.Tensor:
    return torch.randn(1, channels, h, w).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [(16, 16), (17, 23), (1, 9), (60, 107)])
def test_the_result_is_that_of_the_plain_convolution(
    kernel: tuple[int, int], size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    x, weight = picture(24, *size), torch.randn(10, 24, *kernel)
    padding = (kernel[0] // 2, kernel[1] // 2)
    exact = F.conv2d(x.double(), weight.double(), padding=padding)
    for method in (Direct(kernel), Winograd(kernel)):
        got = method.collect(method.multiply(method.spread(x), method.weigh(weight)), size)
        assert got.shape == exact.shape
        assert (got - exact).abs().max() < 2e-4 * exact.std()


@pytest.mark.parametrize("make", [Direct, Winograd])
def test_a_sum_of_products_is_the_convolution_of_joined_pictures(
    make: type[Direct] | type[Winograd],
) -> None:
    torch.manual_seed(0)
    one, other, weight = picture(5, 14, 11), picture(7, 14, 11), torch.randn(6, 12, 3, 3)
    method = make((3, 3))
    first, second = (method.weigh(each) for each in weight.split([5, 7], dim=1))
    product = method.multiply(method.spread(one), first)
    product = method.multiply(method.spread(other), second, product)
    joined = F.conv2d(torch.cat([one, other], 1), weight, padding=1)
    assert torch.allclose(method.collect(product, (14, 11)), joined, atol=1e-3)


def test_large_pictures_go_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x, method = picture(8, 50, 30), Winograd((3, 3))
    weights = method.weigh(torch.randn(8, 8, 3, 3))

    def run() -> torch.Tensor:
        return method.collect(method.multiply(method.spread(x), weights), (50, 30))

    whole = run()
    for band in (1, 8000):
        monkeypatch.setattr("stseg.flow.winograd.BAND", band)
        assert torch.allclose(run(), whole, atol=1e-4)


def test_winograd_multiplies_less_often() -> None:
    for kernel, share in (((3, 3), 1 / 4), ((1, 5), 1 / 3), ((5, 1), 1 / 3)):
        # Sites are whole tiles here: points x tiles, against taps x sites.
        points, tiles, _ = Winograd(kernel).spread(picture(1, 24, 24)).shape
        assert points * tiles == pytest.approx(share * kernel[0] * kernel[1] * 24 * 24)


def test_a_conv_has_its_bias_and_the_names_of_the_library(rng: object) -> None:
    torch.manual_seed(0)
    conv, plain = Conv(4, 6, 3, padding=1), torch.nn.Conv2d(4, 6, 3, padding=1)
    plain.load_state_dict(conv.state_dict())
    x = picture(4, 9, 13)
    with torch.inference_mode():

        def both() -> list[Convolution]:
            return [Direct((3, 3)), Winograd((3, 3))]

        for method in both():
            conv.fold(lambda kernel, method=method: method)
            assert torch.allclose(conv(x), plain(x), atol=1e-4)
