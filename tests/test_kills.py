"""A few random kills; ``python -m benchmarks.kills`` makes as many as one likes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

WORDS = ["--count", "6", "--seed", "7", "--only", "train", "weights", "cache"]


def kill_at_random(folder: Path) -> subprocess.CompletedProcess[str]:
    # In a process of its own: a fork of this one would lose the threads of its libraries.
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.kills", *WORDS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.aside(work=kill_at_random)
def test_nothing_half_written_is_taken_for_whole(aside: subprocess.CompletedProcess[str]) -> None:
    assert aside.returncode == 0, aside.stdout + aside.stderr
    assert " 0 not survived" in aside.stdout
