"""The layout of a GPU, walked through on the CPU: the numbers must not know of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.unet import conv, layout, norms
from stseg.unet.conv import Conv3d, folded_weight
from stseg.unet.plain import plain


@pytest.fixture
def stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """All volumes are laid out, and convolved, as on a GPU."""
    for module in (layout, conv, norms):
        monkeypatch.setattr(module, "is_stacked", lambda _: True)
    monkeypatch.setattr(Conv3d, "forward", lambda self, x: self._on_gpu(x))


def _gradients(network: nn.Module) -> dict[str, Tensor]:
    return {
        name.replace(".conv.", "."): parameter.grad
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("t", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (3, 1, 1), (1, 1, 1)])
@pytest.mark.usefixtures("stacked")
def test_all_instants_at_once_are_the_convolution(t: int, kernel: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    layer = Conv3d(5, 7, kernel).double()
    x = torch.randn(2, 5, t, 6, 9, dtype=torch.float64)
    expected = F.conv3d(x, layer.weight, layer.bias, padding=layer.same)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.usefixtures("stacked")
def test_many_instants_are_not_folded() -> None:
    layer = Conv3d(2, 3, (3, 3, 3)).double()
    x = torch.randn(1, 2, layout.FEW + 1, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.conv3d(x, layer.weight, layer.bias, padding=1))


def test_taps_beyond_the_kernel_are_zero() -> None:
    weight = torch.arange(1.0, 4.0).view(1, 1, 3, 1, 1)
    folded = folded_weight(weight, 4).view(4, 4)
    expected = [[2.0, 3, 0, 0], [1, 2, 3, 0], [0, 1, 2, 3], [0, 0, 1, 2]]
    assert folded.tolist() == expected


@pytest.mark.parametrize(("architecture", "t"), [("paper", 3), ("predecessor", 1)])
def test_network_and_gradients_are_the_plain_ones(
    architecture: str, t: int, request: pytest.FixtureRequest
) -> None:
    torch.manual_seed(0)
    settings = NetworkSettings(architecture=architecture, features=8, ks=(4, 2))
    network = SegmentationNetwork(settings).double()
    textbook = plain(network)
    x = torch.randn(2, 2, t, 16, 24, dtype=torch.float64)
    weights = torch.randn(2, 4, t, 16, 24)
    expected = textbook(x, 4)
    (expected * weights).sum().backward()
    wanted = _gradients(textbook)
    network.zero_grad()
    request.getfixturevalue("stacked")
    found = network(x, 4)
    (found * weights).sum().backward()
    torch.testing.assert_close(found, expected)
    gradients = _gradients(network)
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        # A bias before a normalisation changes nothing: both are rounding.
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-6, atol=1e-6, msg=name)


def test_gradient_of_normalised_rows() -> None:
    torch.manual_seed(0)
    rows = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norms._NormaliseRows.apply, (rows,))


def test_normalised_rows_of_a_constant_stay_finite() -> None:
    rows = torch.full((1, 10, 2), 3.0, requires_grad=True)
    out = norms._NormaliseRows.apply(rows)
    out.sum().backward()
    assert out.abs().max() < 1e-3
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


@pytest.mark.usefixtures("stacked")
def test_planes_are_views_between_layers() -> None:
    """Nothing is copied on the way from one convolution to the next."""
    plane = torch.randn(2, 12, 4, 5).contiguous(memory_format=torch.channels_last)
    volume = layout.instants_in_time(plane, 3)
    assert volume.shape == (2, 4, 3, 4, 5)
    assert layout.instants_in_channels(volume).data_ptr() == plane.data_ptr()
    joined = layout.join_channels(volume, volume)
    assert layout.instants_in_channels(joined).data_ptr() == joined.data_ptr()
    assert joined.equal(torch.cat((volume, volume), dim=1))


def test_what_lies_how() -> None:
    on_gpu = torch.empty(layout.FEW + 1, 1, 1, 1, 1, device="meta")
    with torch.no_grad():
        assert layout.is_stacked(on_gpu)
        assert not layout.is_stacked(on_gpu[1:])
        assert not layout.is_stacked(torch.empty(layout.FEW + 1, 1, 1, 1, 1))
    assert layout.is_stacked(on_gpu[1:])
