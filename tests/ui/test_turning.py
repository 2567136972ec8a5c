"""Turning to another clip: page and server agree on it, and nothing of the last one stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from unseen_page import REQUEST, Page, stopped

from stseg.errors import InputError
from stseg.records import Clip
from stseg.ui.session import Session
from stseg.ui.shown import Choice

TAUS, FRAMES, STRIDE = 1, 6, 8
"""Where in the values of the controls."""


@pytest.fixture
def page(clip: Clip, tiny_model: Path, tmp_path: Path) -> Iterator[Page]:
    page = Page(stopped(clip, tiny_model, tmp_path, frames=2))
    yield page
    page.sessions.close_all()


def pick(page: Page, name: str) -> tuple[Any, ...]:
    """A click on a tile: what the gallery and the scene get."""
    clips = [each.name for each in page.catalogue.clips]
    event = gr.EventData(None, {"key": f"0-{clips.index(name)}"})
    return page.events.pick(event, REQUEST, *page.values)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({TAUS: []}, "No τ is given"),
        ({FRAMES: 1.0}, "At least 2 frames must be read"),
        ({TAUS: [2], STRIDE: 2}, "A stride of 2 is for one τ"),
    ],
)
def test_a_clip_is_shown_whatever_the_settings(
    page: Page, clip: Clip, tmp_path: Path, changed: dict[int, Any], sentence: str
) -> None:
    for place, value in changed.items():
        page.values[place] = value
    page.values[0] = 3.0
    gallery, line, badge, *_ = pick(page, "pause")
    assert page.session.clip is not None
    assert page.session.clip.name == "pause"
    assert page.session.choice == Choice(3)
    assert "pause is chosen" in line
    assert sentence in badge
    assert gallery.count('aria-pressed="true" title="pause') == 1

    mine = tmp_path / "mine.mp4"
    mine.write_bytes(clip.source.read_bytes())
    gallery, line, badge, *_ = page.events.upload(REQUEST, str(mine), *page.values)
    assert page.session.clip.name == "mine"
    assert "mine is chosen" in line
    assert sentence in badge
    assert gallery.count('aria-pressed="true" title="mine') == 1


def test_a_clip_that_cannot_be_read_any_more_changes_nothing(
    page: Page, clip: Clip, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.mp4"
    mine.write_bytes(clip.source.read_bytes())
    page.events.upload(REQUEST, str(mine), *page.values)
    (kept,) = page.session.own.uploads
    pick(page, "pause")
    kept.source.unlink()
    event = gr.EventData(None, {"key": f"own-{kept.source.parent.name}"})
    with pytest.raises(InputError):
        page.events.pick(event, REQUEST, *page.values)
    assert page.session.clip is not None
    assert page.session.clip.name == "pause"


def test_the_slider_comes_twice_to_a_page_that_opens(page: Page) -> None:
    """Gradio loses what comes while a slow machine still mounts it."""
    session = page.session
    session.frame = 1
    assert session.shown is not None
    told = page.events.settle(REQUEST)
    assert told["maximum"] == len(session.shown) - 1
    assert told["interactive"]
    assert "value" not in told  # the visitor may have moved it by now
    session.begin()
    assert page.events.settle(REQUEST) == gr.skip()
    session.drop()
    session.shown = None
    assert page.events.settle(REQUEST) == gr.skip()


def test_nothing_of_the_last_clip_stays(page: Page) -> None:
    assert all(len(view.blank) == len(view.pictures) for view in page.views)
    _, _, _, _, *scene = pick(page, "pause")
    board, *others = scene[: sum(page.fills)]
    assert "pause, not segmented yet" in board
    assert "No clip is" not in board
    assert len(others) == 3
    assert "Nothing is compared yet" in others[0]  # Compare
    assert all("No clip is segmented" in each for each in others[1:])  # Similarity, Motion


def test_the_tile_of_the_clip_that_is_worked_on_ends_nothing(page: Page) -> None:
    pick(page, "pause")
    session = page.session
    session.begin()
    ticket = session.claim()
    assert ticket is not None
    gallery, *scene = pick(page, "pause")
    assert 'aria-pressed="true" title="pause' in gallery
    assert all(each == gr.skip() for each in scene)
    assert not session.stopped(ticket)
    pick(page, "orbit")
    assert session.stopped(ticket)


@pytest.mark.parametrize("end", [Session.begin, Session.drop, lambda session: session.end(1)])
def test_a_run_that_ended_grows_no_more(page: Page, end: Callable[[Session], None]) -> None:
    session = page.session
    session.begin()
    assert session.claim() == 1
    assert session.shown is not None
    session.shown = replace(session.shown, growing=True)
    frames = len(session.shown)
    end(session)
    assert not session.shown.growing
    assert len(session.shown) == frames
