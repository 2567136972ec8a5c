"""A few random kills; ``python -m benchmarks.kills`` makes as many as one likes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

WORDS = ["--count", "6", "--seed", "7", "--only", "train", "weights", "cache"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_nothing_half_written_is_taken_for_whole() -> None:
    # In a process of its own: a fork of this one would lose the threads of its libraries.
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kills", *WORDS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 not survived" in done.stdout
