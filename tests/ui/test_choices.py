"""K and merged labels: what the page shows when they move, without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio.components import Component
from layout import in_blocks

from stseg.records import Clip, Settings
from stseg.ui.clips import Catalogue
from stseg.ui.events import SEGMENT, Events
from stseg.ui.example import Example
from stseg.ui.legend import hidden_labels
from stseg.ui.pace import Pace
from stseg.ui.scene import Scene
from stseg.ui.session import Session, Sessions
from stseg.ui.shown import Choice, Shown
from stseg.ui.tabs import tabs
from stseg.ui.work import segment_clip

REQUEST = gr.Request(session_hash="one")


class Page:
    """The handlers of a page that nobody looks at, with a finished result."""

    def __init__(self, shown: Shown) -> None:
        self.sessions = Sessions()
        pace, catalogue = Pace(), Catalogue([])
        self._example = Example.__new__(Example)  # nothing is segmented in the background
        scene = Scene(catalogue, pace, "CPU")
        scene.views = in_blocks(lambda: [tab.build() for tab in tabs({})])
        self.events = Events(self.sessions, catalogue, self._example, pace, scene)
        self.session: Session = self.sessions.of("one")
        self.session.clip, self.session.shown = shown.result.clip, shown
        self.session.choice = shown.choice
        options = [_value(option) for view in scene.views for option in view.options]
        settings = [4.0, [1], 1.0, "dis", "full", "one-to-one", 0.0, 0.0, 1]
        self.values = [*settings, 0.0, 1.0, 0, *options]
        self.fills = [len(view.pictures) for view in scene.views]
        self.details = [view.details for view in scene.views]

    def filled(self, scene: tuple[Any, ...], elem_id: str) -> Any:
        """What a handler gave to one of the details."""
        after = scene[3 + sum(self.fills) :]
        components = [each for details in self.details for each in details]
        assert len(after) == len(components)
        return next(
            value
            for component, value in zip(components, after, strict=True)
            if component.elem_id == elem_id
        )


def _value(option: Component) -> object:
    return float(option.value) if isinstance(option, gr.Slider) else option.value


@pytest.fixture(scope="module")
def shown(clip: Clip, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    settings, folder = Settings(k=4, model=str(tiny_model), device="cpu"), tmp_path_factory
    steps = segment_clip(
        clip, settings, folder.mktemp("files"), None, lambda: False, wanted=lambda: Choice(4)
    )
    last = [step.shown for step in steps][-1]
    assert last is not None
    return last


@pytest.fixture
def page(shown: Shown) -> Iterator[Page]:
    page = Page(shown)
    yield page
    page.sessions.close_all()


def test_another_k_fills_the_legend(page: Page) -> None:
    before = page.session.shown
    scene = page.events.choose_k(REQUEST, 2.0, *page.values[1:])
    assert "K = 2, from the same run" in scene[0]
    legend = page.filled(scene, "legend")
    assert [each["label"] for each in legend["entries"]] == [0, 1]
    assert legend["value"] == []
    assert page.session.shown is not before
    assert page.session.busy  # its files are announced


def test_merged_labels_are_shown_and_taken_back(page: Page) -> None:
    plain = page.session.shown
    assert plain is not None
    scene = page.events.use_merged(REQUEST, True, -1.0, *page.values)
    shown = page.session.shown
    assert shown is not None
    assert shown.choice == Choice(4, -1.0)
    assert len(np.unique(shown.result.assignment)) == 1
    assert shown.unmerged is plain.result
    assert shown.affinity is plain.affinity
    assert "K = 4, merged at −1.00" in scene[0]
    assert len(page.filled(scene, "legend")["entries"]) < 4
    assert page.filled(scene, "use-merged") is True
    assert "--merge -1.0" in page.filled(scene, "command")

    # Another K is merged at the same threshold; then everything is as it was.
    page.events.choose_k(REQUEST, 3.0, *page.values[1:])
    assert page.session.choice == Choice(3, -1.0)
    page.events.choose_k(REQUEST, 4.0, *page.values[1:])
    scene = page.events.use_merged(REQUEST, False, -1.0, *page.values)
    assert page.session.shown.choice == Choice(4)
    assert (page.session.shown.result.assignment == plain.result.assignment).all()
    assert page.filled(scene, "use-merged") is False


def test_only_labels_can_be_hidden() -> None:
    assert hidden_labels([1, 7]) == [1, 7]
    assert hidden_labels(["1", None, 8, -1, 2.5]) == []
    assert hidden_labels("x") == []


def test_what_is_final_is_drawn_once(page: Page) -> None:
    """Later steps leave slider and pictures alone: the visitor may look elsewhere by then."""
    page.session.begin(SEGMENT)
    page.session.frame = 3
    scenes = list(page.events.segment(REQUEST, *page.values))
    assert "9 frames in" in scenes[-1][0]
    pictures = slice(3, 3 + sum(page.fills))
    touched = [
        index
        for index, scene in enumerate(scenes)
        if "value" in scene[2] or any(each != gr.skip() for each in scene[pictures])
    ]
    assert touched
    assert scenes[touched[-1]][2]["value"] == 3  # back where the visitor was before
    assert touched[-1] < len(scenes) - 1
    assert "Writing" in scenes[touched[-1]][0]
