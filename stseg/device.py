"""Where the network runs, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from stseg.errors import InputError


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
