"""A full disk during output: a sentence, and nothing half-written."""

from __future__ import annotations

import errno
import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
import numpy as np
import pytest

from stseg import cli
from stseg.checkpoint import save_checkpoint
from stseg.errors import InputError
from stseg.export import export_all
from stseg.files import STALE, no_space, sweep, write_atomically
from stseg.flow.cache import FlowCache
from stseg.formats import EXTRAS
from stseg.network import SegmentationNetwork
from stseg.pipeline import segment
from stseg.records import Clip, Settings
from stseg.spool import Spool
from stseg.ui.guard import DISK_FULL, guarded
from stseg.volume import FlowFields


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The system refuses to write a file beyond this size, as it does where a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [100, 1000, 4000, 16000])
def test_output_is_whole_or_not_there(
    size: int, clip: Clip, tiny_model: Path, tmp_path: Path
) -> None:
    result = segment(clip, Settings(k=3, model=str(tiny_model), device="cpu"))
    with files_up_to(size), pytest.raises(InputError, match=r"(Free some|Choose another) "):
        export_all(result, tmp_path / "out", also=tuple(EXTRAS))
    assert not (tmp_path / "out").exists()


def test_what_was_there_stays(clip: Clip, tiny_model: Path, tmp_path: Path) -> None:
    result = segment(clip, Settings(k=3, model=str(tiny_model), device="cpu"))
    export_all(result, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with files_up_to(1000), pytest.raises(InputError):
        export_all(result, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_checkpoints_and_json(tiny_network: SegmentationNetwork, tmp_path: Path) -> None:
    with files_up_to(100):
        with pytest.raises(InputError, match="cannot be written"):
            save_checkpoint(tmp_path / "model.safetensors", tiny_network, {})
        with pytest.raises(InputError, match="cannot be written"):
            write_atomically(tmp_path / "scores.json", b"x" * 200)
    assert not list(tmp_path.iterdir())


def test_the_cache_only_costs_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fields = FlowFields()
    fields.forward.append(np.ones((2, 128, 224), np.float16))
    with files_up_to(1000), caplog.at_level(logging.WARNING):
        FlowCache(tmp_path).store("key", fields)
    assert "is not kept" in caplog.text
    assert not list(tmp_path.iterdir())
    assert FlowCache(tmp_path).load("key", False) is None


def test_temporary_files(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spool = Spool(memory=0)

    def work(*_: object) -> None:
        with files_up_to(1000):
            spool.append(np.zeros(5000, np.uint8))

    with pytest.raises(gr.Error) as error:
        guarded(work)()
    assert error.value.message == DISK_FULL
    monkeypatch.setattr(cli.clips, "run", work)
    assert cli.main(["clips", "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("stseg: The disk is full")
    assert "TMPDIR" in told
    assert len(spool) == 0
    spool.append(np.ones(3, np.uint8))  # and it still works
    assert spool[0].tolist() == [1, 1, 1]


def test_other_errors_of_the_system_are_not_a_full_disk() -> None:
    assert no_space(OSError(errno.ENOSPC, "No space left on device"))
    assert no_space(OSError(errno.EACCES, "Permission denied")) is None


def test_what_a_kill_left_is_swept_when_it_is_old(tmp_path: Path) -> None:
    import os
    import time

    old, young, other = tmp_path / ".x.1.part", tmp_path / ".x.2.part", tmp_path / "x"
    for path in (old, young, other):
        path.write_text("")
    os.utime(old, (time.time() - STALE - 60,) * 2)
    os.utime(other, (time.time() - STALE - 60,) * 2)
    sweep(tmp_path, ".x.*.part")
    assert sorted(tmp_path.iterdir()) == [young, other]
