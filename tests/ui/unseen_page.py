"""A page that nobody looks at: its handlers and a session with a result, without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.components import Component
from layout import in_blocks

from stseg.errors import Stop
from stseg.records import Clip, Settings
from stseg.ui import work
from stseg.ui.clips import Catalogue
from stseg.ui.controls import SETTINGS
from stseg.ui.desk import Desk
from stseg.ui.events import Events
from stseg.ui.example import Example
from stseg.ui.looking import Looking
from stseg.ui.pace import Pace
from stseg.ui.running import Running
from stseg.ui.scene import Scene
from stseg.ui.session import Session
from stseg.ui.sessions import Sessions
from stseg.ui.shown import Choice, Shown
from stseg.ui.tabs import tabs

REQUEST = gr.Request(session_hash="one")


class NoExample(Example):
    """Nothing is segmented in the background."""

    def __init__(self) -> None:
        self.clip = None

    def shown(self) -> None:
        return None


class Page:
    """The handlers of a page that nobody looks at, with a result."""

    def __init__(self, shown: Shown) -> None:
        self.sessions = Sessions()
        pace, self.catalogue = Pace(), Catalogue([])
        scene = Scene(self.catalogue, pace, "CPU")
        self.views = scene.views = in_blocks(lambda: [tab.build() for tab in tabs({})])
        desk = Desk(self.sessions, scene)
        self.events = Events(desk, self.catalogue, NoExample())
        self.running, self.looking = Running(desk, pace), Looking(desk)
        self.session: Session = self.sessions.of("one")
        self.session.clip, self.session.shown = shown.result.clip, shown
        self.session.choice = shown.choice
        options = [_value(option) for view in scene.views for option in view.options]
        settings = [4.0, [1], 1.0, "dis", "full", "one-to-one", 0.0, 0.0, 1, False]
        self.values = [*settings, 0.0, 1.0, 0, *options]
        self.session.controls, self.session.looks = settings, self.values[SETTINGS + 1 :]
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


def given(steps: Iterator[Any]) -> list[Any]:
    """What a long event gave until its end, which leaves the page as it is."""
    *values, end = steps
    assert all(each == gr.skip() for each in end)
    return values


def _value(option: Component) -> object:
    return float(option.value) if isinstance(option, gr.Slider) else option.value


def finished(clip: Clip, model: Path, folder: Path) -> Shown:
    """What a run with K = 4 leaves on the page, with its files."""
    last = [step.shown for step in _steps(clip, model, folder, lambda: False)][-1]
    assert last is not None
    return last


def stopped(clip: Clip, model: Path, folder: Path, frames: int) -> Shown:
    """What the same run leaves on the page when it is stopped after at least so many frames."""
    shown = list(stopped_steps(clip, model, folder, frames))[-1].shown
    assert shown is not None
    return shown


def stopped_steps(clip: Clip, model: Path, folder: Path, frames: int) -> Iterator[work.Step]:
    """The steps of that run."""
    stop: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "INTERVAL", 0.0)
        for step in _steps(clip, model, folder, lambda: bool(stop)):
            if step.done == frames:
                stop.append(True)
            yield step


def _steps(clip: Clip, model: Path, folder: Path, stop: Stop) -> Iterator[work.Step]:
    settings = Settings(k=4, model=str(model), device="cpu")
    return work.segment_clip(clip, settings, folder, None, stop, wanted=lambda: Choice(4))
