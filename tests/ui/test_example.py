"""The example of the first page where the disk does not allow it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stseg.errors import InputError
from stseg.ui import example as tested
from stseg.ui.clips import Catalogue
from stseg.ui.example import Example
from stseg.ui.machine import Machine
from stseg.ui.pace import Pace
from stseg.ui.work import Step


def refused(*_: Any, **__: Any) -> Iterator[Step]:
    raise OSError(errno.ENOSPC, "No space left on device")
    yield


def refused_in_a_sentence(*_: Any, **__: Any) -> Iterator[Step]:
    raise InputError("The disk is full.") from OSError(errno.ENOSPC, "No space left on device")
    yield


def broken(*_: Any, **__: Any) -> Iterator[Step]:
    raise RuntimeError("CUDA error: out of memory")
    yield


def test_an_unexpected_failure_is_not_that_of_every_visitor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Catalogue) -> None:
        raise MemoryError

    monkeypatch.setattr(tested, "segment_clip", broken)
    monkeypatch.setattr(Catalogue, "make_thumbnails", fail)
    example = Example(Catalogue([]), Pace(), tmp_path, Machine())
    assert example.ready(20.0)
    assert example.shown() is None
    assert example.thumbnails_ready(20.0)
    assert "CUDA error: out of memory" in caplog.text
    assert "MemoryError" in caplog.text
    tried: list[int] = []
    monkeypatch.setattr(tested, "segment_clip", lambda *_, **__: iter(tried.append(1) or ()))
    monkeypatch.setattr(tested, "AGAIN", 0.0)
    assert example.ready(20.0)
    assert tried == [1]
    example.close()


@pytest.mark.parametrize("work", [refused, refused_in_a_sentence])
def test_a_full_disk_is_a_sentence_and_is_tried_again(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tested, "segment_clip", work)
    with caplog.at_level(logging.WARNING):
        example = Example(Catalogue([]), Pace(), tmp_path, Machine())
        assert example.ready(20.0)
    assert "There is no example on the first page" in caplog.text
    assert "The disk is full" in caplog.text
    assert example.shown() is None

    tried: list[int] = []
    monkeypatch.setattr(tested, "segment_clip", lambda *_, **__: iter(tried.append(1) or ()))
    assert example.ready(20.0)
    assert not tried  # not at every visit
    monkeypatch.setattr(tested, "AGAIN", 0.0)
    assert example.ready(20.0)
    assert example.ready(20.0)
    assert tried == [1]  # once more, and then it is done
    example.close()
