"""The command line and the package start at once: compared with torch, in the same run."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[1]


@cache
def cpu_seconds(*words: str) -> float:
    """CPU time of a process, the best of three: what other work on the machine distorts least."""
    found = []
    for _ in range(3):
        process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        found.append(used.ru_utime + used.ru_stime)
    return min(found)


def test_help_is_there_long_before_torch_would_be() -> None:
    torch = cpu_seconds("-c", "import torch")  # 1 to 2 s where it was measured
    assert cpu_seconds("-m", "stseg", "--help") < min(0.5, 0.4 * torch)


def test_the_package_adds_little_to_torch() -> None:
    # Within one process: the difference of two of them is noise, for torch alone takes seconds.
    program = (
        "import time; start = time.process_time(); import torch; between = time.process_time(); "
        "import stseg; print(between - start, time.process_time() - between)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    torch, added = map(float, done.stdout.split())
    assert added < min(0.3, 0.25 * torch)
