"""Convolutions by tiles give the plain convolution's numbers, whatever the size and the layout."""

from __future__ import annotations

import io
from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.unet import conv, tiles
from stseg.unet.conv import Conv3d, folded_weight
from stseg.unet.layout import is_stacked, join_channels
from stseg.unet.norms import InstanceNorm, InstanceNormPerFrame
from stseg.unet.plain import plain


@pytest.fixture(autouse=True)
def slow_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles are taken, whatever this processor is."""
    monkeypatch.setattr(conv, "multiplies_slowly", lambda: True)
    monkeypatch.setattr(conv, "FEW_THREADS", 1000)


def lying(x: Tensor, layout: str) -> Tensor:
    """The same numbers in another layout."""
    if layout == "stacked":
        return x.permute(0, 3, 4, 2, 1).contiguous().permute(0, 4, 3, 1, 2)
    last = torch.channels_last_3d if layout == "channels last" else torch.contiguous_format
    return x.contiguous(memory_format=last)


@pytest.mark.parametrize("layout", ["default", "channels last", "stacked"])
@pytest.mark.parametrize("t", [2, 3, 4])
@pytest.mark.parametrize("size", [(16, 28), (7, 9), (1, 2), (33, 18)])
def test_the_result_is_the_plain_convolution(size: tuple[int, int], t: int, layout: str) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(1, 5, t, *size), torch.randn(6, 5, 3, 3, 3)
    exact = F.conv3d(x.double(), weight.double(), padding=1)
    got = tiles.convolve(lying(x, layout), tiles.weigh(folded_weight(weight, t)))
    assert got.dtype == torch.float32
    assert is_stacked(got)
    assert got.shape == exact.shape
    assert (got - exact).abs().max() < 1e-4 * exact.std()


def test_bands_are_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(1, 3, 3, 50, 30), torch.randn(4, 3, 3, 3, 3)
    weights = tiles.weigh(folded_weight(weight, 3))
    whole = tiles.convolve(x, weights)
    for band in (1, 20_000):
        monkeypatch.setattr(tiles, "BAND", band)
        assert torch.equal(tiles.convolve(x, weights), whole)


def test_a_quarter_of_the_multiplications_in_the_plane() -> None:
    assert tiles.POINTS / tiles.TILE**2 == 9 / 4


def test_a_layer_of_many_channels_goes_by_tiles() -> None:
    torch.manual_seed(0)
    layer, x = Conv3d(64, 64, (3, 3, 3)), torch.randn(1, 64, 3, 8, 12)
    expected = F.conv3d(x.double(), layer.weight.double(), layer.bias.double(), padding=1)
    with torch.no_grad():
        got = layer(x)
        assert is_stacked(got)
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-4)
        # Not where it would be wrong, or where it does not pay.
        assert not is_stacked(Conv3d(32, 64, (3, 3, 3))(x[:, :32]))
        assert not is_stacked(Conv3d(64, 64, (1, 3, 3))(x))
        assert not is_stacked(layer(x.repeat(2, 1, 1, 1, 1)))
        assert not is_stacked(layer(torch.randn(1, 64, 5, 8, 12)))
    assert not is_stacked(layer(x))  # it has no gradient


def test_other_processors_convolve_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = Conv3d(64, 64, (3, 3, 3)), torch.randn(1, 64, 3, 8, 12)
    with torch.no_grad():
        monkeypatch.setattr(conv, "FEW_THREADS", 0)
        assert not is_stacked(layer(x))
        monkeypatch.setattr(conv, "FEW_THREADS", 1000)
        monkeypatch.setattr(conv, "multiplies_slowly", lambda: False)
        assert not is_stacked(layer(x))


@pytest.mark.parametrize(
    "how", ["in place", "behind its back", "loaded", "another tensor", "inference"]
)
def test_weights_that_change_are_seen(how: str) -> None:
    torch.manual_seed(0)
    layer, x = Conv3d(64, 64, (3, 3, 3)), torch.randn(1, 64, 3, 5, 6)
    if how == "inference":
        with torch.inference_mode():
            layer = Conv3d(64, 64, (3, 3, 3))
    new = torch.randn_like(layer.weight) / 40
    with torch.inference_mode(how == "inference"), torch.no_grad():
        layer(x)
        if how == "loaded":
            layer.load_state_dict({"weight": new, "bias": layer.bias})
        elif how == "another tensor":
            layer.weight.data = new.clone()
        elif how == "behind its back":
            layer.weight.data.copy_(new)
        else:
            layer.weight.copy_(new)
        expected = F.conv3d(x, new, layer.bias, padding=1)
        torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-4)


def test_a_copy_of_a_layer_has_its_own_weights() -> None:
    torch.manual_seed(0)
    layer, x = Conv3d(64, 64, (3, 3, 3)), torch.randn(1, 64, 3, 5, 6)
    with torch.no_grad():
        before = layer(x)
        copy = deepcopy(layer)
        copy.weight.mul_(2)
        assert not torch.equal(copy(x), before)
        assert torch.equal(layer(x), before)
    assert set(copy.state_dict()) == {"weight", "bias"}


def test_nothing_is_kept_where_it_is_not_needed() -> None:
    layer, file = Conv3d(64, 64, (3, 3, 3)), io.BytesIO()
    with torch.no_grad():
        layer.eval()(torch.randn(1, 64, 3, 5, 6))
    torch.save(layer, file)
    assert len(file.getvalue()) < 2 * layer.weight.nbytes
    assert layer.tiled is not None
    assert layer.tiled._kept is not None
    layer.train()
    assert layer.tiled._kept is None


def test_the_default_type_does_not_matter() -> None:
    layer, x = Conv3d(64, 64, (3, 3, 3)), torch.randn(1, 64, 3, 5, 6)
    with torch.no_grad():
        expected = layer(x)
        torch.set_default_dtype(torch.float64)
        try:
            assert torch.equal(layer(x), expected)
        finally:
            torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("norm", [InstanceNorm, InstanceNormPerFrame])
def test_norms_take_both_layouts(norm: type[InstanceNorm]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 3, 6, 10)
    with torch.no_grad():
        got = norm(8)(lying(x, "stacked"))
        torch.testing.assert_close(got, norm(8)(x), rtol=1e-5, atol=1e-5)
    if norm is InstanceNorm:
        assert is_stacked(got)


@pytest.mark.parametrize("one", ["default", "channels last", "stacked"])
@pytest.mark.parametrize("other", ["default", "channels last", "stacked"])
def test_channels_of_different_layouts_are_joined(one: str, other: str) -> None:
    a, b = torch.randn(1, 4, 3, 6, 10), torch.randn(1, 5, 3, 6, 10)
    joined = join_channels(lying(a, one), lying(b, other))
    assert torch.equal(joined, torch.cat((a, b), dim=1))
    assert is_stacked(joined) == (one == "stacked")


@pytest.mark.parametrize("size", [(32, 56), (30, 45)])
def test_the_whole_network_equals_plain(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(NetworkSettings(levels=3, features=32, ks=(4,))).eval()
    reference, network = plain(network).double(), network.channels_last()
    volume = torch.randn(1, 2, 3, *size)
    with torch.inference_mode():
        expected = reference(volume.double(), 4)
        got = network(volume, 4)
    assert expected.std() > 0.01
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
