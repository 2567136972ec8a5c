"""Files that are either whole or not there, and the order of their names."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from stseg.errors import InputError


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is either whole or not there. Raises InputError if it cannot be."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):  # its folder may be what is missing
            part.unlink()
        raise InputError(
            f"{path} cannot be written: {error.strerror}. Choose another place."
        ) from error


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Key that sorts names as people count: frame9 before frame10, whatever the case."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name
