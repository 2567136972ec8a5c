"""Log lines: fields that a program can read, and no word of what a visitor brought."""

from __future__ import annotations

import logging
import re
import sys

import pytest

from stseg import memory
from stseg.logs import HIDDEN, Lines, event


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    logger = logging.getLogger("stseg.test")
    return logger.makeRecord(
        "stseg.test", logging.INFO, __file__, 1, message, arguments, None, extra=extra
    )


def test_a_line_has_its_fields_in_order(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        event(logging.getLogger("stseg.test"), "segment", {"seconds": 1.23456, "note": "two words"})
    line = Lines().format(caplog.records[-1])
    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ level=INFO logger=stseg\.test what=segment "
        r'seconds=1\.235 note="two words"',
        line,
    )


def test_a_record_is_one_line_with_its_trace() -> None:
    try:
        raise ZeroDivisionError("a\nb")
    except ZeroDivisionError:
        broken = record("Broken: %s", "x")
        broken.exc_info = sys.exc_info()
    line = Lines().format(broken)
    assert "\n" not in line
    assert 'message="Broken: x"' in line
    assert "ZeroDivisionError" in line


@pytest.mark.parametrize(
    "message",
    [
        "/tmp/stseg-private-a1b2/xyz/Anna's birthday.mp4 is odd",
        "[Errno 2] No such file: '/tmp/stseg-private-a1b2/xyz/Anna birthday.mp4'",
        "/tmp/gradio/0123456789abcdef0123/Anna birthday.mp4",
        "Anna birthday has no frames",
    ],
)
def test_what_visitors_brought_has_no_name(message: str) -> None:
    line = Lines(lambda: {"Anna birthday.mp4", "Anna birthday"}).format(record(message))
    assert "birthday" not in line
    assert HIDDEN in line


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells it like this")
def test_memory_is_told_and_comes_back() -> None:
    before = memory.resident()
    assert before is not None
    assert before > memory.MIB
    memory.give_back()  # what others have left free would be taken for the blocks
    # Blocks that are too small to go back by themselves: malloc keeps them, as each 50th stays and
    # none of the others lies at the end of the heap. Only a collection frees the cycle.
    blocks: list[object] = [b"x" * size for size in [2**16] * 1000]
    stay = blocks[::50]
    blocks.append(blocks)
    held = memory.resident()
    del blocks
    memory.give_back()
    after = memory.resident()
    assert held is not None
    assert after is not None
    assert len(stay) == 20
    assert held - after > 0.8 * 1000 * 2**16


def test_names_of_uploads_take_nothing_else_out_of_the_log() -> None:
    """Somebody's "done.mp4" must not change what everybody's lines say."""
    names = {"0.mp4", "0", "done.mp4", "done", "info", "a"}
    told = {"outcome": "done", "frames": 0}
    line = Lines(lambda: names).format(record("segment", fields=told))
    assert HIDDEN not in line
    assert "level=INFO" in line
    assert "outcome=done" in line
    line = Lines(lambda: names).format(record("a clip: done.mp4 is empty"))
    assert "clip" in line  # only whole words are names
    assert "done" not in line
