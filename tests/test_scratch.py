"""The folder of a running app goes with it, also when it was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stseg.scratch import Scratch, remove_stale

HOLD = """
import time
from stseg.scratch import Scratch
print(Scratch().path, flush=True)
time.sleep(60)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_it_goes_with_close(temporary: Path) -> None:
    scratch = Scratch()
    (scratch.path / "a").mkdir()
    assert [scratch.path] == list(temporary.iterdir())
    assert remove_stale() == 0  # this process owns it
    assert scratch.path.is_dir()
    scratch.close()
    scratch.close()
    assert not list(temporary.iterdir())


def test_what_a_killed_app_left_goes_at_the_next_start(temporary: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], env=environment, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        left = Path(holder.stdout.readline().strip())
        (left / "stseg-private-x").mkdir()
        (left / "stseg-private-x" / "secret.mp4").write_bytes(b"x")
        other = Scratch()
        assert left.is_dir(), "an app that runs lost its files"
        holder.kill()
    own = Scratch()
    assert not left.exists()
    assert other.path.is_dir()
    other.close()
    own.close()


def test_what_is_not_ours_stays(temporary: Path) -> None:
    making = temporary / "stseg-app-young"  # between its making and its lock
    making.mkdir()
    old = temporary / "stseg-app-old"
    old.mkdir()
    os.utime(old, (0, 0))
    outside = temporary / "data"
    outside.mkdir()
    (temporary / "stseg-app-link").symlink_to(outside)
    (temporary / "stseg-notes").mkdir()
    assert remove_stale() == 1
    assert not old.exists()
    assert making.is_dir()
    assert outside.is_dir()
    assert (temporary / "stseg-app-link").is_symlink()
    assert (temporary / "stseg-notes").is_dir()
