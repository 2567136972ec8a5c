"""What the status says is true, and stays where it has to: without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from unseen_page import REQUEST, Page, given

from stseg.errors import InputError
from stseg.records import Clip, Settings
from stseg.ui import benchmark, fit, segments, work
from stseg.ui.controls import SETTINGS
from stseg.ui.jobs import announcement, handler
from stseg.ui.session import WRITE
from stseg.ui.shown import Shown
from stseg.ui.view import Context, Job, Progress
from stseg.ui.work import told_left

OTHER = gr.EventData(None, {"key": "0-0"})


def endless(context: Context) -> Iterator[Progress]:
    while not context.stop():
        yield Progress("busy")
    yield Progress("Stopped. It is kept.")


def started(page: Page, **about: Any) -> Iterator[Any]:
    job = Job(start=print, run=endless, **about)
    announcement(page.sessions, job)(REQUEST)
    steps = iter(handler(page.sessions, job)(REQUEST, *page.values[:SETTINGS]))
    assert "busy" in next(steps)[0]
    return steps


@pytest.mark.parametrize(
    ("seconds", "done", "total", "told"),
    [
        (10.0, 20, 80, ", about 30 s left"),
        (60.0, 100, 1000, ", about 9 min left"),
        (3.0, 20, 800, ""),  # too early to tell
        (60.0, 98, 100, ""),  # too late
        (60.0, 100, 100, ""),
    ],
)
def test_how_long_a_run_will_still_take(seconds: float, done: int, total: int, told: str) -> None:
    assert told_left(seconds, done, total) == told


def test_a_long_run_tells_how_much_longer_it_takes(
    clip: Clip, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "SOON", 0.0)
    monkeypatch.setattr(work, "INTERVAL", 0.0)
    settings = Settings(model=str(tiny_model))
    steps = work.segment_clip(clip, settings, tmp_path, None, lambda: False, extras=())
    lines = [step.text for step in steps if ": frame 3 of" in step.text]
    assert lines[0].startswith("Estimating flow and segmenting: frame 3 of")
    assert lines[0].endswith(" left")


def test_work_that_needs_no_clip_goes_on_when_another_is_chosen(page: Page) -> None:
    steps = started(page, called="the scoring", lasting=True)
    _, line, *_ = page.events.pick(OTHER, REQUEST, *page.values)
    assert "crossing is chosen. Press Segment. The scoring goes on; other work ends it." in line
    assert "busy" in next(steps)[0]
    page.running.stop(REQUEST)
    assert "Stopped. It is kept." in given(steps)[-1][0]
    # At rest another choice has nothing to tell of it, and ends what was drawn for the last one.
    ticket = page.session._ticket
    _, line, *_ = page.events.pick(gr.EventData(None, {"key": "0-1"}), REQUEST, *page.values)
    assert "scoring" not in line
    assert not page.session.current(ticket)


def test_work_on_the_clip_ends_and_is_said_to(page: Page) -> None:
    steps = started(page, called="the fit")
    _, line, *_ = page.events.pick(OTHER, REQUEST, *page.values)
    assert "crossing is chosen. Press Segment. The fit was stopped." in line
    assert given(steps) == []


def test_which_work_is_which(page: Page) -> None:
    jobs = [job for view in page.views for job in view.jobs]
    lasting = [job for job in jobs if job.lasting]
    assert [getattr(job.run, "__func__", None) for job in lasting] == [benchmark.Benchmark._run]
    assert [job.called for job in jobs if job.run is fit._fit] == ["the fit"]


def test_what_a_stopped_job_said_outlives_the_files_after_it(page: Page) -> None:
    steps = started(page)
    page.events.choose_k(REQUEST, 3.0, *page.values[1:])
    page.running.stop(REQUEST)
    list(steps)
    assert page.session.writing_announced
    *_, last = page.running.write(REQUEST)
    assert "Stopped. It is kept. small: files of K = 3 are written." in last[0]
    page.events.choose_k(REQUEST, 2.0, *page.values[1:])
    *_, last = page.running.write(REQUEST)
    assert "It is kept" not in last[0]
    assert page.session.claim(WRITE) is None


def test_a_mistake_is_not_told_any_longer_than_it_is_there(page: Page) -> None:
    events, settings = page.events, as_shown(page)
    without = [4.0, [], *settings[2:]]
    page.running.announce(REQUEST, *page.values)
    with pytest.raises(InputError, match="No τ is given"):
        list(page.running.segment(REQUEST, *without))
    assert events.retune(REQUEST, 5.0, *without[1:])[0] == gr.skip()  # still none
    line, badge = events.retune(REQUEST, *settings)
    assert "small, segmented with K = 4." in line
    assert badge == events.estimate(REQUEST, *settings)
    assert events.retune(REQUEST, *settings)[0] == gr.skip()
    # Nor is a job's, but other words are left alone.
    page.session.refused = True
    page.session.begin("work")
    assert events.retune(REQUEST, *settings)[0] == gr.skip()


def as_shown(page: Page) -> list[Any]:
    """The left column; what is shown is as if it had been made with it."""
    shown = page.session.shown
    assert shown is not None
    settings = replace(shown.result.settings, model="full", stride=1)
    page.session.shown = replace(shown, result=replace(shown.result, settings=settings))
    return page.values[:SETTINGS]


def test_a_change_that_needs_segment_is_told_above_the_pictures(page: Page) -> None:
    events, settings = page.events, as_shown(page)
    other = [settings[0], [1, 2], *settings[2:]]
    assert events.retune(REQUEST, *settings)[0] == gr.skip()
    line, badge = events.retune(REQUEST, *other)
    assert "τ changed: press Segment. What is shown was made before that." in line
    assert "τ changed: press Segment" in badge
    assert events.retune(REQUEST, *other)[0] == gr.skip()  # it says so already
    eta = [*other[:2], 5.0, *other[3:]]
    assert events.retune(REQUEST, *eta)[0] == gr.skip()  # η changes no label
    line, _ = events.retune(REQUEST, *settings)
    assert "small, segmented with K = 4." in line
    # What goes on tells of itself.
    page.session.begin("work")
    assert events.retune(REQUEST, *other)[0] == gr.skip()


def test_only_what_was_touched_is_said_to_have_changed(page: Page, shown: Shown) -> None:
    own = shown.result.settings
    scene = page.events._desk.scene
    assert (own.stride, own.step) == (None, 2)
    for changed, told in (
        ({"taus": (-3,)}, "τ changed"),
        ({"stride": 1}, "The triplets changed"),
        ({"taus": (2,), "stride": 1}, "τ and the triplets changed"),
    ):
        badge = scene.badge(page.session, shown.result.clip, replace(own, **changed))
        assert f"<span>{told}: press Segment" in badge


def test_the_heading_of_the_video_promises_it_until_it_is_there(shown: Shown) -> None:
    heading = slice(1, 2)
    assert "as soon as it is written" in segments._fill(None)[heading][0]
    without = replace(shown, written={})
    assert "as soon as it is written" in segments._fill(without)[heading][0]
    for told in (segments._fill(shown), segments._update(shown)):
        assert told[heading][0].endswith("as one video.</p>")
    assert segments._update(replace(without, growing=True))[heading][0] == gr.skip()
