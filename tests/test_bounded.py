"""What a stranger's file does to its process stays in there."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import bad_work
import numpy as np
import pytest

from stseg.bounded import first, stream
from stseg.errors import InputError
from stseg.limits import Limits

LIMITS = Limits(memory=256, patience=1, effort=3)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_items_come_as_they_are_and_in_order() -> None:
    items = list(stream(bad_work.arrays, 5, limits=LIMITS, name="a"))
    assert [item.shape for item in items] == [(3, 4)] * 5
    assert [item[0, 0] for item in items] == [0, 1, 2, 3, 4]
    assert all(item.flags.owndata and item.flags.writeable for item in items)
    assert first(bad_work.told, {"a": [1, "ä\n"]}, limits=LIMITS, name="a") == {"a": [1, "ä\n"]}


def test_it_is_another_process_and_ends_with_the_generator() -> None:
    items = stream(bad_work.process, limits=LIMITS, name="a")
    pid = next(items)
    assert pid != os.getpid()
    assert not gone(pid)
    items.close()
    deadline = time.monotonic() + 5
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert gone(pid)


@pytest.mark.parametrize(
    ("work", "sentence"),
    [
        (bad_work.refused, r"^This is no video\. Give another\.$"),
        (bad_work.crash, r"'a\.mp4' is damaged: it cannot be read to its end"),
        (bad_work.bug, r"'a\.mp4' is damaged"),
        (bad_work.hoard, r"'a\.mp4' takes more than 256 MiB of memory"),
        (bad_work.spin, r"'a\.mp4' takes longer to read than is allowed"),
    ],
)
def test_every_bad_end_is_a_sentence(work: Callable[..., object], sentence: str) -> None:
    items = stream(work, limits=LIMITS, name="a.mp4")
    assert next(items) == 1
    begun = time.monotonic()
    with pytest.raises(InputError, match=sentence):
        next(items)
    assert time.monotonic() - begun < 20


def test_nobody_waits_for_ever_for_the_rest_of_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stseg.bounded.STUCK", 1.0)
    items = stream(bad_work.half_a_message, limits=LIMITS, name="a.mp4")
    assert next(items) == 1
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"'a\.mp4' takes longer to read than is allowed"):
        next(items)
    assert time.monotonic() - begun < 20


def test_a_process_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(process: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(BaseProcess, "start", fail)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Too many open files"):
        list(stream(bad_work.arrays, 5, limits=LIMITS, name="a"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_patience_is_for_each_item_and_effort_for_all() -> None:
    done = []
    with pytest.raises(InputError, match="takes longer"):
        for item in stream(bad_work.spin_a_little, 30, limits=LIMITS, name="a"):
            done.append(item)
    assert 2 <= len(done) <= 6  # beyond one patience of 1 s, but not beyond 3 s in all


def test_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="damaged"):
        first(bad_work.write, tmp_path / "x", limits=LIMITS, name="a")
    assert not (tmp_path / "x").exists() or not (tmp_path / "x").stat().st_size


def test_log_lines_come_out_here(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "stseg.video"):
        first(bad_work.warn, limits=LIMITS, name="a")
    assert [record.getMessage() for record in caplog.records] == ["The file 'a.mp4' breaks off."]


def test_only_plain_arrays_are_taken() -> None:
    with pytest.raises(InputError, match="damaged"):
        first(bad_work.objects, limits=LIMITS, name="a")


def test_nothing_is_left_open() -> None:
    list(stream(bad_work.arrays, 1, limits=LIMITS, name="a"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        list(stream(bad_work.arrays, 3, limits=LIMITS, name="a"))
        stream(bad_work.arrays, 3, limits=LIMITS, name="a").close()
        next(stream(bad_work.arrays, 3, limits=LIMITS, name="a"))
    assert len(os.listdir("/proc/self/fd")) <= before
    assert np.all(first(bad_work.arrays, 1, limits=LIMITS, name="a") == 0)
