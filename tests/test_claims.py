"""Kept results and claims, also of processes that died."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stseg.claims import WorkFolder
from stseg.errors import InputError

HOLD = """
import sys, time
from pathlib import Path
from stseg.claims import WorkFolder
with WorkFolder(Path(sys.argv[1])).claim("k") as ours:
    print(ours, flush=True)
    time.sleep(120)
"""


def test_a_result_is_kept_and_forgotten(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path / "work")
    assert work.load("k") is None
    work.store("k", {"a": [1]})
    assert WorkFolder(tmp_path / "work").load("k") == {"a": [1]}
    work.drop("k")
    assert work.load("k") is None


def test_a_damaged_result_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    work = WorkFolder(tmp_path)
    (tmp_path / "k.json").write_text('{"a": ')
    assert work.load("k") is None
    assert "is unusable" in caplog.text


def test_only_one_has_a_claim(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path)
    with work.claim("k") as first:
        assert first
        with work.claim("k") as second, work.claim("other") as other:
            assert not second
            assert other
    with work.claim("k") as again:
        assert again
    assert list(tmp_path.iterdir()) == []  # claims leave nothing behind


def test_a_claim_dies_with_its_process(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "True\n"
        work = WorkFolder(tmp_path)
        with work.claim("k") as ours:
            assert not ours
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=20)
    assert (tmp_path / "k.claim").exists()  # what it left does not stand in the way
    begun = time.monotonic()
    with work.claim("k") as ours:
        assert ours
    assert time.monotonic() - begun < 5


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"work folder .*file/work cannot be made"):
        WorkFolder(tmp_path / "file" / "work")
