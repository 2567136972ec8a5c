"""Work that a visitor has left, or must not lose: without a browser."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from unseen_page import REQUEST, Page, given, stopped

from stseg.errors import Cancelled, InputError, Stop
from stseg.records import Clip
from stseg.ui import running as tested
from stseg.ui.controls import SETTINGS
from stseg.ui.jobs import announcement, handler
from stseg.ui.session import SEGMENT
from stseg.ui.shown import Shown
from stseg.ui.view import Context, Job, Progress
from stseg.ui.work import Step, write_files

OTHER = gr.EventData(None, {"key": "0-0"})


@pytest.fixture
def part(clip: Clip, tiny_model: Path, tmp_path: Path) -> Iterator[Page]:
    """With the first frames of a run that was stopped."""
    page = Page(stopped(clip, tiny_model, tmp_path, frames=3))
    yield page
    page.sessions.close_all()


def segmenting(page: Page, steps: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(tested, "segment_clip", steps)
    page.running.announce(REQUEST, *page.values)
    return iter(page.running.segment(REQUEST, *page.values))


def going_on(*_: Any) -> Iterator[Step]:
    while True:
        yield Step("going on …")


def test_a_run_that_waited_in_vain_says_nothing_of_another_clip(page: Page) -> None:
    machine = page.sessions.machine

    def forever(stop: Stop) -> Iterator[int]:
        while True:
            yield 0

    held = machine.steps("other", forever, lambda: False)
    next(held)
    page.running.announce(REQUEST, *page.values)
    steps = page.running.segment(REQUEST, *page.values)
    told: list[Any] = []
    waiting = threading.Thread(target=lambda: told.extend(steps))
    waiting.start()
    page.events.pick(OTHER, REQUEST, *page.values)
    waiting.join(20)
    held.close()
    assert not waiting.is_alive()
    assert told == []


@pytest.mark.parametrize("turned", [True, False], ids=["turned", "waits"])
def test_a_mistake_is_told_to_who_waits_for_the_work(
    page: Page, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> Iterator[Step]:
        yield Step("at work")
        raise InputError("No frame can be decoded.")

    steps = segmenting(page, refused, monkeypatch)
    next(steps)
    if turned:
        # At the very moment in which the work fails.
        monkeypatch.setattr(page.session, "current", lambda ticket: False)
        assert list(steps) == []
    else:
        with pytest.raises(InputError, match="No frame"):
            next(steps)
    assert page.session.refused == (not turned)


@pytest.mark.parametrize("turned", [True, False], ids=["turned", "waits"])
def test_what_breaks_down_when_left_goes_to_the_log(
    page: Page,
    turned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lost = (gr.skip(), "lost")

    def work(context: Context) -> Iterator[Progress]:
        yield Progress("busy", broken_off=lost)
        raise ZeroDivisionError

    job = Job(start=print, run=work, fills=(gr.HTML(render=False), gr.HTML(render=False)))
    announcement(page.sessions, job)(REQUEST)
    steps = iter(handler(page.sessions, job)(REQUEST, *page.values[:SETTINGS]))
    next(steps)
    if turned:
        page.session.drop()
        assert given(steps) == [(gr.skip(), gr.skip(), *lost)]
        assert "Work that was left broke down" in caplog.text
    else:
        assert next(steps) == (gr.skip(), gr.skip(), *lost)
        assert "Not done. Something went wrong" in next(steps)[0]
        with pytest.raises(gr.Error):
            next(steps)


def test_the_machine_is_free_when_a_picture_cannot_be_drawn(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("a picture is gone")

    result = page.session.shown
    steps = segmenting(page, lambda *_: iter([Step("at work", shown=result)]), monkeypatch)
    monkeypatch.setattr(page.running._desk.scene, "shown", fail)
    with pytest.raises(OSError, match="gone") as raised:
        next(steps)
    assert raised.value.__traceback__ is not None  # which keeps the generator of the steps alive
    assert page.sessions.machine.seconds is None


def test_a_press_on_segment_that_is_refused_ends_nothing(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = segmenting(page, going_on, monkeypatch)
    assert "going on" in next(steps)[0]
    wrong = [*page.values]
    wrong[6] = 2.5  # frames to read
    with pytest.raises(InputError, match=r"Frames to read is 2\.5"):
        page.running.announce(REQUEST, *wrong)
    assert list(page.running.segment(REQUEST, *wrong)) == []  # the page asks at once
    assert "going on" in next(steps)[0]
    page.session.stop()
    steps.close()


def test_a_run_that_a_job_ended_is_told_as_what_it_is(page: Page, shown: Shown) -> None:
    page.session.begin(SEGMENT)
    ticket = page.session.claim(SEGMENT)
    assert ticket is not None
    page.session.shown = replace(shown, footage=None, written={}, growing=True)

    def work(context: Context) -> Iterator[Progress]:
        yield Progress("Done.")

    job = Job(start=print, run=work)
    announcement(page.sessions, job)(REQUEST)
    list(handler(page.sessions, job)(REQUEST, *page.values[:SETTINGS]))
    (scene,) = page.running.write(REQUEST)  # what the page asks for after every job
    assert f"stopped after {len(shown)} frames" in page.filled(scene, "download-state")
    assert page.filled(scene, "write-files")["interactive"]
    assert list(page.running.write(REQUEST)) == []


def test_how_far_a_stopped_run_came_is_told_with_every_k(part: Page) -> None:
    count = len(part.session.shown)
    line, *_ = part.events.choose_k(REQUEST, 3.0, *part.values[1:])
    assert f"K = 3, from the same run; the run was stopped after {count} frames." in line


def test_flow_of_another_clip_is_told_when_the_clip_is_chosen(
    page: Page, clip: Clip, tmp_path: Path
) -> None:
    path = tmp_path / "mine.npz"
    flow = np.zeros((clip.frames - 1, 2, *clip.size), np.float32)
    np.savez(path, flow=flow)
    page.session.take_flow(path, clip)
    values = [*page.values]
    values[3] = "own"
    _, line, *_ = page.events.pick(OTHER, REQUEST, *values)
    assert "crossing is chosen. Press Segment. The flow mine.npz belongs to small." in line
    assert page.session.refused  # so that the line goes when the estimator is another one
    assert (
        "crossing is chosen. Press Segment.</span>"
        in page.events.retune(REQUEST, *page.values[:SETTINGS])[0]
    )


def test_what_a_fit_learnt_is_kept_when_other_work_begins(page: Page) -> None:
    kept = (gr.skip(), "the checkpoint")

    def work(context: Context) -> Iterator[Progress]:
        while not context.stop():
            yield Progress("busy", broken_off=(gr.skip(), "lost"))
        yield Progress("Stopped. It is kept.", values=kept, broken_off=kept)

    job = Job(start=print, run=work, fills=(gr.HTML(render=False), gr.HTML(render=False)))
    announcement(page.sessions, job)(REQUEST)
    steps = iter(handler(page.sessions, job)(REQUEST, *page.values[:SETTINGS]))
    next(steps)
    page.running.announce(REQUEST, *page.values)
    assert given(steps) == [(gr.skip(), gr.skip(), *kept)]


def test_nothing_is_written_for_who_left(shown: Shown, tmp_path: Path) -> None:
    theirs = tmp_path / "gone"
    with pytest.raises(Cancelled):
        list(write_files(replace(shown, written={}), theirs / "result", lambda: False))
    assert not theirs.exists()


def test_a_job_of_who_left_has_no_folder(page: Page) -> None:
    session = page.session
    session.close()
    with pytest.raises(Cancelled):
        session.own.new_job_folder()
    assert not session.own.served.exists()


def test_jobs_that_offer_nothing_leave_no_folder(page: Page) -> None:
    asked: list[Path] = []

    def work(context: Context, offer: bool) -> Iterator[Progress]:
        if offer:
            asked.extend([context.served(), context.served()])
        yield Progress("Done.")

    box = gr.Checkbox(render=False)
    for offer in (False, True):
        job = Job(start=print, run=work, reads=(box,))
        announcement(page.sessions, job)(REQUEST)
        list(handler(page.sessions, job)(REQUEST, *page.values[:SETTINGS], offer))
        jobs = [each for each in page.session.own.served.iterdir() if each.name[:4] == "job-"]
        assert len(jobs) == offer
    assert asked == [*jobs, *jobs]


def test_a_refused_press_in_a_tab_ends_nothing(page: Page, clip: Clip) -> None:
    session = page.session
    page.running.announce(REQUEST, *page.values)
    ticket = session.claim(SEGMENT)
    assert ticket is not None
    assert session.shown is not None
    session.shown = replace(session.shown, footage=None, written={}, growing=True)
    values = page.values[:SETTINGS]
    presses: dict[str, tuple[tuple[Any, ...], str]] = {
        "stseg.ui.compare._run": ((["full", "no-lc"], 0, 0, "", False), "No whole result is shown"),
        "stseg.ui.compare_files.write": ((), "Nothing is compared yet"),
        "stseg.ui.fit._fit": (("full", True, 1.0, 5.0, "9x9", None), "There is no grid '9x9'"),
        "stseg.ui.fit._join": ((None,), "Nothing is fitted yet"),
        "stseg.ui.similarity._keep": ((1.0,), "Nothing is merged"),
        "stseg.ui.benchmark._run": (("none", "all", [], "dis", 10), "There is no data set 'none'"),
    }
    jobs = [job for view in page.views for job in view.jobs]
    assert {f"{job.run.__module__}.{job.run.__name__}" for job in jobs} == presses.keys()
    for job in jobs:
        reads, sentence = presses[f"{job.run.__module__}.{job.run.__name__}"]
        with pytest.raises(gr.Error, match=sentence):
            announcement(page.sessions, job)(REQUEST, *values, *reads)
        assert session.current(ticket)
        assert not session.stopped(ticket)
    session.end(ticket)


def test_the_sentence_of_a_failure_outlives_the_files(shown: Shown) -> None:
    page = Page(replace(shown, written={}))

    def run(context: Context) -> Iterator[Progress]:
        yield Progress("Fitting: step 12 of 100 …")
        raise InputError("The device is gone.")

    work = Job(start=print, run=run)
    announcement(page.sessions, work)(REQUEST)
    with pytest.raises(gr.Error, match="The device is gone"):
        list(handler(page.sessions, work)(REQUEST, *page.values[:SETTINGS]))
    assert page.session.refused
    *_, last = page.running.write(REQUEST)
    assert "Not done. The device is gone." in last[0]
    assert "step 12" not in last[0]
    page.sessions.close_all()


def test_files_that_can_go_nowhere_are_tried_once(shown: Shown) -> None:
    page = Page(replace(shown, written={}))
    assert page.session.begin_files()
    shutil.rmtree(page.session.own.served)  # somebody swept the temporary files
    told: list[Any] = []
    done = threading.Thread(target=lambda: told.extend(page.running.write(REQUEST)))
    done.start()
    done.join(20)
    assert not done.is_alive()
    assert not page.session.busy
    assert len(told) == 1
    assert "The files are not written." in told[0][0]
    assert 'class="status idle"' in told[0][0]
    page.sessions.close_all()


def test_variants_beside_a_stopped_run_go_when_it_is_whole(part: Page, shown: Shown) -> None:
    session = part.session
    frames = len(session.shown or ())
    assert frames < len(shown)

    def run(context: Context) -> Iterator[Progress]:
        context.add_variant("Other", shown.others[3])
        yield Progress("")

    work = Job(start=print, run=run)
    announcement(part.sessions, work)(REQUEST)
    list(handler(part.sessions, work)(REQUEST, *part.values[:SETTINGS]))
    reference, other = session.compared
    assert reference.title.endswith(f", {frames} frames")
    assert other.title == "Other"
    kept = session.compared
    session.show(shown, session.own.new_folder())
    assert session.compared == ()
    # What was fitted to fewer frames on purpose waits for a first result.
    few = replace(kept[1].result, settings=replace(kept[1].result.settings, max_frames=3))
    session.compared, session.shown = (replace(kept[0], result=few, title="Fitted"),), None
    session.show(shown, session.own.new_folder())
    assert [each.title for each in session.compared] == ["Fitted, 3 frames"]
