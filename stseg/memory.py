"""Memory of this process: how much it has, and giving back what it no longer needs."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

MIB = 2**20

M_ARENA_MAX = -8
"""Of ``mallopt``, from glibc's malloc.h."""


def resident() -> int | None:
    """Resident memory of this process in bytes; None where the system does not tell it so."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def share_heaps(heaps: int = 2) -> None:
    """Let all threads share so few heaps of glibc, to be called before there are threads.

    By default it makes eight for each core, and each keeps pages that are only partly free.
    """
    try:
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, heaps)
    except (AttributeError, OSError, TypeError):  # another C library
        return


def keep() -> None:
    """Everything that is there now stays until the end: collections need not look at it."""
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Return what is no longer needed to the system.

    Python waits long before it looks for cycles, which hold large arrays as well as small objects,
    and glibc keeps what many threads have freed in between.
    """
    gc.collect()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library
        return
    trim(0)
