"""Kept results and claims, also of processes that died."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stseg.claims import WorkFolder, in_turn
from stseg.errors import InputError

HOLD = """
import sys, time
from pathlib import Path
from stseg.claims import WorkFolder
with WorkFolder(Path(sys.argv[1])).claim("k") as ours:
    print(ours, flush=True)
    time.sleep(120)
"""


def test_a_result_is_kept(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path / "work")
    assert work.load("k") is None
    work.store("k", {"a": [1]})
    assert WorkFolder(tmp_path / "work").load("k") == {"a": [1]}


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


def test_what_is_kept_is_not_made_again(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path)
    made: list[list[str]] = []

    def make(missing: list[str]) -> dict[str, dict[str, str]]:
        made.append(missing)
        return {name: {"of": name} for name in missing}

    both = {"a": "key-a", "b": "key-b"}
    assert work.fill({"a": "key-a"}, "c", make) == {"a": {"of": "a"}}
    assert work.fill(both, "c", make) == {"a": {"of": "a"}, "b": {"of": "b"}}
    assert made == [["a"], ["b"]]
    work.fill(both, "c", make, suits=lambda record: record["of"] == "b")
    work.fill(both, "c", make, fresh=True)
    assert made[2:] == [["a"], ["a", "b"]]
    with work.claim("c"):
        assert work.fill(both, "c", make) is not None  # nothing is to be made
        assert work.fill(both, "c", make, fresh=True) is None


def test_a_folder_that_can_only_be_read_costs_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    work = WorkFolder(tmp_path)
    work.store("key-a", {"of": "a"})

    def denied(*_: object) -> None:  # root may write everything
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "utime", denied)
    monkeypatch.setattr(Path, "replace", denied)
    both = {"a": "key-a", "b": "key-b"}
    made = work.fill(both, "c", lambda missing: {name: {"made": name} for name in missing})
    assert made == {"a": {"of": "a"}, "b": {"made": "b"}}
    assert "The result of b is not kept: " in caplog.text
    assert "unusable" not in caplog.text
    assert work.load("key-a") == {"of": "a"}


def test_what_another_process_makes_is_asked_for_last() -> None:
    asked: list[tuple[str, bool]] = []
    pauses: list[int] = []

    def attempt(item: str, again: bool) -> str | None:
        asked.append((item, again))
        return None if item == "b" and len(pauses) < 2 else item.upper()

    got = list(in_turn(["a", "b", "c"], attempt, lambda: pauses.append(len(asked))))
    assert got == ["A", "C", "B"]
    assert asked == [("a", False), ("b", False), ("c", False), *[("b", True)] * 3]
    assert pauses == [4, 5]  # the first round gave something: no pause after it


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
