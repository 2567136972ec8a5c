"""Long work that a tab declares: the queue, Stop, and what becomes of errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from unseen_page import given

from stseg.errors import Cancelled, InputError
from stseg.ui import jobs
from stseg.ui.controls import DEFAULTS
from stseg.ui.jobs import announcement, handler
from stseg.ui.session import Session
from stseg.ui.sessions import Sessions
from stseg.ui.view import Context, Job, Progress

CONTROLS = (4.0, [1], 1.0, "dis", "full", DEFAULTS.linkage, 0.0, 0.0, 1, False)


REQUEST = gr.Request(session_hash="one")

NOTHING = (gr.skip(), gr.skip(), gr.skip())
"""What the page is left with: Gradio sends the last value twice, the second time whenever."""


@pytest.fixture
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sessions]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sessions = Sessions()
    yield sessions
    sessions.close_all()
    assert not list(tmp_path.glob("stseg-*"))


def run(sessions: Sessions, work: Callable[..., Iterator[Progress]], *values: Any) -> Iterator[Any]:
    box = gr.Textbox(render=False)
    job = Job(start=print, run=work, reads=(box,), fills=(box,))
    announced = announcement(sessions, job)(REQUEST)
    assert "Waiting for the machine" in announced
    return iter(handler(sessions, job)(REQUEST, *CONTROLS, *values))


def test_each_step_is_shown_and_the_last_one_stays(sessions: Sessions) -> None:
    def work(context: Context, word: str) -> Iterator[Progress]:
        assert context.clip is context.shown is None
        assert context.settings().k == 4
        assert context.served().is_dir()
        yield Progress("Halfway", 1, 2, values=(word,))
        yield Progress("Done.", 2, 2)

    first, second, last = given(run(sessions, work, "word"))
    assert "Halfway" in first[0]
    assert "<progress" in first[0]
    assert first[2] == "word"
    assert "Done." in second[0]
    assert "Done." in last[0]
    assert "<progress" not in last[0]


def test_stop_lets_a_job_keep_what_there_is(sessions: Sessions) -> None:
    def work(context: Context, word: str) -> Iterator[Progress]:
        done = 0
        while not context.stop():
            done += 1
            yield Progress(f"step {done}")
        yield Progress(f"Stopped after {done}.", values=(word,))

    steps = run(sessions, work, "kept")
    next(steps)
    assert not sessions.of("one").stop()
    kept, last = given(steps)
    assert kept[2] == "kept"
    assert "Stopped after 1." in last[0]


@pytest.mark.parametrize(
    "leave", [Session.drop, Session.begin, Session.close], ids=["turned", "began", "left"]
)
def test_work_that_nobody_waits_for_is_closed(
    sessions: Sessions, leave: Callable[[Session], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    def work(context: Context, word: str) -> Iterator[Progress]:
        try:
            while True:
                yield Progress("busy")
        finally:
            closed.append(context.stop())

    monkeypatch.setattr(jobs, "GRACE", 0.1)
    steps = run(sessions, work, "")
    next(steps)
    leave(sessions.of("one"))
    assert list(steps) == [NOTHING]
    assert closed == [True]


def test_work_that_is_broken_off_may_say_so(sessions: Sessions) -> None:
    def work(context: Context, word: str) -> Iterator[Progress]:
        yield Progress("first", broken_off=("nothing is kept",))
        assert context.stop()
        yield Progress("never shown", broken_off=("this is kept",))
        yield Progress("nor this", values=("nor this",), broken_off=("this is kept",))

    steps = run(sessions, work, "")
    next(steps)
    sessions.of("one").drop()
    assert given(steps) == [(gr.skip(), gr.skip(), "this is kept")]


def test_stopped_before_it_began(sessions: Sessions) -> None:
    def work(context: Context, word: str) -> Iterator[Progress]:
        raise AssertionError("it must not begin")
        yield

    steps = run(sessions, work, "")
    assert sessions.of("one").stop()
    assert list(steps) == [NOTHING]  # no value at all would empty them


def test_errors_are_sentences(sessions: Sessions) -> None:
    def refused(context: Context, word: str) -> Iterator[Progress]:
        yield Progress("busy")
        raise InputError("This <folder> holds no sequence.")

    seen: list[Any] = []
    with pytest.raises(gr.Error, match="&lt;folder&gt;"):
        seen.extend(run(sessions, refused, ""))
    steps = run(sessions, refused, "")
    next(steps)
    assert "Not done. This &lt;folder&gt; holds no sequence." in next(steps)[0]

    def cancelled(context: Context, word: str) -> Iterator[Progress]:
        yield Progress("busy")
        raise Cancelled("inside")

    assert "Stopped." in given(run(sessions, cancelled, ""))[-1][0]
