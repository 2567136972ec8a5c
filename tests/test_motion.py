"""Motion models (eq. 1-2): their terms, and a fit that outliers and empty segments do not upset."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stseg.errors import InputError
from stseg.motion import (
    MODELS,
    TIME_STEP,
    FitSettings,
    FittedMotion,
    MotionModel,
    fit_motion,
    fit_motion_lbfgs,
    motion_model,
    moving,
)

SIZE = (3, 16, 28)
NAMES = list(MODELS)
EVERY = FitSettings(stride=1)  # the steps of the training, at every site
QUADRATIC = MODELS["quadratic-time"]


def random_masks(chance: torch.Generator, b: int = 1, k: int = 3, size: tuple = SIZE) -> Tensor:
    logits = torch.randn(b, k, *size, generator=chance, dtype=torch.float64)
    return logits.softmax(1)


def theta_for(model: MotionModel, chance: torch.Generator, b: int = 1, k: int = 1) -> Tensor:
    return 4 * torch.rand(b, k, model.parameters, generator=chance, dtype=torch.float64) - 2


def share_of_loss(flow: Tensor, masks: Tensor, motion: FittedMotion) -> float:
    """What the fit is to minimise: eq. 3, up to a constant."""
    norm = flow.abs().sum(dim=(1, 3, 4)).clamp_min(1e-12)[:, None, :, None, None]
    return float((masks * motion.residual(flow) / norm).sum())


# --- the models ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("translation", 2),
        ("translation-time", 4),
        ("affine", 6),
        ("affine-time", 12),
        ("planar", 8),
        ("planar-time", 16),
        ("quadratic", 12),
        ("quadratic-time", 24),
    ],
)
def test_number_of_parameters(name: str, parameters: int) -> None:
    assert motion_model(name).parameters == parameters
    assert motion_model(name).name == name


def test_the_table_has_these_models_and_no_other() -> None:
    assert set(NAMES) == {
        f"{kind}{time}"
        for kind in ("translation", "affine", "planar", "quadratic")
        for time in ("", "-time")
    }


def test_an_unknown_model_gets_a_sentence() -> None:
    with pytest.raises(InputError, match=r"no motion model 'cubic'\. Choose one of translation, "):
        motion_model("cubic")


def test_only_the_planar_models_couple_both_components() -> None:
    assert {name for name in NAMES if not MODELS[name].separable} == {"planar", "planar-time"}


def test_the_quadratic_model_by_hand() -> None:
    """Parameters in the order of the terms 1, x, y, x², xy, y² of u, then of v."""
    theta = torch.tensor([1.0, 2, 3, 4, 5, 6, -1, -2, -3, -4, -5, -6], dtype=torch.float64)
    motion = FittedMotion.from_parameters(MODELS["quadratic"], (1, 5, 9), theta.view(1, 1, -1))
    flow = motion.flow()[0, 0, :, 0]
    for row, column in ((0, 0), (4, 8), (2, 6)):
        x, y = column / 8, row / 4
        u = 1 + 2 * x + 3 * y + 4 * x * x + 5 * x * y + 6 * y * y
        assert flow[0, row, column] == pytest.approx(u, abs=1e-9)
        assert flow[1, row, column] == pytest.approx(-u, abs=1e-9)


def test_the_planar_model_by_hand() -> None:
    """The eight parameters of a plane seen by a moving camera; two of them act on u and v."""
    theta = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8], dtype=torch.float64)
    flow = FittedMotion.from_parameters(MODELS["planar"], (1, 3, 5), theta.view(1, 1, -1)).flow()[
        0, 0, :, 0
    ]
    x, y = 3 / 4, 1 / 2
    u = 1 + 2 * x + 3 * y + 7 * x * x + 8 * x * y
    v = 4 + 5 * x + 6 * y + 7 * x * y + 8 * y * y
    assert flow[:, 1, 3].tolist() == pytest.approx([u, v], abs=1e-9)


def test_time_makes_each_parameter_linear() -> None:
    theta = torch.tensor([1.0, 6, 2, -3], dtype=torch.float64)  # u = 1 + 6 t, v = 2 - 3 t
    motion = FittedMotion.from_parameters(
        MODELS["translation-time"], (3, 4, 4), theta.view(1, 1, 4)
    )
    means = motion.flow()[0, 0].mean(dim=(2, 3))
    assert TIME_STEP == 1 / 3
    assert means[0].tolist() == pytest.approx([-1, 1, 3], abs=1e-9)
    assert means[1].tolist() == pytest.approx([3, 2, 1], abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(3, 16, 28), (3, 5, 4), (5, 8, 8)])
def test_parameters_and_models_go_both_ways(
    name: str, size: tuple[int, int, int], chance: torch.Generator
) -> None:
    theta = theta_for(MODELS[name], chance, b=2, k=3)
    motion = FittedMotion.from_parameters(MODELS[name], size, theta)
    torch.testing.assert_close(motion.parameters(), theta, rtol=1e-7, atol=1e-7)
    assert motion.flow().shape == (2, 3, 2, *size)


@pytest.mark.parametrize("name", NAMES)
def test_the_residual_is_the_l1_distance_to_the_flow(name: str, chance: torch.Generator) -> None:
    flow = torch.randn(2, 2, *SIZE, generator=chance, dtype=torch.float64)
    motion = FittedMotion.from_parameters(
        MODELS[name], SIZE, theta_for(MODELS[name], chance, b=2, k=3)
    )
    expected = (flow.unsqueeze(1) - motion.flow()).abs().sum(dim=2)
    torch.testing.assert_close(motion.residual(flow), expected)


# --- the fit: what it finds ----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stride", [1, 2])
def test_the_fit_finds_known_parameters(name: str, stride: int, chance: torch.Generator) -> None:
    model = MODELS[name]
    theta = theta_for(model, chance, b=2)
    flow = FittedMotion.from_parameters(model, SIZE, theta).flow()[:, 0]
    fit = fit_motion(flow, random_masks(chance, 2), model, FitSettings(stride=stride))
    assert fit.coefficients.dtype == torch.float64
    wrong = (fit.flow() - flow.unsqueeze(1)).abs().max()
    assert wrong < 1e-3 * flow.abs().mean()
    torch.testing.assert_close(fit.parameters(), theta.expand(-1, 3, -1), rtol=0.01, atol=0.02)


def test_each_segment_gets_its_own_motion(chance: torch.Generator) -> None:
    model = QUADRATIC
    theta = theta_for(model, chance, k=3)
    each = FittedMotion.from_parameters(model, SIZE, theta).flow()  # (1, 3, 2, t, h, w)
    columns = torch.arange(SIZE[2]) * 3 // SIZE[2]
    masks = torch.nn.functional.one_hot(columns, 3).T.double()
    masks = masks[None, :, None, None].expand(1, 3, *SIZE)
    flow = (each * masks.unsqueeze(2)).sum(1)
    fit = fit_motion(flow, masks, model, EVERY)
    inside = ((fit.flow() - each).abs() * masks.unsqueeze(2)).max()
    assert inside < 2e-3 * flow.abs().mean()


@pytest.mark.parametrize("name", ["translation", "affine", "quadratic-time"])
def test_outliers_hardly_move_the_fit(name: str, chance: torch.Generator) -> None:
    model = MODELS[name]
    flow = FittedMotion.from_parameters(model, SIZE, theta_for(model, chance)).flow()[:, 0]
    wrong = torch.rand(1, 1, *SIZE, generator=chance) < 0.2
    spoiled = torch.where(wrong, flow + 20, flow)  # all to one side, and 10 times the motion
    masks = torch.ones(1, 1, *SIZE, dtype=torch.float64)
    scale = float(flow.abs().mean())
    robust = fit_motion(spoiled, masks, model, EVERY)
    squares = fit_motion(spoiled, masks, model, FitSettings(steps=0, stride=1))
    error = float((robust.flow()[:, 0] - flow).abs().mean())
    assert error < 0.05 * scale
    assert error < 0.05 * float((squares.flow()[:, 0] - flow).abs().mean())


def piecewise(chance: torch.Generator, b: int = 2) -> tuple[Tensor, Tensor]:
    """Noisy flow of three smooth motions, and soft masks that nearly find them."""
    each = FittedMotion.from_parameters(QUADRATIC, SIZE, theta_for(QUADRATIC, chance, b, 3)).flow()
    rows = torch.linspace(-1, 1, SIZE[1])[:, None]
    columns = torch.linspace(-1, 1, SIZE[2])[None]
    inner = (rows.square() + columns.square() < 0.5).long()
    labels = inner + 2 * (columns > 0.4).long().expand_as(inner) * (1 - inner)
    hard = torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1).double()
    hard = hard[None, :, None].expand(b, 3, *SIZE)
    flow = (each * hard.unsqueeze(2)).sum(1)
    flow = flow + 0.2 * torch.randn(flow.shape, generator=chance, dtype=torch.float64)
    noise = torch.randn(hard.shape, generator=chance, dtype=torch.float64)
    return flow, (3 * hard + noise).softmax(1)


@pytest.mark.parametrize("name", ["affine", "planar", "quadratic-time"])
def test_the_objective_is_that_of_the_papers_fit(name: str, chance: torch.Generator) -> None:
    flow, masks = piecewise(chance)
    ours = share_of_loss(flow, masks, fit_motion(flow, masks, MODELS[name], EVERY))
    best = share_of_loss(flow, masks, fit_motion_lbfgs(flow, masks, MODELS[name]))
    squares = share_of_loss(
        flow, masks, fit_motion(flow, masks, MODELS[name], FitSettings(steps=0, stride=1))
    )
    assert ours < 1.005 * best
    assert squares > 1.01 * best  # so that the bound above means something


@pytest.mark.parametrize("fit", [fit_motion, fit_motion_lbfgs])
def test_an_instant_without_motion_is_not_fitted(
    fit: Callable[[Tensor, Tensor, MotionModel], FittedMotion], chance: torch.Generator
) -> None:
    flow, masks = torch.full((1, 2, *SIZE), 3.0, dtype=torch.float64), torch.ones(1, 1, *SIZE)
    flow += 0.01 * torch.randn(flow.shape, generator=chance, dtype=torch.float64)
    flow[:, :, 1] = 0
    torch.testing.assert_close(
        fit(flow, masks, QUADRATIC).flow()[0, 0],
        torch.full((2, *SIZE), 3.0).double(),
        rtol=0,
        atol=0.1,
    )


def test_every_second_site_is_enough(chance: torch.Generator) -> None:
    """The stride of the training: parameters are few and sites are many."""
    flow, masks = (
        torch.nn.functional.interpolate(part, scale_factor=(1, 2, 2), mode="trilinear")
        for part in piecewise(chance)
    )
    flow = flow + 0.2 * torch.randn(flow.shape, generator=chance, dtype=torch.float64)
    sampled = share_of_loss(flow, masks, fit_motion(flow, masks, QUADRATIC))
    every = share_of_loss(flow, masks, fit_motion(flow, masks, QUADRATIC, EVERY))
    assert sampled < 1.02 * every


def test_more_steps_never_do_worse(chance: torch.Generator) -> None:
    flow, masks = piecewise(chance)
    values = [
        share_of_loss(flow, masks, fit_motion(flow, masks, QUADRATIC, FitSettings(steps, stride=1)))
        for steps in (0, 1, 2, 4, 8, 16)
    ]
    assert values == sorted(values, reverse=True)


def test_instants_weigh_by_their_own_norm(chance: torch.Generator) -> None:
    """As in the loss: a slow instant counts as much as a fast one (eq. 3)."""
    speeds = torch.tensor([10.0, 10.0, 1.0], dtype=torch.float64)
    directions = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    flow = (speeds * directions).view(1, 1, 3, 1, 1).expand(1, 2, *SIZE).contiguous()
    masks = torch.ones(1, 1, *SIZE, dtype=torch.float64)
    fit = fit_motion(flow, masks, MODELS["translation"], FitSettings(steps=200, stride=1))
    # Weights 1/10, 1/10 and 1: the median is the slow instant's.
    assert fit.flow().mean() == pytest.approx(-1, abs=0.15)


# --- the fit: what must not upset it -------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_empty_segment_has_no_motion(
    name: str, dtype: torch.dtype, chance: torch.Generator
) -> None:
    flow = torch.randn(1, 2, *SIZE, generator=chance).to(dtype) + 3
    masks = torch.zeros(1, 2, *SIZE, dtype=dtype)
    masks[:, 0] = 1
    fit = fit_motion(flow, masks, MODELS[name])
    assert (fit.coefficients[:, 1] == 0).all()
    assert fit.coefficients.isfinite().all()
    assert fit.flow()[:, 0].mean() == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 1e-20])
def test_flow_without_motion(name: str, value: float, chance: torch.Generator) -> None:
    flow = torch.full((1, 2, *SIZE), value)
    fit = fit_motion(flow, random_masks(chance).float(), MODELS[name])
    assert fit.coefficients.isfinite().all()
    assert fit.flow().abs().max() <= 1e-6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [1e-3, 1.0, 1e4])
def test_constant_flow(name: str, value: float, chance: torch.Generator) -> None:
    flow = torch.tensor([value, -2 * value]).view(1, 2, 1, 1, 1).expand(1, 2, *SIZE).contiguous()
    fit = fit_motion(flow, random_masks(chance).float(), MODELS[name])
    expected = flow.unsqueeze(1).expand(-1, 3, -1, -1, -1, -1)
    torch.testing.assert_close(fit.flow(), expected, rtol=0, atol=1e-3 * value)


@pytest.mark.parametrize("name", ["translation", "affine", "planar", "quadratic-time"])
def test_one_huge_vector_hardly_matters(name: str, chance: torch.Generator) -> None:
    flow = torch.tensor([2.0, 1.0]).view(1, 2, 1, 1, 1).expand(1, 2, *SIZE).clone()
    flow[0, :, 1, 8, 14] = 1e6
    fit = fit_motion(flow, torch.ones(1, 1, *SIZE), MODELS[name], EVERY)
    here = fit.flow()[0, 0]
    here[:, 1, 8, 14] = torch.tensor([2.0, 1.0])
    assert (here - torch.tensor([2.0, 1.0]).view(2, 1, 1, 1)).abs().max() < 0.2


@pytest.mark.parametrize("name", ["translation", "affine", "quadratic", "planar-time"])
def test_an_instant_that_does_not_move_weighs_nothing(name: str, chance: torch.Generator) -> None:
    model = MODELS[name.removesuffix("-time")]
    flow = FittedMotion.from_parameters(model, SIZE, theta_for(model, chance)).flow()[:, 0]
    paused = flow.clone()
    paused[:, :, 1] = 0
    masks = torch.ones(1, 1, *SIZE, dtype=torch.float64)
    fit = fit_motion(paused, masks, MODELS[name], EVERY)
    assert (fit.flow()[:, 0] - flow).abs().max() < 1e-3 * flow.abs().mean()


def test_an_instant_that_hardly_moves_weighs_nothing(chance: torch.Generator) -> None:
    """A frame that is there twice, but for what an encoder makes of it: 1 / norm would be huge."""
    model = MODELS["affine"]
    flow = FittedMotion.from_parameters(model, SIZE, theta_for(model, chance)).flow()[:, 0]
    paused = flow.clone()
    paused[:, :, 1] = 1e-8 * torch.randn(1, 2, *SIZE[1:], generator=chance)
    assert moving(paused).tolist() == [[True, False, True]]
    fit = fit_motion(paused, torch.ones(1, 1, *SIZE, dtype=torch.float64), model, EVERY)
    assert (fit.flow()[:, 0] - flow).abs().max() < 1e-3 * flow.abs().mean()
    paused[:, :, 1] = 1e-4 * flow[:, :, 1]  # slow, but motion
    assert moving(paused).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_single_instant_is_fitted_by_every_model(name: str, chance: torch.Generator) -> None:
    spatial = MODELS[name.removesuffix("-time")]
    size = (1, 16, 28)
    theta = theta_for(spatial, chance)
    flow = FittedMotion.from_parameters(spatial, size, theta).flow()[:, 0]
    fit = fit_motion(flow, random_masks(chance, size=size), MODELS[name], EVERY)
    assert (fit.flow() - flow.unsqueeze(1)).abs().max() < 1e-3 * flow.abs().mean()
    assert fit.parameters().shape == (1, 3, MODELS[name].parameters)
    assert fit.parameters().isfinite().all()


def test_time_of_a_single_instant_has_no_parameter(chance: torch.Generator) -> None:
    flow = torch.randn(1, 2, 1, 8, 8, generator=chance)
    fit = fit_motion(flow, torch.ones(1, 1, 1, 8, 8), MODELS["affine-time"], EVERY)
    theta = fit.parameters().view(2, 2, 3)  # (u or v, constant or in time, terms)
    assert theta[:, 0].abs().max() > 0.01
    assert theta[:, 1].abs().max() < 1e-9


def test_a_segment_of_a_few_sites_stays_finite(chance: torch.Generator) -> None:
    flow = torch.randn(1, 2, *SIZE, generator=chance)
    masks = torch.zeros(1, 3, *SIZE)
    masks[:, 0] = 1
    masks[0, 1, 0, 0, 0] = 1  # fewer sites than parameters
    masks[0, 2] = 1e-20
    fit = fit_motion(flow, masks, QUADRATIC)
    assert fit.coefficients.isfinite().all()
    assert fit.flow()[0, 1].abs().max() < 100 * flow.abs().max()


def test_masks_in_bfloat16_are_fitted_in_float32(chance: torch.Generator) -> None:
    flow, masks = piecewise(chance)
    rounded = masks.bfloat16()
    fit = fit_motion(flow.float(), rounded, QUADRATIC)
    same = fit_motion(flow.float(), rounded.float(), QUADRATIC)
    assert fit.coefficients.dtype == torch.float32
    torch.testing.assert_close(fit.coefficients, same.coefficients, rtol=0, atol=0)


def test_autocast_does_not_reach_the_fit(chance: torch.Generator) -> None:
    flow, masks = (part.float() for part in piecewise(chance))
    plain = fit_motion(flow, masks, QUADRATIC)
    with torch.autocast("cpu", torch.bfloat16):
        cast = fit_motion(flow, masks, QUADRATIC)
    torch.testing.assert_close(cast.coefficients, plain.coefficients, rtol=0, atol=0)


def test_no_gradient_flows_through_the_fit(chance: torch.Generator) -> None:
    flow, masks = piecewise(chance)
    fit = fit_motion(flow, masks.requires_grad_(), QUADRATIC)
    assert not fit.coefficients.requires_grad


def test_float32_agrees_with_float64(chance: torch.Generator) -> None:
    flow, masks = piecewise(chance)
    exact = fit_motion(flow, masks, QUADRATIC).flow()
    single = fit_motion(flow.float(), masks.float(), QUADRATIC).flow()
    assert (single - exact).abs().max() < 1e-2 * flow.abs().mean()


# --- symmetries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["planar", "quadratic-time"])
@settings(max_examples=6)
@given(exponent=st.integers(-12, 12))
def test_the_fit_scales_with_the_flow(name: str, exponent: int) -> None:
    flow, masks = piecewise(torch.Generator().manual_seed(exponent), b=1)
    factor = math.exp(exponent)
    one = fit_motion(flow, masks, MODELS[name]).coefficients
    scaled = fit_motion(flow * factor, masks, MODELS[name]).coefficients
    torch.testing.assert_close(scaled, one * factor, rtol=1e-6, atol=1e-9 * factor)


@given(st.permutations(range(3)))
def test_the_order_of_the_segments_does_not_matter(order: list[int]) -> None:
    flow, masks = piecewise(torch.Generator().manual_seed(5), b=1)
    one = fit_motion(flow, masks, QUADRATIC).coefficients
    other = fit_motion(flow, masks[:, order], QUADRATIC).coefficients
    torch.testing.assert_close(other, one[:, order], rtol=1e-9, atol=1e-9)


def test_samples_of_a_batch_do_not_meet(chance: torch.Generator) -> None:
    flow, masks = piecewise(chance, b=3)
    both = fit_motion(flow, masks, QUADRATIC).coefficients
    for index in range(3):
        alone = fit_motion(flow[[index]], masks[[index]], QUADRATIC).coefficients
        torch.testing.assert_close(both[[index]], alone, rtol=1e-8, atol=1e-8)
