"""What the network says of triplets: quantised masks, their argmax, χ, and one trunk for many K."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stseg.device import Device
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.prediction import Predictor, best_segment, latent_vectors, quantised_masks
from stseg.records import quantise
from stseg.volume import FlowFields

TRIPLETS = [(0, 1, 2), (1, 2, 3)]


def features(seed: int, b: int = 2, c: int = 5, h: int = 6, w: int = 7) -> torch.Tensor:
    shift = torch.arange(c).view(1, c, 1, 1, 1)
    chance = torch.Generator().manual_seed(seed)
    return torch.randn(b, c, 3, h, w, generator=chance) * (1 + shift) + 10 * shift


def partition(seed: int, k: int, b: int = 2, h: int = 6, w: int = 7) -> torch.Tensor:
    chance = torch.Generator().manual_seed(seed)
    return torch.randint(0, k, (b, 3, h, w), generator=chance, dtype=torch.uint8)


@given(st.integers(2, 8), st.integers(0, 2**32 - 1), st.integers(1, 255))
def test_the_best_segment_is_the_argmax_also_in_ties(k: int, seed: int, top: int) -> None:
    masks = np.random.default_rng(seed).integers(0, top + 1, (2, k, 3, 4, 5)).astype(np.uint8)
    np.testing.assert_array_equal(best_segment(torch.from_numpy(masks)), masks.argmax(1))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_masks_are_quantised_as_records_keep_them(kind: torch.dtype) -> None:
    logits = (features(0, c=4) / 5).to(kind)
    soft = torch.softmax(logits.float(), 1).numpy()
    expected = np.stack([[quantise(soft[b, :, t]) for t in range(3)] for b in range(2)])
    np.testing.assert_array_equal(quantised_masks(logits), np.moveaxis(expected, 1, 2))


def test_latents_by_hand() -> None:
    x, k = features(1), 4
    segments = partition(2, k)
    segments[1, 2][segments[1, 2] == 3] = 0  # one without a site
    (found,) = latent_vectors(x, [segments], [k])
    assert found.shape == (2, 3, k, 5)
    for b in range(2):
        flat = x[b].flatten(1)
        centred = x[b] - flat.mean(1).view(-1, 1, 1, 1)
        standard = centred / flat.std(1, correction=0).view(-1, 1, 1, 1)
        for t in range(3):
            for j in range(k):
                inside = standard[:, t, segments[b, t] == j]
                expected = inside.mean(1) if inside.shape[1] else torch.zeros(5)
                torch.testing.assert_close(found[b, t, j], expected, rtol=1e-4, atol=1e-4)
    assert not found[1, 2, 3].any()
    assert found[1, 1, 3].any()


def test_latents_of_all_sites_together_are_zero() -> None:
    """Standardised features have the mean 0, so that χ weighted by the areas has it too."""
    segments = partition(3, 3)
    (found,) = latent_vectors(features(4), [segments], [3])
    areas = torch.stack([(segments == j).sum((2, 3)) for j in range(3)], -1)
    total = (found * areas[..., None]).sum((1, 2)) / areas.sum((1, 2))[:, None]
    torch.testing.assert_close(total, torch.zeros(2, 5), rtol=0, atol=1e-5)


def test_latents_do_not_depend_on_scale_offset_or_the_other_partitions() -> None:
    x, both = features(5), [partition(6, 3), partition(7, 5)]
    one, two = latent_vectors(x, both, [3, 5])
    (alone,) = latent_vectors(x * 3 - 7, both[1:], [5])
    torch.testing.assert_close(two, alone, rtol=1e-4, atol=1e-4)
    assert one.shape[2] == 3


def test_latents_of_constant_features_are_finite() -> None:
    (found,) = latent_vectors(torch.ones(1, 4, 3, 6, 7), [partition(0, 3, b=1)], [3])
    assert torch.isfinite(found).all()
    assert found.abs().max() < 1e-3


@torch.no_grad()
def test_all_heads_at_once_say_what_each_says() -> None:
    torch.manual_seed(0)
    net = SegmentationNetwork(NetworkSettings(levels=2, features=8, ks=(4, 2, 3))).eval()
    x = net.features(features(0, c=2, h=8, w=12))
    logits = net.logits(x)
    assert list(logits) == [4, 2, 3]
    for k, planes in logits.items():
        torch.testing.assert_close(planes, net.heads[str(k)](x))
        torch.testing.assert_close(planes.softmax(1), net.masks(x, k))


# --- one trunk for all K -------------------------------------------------------------------------


@pytest.fixture
def flow(rng: np.random.Generator) -> FlowFields:
    fields = FlowFields()
    for _ in range(5):
        fields.forward.append(rng.normal(0, 2, (2, 16, 24)).astype(np.float16))
        fields.backward.append(rng.normal(0, 2, (2, 16, 24)).astype(np.float16))
    return fields


@pytest.fixture
def passes(tiny_network: SegmentationNetwork, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that the trunk was given."""
    sizes: list[int] = []
    original: Callable[[torch.Tensor], torch.Tensor] = tiny_network.trunk.forward

    def counted(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return original(x)

    monkeypatch.setattr(tiny_network.trunk, "forward", counted)
    return sizes


def test_the_trunk_runs_once_for_all_k(
    flow: FlowFields, cpu: Device, tiny_network: SegmentationNetwork, passes: list[int]
) -> None:
    every = Predictor(tiny_network, cpu, flow, (4, 2, 3), lambda: None)
    shared = {k: every.of(k)(TRIPLETS, False) for k in (4, 2, 3)}
    assert passes == [1, 1]  # each triplet once, whatever the number of K
    assert every._waiting == {}  # what everybody took does not pile up
    for k, found in shared.items():
        alone = Predictor(tiny_network, cpu, flow, (k,), lambda: None).of(k)(TRIPLETS, False)
        assert found.masks.shape == (2, 3, k, 16, 24)
        assert found.latents.shape == (2, 3, k, 8)
        np.testing.assert_array_equal(found.masks, alone.masks)
        np.testing.assert_array_equal(found.segments, found.masks.argmax(2))
        np.testing.assert_array_equal(found.segments, alone.segments)
        np.testing.assert_array_equal(found.latents, alone.latents)


def test_other_triplets_and_the_other_direction_are_other_questions(
    flow: FlowFields, cpu: Device, tiny_network: SegmentationNetwork, passes: list[int]
) -> None:
    ask = Predictor(tiny_network, cpu, flow, (3,), lambda: None).of(3)
    forward, backward = ask([(1, 2, 3)], False), ask([(1, 2, 3)], True)
    assert passes == [1, 1]
    assert not np.array_equal(forward.masks, backward.masks)


def test_the_check_is_made_before_each_pass(
    flow: FlowFields, cpu: Device, tiny_network: SegmentationNetwork, passes: list[int]
) -> None:
    def stop() -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        Predictor(tiny_network, cpu, flow, (3,), stop).of(3)(TRIPLETS, False)
    assert passes == []


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_cpu_is_asked_to_stop_between_triplets(
    flow: FlowFields,
    cpu: Device,
    tiny_network: SegmentationNetwork,
    passes: list[int],
    bfloat16: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch is no faster there, and neither a stop nor the first picture is to wait for it."""
    device = replace(cpu, bfloat16=bfloat16)

    def stop() -> None:
        if passes:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        Predictor(tiny_network, device, flow, (3,), stop).of(3)(TRIPLETS, False)
    assert passes == [1]
    monkeypatch.setattr("stseg.prediction.one_at_a_time", lambda device: False)
    Predictor(tiny_network, device, flow, (3,), lambda: None).of(3)(TRIPLETS, False)
    assert passes == [1, 2]
