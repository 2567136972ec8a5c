"""The tab Compare without a browser: what is kept when a comparison ends early."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from unseen_page import REQUEST, Page, finished, given

from stseg.comparison import compare
from stseg.comparison_files import FILES
from stseg.measures import consistency
from stseg.naming import Naming
from stseg.records import Clip
from stseg.ui import compare as tab
from stseg.ui import compare_files
from stseg.ui.controls import OWN_MODEL, SETTINGS
from stseg.ui.jobs import announcement, handler
from stseg.ui.session import Session
from stseg.ui.view import Job, Moment

JOB = Job(start=print, run=tab._run, plan=tab._planned)


@pytest.fixture
def page(
    clip: Clip, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Page]:
    """With a fitted model in the tab Compare, beside the shown result."""
    page = Page(finished(clip, tiny_model, tmp_path))
    monkeypatch.setattr(tab, "check_offered", lambda *_: None)
    shown = page.session.shown
    assert shown is not None
    results = [shown.result, shown.others[3]]
    page.session.compared = (
        compare("Shown", results[0]),
        replace(compare("Fitted", results[1], results[0]), brought=True),
    )
    yield page
    page.sessions.close_all()


def started(page: Page) -> Iterator[Any]:
    """The shown model against itself with another K."""
    announcement(page.sessions, JOB)(REQUEST)
    shown = page.session.shown
    assert shown is not None
    model = shown.result.settings.model
    return iter(
        handler(page.sessions, JOB)(REQUEST, *page.values[:SETTINGS], [model], 2, 0, "", False)
    )


def titles(page: Page) -> list[str]:
    return [each.title for each in page.session.compared]


def until(steps: Iterator[Any], text: str) -> None:
    next(step for step in steps if text in step[0])


@pytest.mark.parametrize("end", [Session.stop, Session.begin], ids=["Stop", "other work"])
@pytest.mark.parametrize(
    ("text", "count"), [("Variant 1 of 2", 2), ("done.", 2)], ids=["at once", "after one"]
)
def test_what_was_brought_outlives_a_comparison_that_ends_early(
    page: Page, end: Callable[[Session], Any], text: str, count: int
) -> None:
    steps = started(page)
    until(steps, text)
    end(page.session)
    list(steps)
    assert len(titles(page)) == count
    assert titles(page)[-1] == "Fitted"


def test_what_was_brought_outlives_one_that_fails(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(tab, "compare", fail)
    with pytest.raises(gr.Error):
        list(started(page))
    assert titles(page) == ["Shown", "Fitted"]


def test_what_was_brought_stands_beside_the_others(page: Page) -> None:
    *steps, last = given(started(page))
    ended = next(step for step in steps if "done." in step[0])
    assert ended[2]["label"] == "Comparison"  # what was written is of other variants
    assert not ended[2]["interactive"]
    assert len(titles(page)) == 3
    assert titles(page)[-1] == "Fitted"
    assert "3 variants of small, side by side." in last[0]
    assert "L_c is at η = 1.0 % for all" in tab._table(page.session.compared)
    *others, fitted = page.session.compared
    told = tab._ended(others, [fitted], "small")  # as when four are ticked
    assert "No room was left for: Fitted. At most 4 fit." in told


def test_the_chosen_tile_leaves_the_variants_alone(page: Page) -> None:
    (orbit,) = [each for each in page.catalogue.clips if each.name == "orbit"]
    session = page.session
    assert session.shown is not None
    result = replace(session.shown.result, clip=orbit)
    session.clip, session.shown = orbit, replace(session.shown, result=result)
    place = page.catalogue.clips.index(orbit)
    scene = page.events.pick(gr.EventData(None, {"key": f"0-{place}"}), REQUEST, *page.values)
    assert all(each == gr.skip() for each in scene[1:])
    assert titles(page) == ["Shown", "Fitted"]


def test_what_no_title_tells_stands_below(page: Page) -> None:
    session = page.session
    assert session.shown is not None
    base = session.shown.result
    alike = (
        compare("a", base),
        compare("b", replace(base, settings=replace(base.settings, model="full"))),
    )
    (board,) = tab._draw(Moment(session.shown, 1, 0.01, alike), False)
    told = "All: τ = +1 · DIS (OpenCV), corrected · triplets at every second frame."
    assert told in board
    other = replace(base, settings=replace(base.settings, taus=(-1,), refine=True))
    text = tab._shared([*alike, compare("c", other)], base.settings)
    assert text == told.replace("All", "Where no name says otherwise")
    assert tab._shared(alike[:1], replace(base.settings, refine=True)).endswith(" · refined.")


def test_a_clip_that_is_not_segmented_is_not_promised_a_comparison(page: Page) -> None:
    (view,) = [each for each in page.views if each.draw is tab._draw]
    (blank,) = view.blank
    assert session_lacks(blank)
    shown = page.session.shown
    assert shown is not None
    assert "only the network runs" in tab._draw(Moment(shown, 0, 0.01), False)[0]
    assert session_lacks(tab._draw(Moment(replace(shown, footage=None), 0, 0.01), False)[0])


def session_lacks(board: str) -> bool:
    return "press Segment first" in board and "are known" not in board


def test_a_segment_has_the_colour_that_it_has_in_the_other_tabs(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = page.session
    assert session.shown is not None
    shown = session.shown.result
    drawn: list[np.ndarray] = []

    def draw(_: object, labels: np.ndarray) -> np.ndarray:
        drawn.append(labels)
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(tab, "overlay", draw)
    # What is compared first calls the labels something else than the page does, or has others.
    names = np.roll(np.arange(shown.k, dtype=np.uint8), 1)
    other = replace(shown, assignment=names[shown.assignment])
    fewer = session.shown.others[3]
    variants = (
        compare("Fewer", fewer),
        compare("Other names", other, fewer),
        compare("Shown", shown, fewer),
    )
    (board,) = tab._draw(Moment(session.shown, 2, 0.01, variants), False)
    size = drawn[0].shape
    labels = compare("As on the page", shown).labels(2, (size[0], size[1]))
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(drawn[1], labels)
    np.testing.assert_array_equal(drawn[2], labels)
    table = Naming().table(shown, fewer)
    alone = compare("Alone", fewer).labels(2, (size[0], size[1]))
    np.testing.assert_array_equal(drawn[0], table[alone])
    # What has the colour that it has in the first does not differ, and nothing else does.
    assert f"Other names · {100 * (labels != drawn[0]).mean():.1f} % differ" in board


def test_the_table_is_at_the_eta_of_the_page(page: Page) -> None:
    announcement(page.sessions, JOB)(REQUEST)
    shown = page.session.shown
    assert shown is not None
    model = shown.result.settings.model
    values = [*page.values[:SETTINGS]]
    values[2] = 5.0
    list(handler(page.sessions, JOB)(REQUEST, *values, [model], 2, 0, "", False))
    first, *_ = page.session.compared
    assert first.result.masks is shown.result.masks  # η changes no label: nothing ran anew
    assert [each.measures.eta for each in page.session.compared] == [0.05] * 3
    assert first.measures.consistency == consistency(shown.result, 0.05)
    assert shown.result.settings.eta == 0.01


def test_what_a_variant_lacks_is_told(page: Page) -> None:
    announcement(page.sessions, JOB)(REQUEST)
    shown = page.session.shown
    assert shown is not None
    model = shown.result.settings.model
    steps = handler(page.sessions, JOB)(REQUEST, *page.values[:SETTINGS], [model], 0, 8, "", False)
    *_, last = given(steps)
    assert "τ = +8: " in last[0]


def test_what_the_table_sums_up_is_drawn_frame_by_frame(page: Page) -> None:
    session = page.session
    assert session.shown is not None
    frames = len(session.shown)
    lines = tab._lines(session.compared, frames, 1)
    assert lines.count("Flicker of each frame") == 1
    assert "J of each frame" not in lines  # the clip has no ground truth
    assert 'class="line variant-0"' in lines
    assert 'class="line variant-1"' in lines
    assert f'data-frames="{frames}"' in lines
    board = tab._table(session.compared)
    assert board.index("variant-0") < board.index("Shown") < board.index("variant-1")
    first = session.compared[0]
    told = replace(first.measures.over_frames, j=(None, 0.5, *[None] * frames))
    one = (replace(first, measures=replace(first.measures, over_frames=told)),)
    assert "J of each frame" in tab._lines(one, frames, 1)  # longer than what is shown, too


def test_a_model_of_ones_own_is_compared(page: Page, tiny_model: Path) -> None:
    shown, own = page.session.shown, page.session.own
    assert shown is not None
    model = shown.result.settings.model

    def asked() -> Iterator[Any]:
        announcement(page.sessions, JOB)(REQUEST)
        reads = [model, OWN_MODEL], 0, 0, "", False
        return iter(handler(page.sessions, JOB)(REQUEST, *page.values[:SETTINGS], *reads))

    with pytest.raises(gr.Error, match="There is no model of your own yet"):
        list(asked())
    own.model = own.new_job_folder() / "mine.safetensors"
    own.model.write_bytes(tiny_model.read_bytes())
    list(asked())
    assert titles(page) == ["tiny, K = 4", "mine, K = 4", "Fitted"]


def test_what_is_compared_can_be_taken_along(page: Page) -> None:
    job = next(job for view in page.views for job in view.jobs if job.run is compare_files.write)
    announcement(page.sessions, job)(REQUEST)
    values = page.values[:SETTINGS]
    *_, ready, last = given(iter(handler(page.sessions, job)(REQUEST, *values)))
    button = ready[2]
    assert button["label"] == "Comparison · small, 2 variants"
    assert "The comparison of small is written: 2 variants" in last[0]
    with zipfile.ZipFile(button["value"]) as archive:
        assert sorted(archive.namelist()) == [
            "small-comparison/",
            *sorted(f"small-comparison/{name}" for name in FILES),
        ]
        record = json.loads(archive.read("small-comparison/comparison.json"))
    assert [each["title"] for each in record["variants"]] == ["Shown", "Fitted"]
    assert all("/" not in each["settings"]["model"] for each in record["variants"])
    assert page.events.settled(REQUEST)[1] == gr.skip()  # it is that of what is compared
    anew = [replace(each) for each in page.session.compared]  # as alike as when compared again
    for others in (anew, page.session.compared[:1], ()):
        page.session.archive(page.session.compared)
        assert page.events.settled(REQUEST)[1] == gr.skip()
        page.session.compared = others
        off = page.events.settled(REQUEST)[1]
        assert (off["label"], off["interactive"]) == ("Comparison", False)
    page.session.compared = anew
    announcement(page.sessions, job)(REQUEST)
    *_, again, _ = given(iter(handler(page.sessions, job)(REQUEST, *values)))
    assert Path(again[2]["value"]).is_file()
    assert not Path(button["value"]).exists()  # the page offers the latest alone
    page.session.compared = ()
    announcement(page.sessions, job)(REQUEST)
    with pytest.raises(gr.Error, match="Nothing is compared yet"):
        list(handler(page.sessions, job)(REQUEST, *values))
