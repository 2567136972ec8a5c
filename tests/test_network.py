"""The network: its size, its masks, and what may and may not influence what."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stseg.errors import InputError
from stseg.global_motion import relative_flow
from stseg.motion import FittedMotion, motion_model
from stseg.network import (
    MIN_MAGNITUDE,
    NetworkSettings,
    SegmentationNetwork,
    normalise_flow,
)
from stseg.unet import ARCHITECTURES


def volume(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network(architecture: str = "paper", ks: tuple[int, ...] = (4,)) -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(NetworkSettings(architecture, levels=3, features=8, ks=ks)).eval()


def test_the_papers_network_has_1335940_parameters() -> None:
    net = SegmentationNetwork(NetworkSettings())
    assert NetworkSettings() == NetworkSettings("paper", 3, 32, (4,))
    assert sum(parameter.numel() for parameter in net.parameters()) == 1_335_940


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("k", [2, 4, 8])
@torch.no_grad()
def test_masks_sum_to_one_for_all_architectures(architecture: str, k: int) -> None:
    net = network(architecture, ks=(k,))
    masks = net(volume(2, 2, 3, 12, 16), k)
    assert masks.shape == (2, k, 3, 12, 16)
    assert masks.dtype == torch.float32
    assert masks.min() >= 0
    torch.testing.assert_close(masks.sum(1), torch.ones(2, 3, 12, 16))
    assert masks.std() > 1e-3  # not the same everywhere


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", [(37, 53), (1, 1), (5, 1), (4, 4), (13, 16)])
@torch.no_grad()
def test_odd_sizes_keep_their_size(architecture: str, size: tuple[int, int]) -> None:
    masks = network(architecture)(volume(1, 2, 3, *size), 4)
    assert masks.shape == (1, 4, 3, *size)
    assert masks.isfinite().all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("instants", [1, 2, 5])
@torch.no_grad()
def test_any_number_of_instants(architecture: str, instants: int) -> None:
    masks = network(architecture)(volume(1, 2, instants, 8, 8), 4)
    assert masks.shape == (1, 4, instants, 8, 8)


@torch.no_grad()
def test_attention_starts_equal_to_skip() -> None:
    attention, paper = network("attention"), network("paper")
    missing = paper.load_state_dict(attention.state_dict(), strict=False)
    assert not missing.missing_keys
    assert missing.unexpected_keys  # the attention has weights of its own
    x = volume(1, 2, 3, 16, 24)
    torch.testing.assert_close(attention(x, 4), paper(x, 4), rtol=0, atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_only_the_predecessor_sees_one_frame_at_a_time(architecture: str) -> None:
    net = network(architecture)
    x = volume(1, 2, 3, 16, 24)
    other = x.clone()
    # Mirrored: the mean magnitude of the volume, by which all is divided, stays as it is.
    other[:, :, 0] = x[:, :, 0].flip(3)
    one, two = net(x, 4), net(other, 4)
    assert not torch.allclose(one[:, :, 0], two[:, :, 0], atol=1e-3)
    if architecture == "predecessor":
        torch.testing.assert_close(one[:, :, 1:], two[:, :, 1:], rtol=0, atol=1e-6)
    else:
        assert float((one[:, :, 1:] - two[:, :, 1:]).abs().max()) > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("factor", [0.1, 10, 1000])
@torch.no_grad()
def test_the_network_is_blind_to_the_scale_of_the_flow(architecture: str, factor: float) -> None:
    net = network(architecture)
    x = volume(2, 2, 3, 16, 24)
    torch.testing.assert_close(net(x * factor, 4), net(x, 4), rtol=0, atol=1e-4)


def test_flow_is_divided_by_its_mean_magnitude() -> None:
    x = volume(3, 2, 3, 6, 7) * torch.tensor([1e-1, 1, 1e3]).view(3, 1, 1, 1, 1)
    normal = normalise_flow(x)
    mean = normal.norm(dim=1).mean(dim=(1, 2, 3))
    torch.testing.assert_close(mean, torch.ones(3))
    torch.testing.assert_close(normal[0] * x[0].norm(dim=0).mean(), x[0])  # one number a volume


def test_noise_of_a_still_volume_stays_small() -> None:
    still = torch.zeros(1, 2, 3, 6, 7)
    assert (normalise_flow(still) == 0).all()
    faint = volume(1, 2, 3, 6, 7) * 1e-6
    torch.testing.assert_close(normalise_flow(faint), faint / MIN_MAGNITUDE)


def camera(*size: int, deformation: float = 10.0) -> Tensor:
    """A random space-time quadratic flow for each of two volumes.

    It pans by some 10 pixels a frame; ``deformation`` is the size of all other parameters.
    """
    model = motion_model("quadratic-time" if size[0] > 1 else "quadratic")
    theta = deformation * volume(2, 1, model.parameters)
    theta[..., :: model.parameters // 2] *= 10 / deformation
    return FittedMotion.from_parameters(model, (size[0], size[1], size[2]), theta).flow()[:, 0]


@pytest.mark.parametrize("instants", [1, 3])
@torch.no_grad()
def test_without_global_motion_what_moves_by_itself_is_left(instants: int) -> None:
    moved = torch.zeros(2, 2, instants, 64, 112)
    moved[0, :, :, 10:30, 20:60] = torch.tensor([4.0, -3.0]).view(2, 1, 1, 1)
    moved[1, :, :, 40:, 70:90] = torch.tensor([-6.0, 1.0]).view(2, 1, 1, 1)
    left = relative_flow(moved + camera(instants, 64, 112))
    torch.testing.assert_close(left, moved, rtol=0, atol=0.15)


@pytest.mark.parametrize("instants", [1, 3])
@torch.no_grad()
def test_a_large_thing_does_not_set_the_frame_in_motion(instants: int) -> None:
    """It covers a third of the frame at its border, where a quadratic model would bend to it.

    The camera pans fast and zooms as cameras do; if it deforms the frame as much as it pans, the
    model does bend.
    """
    moved = torch.zeros(2, 2, instants, 64, 112)
    moved[0, :, :, :, 75:] = torch.tensor([9.0, -3.0]).view(2, 1, 1, 1)
    moved[1, :, :, 40:, :100] = torch.tensor([-6.0, 2.0]).view(2, 1, 1, 1)
    noise = 0.05 * volume(2, 2, instants, 64, 112)
    # Where the model is extrapolated by a third of the frame the noise counts several times.
    left = relative_flow(moved + noise + camera(instants, 64, 112, deformation=1.0))
    torch.testing.assert_close(left, moved + noise, rtol=0, atol=0.4)


@torch.no_grad()
def test_a_still_frame_has_no_motion_of_its_own() -> None:
    assert (relative_flow(torch.zeros(1, 2, 3, 64, 112)) == 0).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_a_relative_network_is_blind_to_the_camera(architecture: str) -> None:
    """What the paper asks of its augmentation (Sec. 4.3) holds where there is a background."""
    settings = NetworkSettings(architecture, levels=3, features=8, ks=(4,), relative=True)
    torch.manual_seed(0)
    net = SegmentationNetwork(settings).eval()
    x, added = 0.1 * volume(2, 2, 3, 64, 112), camera(3, 64, 112, deformation=1.0)
    x[:, :, :, 10:40, 20:60] += torch.tensor([5.0, -4.0]).view(2, 1, 1, 1)
    torch.testing.assert_close(net(x + added, 4), net(x, 4), rtol=0, atol=1e-2)
    usual = network(architecture)
    assert (usual(x + added, 4) - usual(x, 4)).abs().max() > 0.1


@torch.no_grad()
def test_spread_heads_tell_segments_apart_and_keep_their_order() -> None:
    net, x = network(), volume(1, 2, 3, 16, 24)
    before = net(x, 4)
    net.spread_heads(10.0, net.settings.ks)
    after = net(x, 4)
    torch.testing.assert_close(after, (before.log() * 10).softmax(1))
    assert torch.equal(after.argmax(1), before.argmax(1))
    assert after.amax(1).mean() > before.amax(1).mean()


@torch.no_grad()
def test_samples_of_a_batch_do_not_meet() -> None:
    net = network()
    x = volume(3, 2, 3, 16, 24) * torch.tensor([1.0, 5, 0.2]).view(3, 1, 1, 1, 1)
    whole = net(x, 4)
    for index in range(3):
        torch.testing.assert_close(net(x[[index]], 4), whole[[index]], rtol=0, atol=1e-5)


@torch.no_grad()
def test_heads_share_the_trunk() -> None:
    net = network(ks=(4, 2, 3))
    x = volume(1, 2, 3, 8, 12)
    features = net.features(x)
    assert features.shape == (1, 8, 3, 8, 12)
    for k in (2, 3, 4):
        torch.testing.assert_close(net.masks(features, k), net(x, k))
        head = net.heads[str(k)]
        logits = torch.einsum("dc,bcthw->bdthw", head.weight[:, :, 0, 0, 0], features)
        expected = (logits + head.bias.view(1, k, 1, 1, 1)).softmax(1)
        torch.testing.assert_close(net.masks(features, k), expected)


@torch.no_grad()
def test_a_k_without_a_head_gets_a_sentence() -> None:
    net = network(ks=(4, 2))
    with pytest.raises(InputError) as error:
        net(volume(1, 2, 3, 8, 8), 3)
    assert str(error.value) == (
        "This network gives K = 4, 2 segments, not 3. Choose one of these, or another model."
    )


@pytest.mark.parametrize("ks", [(), (1,), (4, 0)])
def test_settings_need_a_k(ks: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="at least 2 segments apart"):
        NetworkSettings(ks=ks)


def test_settings_need_a_known_architecture() -> None:
    names = ", ".join(ARCHITECTURES)
    with pytest.raises(InputError, match=f"no architecture 'unet'. Choose one of {names}"):
        NetworkSettings(architecture="unet")


@torch.no_grad()
def test_the_layout_of_the_weights_changes_nothing() -> None:
    plain, last = network(), network()
    assert last.channels_last() is last
    weights = [p for p in last.parameters() if p.dim() == 5]
    assert all(w.is_contiguous(memory_format=torch.channels_last_3d) for w in weights)
    x = volume(1, 2, 3, 16, 24)
    torch.testing.assert_close(last(x, 4), plain(x, 4), rtol=0, atol=1e-5)


def test_bfloat16_gives_nearly_the_same_masks_and_gradients() -> None:
    x = volume(1, 2, 3, 16, 24)
    grads = []
    for half in (False, True):
        net = network().channels_last()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            masks = net(x, 4)
        assert masks.dtype == torch.float32
        (masks * volume(*masks.shape, seed=1)).mean().backward()
        grads.append((masks.detach(), [p.grad for p in net.parameters()]))
    (one, full), (two, rough) = grads
    assert float((one - two).abs().mean()) < 0.01
    for a, b in zip(full, rough, strict=True):
        assert a is not None
        assert b is not None
        if a.abs().max() > 1e-6:  # a bias before a norm has no gradient but rounding
            cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
            assert cosine > 0.9 or a.abs().max() < 1e-4
