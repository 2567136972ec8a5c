"""What a network sees and its losses are given, while something trains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import pytest
from torch import Tensor

from stseg.losses import Losses, LossSettings, joint_losses
from stseg.motion import FitSettings
from stseg.network import SegmentationNetwork


@dataclass(frozen=True)
class Pass:
    """One look at volumes: what the network sees, and what the losses are given."""

    training: bool
    ks: tuple[int, ...]
    volume: Tensor
    flow: Tensor
    motion: Tensor
    model: str
    weights: LossSettings
    fit: FitSettings


def note_passes(
    network: SegmentationNetwork,
    module: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    factor: float = 1.0,
) -> list[Pass]:
    """Every look from now on, as it comes; the losses are ``factor`` times as large.

    Args:
        network: what is trained.
        module: what asks for its losses; it calls ``joint_losses``.
        monkeypatch: takes both back.
        factor: of the losses.
    """
    seen: list[Pass] = []
    latest: list[Tensor] = []
    features = network.features

    def looking(volume: Tensor) -> Tensor:
        latest[:] = [volume]
        return features(volume)

    def noting(
        heads: Any, flow: Tensor, model: Any, weights: Any, fit: Any, motion: Tensor
    ) -> list[Losses]:
        ks = tuple(masks.shape[1] for masks in heads)
        given = (latest[0], flow, motion, model.name, weights, fit)
        seen.append(Pass(network.training, ks, *given))
        return [
            replace(each, total=factor * each.total)
            for each in joint_losses(heads, flow, model, weights, fit, motion)
        ]

    monkeypatch.setattr(network, "features", looking)
    monkeypatch.setattr(module, "joint_losses", noting)
    return seen
