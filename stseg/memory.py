"""Memory of this process: how much it has, and giving back what it no longer needs."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Sequence
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


_LAUNCHER = """
import resource, subprocess, sys
ended = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(ended.returncode != 0)
"""


def peak_of(command: Sequence[str]) -> tuple[bool, int]:
    """Run a command to its end, unheard: whether it failed, and the bytes that it held at most.

    The system counts what a process held before it became the command as its own, which is all
    of the one that it comes from: therefore a small one starts it.

    Raises:
        OSError: the command cannot be started.
    """
    launcher = [sys.executable, "-c", _LAUNCHER, *command]
    ended = subprocess.run(launcher, capture_output=True, text=True, check=False)
    if not ended.stdout:
        raise OSError(f"{command[0]} cannot be started: {ended.stderr.strip()}")
    unit = 1 if sys.platform == "darwin" else 1024
    return bool(ended.returncode), int(ended.stdout) * unit


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
