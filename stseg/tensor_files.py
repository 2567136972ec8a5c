"""Tensors and a JSON header in one safetensors file. No pickle is involved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stseg.errors import InputError
from stseg.files import write_atomically

SHIPPED = Path(__file__).resolve().parent.parent / "checkpoints"
"""The folder of the weights that ship."""

MOST_BYTES = 2**31
"""Of such a file; those that ship have 5 MiB."""

MOST_HEADER = 100 * 2**20
"""Bytes of the header, which holds the losses of every step where a file is the state of a run."""

_KEY = "stseg"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header as one safetensors file, atomically."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(contiguous, metadata={_KEY: json.dumps(header)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON header of a file of ``write_tensors``. No pickle is involved.

    Raises:
        InputError: the file is missing, truncated, or not one of ours.
    """
    with opened(path) as (file, header):
        return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118


@contextmanager
def opened(path: Path, header: int = MOST_HEADER) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The file, of whose tensors nothing is read yet, and its JSON header.

    Args:
        path: the file.
        header: bytes that the header may have: what is read of it takes many times as many.

    Raises:
        InputError: the file is missing, truncated, or not one of ours.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}. Check the path.")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise InputError(
            f"{path} has {size >> 20:,} MiB, but a checkpoint has at most {MOST_BYTES >> 20:,}. "
            "Give a checkpoint of STSeg."
        )
    try:
        with path.open("rb") as start:
            length = int.from_bytes(start.read(8), "little")
        if header < length <= size:
            raise InputError(
                f"{path} has a header of {length >> 10:,} KiB, but one of at most "
                f"{header >> 10:,} KiB is read here. Give a checkpoint of STSeg."
            )
        with safe_open(path, framework="pt") as file:
            yield file, _header(path, (file.metadata() or {}).get(_KEY))
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({error}). Fetch or train it again; files of "
            "torch.save (.pt, .pth, .ckpt) are not read."
        ) from error


def _header(path: Path, text: str | None) -> dict[str, Any]:
    try:
        read = json.loads(text or "")
    except (ValueError, RecursionError):  # also for a number of more digits than Python reads
        read = None
    if not isinstance(read, dict):
        raise InputError(f"{path} is not a checkpoint of STSeg: its header has no settings.")
    return read
