"""Flow that a visitor brings belongs to the clip it was brought for, and to no other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from unseen_page import REQUEST, Page, stopped

from stseg.errors import InputError
from stseg.flow import write_flow_file
from stseg.records import Clip, Settings
from stseg.ui.benchmark import Benchmark
from stseg.ui.benchmark_work import CACHED
from stseg.ui.controls import FLOW, MODEL, OWN_FLOW, OWN_MODEL, SETTINGS
from stseg.ui.guard import guarded
from stseg.ui.jobs import announcement, handler
from stseg.ui.offered import SHIPPED, offered
from stseg.ui.pace import Pace, in_words
from stseg.ui.session import SEGMENT
from stseg.ui.view import Context, Job, Progress

SENTENCE = r"The flow mine\.npz belongs to small\."


@pytest.fixture
def twin(clip: Clip, tmp_path: Path) -> Clip:
    """Another clip of the same size and length: the flow would fit."""
    source = tmp_path / "twin.mp4"
    source.write_bytes(clip.source.read_bytes())
    return replace(clip, source=source, name="twin")


@pytest.fixture
def page(clip: Clip, tiny_model: Path, tmp_path: Path) -> Iterator[Page]:
    page = Page(stopped(clip, tiny_model, tmp_path, frames=2))
    flow = np.zeros((clip.frames - 1, 2, 128, 224), np.float32)
    write_flow_file(tmp_path / "kept.npz", flow, clip.size)
    bring(page, tmp_path)
    page.values[FLOW] = OWN_FLOW
    yield page
    page.sessions.close_all()


def bring(page: Page, folder: Path) -> tuple[str, str, str]:
    """Upload the flow: it is taken from where it lies."""
    (folder / "mine.npz").write_bytes((folder / "kept.npz").read_bytes())
    return page.events.bring_flow(REQUEST, str(folder / "mine.npz"), *page.values[:SETTINGS])


def job(page: Page, run: Any) -> list[Any]:
    work = Job(start=print, run=run)
    announcement(page.sessions, work)(REQUEST)
    return list(handler(page.sessions, work)(REQUEST, *page.values[:SETTINGS]))


def test_the_flow_of_another_clip_is_refused(page: Page, clip: Clip, twin: Clip) -> None:
    session = page.session
    assert session.own.flow is not None
    path = session.own.flow.path
    assert session.own.settings(clip, page.values[:SETTINGS]).flow == str(path)
    session.clip = twin
    with pytest.raises(InputError, match=SENTENCE) as caught:
        session.own.settings(twin, page.values[:SETTINGS])
    assert str(path.parent) not in str(caught.value)
    session.begin(SEGMENT)
    with pytest.raises(gr.Error, match=SENTENCE):
        list(guarded(page.running.segment)(REQUEST, *page.values))

    def fit(context: Context) -> Iterator[Progress]:
        yield Progress(context.settings().flow)

    with pytest.raises(gr.Error, match=SENTENCE):
        job(page, fit)


def test_the_badge_says_whose_flow_it_is(page: Page, twin: Clip) -> None:
    estimate = page.events.estimate
    assert "belongs to" not in estimate(REQUEST, *page.values[:SETTINGS])
    page.session.clip = twin
    assert "The flow mine.npz belongs to small." in estimate(REQUEST, *page.values[:SETTINGS])


def test_the_badge_of_flow_that_was_brought(page: Page, clip: Clip, tmp_path: Path) -> None:
    """Also where own flow was chosen before, so that no control changes; nothing is estimated."""
    session = page.session
    session.clip = replace(clip, frames=1000)
    session.own.flow = None
    page.values[1] = [-1]
    _, line, badge = bring(page, tmp_path)
    assert "is taken" in line
    pace = Pace()
    seconds = pace.seconds(session.clip, Settings(taus=(-1,), stride=1), flow_known=True)
    assert seconds is not None
    assert f"(about {in_words(seconds)})" in badge


def test_flow_is_taken_whatever_another_control_says(page: Page, tmp_path: Path) -> None:
    page.values[MODEL] = OWN_MODEL
    flow, line, badge = bring(page, tmp_path)
    assert flow == OWN_FLOW
    assert "is taken" in line
    assert "There is no model of your own yet" in badge


def test_what_was_said_of_brought_flow_stays(page: Page, tmp_path: Path) -> None:
    """The control that it changes has nothing to add."""
    assert "is taken" in bring(page, tmp_path)[1]
    assert page.events.retune(REQUEST, *page.values[:SETTINGS])[0] == gr.skip()
    page.values[1] = [1, 2]
    assert "press Segment" in page.events.retune(REQUEST, *page.values[:SETTINGS])[0]


def test_the_badge_of_a_clip_of_unknown_length(page: Page, clip: Clip) -> None:
    page.session.clip = replace(clip, frames=0)
    badge = page.events.estimate(REQUEST, *page.values[:SETTINGS])
    assert "press Segment." in badge
    page.values[:SETTINGS] = [4.0, [-1], 1.0, "dis", "full", Settings().linkage, 0.0, 0.0, 0, False]
    shown = page.session.shown
    assert shown is not None
    page.session.shown = replace(
        shown, result=replace(shown.result, settings=Settings(model="full"))
    )
    badge = page.events.estimate(REQUEST, *page.values[:SETTINGS])
    assert "<span>τ changed: press Segment.</span>" in badge  # and no capital Tau


def test_no_data_set_is_scored_with_the_flow_of_one_clip(page: Page, twin: Clip) -> None:
    tab = Benchmark(offered([]))

    def score(flow: str) -> Any:
        def run(context: Context) -> Iterator[Progress]:
            yield Progress(str(tab._planned(context, SHIPPED, "no such split", [], flow, 10.0)))

        return run

    for chosen in (page.session.clip, twin):
        page.session.clip = chosen
        with pytest.raises(gr.Error, match="is your own and belongs to one clip"):
            job(page, score("left"))
        with pytest.raises(gr.Error, match="There is no split"):  # past that door
            job(page, score(CACHED))
