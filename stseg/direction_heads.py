"""Heads for more K from the head of one that is there: the directions of what moves (ours).

Trained from chance, some heads use fewer segments than they have. What one of them calls
background, and the direction in which the rest moves, begins all others alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stseg.global_motion import relative_flow
from stseg.network import SegmentationNetwork

_SITES = 12_000
"""Sites looked at in each batch of volumes."""

_DECAY = 1e-5
_ITERATIONS = 80


def begin_direction_heads(
    network: SegmentationNetwork,
    batches: Iterable[Float[Tensor, "b 2 t h w"]],
    known: int,
    ks: Sequence[int],
    generator: torch.Generator,
) -> None:
    """Set the heads for ``ks``: background, and K - 1 equal sectors of the direction of motion.

    The background is the segment of the head for ``known`` with most sites. The weights are those
    of a multinomial logistic regression on the features; no label of anybody is used.

    Args:
        network: its heads for ``ks`` are changed in place.
        batches: flow to learn from, on the network's device.
        known: K of the head that tells background from what moves.
        ks: the heads to set.
        generator: chooses the sites, on the CPU.
    """
    features, segments, turns = _sites(network, batches, known, generator)
    rest = segments != segments.mode().values
    for k in ks:
        sector = (turns * (k - 1)).long().clamp_max(k - 2)
        weight, bias = _regression(features, torch.where(rest, 1 + sector, 0), k)
        with torch.no_grad():
            head = network.get_submodule(f"heads.{k}")
            head.get_parameter("weight").copy_(weight[..., None, None, None])
            head.get_parameter("bias").copy_(bias)


@torch.no_grad()
def _sites(
    network: SegmentationNetwork,
    batches: Iterable[Tensor],
    known: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "n c"], Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Features, segment and direction (in turns, 0 to 1) of sites drawn at random."""
    drawn: list[tuple[Tensor, Tensor, Tensor]] = []
    for flow in batches:
        features = network.features(flow)
        segments = network.masks(features, known).argmax(1).flatten()
        own = relative_flow(flow)
        turns = torch.atan2(own[:, 1], own[:, 0]).flatten() / (2 * math.pi) % 1
        chosen = torch.randperm(len(segments), generator=generator)[:_SITES].to(flow.device)
        sites = features.movedim(1, -1).flatten(0, 3)[chosen].float()
        drawn.append((sites, segments[chosen], turns[chosen]))
    features, segments, turns = (torch.cat(part) for part in zip(*drawn, strict=True))
    return features, segments, turns


def _regression(
    features: Float[Tensor, "n c"], classes: Int[Tensor, " n"], k: int
) -> tuple[Float[Tensor, "k c"], Float[Tensor, " k"]]:
    """Weights and biases of a multinomial logistic regression."""
    weight = features.new_zeros(k, features.shape[1]).requires_grad_()
    bias = features.new_zeros(k).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        logits = torch.addmm(bias, features, weight.T)
        loss = torch.nn.functional.cross_entropy(logits, classes) + _DECAY * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return weight.detach(), bias.detach()
