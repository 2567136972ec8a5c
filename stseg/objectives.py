"""What a step of training makes smaller: the losses of the paper, or the distance to a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from stseg.device import Device
from stseg.losses import Losses, LossSettings, joint_losses
from stseg.motion import FitSettings, MotionModel
from stseg.network import SegmentationNetwork

RARE = 0.3
"""What the sites outside the teacher's largest segment count beside all sites, each as a mean."""

_FEWEST = 0.05
_LEAST_PROBABILITY = 1e-5


@runtime_checkable
class Objective(Protocol):
    """Losses of several heads on the same flow; ``total`` is what training makes smaller."""

    def __call__(
        self,
        heads: Sequence[Tensor],
        flow: Float[Tensor, "b 2 t h w"],
        motion: Float[Tensor, "b 2 t h w"],
        losses: LossSettings,
        device: Device,
    ) -> list[Losses]:
        """Losses of each head.

        Args:
            heads: masks (b, k, t, h, w) of each.
            flow: the better flow where there are two, not corrupted.
            motion: from each instant to the next (see ``stseg.losses.consistency_loss``).
            losses: β and η.
            device: where all of it is, and in which precision networks run.
        """
        ...


@dataclass(frozen=True)
class MotionObjective:
    """L = L_r + β L_c (eq. 6): nothing but the flow tells what is right.

    Attributes:
        model: motion model of the segments.
        fit: how it is fitted.
    """

    model: MotionModel
    fit: FitSettings

    def __call__(
        self,
        heads: Sequence[Tensor],
        flow: Float[Tensor, "b 2 t h w"],
        motion: Float[Tensor, "b 2 t h w"],
        losses: LossSettings,
        device: Device,
    ) -> list[Losses]:
        """See ``Objective``."""
        return joint_losses(heads, flow, self.model, losses, self.fit, motion)


@dataclass(frozen=True, eq=False)
class Imitation:
    """Distance to the masks that a teacher gives on the better flow (ours, not the paper's).

    Eq. 6 does not know which motion is the object's: a network that goes on with it on rougher
    flow may come to think otherwise. The teacher, who has learnt without labels, tells what it
    would have said if the flow had been better. L_r and L_c are told beside it, and not trained.

    Attributes:
        teacher: it has a head for every K that is trained.
        watched: what L_r and L_c are of.
    """

    teacher: SegmentationNetwork
    watched: MotionObjective

    def __call__(
        self,
        heads: Sequence[Tensor],
        flow: Float[Tensor, "b 2 t h w"],
        motion: Float[Tensor, "b 2 t h w"],
        losses: LossSettings,
        device: Device,
    ) -> list[Losses]:
        """See ``Objective``."""
        teacher = self.teacher.to(flow.device)
        with torch.no_grad():
            known = self.watched(heads, flow, motion, losses, device)
            with device.autocast():
                features = teacher.features(flow)
                wanted = [teacher.masks(features, masks.shape[1]) for masks in heads]
        return [
            Losses(agreement_loss(masks, want), each.reconstruction, each.consistency)
            for masks, want, each in zip(heads, wanted, known, strict=True)
        ]


def agreement_loss(
    masks: Float[Tensor, "b k t h w"], wanted: Float[Tensor, "b k t h w"]
) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence of the masks from wanted ones, a weighted mean over the sites.

    Choices: what lies outside the largest wanted segment of a sample is mostly small and counts
    more, by ``RARE``. A segment that a site is given with less than 1e-5 does not pull it: where
    masks contradict the wanted ones so surely, the flows differ.
    """
    probability = masks.clamp_min(_LEAST_PROBABILITY)
    distance = torch.xlogy(wanted, wanted) - wanted * probability.log()
    largest = wanted.mean(dim=(2, 3, 4)).argmax(dim=1)
    rare = 1 - wanted[torch.arange(len(wanted), device=wanted.device), largest]  # (b, t, h, w)
    weight = 1 + RARE * rare / (rare.mean(dim=(1, 2, 3), keepdim=True) + _FEWEST)
    each = (distance.sum(dim=1) * weight).mean(dim=(1, 2, 3)) / weight.mean(dim=(1, 2, 3))
    return each.mean()
