"""What a stopped run leaves on the page can be used like any other result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from unseen_page import REQUEST, Page, finished, given, stopped

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
    steps = events.segment(REQUEST, *page.values)
    next(steps)  # the model is being loaded
    session.stop()
    assert "Stopped." in list(steps)[-1][0]
    assert session.shown.files == first
    events.choose_k(REQUEST, 3.0, *page.values[1:])  # its files are written beside the others
    list(events.write(REQUEST))
    events.choose_k(REQUEST, 4.0, *page.values[1:])
    assert session.claim(WRITE) is None  # they are there already
    assert session.shown.choice == Choice(4)
    assert session.shown.files == first
    assert all(path.is_file() for path in first.values())
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
