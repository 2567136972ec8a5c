"""What is drawn is what the page says now, whatever went on meanwhile: without a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from unseen_page import REQUEST, NoExample, Page, given, stopped

from stseg.comparison import compare
from stseg.errors import InputError
from stseg.records import Clip
from stseg.ui import running as tested
from stseg.ui.controls import SETTINGS
from stseg.ui.jobs import announcement, handler
from stseg.ui.markup import RENEW, of_frame
from stseg.ui.session import SEGMENT, WRITE
from stseg.ui.shown import Choice, Footage, Shown
from stseg.ui.view import Context, Job, Moment, Progress, TabView
from stseg.ui.work import Step
from stseg.volume import FlowFields

MOTION = 3
"""The number of a tab that is drawn only while it is open."""


@pytest.fixture(scope="module")
def shown(clip: Clip, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    return stopped(clip, tiny_model, tmp_path_factory.mktemp("files"), frames=3)


class Watched(Page):
    """A page whose pictures are not made, but noted: the tab, and what it would draw."""

    def __init__(self, shown: Shown) -> None:
        super().__init__(shown)
        self.drawn: list[tuple[int, Moment, tuple[Any, ...]]] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.views = [self._noting(index, view) for index, view in enumerate(self.views)]
        self.events._desk.scene.views = self.views

    def _noting(self, index: int, view: TabView) -> TabView:
        def draw(moment: Moment, *options: Any) -> tuple[Any, ...]:
            self.drawn.append((index, moment, options))
            self.meanwhile()
            return tuple(f"{index}" for _ in view.pictures)

        return replace(view, draw=draw)

    def looks(
        self, opened: int = 0, opacity: float = 50.0, hidden: tuple[int, ...] = ()
    ) -> list[Any]:
        """The frame that the slider shows, and what else the page says."""
        _, _, *options = self.values[SETTINGS + 1 :]
        options[0], options[2] = opacity, list(hidden)
        return [self.session.frame, 1.0, opened, *options]

    def runs(self, monkeypatch: pytest.MonkeyPatch, *steps: Step) -> Iterator[tuple[Any, ...]]:
        """Segment is pressed, and gives these steps."""
        monkeypatch.setattr(tested, "segment_clip", lambda *_: iter(steps))
        self.running.announce(REQUEST, *self.values)
        return self.running.segment(REQUEST, *self.values)


@pytest.fixture
def page(shown: Shown) -> Iterator[Watched]:
    page = Watched(shown)
    yield page
    page.sessions.close_all()


def growing(shown: Shown) -> Step:
    later = replace(shown, result=replace(shown.result), growing=True)
    return Step("frame", len(later), 9, later)


def ended(shown: Shown, files: Path) -> tuple[Step, Step]:
    """All frames are there; then the files, too."""
    files.touch()
    whole = replace(shown, result=replace(shown.result))
    written = replace(whole, written={whole.choice: {files.name: files}})
    return Step("writing", shown=whole), Step("done", shown=written, finished=True)


def test_a_run_is_drawn_as_the_page_stands_now(
    page: Watched, shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = page.runs(
        monkeypatch, growing(shown), growing(shown), *ended(shown, tmp_path / "grid.mp4")
    )
    next(steps)
    assert page.session.following
    page.looking.redraw(REQUEST, *page.looks(MOTION, opacity=80.0))
    page.events.estimate(REQUEST, 4.0, [2], *page.values[2:9])
    assert page.session.following  # only the frame was promised to end that
    page.drawn.clear()
    scene = next(steps)
    assert "τ, the model" in scene[1]
    assert scene[2]["value"] == len(shown) - 1  # the newest
    assert {index: options[0] for index, _, options in page.drawn if options}[0] == 80.0
    page.drawn.clear()
    next(steps)  # all frames are there
    assert MOTION in [index for index, *_ in page.drawn]
    assert not page.drawn[-1][1].shown.growing
    page.drawn.clear()
    next(steps)
    assert not page.drawn


def test_the_files_leave_what_is_hidden_alone(
    page: Watched, shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, first, last = page.runs(monkeypatch, *ended(shown, tmp_path / "grid.mp4"))
    assert page.filled(first, "legend")["value"] == []  # of the run before
    assert page.filled(first, "grid-video")["visible"] is False
    assert "value" not in page.filled(last, "legend")
    assert page.filled(last, "across") == page.filled(last, "pair") == gr.skip()
    assert page.filled(last, "grid-video")["visible"] is True
    assert "Files of small" in page.filled(last, "download-state")


def test_other_labels_are_drawn_with_the_legend_that_they_begin_with(page: Watched) -> None:
    page.looking.redraw(REQUEST, *page.looks(hidden=(1,)))
    assert page.drawn[-1][2][2] == [1]
    page.values[SETTINGS + 1 :] = page.looks(hidden=(1,))[1:]
    scene = page.events.choose_k(REQUEST, 2.0, *page.values[1:])
    assert page.filled(scene, "legend")["value"] == []
    assert next(options for index, _, options in reversed(page.drawn) if index == 0)[2] == []


def test_a_look_that_is_late_does_not_repaint_the_clip_before(page: Watched) -> None:
    event = gr.EventData(None, {"key": "0-0"})
    page.meanwhile = lambda: page.events.pick(event, REQUEST, *page.values)
    assert all(each == gr.skip() for each in page.looking.look(REQUEST, page.looks()[0]))
    assert page.session.clip == page.catalogue.clips[0]
    page.session.shown = page.drawn[0][1].shown
    page.meanwhile = lambda: None
    assert of_frame("0", 0) in page.looking.look(REQUEST, page.looks()[0])


def test_labels_chosen_while_a_tab_works_get_their_files_after_it(
    page: Watched, shown: Shown
) -> None:
    clip, settings = shown.result.clip, shown.result.settings
    footage = Footage(clip, settings, FlowFields(), shown.pictures)
    page.session.shown = replace(shown, footage=footage)

    def work(context: Context) -> Iterator[Progress]:
        page.events.choose_k(REQUEST, 2.0, *page.values[1:])
        assert page.session.claim(WRITE) is None  # the work goes on
        yield Progress("Done.")

    job = Job(start=print, run=work)
    announcement(page.sessions, job)(REQUEST)
    assert "Done." in given(handler(page.sessions, job)(REQUEST, *page.values[:SETTINGS]))[-1][0]
    assert page.session.claim(WRITE) is not None


def test_another_run_has_other_variants(page: Watched, shown: Shown, tmp_path: Path) -> None:
    session, result = page.session, shown.result
    session.compared = there = (compare("One", result),)

    def run(**changed: Any) -> Shown:
        return replace(shown, result=replace(result, settings=replace(result.settings, **changed)))

    session.show(run(eta=0.05, model="full", merge=0.5), tmp_path)
    assert session.compared == there
    session.show(run(linkage="greedy"), tmp_path)
    assert session.compared == ()


class Late(NoExample):
    """An example that is finished after the page is there."""

    def __init__(self, shown: Shown) -> None:
        self.clip, self._made = shown.result.clip, shown

    def ready(self, seconds: float) -> bool:
        return seconds > 1

    def thumbnails_ready(self, seconds: float) -> bool:
        return True

    def shown(self) -> Any:
        return self._made


def arrival(page: Watched, shown: Shown) -> Iterator[tuple[Any, ...]]:
    page.session.clip = page.session.shown = None
    page.events._example = Late(shown)
    steps = page.events.arrive(REQUEST, *page.values)
    assert "being segmented" in next(steps)[1]
    return steps


def test_the_example_does_not_take_over_from_the_visitor(page: Watched, shown: Shown) -> None:
    steps = arrival(page, shown)
    page.events.choose_k(REQUEST, 2.0, *page.values[1:])
    page.running.announce(REQUEST, 2.0, *page.values[1:])
    _, *scene = next(steps)
    assert all(each == gr.skip() for each in scene)
    assert page.session.choice == Choice(2)
    assert page.session.claim(SEGMENT) is not None


def test_the_example_comes_with_the_k_that_was_chosen_meanwhile(
    page: Watched, shown: Shown
) -> None:
    steps = arrival(page, shown)
    page.events.choose_k(REQUEST, 2.0, *page.values[1:])
    _, line, *_ = next(steps)
    assert "K = 2" in line
    assert page.session.shown is not None
    assert page.session.shown.choice == page.session.choice == Choice(2)


def test_the_player_is_answered_with_the_pictures_of_the_open_tab(page: Watched) -> None:
    page.session.following = True
    answer = page.looking.look_at([page.session.key, 2])
    assert answer is not None
    assert list(answer) == ["board"]  # what is not open is left as it is
    assert page.drawn[-1][1].frame == page.session.frame == 2
    assert not page.session.following
    page.looking.redraw(REQUEST, *page.looks(MOTION))
    answer = page.looking.look_at([page.session.key, 1.0])
    assert answer is not None
    assert list(answer) == ["motion"]
    page.session.shown = None
    assert page.looking.look_at([page.session.key, 0]) == {}


@pytest.mark.parametrize(
    "frame", [None, "1", [], float("nan"), float("inf"), 10**400, -1, {"frame": 1}]
)
def test_nonsense_moves_nothing(page: Watched, frame: object) -> None:
    before = page.session.frame
    assert page.looking.look_at([page.session.key, frame]) is None
    assert page.session.frame == before


def test_a_key_opens_its_own_session_alone(page: Watched) -> None:
    other = page.sessions.of("two")
    assert other.key != page.session.key
    assert page.events.introduce(REQUEST) == page.session.key
    assert page.looking.look_at([other.key, 1]) == {}  # they look at nothing
    assert (page.session.frame, other.frame) == (0, 1)
    key = page.session.key
    for told in ([], ["", 1], ["one", 1], ["\ud800", 1], [key + "x", 1], key, None):
        assert page.looking.look_at(told) is None
    page.sessions.close("one")
    assert page.looking.look_at([key, 1]) is None
    with pytest.raises(InputError, match="Load the page again"):
        page.looking.look(REQUEST, 1)


def test_a_frame_that_cannot_be_drawn_is_left_to_the_event(
    page: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(page.events._desk.scene, "pictures", fail)
    assert page.looking.look_at([page.session.key, 1]) is None
    assert "could not be drawn" in caplog.text


def test_who_moves_on_while_it_is_drawn_gets_what_they_look_at(page: Watched) -> None:
    page.meanwhile = lambda: setattr(page.session, "frame", 2)
    page.looking.redraw(REQUEST, *page.looks(opacity=70.0))
    assert page.drawn[-1][1].frame == 2


def test_the_player_can_renew_every_picture(page: Watched) -> None:
    pictures = [each for view in page.views for each in view.pictures]
    assert len({each.elem_id for each in pictures}) == len(pictures) > 3
    for each in pictures:
        assert isinstance(each, gr.HTML)
        assert RENEW in str(each.js_on_load)
