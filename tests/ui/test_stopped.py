"""What a stopped run leaves on the page can be used like any other result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from unseen_page import REQUEST, Page, finished, given, stopped, stopped_steps

from stseg.errors import InputError
from stseg.pipeline import segment
from stseg.records import Clip, Settings
from stseg.ui.controls import SETTINGS
from stseg.ui.jobs import announcement, handler
from stseg.ui.session import SEGMENT, WRITE
from stseg.ui.shown import Choice
from stseg.ui.view import Context, Job, Progress


@pytest.fixture
def page(clip: Clip, tiny_model: Path, tmp_path: Path) -> Iterator[Page]:
    page = Page(stopped(clip, tiny_model, tmp_path, frames=3))
    yield page
    page.sessions.close_all()


def test_a_variant_joins_a_stopped_run_in_compare(page: Page, clip: Clip, tiny_model: Path) -> None:
    shown = page.session.shown
    assert shown is not None
    assert len(shown.result.flow) > len(shown.result)  # that is how a run stops
    fitted = segment(clip, Settings(k=2, model=str(tiny_model), taus=(2,), device="cpu"))

    def work(context: Context) -> Iterator[Progress]:
        context.add_variant("Fitted", fitted)  # as the tabs Fit and Similarity do
        yield Progress("Done.")

    job = Job(start=print, run=work)
    announcement(page.sessions, job)(REQUEST)
    assert "Done." in given(handler(page.sessions, job)(REQUEST, *page.values[:SETTINGS]))[-1][0]
    assert [len(each.result) for each in page.session.compared] == [len(shown), clip.frames]
    # What differs from the shown run beside model and K is told.
    assert page.session.compared[1].title == "Fitted, τ = +2"


def test_a_run_stopped_before_its_first_frame_leaves_the_files_alone(
    clip: Clip, tiny_model: Path, tmp_path: Path
) -> None:
    page = Page(finished(clip, tiny_model, tmp_path))
    session, events = page.session, page.events
    session.shown = finished(clip, tiny_model, session.folder)
    first = session.shown.files
    session.begin(SEGMENT)
    steps = page.running.segment(REQUEST, *page.values)
    next(steps)  # the model is being loaded
    session.stop()
    assert "Stopped." in list(steps)[-1][0]
    assert session.shown.files == first
    events.choose_k(REQUEST, 3.0, *page.values[1:])  # its files are written beside the others
    list(page.running.write(REQUEST))
    events.choose_k(REQUEST, 4.0, *page.values[1:])
    assert session.claim(WRITE) is None  # they are there already
    assert session.shown.choice == Choice(4)
    assert session.shown.files == first
    assert all(path.is_file() for path in first.values())
    page.sessions.close_all()


def test_a_stopped_run_leaves_the_flow_that_was_known(
    clip: Clip, tiny_model: Path, tmp_path: Path
) -> None:
    """The next run need not estimate it again, which an upload has no cache for."""
    page = Page(finished(clip, tiny_model, tmp_path / "whole"))
    session = page.session
    assert session.shown is not None
    read = session.shown.footage
    for _ in range(2):
        session.show(stopped(clip, tiny_model, tmp_path / "part", frames=3), session.folder)
        assert session.shown.footage is None
        assert session.footage is read
    badge = page.events.estimate(REQUEST, *page.values[:SETTINGS])
    assert "its flow is known" in badge
    other = replace(clip, source=tmp_path / "other.mp4", name="other")
    session.turn(other, None, session.choice)
    assert session.footage is None
    page.sessions.close_all()


def test_what_was_stopped_is_told_as_what_it_is(page: Page) -> None:
    """The command line gives the frames that are there, and K moves no frame out of reach."""
    session = page.session
    scene = page.events.choose_k(REQUEST, 3.0, *page.values[1:])
    assert f"--frames {len(session.shown)}" in page.filled(scene, "command")
    assert scene[2]["maximum"] == len(session.shown) - 1
    session.shown = replace(session.shown, growing=True)  # as if the run went on
    session.to_come = 5
    scene = page.events.choose_k(REQUEST, 2.0, *page.values[1:])
    assert scene[2]["maximum"] == len(session.shown) + 4


def test_the_files_of_a_stopped_run_are_written_when_asked_for(page: Page) -> None:
    session, events = page.session, page.events
    shown = session.shown
    assert shown is not None
    assert shown.broken_off
    n = len(shown)
    # Looking at another K does not begin what was stopped; a press on the button does.
    scene = events.choose_k(REQUEST, 3.0, *page.values[1:])
    assert page.filled(scene, "write-files")["interactive"]
    assert f"The run was stopped after {n} frames." in page.filled(scene, "download-state")
    assert session.claim(WRITE) is None
    assert "The files are being written" in page.running.ask_files(REQUEST)
    scenes = list(page.running.write(REQUEST))
    assert "files of K = 3 are written" in scenes[-1][0]
    assert not page.filled(scenes[-1], "write-files")["interactive"]
    state = page.filled(scenes[-1], "download-state")
    assert f"K = 3, its first {n} frames." in state
    files = session.shown.files
    summary = json.loads(files["summary.json"].read_text(encoding="utf-8"))
    assert summary["clip"]["frames"] == summary["settings"]["max_frames"] == n
    assert f"--frames {n}" in summary["command"]
    with np.load(files["labels.npz"]) as labels:
        assert labels["labels"].shape == (n, *shown.result.clip.size)
        np.testing.assert_array_equal(labels["labels"][2], session.shown.result.labels(2))
    # They are there now: another press changes nothing.
    assert page.running.ask_files(REQUEST) == gr.skip()
    assert session.claim(WRITE) is None


def test_files_are_not_asked_for_while_a_run_goes_on(page: Page) -> None:
    session = page.session
    assert session.shown is not None
    session.shown = replace(session.shown, growing=True)
    scene = page.events.choose_k(REQUEST, 3.0, *page.values[1:])
    assert not page.filled(scene, "write-files")["interactive"]
    session.begin(SEGMENT)
    with pytest.raises(InputError, match="Work goes on"):
        page.running.ask_files(REQUEST)
    assert session.claim(SEGMENT) is not None


def test_a_run_that_another_one_ends_has_its_files_to_ask_for(page: Page) -> None:
    """Segment pressed in the middle of a run, and Stop before the new one has a picture."""
    session = page.session
    assert session.shown is not None
    session.shown = replace(session.shown, growing=True)
    session.begin(SEGMENT)
    steps = page.running.segment(REQUEST, *page.values)
    next(steps)  # the model is being loaded
    session.stop()
    last = list(steps)[-1]
    assert "Stopped." in last[0]
    assert page.filled(last, "write-files")["interactive"]
    assert last[2]["maximum"] == len(session.shown) - 1


def test_of_one_frame_there_is_a_command_too(page: Page) -> None:
    """A run can end by other work before its second frame."""
    session = page.session
    assert session.shown is not None
    result = session.shown.result
    first = replace(result, assignment=result.assignment[:1], latents=result.latents[:1])
    session.shown = replace(session.shown, result=first)
    assert session.shown.record.settings.max_frames == 2


def test_files_of_the_run_before_go_when_those_of_a_stopped_one_are_written(page: Page) -> None:
    session = page.session
    (session.folder.parent / "result-old").mkdir()
    page.running.ask_files(REQUEST)
    list(page.running.write(REQUEST))
    left = [each.name for each in session.folder.parent.iterdir() if each.is_dir()]
    assert left == [session.folder.name]


def test_stop_tells_how_to_have_the_files(clip: Clip, tiny_model: Path, tmp_path: Path) -> None:
    last = list(stopped_steps(clip, tiny_model, tmp_path, frames=3))[-1]
    assert last.shown is not None
    told = f"The {len(last.shown)} frames done so far are shown; for their files, press Write files"
    assert told in last.text
