"""Masks refined by the flow they were made from: no part of the paper, and off by default.

The network's masks are wide where things move differently (L_c pays for borders that move), but the
flow knows better where they end. Two steps, neither of which is trained:

1. Each site is given anew, with the network's masks as the prior: p_k ∝ m_k exp(-λ r_k / |f|),
   where r_k is the distance of the flow from the motion model fitted to mask k and |f| the mean L1
   norm of the flow of that instant, both as in eq. 3. For fixed models this minimises
   λ L_r + KL(p | m) at every site. Each instant has models of its own, since what jerks (a frame
   that is there twice, and the leap after it) is not linear in time. An instant that hardly moves
   says nothing, and noise is not taken for motion where nothing else moves.
2. A guided filter moves what is left of soft borders to where the flow changes
   (``stseg.guided_filter``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from stseg.guided_filter import GuideSettings, guided
from stseg.motion import FitSettings, fit_motion, motion_model


@dataclass(frozen=True)
class RefinementSettings:
    """How masks are refined; measured in ``benchmarks/learning.md``.

    Attributes:
        weight: λ, of the residual against the network's word.
        still: an instant that moves less than this share of the mean of its triplet is refined the
            less, the less it moves.
        noise: mean L1 norm of the flow, in pixels a frame, below which residuals weigh no more.
        model: motion model of each segment at each instant; spatial.
        fit: how it is fitted.
        guide: how borders follow the flow.
    """

    weight: float = 16.0
    still: float = 0.5
    noise: float = 0.25
    model: str = "quadratic"
    fit: FitSettings = field(default_factory=lambda: FitSettings(steps=4))
    guide: GuideSettings = field(default_factory=GuideSettings)


REFINEMENT = RefinementSettings()


@torch.no_grad()
def refined_masks(
    logits: Float[Tensor, "b k t h w"],
    flow: Float[Tensor, "b 2 t h w"],
    settings: RefinementSettings = REFINEMENT,
) -> UInt8[Tensor, "b k t h w"]:
    """Soft masks in steps of 1/255, refined by the flow.

    Args:
        logits: of the network.
        flow: what the network was given, in pixels a frame.
        settings: how.
    """
    norm = flow.abs().sum(dim=1).mean(dim=(2, 3))  # (b, t)
    usual = settings.still * norm.mean(dim=1, keepdim=True)
    moves = (norm / usual.clamp_min(1e-6)).clamp_max(1)[:, None, :, None, None]
    weight = settings.weight / norm.clamp_min(settings.noise)[:, None, :, None, None]

    prior = torch.log_softmax(logits.float(), dim=1)
    residual = _residual(flow, prior.exp(), settings)
    soft = torch.softmax(prior - moves.square() * weight * residual, dim=1)
    sites, guide = soft.movedim(1, -1).cpu().numpy(), flow.cpu().numpy()
    followed = [
        torch.from_numpy(guided(m, f, settings.guide)) for m, f in zip(sites, guide, strict=True)
    ]
    masks = soft.lerp(torch.stack(followed).movedim(-1, 1).to(soft.device), moves)
    masks = masks / masks.sum(dim=1, keepdim=True)  # what was clipped no longer adds up to one
    return masks.mul_(255).round_().to(torch.uint8).contiguous()


def _residual(
    flow: Float[Tensor, "b 2 t h w"],
    masks: Float[Tensor, "b k t h w"],
    settings: RefinementSettings,
) -> Float[Tensor, "b k t h w"]:
    """Distance of the flow from the motion of each segment, in pixels a frame."""
    b, t = flow.shape[0], flow.shape[2]
    fields, shares = (each.transpose(1, 2).flatten(0, 1).unsqueeze(2) for each in (flow, masks))
    fitted = fit_motion(fields, shares, motion_model(settings.model), settings.fit)
    return fitted.residual(fields).squeeze(2).unflatten(0, (b, t)).transpose(1, 2)
