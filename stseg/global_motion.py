"""Flow without the global motion of the frame: what is left moves by itself (ours)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from stseg.motion import FitSettings, fit_motion, motion_model

STRIDE = 4
"""Rows and columns from one site that is looked at to the next."""

_REFITS = {"translation": 4, "affine": 6, "quadratic": 6}
"""Fits of each model, from the stiffest on: a thing that fills a third of the frame bends a
quadratic model towards itself, and the rest of the frame then seems to move."""

_CUT = 1.5
"""Residual, in medians of the volume, at which a site has a quarter of its weight."""

_LEAST_SCALE = 1e-6
"""Pixels a frame: a smaller median residual is rounding."""


def relative_flow(flow: Float[Tensor, "b 2 t h w"]) -> Float[Tensor, "b 2 t h w"]:
    """Flow less one space-time quadratic model of the volume (eq. 2), fitted to its background.

    The background is what one motion explains best: sites far off the model hardly weigh (Geman and
    McClure's function), which models of growing freedom decide, beginning at the median vector.
    Where two things move, what is left differs in direction, and a network that sees a small part
    of the frame can tell them apart.
    """
    left = flow[..., ::STRIDE, ::STRIDE]
    left = left - left.flatten(2).median(dim=2).values[..., None, None, None]
    in_time = "" if flow.shape[2] == 1 else "-time"
    for name, refits in _REFITS.items():
        for _ in range(refits):
            left = left - _fitted(left, _background(left), name + in_time, stride=1)
    weights = torch.zeros_like(flow[:, :1])
    weights[..., ::STRIDE, ::STRIDE] = _background(left)
    return flow - _fitted(flow, weights, "quadratic" + in_time, STRIDE)


def _fitted(
    flow: Float[Tensor, "b 2 t h w"],
    weights: Float[Tensor, "b 1 t h w"],
    model: str,
    stride: int,
) -> Float[Tensor, "b 2 t h w"]:
    least_squares = FitSettings(steps=0, stride=stride)
    fitted = fit_motion(flow, weights, motion_model(model), least_squares)
    return fitted.flow()[:, 0].to(flow.dtype)


def _background(left: Float[Tensor, "b 2 t h w"]) -> Float[Tensor, "b 1 t h w"]:
    """How much each site counts as background: 1 where nothing is left, 0 far from it."""
    squares = left.square().sum(dim=1, keepdim=True)
    median = squares.flatten(1).median(dim=1).values
    scale = _CUT**2 * median.clamp_min(_LEAST_SCALE**2)
    return (1 + squares / scale.view(-1, 1, 1, 1, 1)).square().reciprocal()
