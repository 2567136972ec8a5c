"""Data parallel work under ``torchrun``: who one is among the processes, and means over them."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Team:
    """One process among those that share a run.

    Attributes:
        rank: its number; 0 writes the files and speaks.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Mean of ``values`` over the processes, the same in all of them."""
        if self.size == 1:
            return values
        total = values.clone()
        distributed.all_reduce(total)
        return total / self.size

    def share(self, count: int) -> slice:
        """Which of ``count`` samples are this process's."""
        return slice(self.rank, count, self.size)

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            distributed.barrier()


ALONE = Team()


def launched() -> bool:
    """Whether ``torchrun`` started this process."""
    return distributed.is_available() and "WORLD_SIZE" in os.environ and "RANK" in os.environ


@contextmanager
def team(device_type: str) -> Iterator[Team]:
    """The team that ``torchrun`` made, or this process alone.

    On CUDA each process takes the GPU of its local rank as its current device. What trains
    should be local to a function that returns before the context ends: a model that still refers
    to the group keeps gloo's threads, and one that wakes while Python ends aborts the process.

    Args:
        device_type: "cuda" (NCCL) or "cpu" (gloo).
    """
    if not launched():
        yield ALONE
        return
    if device_type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # Its functions have the group that there is when it is imported as their default, for ever;
    # DistributedDataParallel imports it when there is one.
    import_module("torch.distributed.nn")
    distributed.init_process_group("nccl" if device_type == "cuda" else "gloo")
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size())
    finally:
        gc.collect()  # a DistributedDataParallel refers to itself
        distributed.destroy_process_group()
