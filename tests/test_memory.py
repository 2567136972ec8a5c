"""What a command held at most: its own, whatever the process is that asks."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from stseg.memory import MIB, peak_of, resident


@pytest.mark.skipif(resident() is None, reason="the system does not tell resident memory")
def test_the_memory_of_who_asks_is_not_counted() -> None:
    mine = np.ones(200 * MIB, np.uint8)
    failed, peak = peak_of([sys.executable, "-c", "pass"])
    assert not failed
    assert MIB < peak < len(mine)


def test_what_a_command_holds_is_counted() -> None:
    _, peak = peak_of([sys.executable, "-c", f"del_ = b'x' * (150 * {MIB}); del del_"])
    assert 150 * MIB < peak < 250 * MIB


def test_a_command_that_fails_says_so_and_is_not_heard(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert peak_of([sys.executable, "-c", code])[0]
    assert peak_of([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])[0]
    assert capfd.readouterr() == ("", "")


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(OSError, match="/nowhere/command cannot be started"):
        peak_of(["/nowhere/command"])
