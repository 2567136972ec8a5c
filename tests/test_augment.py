"""Sec. 4.3: what augmentation changes, what it must leave, and that chance can be repeated."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stseg.augment import AugmentSettings, add_global_motion, augment, corrupt_instant
from stseg.errors import InputError
from stseg.losses import reconstruction_loss
from stseg.motion import MODELS, FitSettings, FittedMotion, fit_motion

SIZE = (3, 16, 28)
MODEL = MODELS["quadratic-time"]
OFF = AugmentSettings(global_motion=0.0, corrupt=0.0, flip=False, reverse=False)
FLIP = AugmentSettings(global_motion=0.0, corrupt=0.0, flip=True, reverse=False)
REVERSE = AugmentSettings(global_motion=0.0, corrupt=0.0, flip=False, reverse=True)
EVERYTHING = AugmentSettings(global_motion=2.0, corrupt=0.5, flip=True, reverse=True)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(b: int = 2, seed: int = 1) -> Tensor:
    return 3 * torch.randn(b, 2, *SIZE, generator=generator(seed))


def magnitude(flow: Tensor) -> Tensor:
    return flow.norm(dim=1).mean(dim=(1, 2, 3))


def changed(one: Tensor, other: Tensor) -> Tensor:
    """Which instants of which samples differ, (b, t)."""
    return (one != other).any(dim=4).any(dim=3).any(dim=1)


def test_all_off_is_the_identity() -> None:
    flow = noise()
    volume, target = augment(flow, MODEL, OFF, generator())
    torch.testing.assert_close(volume, flow, rtol=0, atol=0)
    torch.testing.assert_close(target, flow, rtol=0, atol=0)


def test_the_seed_decides_everything() -> None:
    flow = noise(4)
    one, same, other = (augment(flow, MODEL, EVERYTHING, generator(s)) for s in (3, 3, 4))
    for a, b, c in zip(one, same, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert not torch.equal(a, c)


def test_the_input_is_left_alone() -> None:
    flow = noise(4)
    before = flow.clone()
    augment(flow, MODEL, EVERYTHING, generator())
    torch.testing.assert_close(flow, before, rtol=0, atol=0)


def test_a_flip_mirrors_the_field_and_its_vectors() -> None:
    flow = noise(40)
    volume, target = augment(flow, MODEL, FLIP, generator())
    mirrored = torch.stack([-flow[:, 0].flip(3), flow[:, 1].flip(3)], dim=1)
    is_same = [torch.equal(a, b) for a, b in zip(target, flow, strict=True)]
    is_mirrored = [torch.equal(a, b) for a, b in zip(target, mirrored, strict=True)]
    assert all(a != b for a, b in zip(is_same, is_mirrored, strict=True))
    assert 8 <= sum(is_mirrored) <= 32  # 20 expected
    assert torch.equal(volume, target)


def test_a_reversal_turns_the_instants_and_negates_the_vectors() -> None:
    flow = noise(40)
    volume, target = augment(flow, MODEL, REVERSE, generator())
    turned = -flow[:, :, [2, 1, 0]]
    is_same = [torch.equal(a, b) for a, b in zip(target, flow, strict=True)]
    is_turned = [torch.equal(a, b) for a, b in zip(target, turned, strict=True)]
    assert all(a != b for a, b in zip(is_same, is_turned, strict=True))
    assert 8 <= sum(is_turned) <= 32
    assert torch.equal(volume, target)


@pytest.mark.parametrize("seed", range(4))
def test_a_motion_that_the_model_explains_is_explained_afterwards(seed: int) -> None:
    """Whatever is added or turned: polynomial flow stays polynomial, and costs nothing."""
    settings = AugmentSettings(global_motion=2.0, corrupt=0.0, flip=True, reverse=True)
    theta = torch.rand(3, 1, MODEL.parameters, generator=generator(seed), dtype=torch.float64) - 0.5
    flow = FittedMotion.from_parameters(MODEL, SIZE, theta).flow()[:, 0]
    _, target = augment(flow, MODEL, settings, generator(seed + 100))
    assert target.dtype == torch.float64
    assert not torch.equal(target, flow)
    masks = torch.ones(3, 1, *SIZE, dtype=torch.float64)
    fit = fit_motion(target, masks, MODEL, FitSettings(stride=1))
    assert float(reconstruction_loss(masks, target, fit)) < 1e-3


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_the_global_motion_has_no_more_than_its_strength(strength: float) -> None:
    flow = noise(60) * torch.logspace(-3, 3, 60).view(60, 1, 1, 1, 1)
    added = add_global_motion(flow, MODEL, strength, generator()) - flow
    ratio = magnitude(added) / magnitude(flow)
    assert float(ratio.max()) <= strength * (1 + 1e-3)
    assert float(ratio.max()) > 0.8 * strength  # drawn evenly from 0
    assert float(ratio.min()) < 0.2 * strength
    assert float(ratio.mean()) == pytest.approx(strength / 2, rel=0.25)


def test_the_global_motion_is_one_polynomial_for_the_whole_volume() -> None:
    flow = noise(3).double()
    added = add_global_motion(flow, MODEL, 2.0, generator()) - flow
    fit = fit_motion(added, torch.ones(3, 1, *SIZE).double(), MODEL, FitSettings(stride=1))
    assert (fit.flow()[:, 0] - added).abs().max() < 1e-3 * added.abs().mean()


def test_a_still_triplet_stays_still() -> None:
    flow = torch.zeros(2, 2, *SIZE)
    volume, target = augment(flow, MODEL, EVERYTHING, generator())
    assert (volume == 0).all()
    assert (target == 0).all()


def test_corruption_hits_exactly_one_instant_of_the_input() -> None:
    settings = AugmentSettings(global_motion=0.0, corrupt=1.0, flip=False, reverse=False)
    flow = noise(30)
    volume, target = augment(flow, MODEL, settings, generator())
    torch.testing.assert_close(target, flow, rtol=0, atol=0)
    hit = changed(volume, flow)
    assert hit.sum(dim=1).tolist() == [1] * 30
    assert (hit.sum(dim=0) >= 4).all()  # each instant is as likely


def test_corruption_leaves_most_samples_alone() -> None:
    flow = noise(200)[:, :, :, :4, :7]
    hit = changed(corrupt_instant(flow, 0.1, generator()), flow)
    assert 8 <= int(hit.any(dim=1).sum()) <= 35  # 20 expected
    assert not changed(corrupt_instant(flow, 0.0, generator()), flow).any()


def test_noise_is_as_large_as_the_flow() -> None:
    flow = noise(20) * torch.logspace(-2, 2, 20).view(20, 1, 1, 1, 1)
    volume = corrupt_instant(flow, 1.0, generator())
    hit = changed(volume, flow)
    ratio = volume.norm(dim=1).mean(dim=(2, 3))[hit] / magnitude(flow)
    assert float(ratio.min()) > 0.3
    assert float(ratio.max()) < 3


def test_noise_is_smooth() -> None:
    flow = noise(10)
    volume = corrupt_instant(flow, 1.0, generator())
    hit = changed(volume, flow)
    for sample, instant in hit.nonzero().tolist():
        field = volume[sample, :, instant]
        steps = (field[:, :, 1:] - field[:, :, :-1]).abs().mean()
        assert steps < 0.5 * field.abs().mean()


def test_everything_together_still_spoils_the_input_alone() -> None:
    flow = noise(20)
    settings = AugmentSettings(global_motion=2.0, corrupt=1.0, flip=True, reverse=True)
    volume, target = augment(flow, MODEL, settings, generator())
    assert changed(volume, target).sum(dim=1).tolist() == [1] * 20
    assert volume.shape == target.shape == flow.shape
    assert volume.dtype == target.dtype == torch.float32


def test_a_single_instant_is_never_corrupted() -> None:
    flow = noise()[:, :, :1]
    settings = AugmentSettings(global_motion=0.0, corrupt=1.0, flip=False, reverse=False)
    volume, target = augment(flow, MODELS["quadratic"], settings, generator())
    torch.testing.assert_close(volume, flow, rtol=0, atol=0)
    torch.testing.assert_close(target, flow, rtol=0, atol=0)


def test_a_rough_estimate_goes_through_the_same_chances_as_its_reference() -> None:
    """The network sees reference + error; the loss sees the reference alone, moved alike."""
    reference, error = noise(8, seed=2), noise(8, seed=3)
    settings = AugmentSettings(global_motion=2.0, corrupt=0.0, flip=True, reverse=True)
    volume, target = augment(reference + error, MODEL, settings, generator(), reference)
    _, alone = augment(reference, MODEL, settings, generator())
    torch.testing.assert_close(target, alone, rtol=0, atol=0)
    moved = volume - target  # the error itself, mirrored and reversed as its sample was
    mirror = error.flip(4) * torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1, 1)
    seen = set()
    for sample in range(8):
        forms = [error, mirror, -error.flip(2), -mirror.flip(2)]
        gaps = [float((moved[sample] - form[sample]).abs().max()) for form in forms]
        assert min(gaps) < 1e-4
        seen.add(gaps.index(min(gaps)))
    assert len(seen) > 1


def test_a_reference_equal_to_the_flow_changes_nothing() -> None:
    flow = noise(4)
    with_reference = augment(flow, MODEL, EVERYTHING, generator(), flow.clone())
    without = augment(flow, MODEL, EVERYTHING, generator())
    for a, b in zip(with_reference, without, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_exaggeration_multiplies_the_error_of_each_sample_and_leaves_the_target() -> None:
    settings = replace(OFF, exaggerate=3.0)
    better, error = noise(200, seed=1), noise(200, seed=2)
    volume, target = augment(better + error, MODEL, settings, generator(), better)
    assert torch.equal(target, better)
    factors = (volume - better) / error
    factor = factors.flatten(1).median(dim=1).values
    torch.testing.assert_close(volume, better + factor.view(-1, 1, 1, 1, 1) * error)
    assert 1 / 3 <= float(factor.min()) < 0.4
    assert 2.5 < float(factor.max()) <= 3
    assert 0.8 < float(factor.median()) < 1.25  # even by the logarithm


def test_without_a_reference_there_is_no_error_to_exaggerate() -> None:
    flow = noise()
    volume, _ = augment(flow, MODEL, replace(OFF, exaggerate=3.0), generator())
    assert torch.equal(volume, flow)


@pytest.mark.parametrize(
    ("name", "value"),
    [("exaggerate", 0.5), ("exaggerate", float("nan")), ("pasted", 1.5), ("pasted", float("nan"))],
)
def test_what_is_no_factor_or_no_chance_gets_a_sentence(name: str, value: float) -> None:
    with pytest.raises(InputError, match="Give"):
        replace(OFF, **{name: value})
