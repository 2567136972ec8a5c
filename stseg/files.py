"""Files that are either whole or not there, and the order of their names."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from stseg.errors import InputError

STALE = 3600.0
"""Seconds after which an unfinished file that nobody writes to belongs to nobody."""


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
        sweep(path.parent, f".{glob.escape(path.name)}.*.part")
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


def check_writable(folder: Path) -> None:
    """Check at the door that files can be written to ``folder``; nothing is left there.

    Raises:
        InputError: it is a file, or nobody may write to it.
    """
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be written: {error.strerror}. Choose another folder."
        ) from error


def check_place(path: Path) -> None:
    """Check at the door that a file can be written to ``path``; nothing is left there.

    Raises:
        InputError: there is a folder of that name, or its folder cannot be written.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a file to write. Choose another name.")
    check_writable(path.parent)


def sweep(folder: Path, pattern: str) -> None:
    """Remove what a killed process left half-written in ``folder``, once it is old enough.

    Args:
        folder: where our unfinished files and folders lie.
        pattern: of their names. What was written to within ``STALE`` seconds may be in the making.
    """
    for left in folder.glob(pattern):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def no_space(error: OSError) -> str | None:
    """The sentence for a full disk, from whatever writing failed; None for another error."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return None
    return (
        f"The disk is full ({error.strerror}). Free some space where the results and where the "
        f"temporary files go ({tempfile.gettempdir()}), or choose other folders (--out, TMPDIR). "
        "Nothing half-written is left."
    )


def too_long(error: OSError) -> str | None:
    """The sentence for a name that the file system cannot have; None for another error."""
    if error.errno != errno.ENAMETOOLONG:
        return None
    return f"A name is too long: {error.filename}. Choose a shorter one."


def denied(error: OSError) -> str | None:
    """The sentence for a file that may not be opened; None for another error."""
    if not isinstance(error, PermissionError) or error.filename is None:
        return None
    told = f"{error.filename} may not be opened: {error.strerror}."
    return f"{told} Change its rights, or choose another."


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Key that sorts names as people count: frame9 before frame10, whatever the case."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name
