"""Eq. 3-6: tiny examples by hand, invariances, and gradients that point the right way."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stseg.errors import InputError
from stseg.losses import (
    Losses,
    LossSettings,
    consistency_loss,
    flow_change,
    joint_losses,
    reconstruction_loss,
    visible_sites,
)
from stseg.motion import MODELS, FitSettings, FittedMotion, MotionModel, fit_motion

SIZE = (3, 8, 12)
QUADRATIC = MODELS["quadratic-time"]
EVERY = FitSettings(stride=1)
CONVERGED = FitSettings(steps=60, stride=1)


def soft(chance: torch.Generator, b: int = 1, k: int = 3, size: tuple = SIZE) -> Tensor:
    return torch.randn(b, k, *size, generator=chance, dtype=torch.float64).softmax(1)


def noise(chance: torch.Generator, b: int = 1, size: tuple = SIZE) -> Tensor:
    return torch.randn(b, 2, *size, generator=chance, dtype=torch.float64)


def constant(size: tuple[int, int, int], *vectors: tuple[float, float]) -> FittedMotion:
    """One constant motion a segment."""
    theta = torch.tensor([vectors], dtype=torch.float64)
    return FittedMotion.from_parameters(MODELS["translation"], size, theta)


def losses_of(
    masks: Tensor,
    flow: Tensor,
    model: MotionModel,
    weights: LossSettings,
    fit: FitSettings,
    motion: Tensor | None = None,
) -> Losses:
    """The losses of a single head."""
    (losses,) = joint_losses([masks], flow, model, weights, fit, motion)
    return losses


# --- L_r -----------------------------------------------------------------------------------------


def test_a_perfect_explanation_costs_nothing(chance: torch.Generator) -> None:
    theta = torch.rand(2, 3, QUADRATIC.parameters, generator=chance, dtype=torch.float64)
    motion = FittedMotion.from_parameters(QUADRATIC, SIZE, theta)
    labels = torch.randint(3, (2, *SIZE), generator=chance)
    masks = torch.nn.functional.one_hot(labels, 3).permute(0, 4, 1, 2, 3).double()
    flow = (motion.flow() * masks.unsqueeze(2)).sum(1)
    assert float(reconstruction_loss(masks, flow, motion)) == pytest.approx(0, abs=1e-12)
    other = masks[:, [1, 2, 0]]
    assert float(reconstruction_loss(other, flow, motion)) > 0.1


def test_reconstruction_by_hand() -> None:
    """Two instants of two sites, two segments at rest and at (1, 0)."""
    flow = torch.tensor([[[[[1.0, 3.0]], [[0.0, 4.0]]], [[[0.0, 0.0]], [[-2.0, 0.0]]]]]).double()
    assert flow.shape == (1, 2, 2, 1, 2)
    masks = torch.tensor([[[[[1.0, 0.5]], [[0.25, 0.0]]], [[[0.0, 0.5]], [[0.75, 1.0]]]]]).double()
    motion = constant((2, 1, 2), (0, 0), (1, 0))
    first = (1 * 1 + 0.5 * 3 + 0.5 * 2) / (1 + 3)
    second = (0.25 * 2 + 0.75 * 3 + 1 * 3) / (2 + 4)
    expected = (first + second) / 2
    assert float(reconstruction_loss(masks, flow, motion)) == pytest.approx(expected, abs=1e-12)


def test_no_motion_at_all_explains_nothing(chance: torch.Generator) -> None:
    loss = reconstruction_loss(soft(chance), noise(chance), constant(SIZE, *[(0, 0)] * 3))
    assert float(loss) == pytest.approx(1, abs=1e-12)


def test_an_instant_without_flow_adds_nothing(chance: torch.Generator) -> None:
    flow = noise(chance)
    flow[:, :, 1] = 0
    masks = soft(chance)
    loss = reconstruction_loss(masks, flow, constant(SIZE, *[(0, 0)] * 3))
    assert float(loss) == pytest.approx(2 / 3, abs=1e-12)
    still = reconstruction_loss(masks, torch.zeros_like(flow), constant(SIZE, *[(0, 0)] * 3))
    assert float(still) == 0


def test_a_frame_that_is_there_twice_adds_nothing(chance: torch.Generator) -> None:
    """Its flow is zero, the models go on moving through it, and L_r divides by its norm."""
    flow, masks = noise(chance) + 3, soft(chance)
    flow[:, :, 1] = 0
    losses = losses_of(masks, flow, QUADRATIC, LossSettings(), EVERY)
    one = fit_motion(flow, masks, QUADRATIC, EVERY)
    assert float(one.flow()[:, :, 0, 1].mean()) > 2  # it does move
    parts = [
        (masks[:, :, t] * one.residual(flow)[:, :, t]).sum() / flow[:, :, t].abs().sum()
        for t in (0, 2)
    ]
    assert len(flow) == 1
    assert float(losses.reconstruction) == pytest.approx(float(sum(parts)) / 3, rel=1e-6)


@pytest.mark.parametrize("exponent", [-10, -1, 1, 10])
def test_the_scale_of_the_flow_does_not_matter(exponent: int, chance: torch.Generator) -> None:
    masks, flow = soft(chance), noise(chance)
    one = losses_of(masks, flow, QUADRATIC, LossSettings(), EVERY)
    other = losses_of(masks, flow * 2.0**exponent, QUADRATIC, LossSettings(), EVERY)
    torch.testing.assert_close(other.reconstruction, one.reconstruction, rtol=1e-6, atol=0)
    torch.testing.assert_close(other.consistency, one.consistency, rtol=1e-12, atol=0)


# --- η -------------------------------------------------------------------------------------------


def test_the_change_of_the_flow_by_hand() -> None:
    flow = torch.zeros(1, 2, 3, 1, 2)
    flow[0, 0, :, 0, 0] = torch.tensor([1.0, 4.0, 2.0])
    flow[0, 1, :, 0, 0] = torch.tensor([0.0, -1.0, -1.0])
    assert flow_change(flow).tolist() == [[[[4.0, 0.0]], [[2.0, 0.0]]]]


def test_visible_sites_by_hand() -> None:
    flow = torch.zeros(2, 2, 3, 1, 4)
    flow[0, 0, 1, 0] = torch.tensor([5.0, 0, 0, 0])  # there and back: both changes are large
    flow[1, 1, 2, 0] = torch.tensor([1.0, 2, 3, 4])  # all in the second change
    visible = visible_sites(flow, 0.25)  # 2 of 8
    assert (~visible[0]).nonzero().tolist() == [[0, 0, 0], [1, 0, 0]]
    assert (~visible[1]).nonzero().tolist() == [[1, 0, 2], [1, 0, 3]]


@given(
    eta=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
    t=st.integers(2, 4),
    ties=st.booleans(),
)
def test_exactly_the_fraction_eta_is_hidden(eta: float, seed: int, t: int, ties: bool) -> None:
    size = (t, 5, 7)
    flow = noise(torch.Generator().manual_seed(seed), b=2, size=size)
    flow = flow.round() if ties else flow
    visible = visible_sites(flow, eta)
    sites = (t - 1) * 5 * 7
    assert visible.shape == (2, t - 1, 5, 7)
    assert (~visible).sum(dim=(1, 2, 3)).tolist() == [round(eta * sites)] * 2
    change = flow_change(flow)
    for sample in range(2):
        hidden, kept = change[sample][~visible[sample]], change[sample][visible[sample]]
        if len(hidden) and len(kept):
            assert hidden.min() >= kept.max()


def test_of_equal_sites_the_first_are_hidden() -> None:
    assert (~visible_sites(torch.ones(2, 2, 3, 10, 10), 0.02)).flatten(1).nonzero().tolist() == [
        [sample, place] for sample in range(2) for place in range(4)
    ]
    flow = torch.zeros(1, 2, 2, 1, 2000)
    flow[0, 0, 1, 0, ::3] = 1  # many equal ones, of which some are hidden
    flow[0, 0, 1, 0, 1500] = 2
    hidden = (~visible_sites(flow, 0.005)).flatten().nonzero().flatten().tolist()
    assert hidden == [*range(0, 27, 3), 1500]


def test_still_flow_hides_its_share_too() -> None:
    visible = visible_sites(torch.ones(1, 2, 3, 10, 10), 0.1)
    assert int((~visible).sum()) == 20


# --- L_c -----------------------------------------------------------------------------------------


def test_consistency_by_hand() -> None:
    """Two segments, two instants of four sites: one change counts, the occluded one does not."""
    first = torch.tensor([1.0, 0.0, 0.5, 1.0])
    second = torch.tensor([1.0, 1.0, 0.75, 0.0])
    masks = torch.stack([torch.stack([m, 1 - m]) for m in (first, second)], dim=1)  # (k, t, n)
    masks = masks[None, :, :, None].double()
    flow = torch.zeros(1, 2, 2, 1, 4, dtype=torch.float64)
    flow[0, 0, 1, 0] = torch.tensor([0.0, 1, 2, 9])  # the last site is occluded
    assert float(consistency_loss(masks, flow, 0.0)) == pytest.approx((0 + 1 + 0.25 + 1) / 4)
    assert float(consistency_loss(masks, flow, 0.25)) == pytest.approx((0 + 1 + 0.25) / 4)
    assert float(consistency_loss(masks, flow, 0.5)) == pytest.approx((0 + 1) / 4)
    assert float(consistency_loss(masks, flow, 1.0)) == 0


def test_masks_that_stay_cost_nothing(chance: torch.Generator) -> None:
    masks = soft(chance)[:, :, :1].expand(-1, -1, 3, -1, -1)
    assert float(consistency_loss(masks, noise(chance))) == 0


def test_masks_that_follow_the_motion_cost_nothing_along_it(chance: torch.Generator) -> None:
    """Everything moves two sites right and one down, as a fraction of the frame of 8x12 sites."""
    _, h, w = SIZE
    first = soft(chance)[:, :, 0]
    masks = torch.stack([first.roll((t, 2 * t), (2, 3)) for t in range(3)], dim=2)
    motion = masks.new_tensor([2 / w, 1 / h]).view(1, 2, 1, 1, 1).expand(1, 2, *SIZE)
    flow = motion * 100
    assert float(consistency_loss(masks, flow, 0.0, motion)) == pytest.approx(0, abs=1e-12)
    assert float(consistency_loss(masks, flow, 0.0)) > 0.1  # eq. 4 at every site
    assert float(consistency_loss(masks, flow, 0.0, -motion)) > 0.1


def test_without_motion_it_is_the_papers_loss(chance: torch.Generator) -> None:
    masks, flow = soft(chance, b=2), noise(chance, b=2)
    still = torch.zeros_like(flow)
    for eta in (0.0, 0.1, 1.0):
        one, two = consistency_loss(masks, flow, eta), consistency_loss(masks, flow, eta, still)
        torch.testing.assert_close(one, two)


def a_thing_that_moves() -> tuple[Tensor, Tensor, Tensor]:
    """Where it is (2, 6, 10), two columns further at the second instant; its flow and motion."""
    size = (2, 6, 10)
    object_at = torch.zeros(size, dtype=torch.bool)
    object_at[0, 2:4, 2:5] = object_at[1, 2:4, 4:7] = True
    flow = torch.zeros(1, 2, *size, dtype=torch.float64)
    flow[0, 0][object_at] = 2.0
    motion = flow / flow.new_tensor([size[2], size[1]]).view(1, 2, 1, 1, 1)
    return object_at, flow, motion


def test_occlusions_are_looked_for_along_the_motion(chance: torch.Generator) -> None:
    """Flow that goes with what moves does not change along the motion, nor at its borders."""
    _, flow, motion = a_thing_that_moves()
    there, along = flow_change(flow)[0, 0], flow_change(flow, motion)[0, 0]
    assert int((there > 0.1).sum()) == 8  # covered and uncovered, two columns each
    covered = along > 1e-9
    assert covered.nonzero().tolist() == [[2, 5], [2, 6], [3, 5], [3, 6]]


def test_the_loss_along_the_motion_leaves_out_what_is_occluded_along_it() -> None:
    """What moves is bright, and covers two columns: the only change along the motion."""
    object_at, flow, motion = a_thing_that_moves()
    bright = object_at.to(flow)
    masks = torch.stack((bright, 1 - bright))[None]
    sites = object_at[0].numel()
    assert float(consistency_loss(masks, flow, 0.0, motion)) == pytest.approx(4 / sites)
    assert float(consistency_loss(masks, flow, 4 / sites, motion)) == pytest.approx(0, abs=1e-12)


def test_motion_is_asked_for(chance: torch.Generator) -> None:
    weights = LossSettings(along_motion=True)
    masks, flow = soft(chance), noise(chance)
    with pytest.raises(ValueError, match="needs the motion"):
        losses_of(masks, flow, QUADRATIC, weights, EVERY)
    motion = 0.05 * flow
    losses = losses_of(masks, flow, QUADRATIC, weights, EVERY, motion)
    torch.testing.assert_close(
        losses.consistency, consistency_loss(masks, flow, weights.eta, motion)
    )
    plain = losses_of(masks, flow, QUADRATIC, LossSettings(), EVERY, motion)
    torch.testing.assert_close(plain.consistency, consistency_loss(masks, flow, weights.eta))


def test_a_single_instant_cannot_change(chance: torch.Generator) -> None:
    size = (1, 8, 12)
    masks, flow = soft(chance, size=size).requires_grad_(), noise(chance, size=size)
    losses = losses_of(masks, flow, QUADRATIC, LossSettings(), EVERY)
    assert float(losses.consistency.detach()) == 0
    assert losses.consistency.shape == ()
    assert float(losses.total.detach()) == float(losses.reconstruction.detach())
    losses.total.backward()
    assert masks.grad is not None
    assert masks.grad.abs().sum() > 0


@given(eta=st.floats(0.05, 1), seed=st.integers(0, 2**32 - 1))
def test_masks_at_occluded_sites_do_not_matter(eta: float, seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    masks, flow = soft(chance, size=(2, 8, 12)), noise(chance, size=(2, 8, 12))
    hidden = ~visible_sites(flow, eta)
    other = masks.clone()
    other[:, :, 1] = torch.where(hidden, soft(chance, size=(1, 8, 12))[:, :, 0], masks[:, :, 1])
    one, two = consistency_loss(masks, flow, eta), consistency_loss(other, flow, eta)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-15)
    if eta < 0.9:
        visible = torch.where(~hidden, soft(chance, size=(1, 8, 12))[:, :, 0], masks[:, :, 1])
        other[:, :, 1] = visible
        assert abs(float(consistency_loss(other, flow, eta) - one)) > 1e-6


# --- invariances ---------------------------------------------------------------------------------


@settings(max_examples=12)
@given(order=st.permutations(range(4)), seed=st.integers(0, 99))
def test_the_names_of_the_segments_do_not_matter(order: list[int], seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    masks, flow = soft(chance, k=4), noise(chance)
    one = losses_of(masks, flow, MODELS["affine"], LossSettings(), EVERY)
    other = losses_of(masks[:, order], flow, MODELS["affine"], LossSettings(), EVERY)
    torch.testing.assert_close(other.reconstruction, one.reconstruction, rtol=1e-9, atol=0)
    torch.testing.assert_close(other.consistency, one.consistency, rtol=1e-12, atol=0)


@pytest.mark.parametrize("axis", [2, 3, 4], ids=["time", "rows", "columns"])
def test_mirrors_do_not_matter(axis: int, chance: torch.Generator) -> None:
    """Rows, columns or instants in the other order, with vectors that follow."""
    masks, flow = soft(chance), noise(chance)
    signs = {2: (-1, -1), 3: (1, -1), 4: (-1, 1)}[axis]
    mirrored = flow.flip(axis) * torch.tensor(signs).view(1, 2, 1, 1, 1)
    one = losses_of(masks, flow, QUADRATIC, LossSettings(eta=0.1), CONVERGED)
    other = losses_of(masks.flip(axis), mirrored, QUADRATIC, LossSettings(eta=0.1), CONVERGED)
    torch.testing.assert_close(other.reconstruction, one.reconstruction, rtol=1e-4, atol=0)
    torch.testing.assert_close(other.consistency, one.consistency, rtol=1e-12, atol=0)


def test_the_loss_of_a_batch_is_the_mean_of_its_samples(chance: torch.Generator) -> None:
    masks, flow = (
        soft(chance, b=3),
        noise(chance, b=3)
        * torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64).view(3, 1, 1, 1, 1),
    )
    weights = LossSettings(beta=0.7, eta=0.13)
    whole = losses_of(masks, flow, QUADRATIC, weights, EVERY)
    each = [losses_of(masks[[i]], flow[[i]], QUADRATIC, weights, EVERY) for i in range(3)]
    for name in ("total", "reconstruction", "consistency"):
        mean = torch.stack([getattr(losses, name) for losses in each]).mean()
        torch.testing.assert_close(getattr(whole, name), mean, rtol=1e-9, atol=0)


@pytest.mark.parametrize("wrong", [{"beta": -0.1}, {"beta": float("nan")}, {"eta": 1.1}])
def test_weights_that_make_no_sense_get_a_sentence(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="Give 0"):
        LossSettings(**wrong)


@pytest.mark.parametrize("beta", [0.0, 1.0, 0.25])
def test_the_total_is_the_weighted_sum(beta: float, chance: torch.Generator) -> None:
    masks, flow = soft(chance), noise(chance)
    losses = losses_of(masks, flow, QUADRATIC, LossSettings(beta, 0.05), EVERY)
    motion = fit_motion(flow, masks, QUADRATIC, EVERY)
    reconstruction = float(reconstruction_loss(masks, flow, motion))
    consistency = float(consistency_loss(masks, flow, 0.05))
    assert float(losses.total) == pytest.approx(reconstruction + beta * consistency, abs=1e-12)


@pytest.mark.parametrize("along", [False, True])
def test_each_of_several_heads_has_the_losses_that_it_has_alone(
    along: bool, chance: torch.Generator
) -> None:
    heads = [soft(chance, b=2, k=k) for k in (4, 2, 3)]
    flow = noise(chance, b=2)
    weights = LossSettings(0.7, 0.1, along_motion=along)
    given = QUADRATIC, weights, CONVERGED, 0.05 * flow
    for masks, losses in zip(heads, joint_losses(heads, flow, *given), strict=True):
        alone = losses_of(masks, flow, *given)
        for name in ("total", "reconstruction", "consistency"):
            torch.testing.assert_close(
                getattr(losses, name), getattr(alone, name), rtol=1e-9, atol=0
            )


# --- gradients -----------------------------------------------------------------------------------


def test_gradient_of_the_reconstruction(chance: torch.Generator) -> None:
    size = (2, 3, 4)
    flow = noise(chance, size=size)
    motion = fit_motion(flow, soft(chance, size=size), MODELS["affine"], EVERY)
    masks = soft(chance, size=size).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: reconstruction_loss(m, flow, motion), masks)


@pytest.mark.parametrize("along", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.3])
def test_gradient_of_the_consistency(eta: float, along: bool, chance: torch.Generator) -> None:
    size = (3, 3, 4)
    flow = noise(chance, size=size)
    motion = 0.1 * noise(chance, size=size) if along else None
    masks = soft(chance, size=size).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: consistency_loss(m, flow, eta, motion), masks)


def test_gradient_of_the_total_through_the_softmax(chance: torch.Generator) -> None:
    size = (3, 2, 3)
    flow = noise(chance, b=2, size=size)
    logits = torch.randn(2, 3, *size, generator=chance, dtype=torch.float64, requires_grad=True)
    motion = fit_motion(flow, logits.detach().softmax(1), MODELS["affine"], EVERY)

    def total(x: Tensor) -> Tensor:
        masks = x.softmax(1)
        return reconstruction_loss(masks, flow, motion) + 0.5 * consistency_loss(masks, flow, 0.1)

    assert torch.autograd.gradcheck(total, logits)


@pytest.mark.parametrize("name", ["translation", "affine"])
def test_holding_the_motion_fixed_gives_the_gradient_of_the_minimum(
    name: str, chance: torch.Generator
) -> None:
    """Envelope theorem: d/dm min_θ L_r(m, θ) is the gradient at the best θ, held fixed."""
    size = (2, 4, 6)
    flow, model = noise(chance, size=size), MODELS[name]
    masks = soft(chance, k=2, size=size)

    def minimum(m: Tensor) -> Tensor:
        return reconstruction_loss(m, flow, fit_motion(flow, m.detach(), model, CONVERGED))

    variable = masks.clone().requires_grad_()
    minimum(variable).backward()
    assert variable.grad is not None
    checked = 0
    for _ in range(4):
        direction = torch.randn(masks.shape, generator=chance, dtype=torch.float64)
        step = 1e-3
        slope = float(minimum(masks + step * direction) - minimum(masks - step * direction))
        predicted = float((variable.grad * direction).sum())
        assert slope / (2 * step) == pytest.approx(predicted, rel=0.05, abs=0.01)
        checked += abs(predicted) > 0.05
    assert checked >= 2  # the bound above says something for most directions


def test_the_fit_gets_no_gradient(chance: torch.Generator) -> None:
    masks = soft(chance).requires_grad_()
    flow = noise(chance).requires_grad_()
    losses = losses_of(masks, flow, QUADRATIC, LossSettings(beta=0.0), EVERY)
    losses.total.backward()
    assert flow.grad is None or float(flow.grad.abs().max()) == 0
    motion = fit_motion(flow.detach(), masks.detach(), QUADRATIC, EVERY)
    norm = flow.detach().abs().sum(dim=(1, 3, 4))[:, None, :, None, None]
    expected = motion.residual(flow.detach()) / norm / SIZE[0]
    torch.testing.assert_close(masks.grad, expected)


def test_descending_the_loss_separates_two_motions(chance: torch.Generator) -> None:
    """The loss on its own, with free logits for a network, finds the halves of the frame."""
    size = (3, 8, 12)
    flow = torch.zeros(1, 2, *size, dtype=torch.float64)
    flow[:, 0, :, :, :6], flow[:, 0, :, :, 6:] = 2, -1
    logits = 0.1 * torch.randn(1, 2, *size, generator=chance, dtype=torch.float64)
    logits.requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.2)
    for _ in range(40):
        optimiser.zero_grad()
        losses = losses_of(logits.softmax(1), flow, MODELS["translation"], LossSettings(), EVERY)
        losses.total.backward()
        optimiser.step()
    labels = logits.argmax(1)[0]
    assert float(losses.reconstruction.detach()) < 0.05
    assert (labels[..., :6] == labels[0, 0, 0]).all()
    assert (labels[..., 6:] == 1 - labels[0, 0, 0]).all()
