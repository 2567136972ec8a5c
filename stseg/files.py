"""Files that are either whole or not there, and the order of their names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from stseg.errors import InputError


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes its name when the block ends and goes if the block fails.

    Raises:
        InputError: the file cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):  # its folder may be what is missing
            part.unlink()
        if isinstance(error, OSError):
            raise InputError(
                f"{path} cannot be written: {error.strerror}. Choose another place."
            ) from error
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is either whole or not there. Raises InputError if it cannot be."""
    with written_atomically(path) as file:
        file.write(data)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Key that sorts names as people count: frame9 before frame10, whatever the case."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name
