"""The losses of the paper: L_r (eq. 3), L_c (eq. 4) with η (eq. 5), and their sum (eq. 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stseg.correspondence import read_along
from stseg.errors import InputError
from stseg.motion import FitSettings, FittedMotion, MotionModel, fit_motion, inverse_norms


def reconstruction_loss(
    masks: Float[Tensor, "b k t h w"],
    flow: Float[Tensor, "b 2 t h w"],
    motion: FittedMotion,
) -> Float[Tensor, ""]:
    """L_r (eq. 3): how badly the motion models of the segments explain the flow.

    L_r = mean over t of [ Σ_i Σ_k m_k(i, t) |f(i, t) - f_k(i, t)|_1 / Σ_i |f(i, t)|_1 ].

    Choices: each instant is divided by the norm of its own flow, so that the three count alike;
    one that does not move at all adds nothing, whatever the models say of it. The mean is over the
    batch too. No gradient flows into ``motion`` (the masks are held fixed in the fit).
    """
    with torch.no_grad():
        residual = motion.residual(flow)
        residual *= inverse_norms(flow)[:, None, :, None, None]
    return (masks * residual).sum(dim=(1, 3, 4)).mean()


def _change(
    values: Float[Tensor, "b c t h w"], motion: Float[Tensor, "b 2 t h w"] | None
) -> Float[Tensor, "b c s h w"]:
    """Change from each instant to the next, s = t - 1 of them: at the site, or along the motion.

    Along the motion, what leaves the frame counts as unchanged.
    """
    earlier, later = values[:, :, :-1], values[:, :, 1:]
    if motion is None:
        return later - earlier
    met, inside = read_along(later, motion[:, :, :-1])
    return (met - earlier) * inside[:, None]


def flow_change(
    flow: Float[Tensor, "b 2 t h w"], motion: Float[Tensor, "b 2 t h w"] | None = None
) -> Float[Tensor, "b s h w"]:
    """L1 change of the flow between consecutive instants, s = t - 1 of them.

    Args:
        flow: of the volume.
        motion: see ``consistency_loss``.
    """
    return _change(flow, motion).abs().sum(dim=1)


def visible_sites(
    flow: Float[Tensor, "b 2 t h w"],
    eta: float,
    motion: Float[Tensor, "b 2 t h w"] | None = None,
) -> Bool[Tensor, "b s h w"]:
    """Sites that L_c looks at (eq. 5): all but the fraction η with the largest flow change.

    Choice: the quantile is taken over all changes of one triplet together, so that an instant of
    strong occlusion may lose more than its share. Exactly round(η n) of the n sites are left out,
    of equal ones the first (time, then row, then column), as ``stseg.render.occluded_sites`` does
    for a pair; η = 0 keeps all and η = 1 none.
    """
    change = flow_change(flow, motion)
    sites = change.flatten(1)
    hidden = round(eta * sites.shape[1])
    if not hidden:
        return torch.ones_like(change, dtype=torch.bool)
    # Which of equal sites ``topk`` takes depends on the device; its smallest value does not.
    least = sites.topk(hidden, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    above, equal = sites > least, sites == least
    left = hidden - above.sum(dim=1, keepdim=True)
    return ~(above | (equal & (equal.cumsum(dim=1) <= left))).view_as(change)


def consistency_loss(
    masks: Float[Tensor, "b k t h w"],
    flow: Float[Tensor, "b 2 t h w"],
    eta: float = 0.01,
    motion: Float[Tensor, "b 2 t h w"] | None = None,
) -> Float[Tensor, ""]:
    """L_c (eq. 4): mean L1 change of the masks between consecutive instants, occlusions left out.

    The mean is over segments, sites and pairs of instants; sites that η leaves out count as
    unchanged. One instant alone has no change: 0.

    Eq. 4 compares a site with itself, so that a mask that follows what moves pays for it. With
    ``motion`` (ours, not the paper's) a site is compared with the place that it moves to, in L_c
    and in eq. 5; what leaves the frame counts as unchanged.

    Args:
        masks: of the volume.
        flow: of the volume; eq. 5 looks at it.
        eta: fraction of sites left out.
        motion: from each instant to the next, as a fraction of the frame's width and height (of
            the last instant it is not read); None compares every site with itself.
    """
    if masks.shape[2] < 2:
        return masks.new_zeros(())
    change = _change(masks, motion).abs().mean(dim=1)  # (b, t - 1, h, w)
    return (change * visible_sites(flow, eta, motion)).mean()


@dataclass(frozen=True)
class LossSettings:
    """Weights of the total loss (eq. 6).

    Attributes:
        beta: weight β of L_c; 0 trains without it (Table 1, "without L_c").
        eta: fraction η of sites left out of L_c.
        along_motion: L_c compares a site with the place that it moves to, not with itself.

    Raises:
        InputError: β is negative or not finite, or η not a fraction.
    """

    beta: float = 1.0
    eta: float = 0.01
    along_motion: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.beta < math.inf:
            raise InputError(f"β is the weight of L_c and cannot be {self.beta}. Give 0 or more.")
        if not 0 <= self.eta <= 1:
            raise InputError(f"η is a fraction of the sites, not {self.eta}. Give 0 to 1.")


@dataclass(frozen=True)
class Losses:
    """The total loss of eq. 6 and its two parts."""

    total: Float[Tensor, ""]
    reconstruction: Float[Tensor, ""]
    consistency: Float[Tensor, ""]


def joint_losses(
    heads: Sequence[Tensor],
    flow: Float[Tensor, "b 2 t h w"],
    model: MotionModel,
    settings: LossSettings,
    fit: FitSettings,
    motion: Float[Tensor, "b 2 t h w"] | None = None,
) -> list[Losses]:
    """L = L_r + β L_c (eq. 6) of several heads on the same flow, the masks held fixed in the fit.

    The motion models of all segments of all heads are fitted at once.

    Args:
        heads: masks (b, k, t, h, w) of each head.
        flow: the flow that they segment.
        model: motion model of the segments.
        settings: β and η.
        fit: how the models are fitted.
        motion: from each instant to the next (see ``consistency_loss``), for L_c along the motion.

    Raises:
        ValueError: the settings want L_c along the motion, and none is given.
    """
    if settings.along_motion and motion is None:
        raise ValueError("L_c along the motion needs the motion from each instant to the next.")
    path = motion if settings.along_motion else None
    together = torch.cat([masks.detach() for masks in heads], dim=1)
    fitted = fit_motion(flow, together, model, fit)
    parts = fitted.coefficients.split([masks.shape[1] for masks in heads], dim=1)
    losses = []
    for masks, coefficients in zip(heads, parts, strict=True):
        models = FittedMotion(model, fitted.size, coefficients)
        reconstruction = reconstruction_loss(masks, flow, models)
        consistency = consistency_loss(masks, flow, settings.eta, path)
        total = reconstruction + settings.beta * consistency
        losses.append(Losses(total, reconstruction, consistency))
    return losses
