"""Masks refined by the flow they were made from: no part of the paper, and off by default.

The network's masks are wide where things move differently (L_c pays for borders that move), but the
flow knows better where they end. Two steps, neither of which is trained:

1. Each site is given anew, with the network's masks as the prior: p_k ∝ m_k exp(-λ r_k / |f|),
   where r_k is the distance of the flow from the motion model fitted to mask k and |f| the mean L1
   norm of the flow of that instant, both as in eq. 3. For fixed models this minimises
   λ L_r + KL(p | m) at every site.
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
        model: motion model of the segments, the paper's.
        fit: how it is fitted; less thorough than for figures, since λ r is all that is wanted.
        guide: how borders follow the flow.
    """

    weight: float = 16.0
    model: str = "quadratic-time"
    fit: FitSettings = field(default_factory=lambda: FitSettings(steps=4, stride=4))
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
        flow: what the network saw, in pixels a frame.
        settings: how.
    """
    prior = torch.log_softmax(logits.float(), dim=1)
    fitted = fit_motion(flow, prior.exp(), motion_model(settings.model), settings.fit)
    norm = flow.abs().sum(dim=1).mean(dim=(2, 3)).clamp_min(1e-6)  # (b, t)
    score = prior - settings.weight / norm[:, None, :, None, None] * fitted.residual(flow)
    sites, guide = torch.softmax(score, dim=1).movedim(1, -1).cpu().numpy(), flow.cpu().numpy()
    followed = [
        torch.from_numpy(guided(m, f, settings.guide)) for m, f in zip(sites, guide, strict=True)
    ]
    masks = torch.stack(followed).movedim(-1, 1)
    masks = masks / masks.sum(dim=1, keepdim=True)  # what was clipped no longer adds up to one
    return masks.mul_(255).round_().to(torch.uint8).contiguous().to(flow.device)
