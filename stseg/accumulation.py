"""The gradient of a batch, in as many parts as the device's memory asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stseg.device import Device, Frugal

Item = TypeVar("Item")


def accumulate_gradients(
    frugal: Frugal,
    network: nn.Module,
    items: Sequence[Item],
    losses: Callable[[Sequence[Item], Device], tuple[Tensor, Tensor]],
) -> Tensor:
    """Leave the gradient of the mean loss over ``items`` in the parameters' ``grad``.

    A part that runs out of memory leaves nothing behind: its gradient is added when it is whole.

    Args:
        frugal: where the work runs, and in parts of which size.
        network: whose parameters.
        items: the batch.
        losses: mean loss over a part (scalar), and numbers to be told of it (n,).

    Returns:
        The mean over the batch of the told numbers (n,), without gradient.
    """
    parameters = list(network.parameters())

    def work(part: Sequence[Item], device: Device) -> tuple[list[Tensor | None], Tensor]:
        for parameter in parameters:
            parameter.grad = None
        total, told = losses(part, device)
        share = len(part) / len(items)
        (total * share).backward()
        return [parameter.grad for parameter in parameters], told.detach() * share

    parts = frugal.run(items, work)
    for parameter, *grads in zip(parameters, *(each for each, _ in parts), strict=True):
        known = [grad.to(parameter.device) for grad in grads if grad is not None]
        parameter.grad = sum(known[1:], start=known[0]) if known else None
    return torch.stack([told.cpu() for _, told in parts]).sum(dim=0)


def move_training(network: nn.Module, optimiser: Optimizer, device: Device) -> None:
    """Move a network and the state of its optimiser to a device."""
    network.to(device.torch)
    optimiser.load_state_dict(optimiser.state_dict())  # follows its parameters
