"""How threads wait for one another: to be settled before torch is imported."""

from __future__ import annotations

import os

SPINS = "3000"
"""Turns of a waiting loop, some microseconds: about what waking a thread takes."""

_SETTLED = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def wait_briefly() -> None:
    """Let the threads of OpenMP sleep as soon as they have nothing to do.

    GNU's OpenMP, which torch has on Linux, lets them spin for milliseconds after each operation.
    Whatever else would work then, OpenCV's threads or another process, waits for cores on which
    nothing is done: two processes on two cores get half of the throughput. Nothing changes where
    the environment says how to wait, or where torch is imported already.
    """
    if not any(os.environ.get(name) for name in _SETTLED):
        os.environ["GOMP_SPINCOUNT"] = SPINS
