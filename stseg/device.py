"""Where the network runs, in which precision, and what if memory does not suffice there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch

from stseg.errors import InputError

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Device:
    """A torch device and whether bfloat16 is fast on it.

    Attributes:
        torch: the device itself.
        bfloat16: whether it multiplies bfloat16 natively.
        name: what a person calls it.
    """

    torch: torch.device
    bfloat16: bool
    name: str

    def autocast(self) -> AbstractContextManager[None]:
        """bfloat16 autocast where it is fast, else nothing."""
        return torch.autocast(self.torch.type, torch.bfloat16, enabled=self.bfloat16)


def choose_device(name: str = "auto", bfloat16: bool = True) -> Device:
    """The device of that name: "auto" takes a GPU where there is one.

    Args:
        name: "auto", "cpu" or "cuda".
        bfloat16: False keeps to float32 everywhere.

    Raises:
        InputError: when CUDA is asked for and there is none, or the name is unknown.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"There is no device {name!r}. Choose auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("PyTorch finds no CUDA device here. Choose auto or cpu.")
    if name != "cpu" and torch.cuda.is_available():
        fast = bfloat16 and torch.cuda.is_bf16_supported()
        return Device(torch.device("cuda"), fast, f"CUDA: {torch.cuda.get_device_name()}")
    fast = bfloat16 and _cpu_has_bfloat16()
    threads = torch.get_num_threads()
    unit = "thread" if threads == 1 else "threads"
    precision = "bf16" if fast else "float32"
    return Device(torch.device("cpu"), fast, f"CPU, {precision}, {threads} {unit}")


def _cpu_has_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _lacks_memory(error: RuntimeError) -> bool:
    """Whether memory ran out: for want of it on the CPU PyTorch raises an error of no own kind."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


class Frugal:
    """Runs batches on a device; what it learns of the device's memory stays.

    Where memory runs out, batches become half as large; where not even one item fits, the rest is
    done on the CPU. Each time one line in the log says so, and ``notes`` keeps it.

    Args:
        device: where to begin.
        move: moves the model to another device.
        most: items a part may have from the beginning; None sets no limit.

    Attributes:
        device: where the work runs now.
        notes: sentences of what had to be changed, for whoever waits.
    """

    def __init__(
        self, device: Device, move: Callable[[Device], object], most: int | None = None
    ) -> None:
        self.device = device
        self.notes: list[str] = []
        self._move = move
        self._most = most

    def run(
        self, items: Sequence[Item], work: Callable[[Sequence[Item], Device], Result]
    ) -> list[Result]:
        """The results of the parts of a batch, in order; one part where memory suffices.

        Raises:
            RuntimeError: memory does not even suffice on the CPU.
        """
        results, done = [], 0
        while done < len(items):
            part = items[done : done + (self._most or len(items))]
            failed = False
            try:
                results.append(work(part, self.device))
            except RuntimeError as error:
                if not _lacks_memory(error) or (self.device.torch.type == "cpu" and len(part) == 1):
                    raise
                failed = True
            if failed:  # out of the ``except``: its traceback would hold the tensors
                self._shrink(len(part))
            else:
                done += len(part)
        return results

    def _shrink(self, tried: int) -> None:
        if self.device.torch.type == "cuda":
            torch.cuda.empty_cache()
        if tried > 1:
            self._most = tried // 2
            note = f"{self.device.name} is out of memory: {self._most} at a time instead of {tried}"
        else:
            before, self.device = self.device, choose_device("cpu")
            self._move(self.device)
            note = f"{before.name} is out of memory: {self.device.name} does the rest"
        self.notes.append(f"{note}.")
        logger.warning("%s.", note)
