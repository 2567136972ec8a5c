"""The frame slider never holds a frame beyond its end: Gradio refuses every event then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unseen_page import REQUEST, Page, finished

from stseg.records import Clip
from stseg.ui import work
from stseg.ui.session import SEGMENT

FRAMES = 6
"""Where "Frames to read" is in the values of the controls."""


@pytest.fixture
def page(
    clip: Clip, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Page]:
    monkeypatch.setattr(work, "INTERVAL", 0.0)
    monkeypatch.setattr(work, "DRAWING", 0.0)
    page = Page(finished(clip, tiny_model, tmp_path))
    yield page
    page.sessions.close_all()


class Slider:
    """What the page has of it."""

    def __init__(self, maximum: int, value: int) -> None:
        self.maximum, self.value = maximum, value

    def take(self, update: dict[str, Any]) -> None:
        self.maximum = update.get("maximum", self.maximum)
        self.value = update.get("value", self.value)
        assert self.value <= self.maximum, update


def test_fewer_frames_are_read(page: Page) -> None:
    session = page.session
    assert session.shown is not None
    slider = Slider(len(session.shown) - 1, 8)
    session.frame = 8
    page.values[FRAMES] = 5.0
    session.begin(SEGMENT)
    for scene in page.running.segment(REQUEST, *page.values):
        slider.take(scene[2])
    assert (slider.maximum, slider.value) == (4, 4)


@pytest.mark.parametrize("k", [4.0, 3.0])
def test_a_stop_behind_the_frame_that_is_looked_at(page: Page, clip: Clip, k: float) -> None:
    session, events = page.session, page.events
    session.shown = None
    slider = Slider(1, 0)
    session.begin(SEGMENT)
    steps = page.running.segment(REQUEST, *page.values)
    for scene in steps:
        slider.take(scene[2])
        if slider.maximum > 1 and session.following:
            assert slider.maximum == clip.frames - 1  # frames that are to come can be asked for
            slider.value = 7
            page.looking.look(REQUEST, 7)
        if "frame 3" in scene[0]:
            session.stop()
    assert session.shown is not None
    last = len(session.shown) - 1
    assert last < 7
    assert (slider.maximum, slider.value) == (last, last)
    slider.take(events.choose_k(REQUEST, k, *page.values[1:])[2])
