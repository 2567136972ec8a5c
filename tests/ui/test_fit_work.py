"""The fit behind its tab, without a browser: steps, stop, what is kept and what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from unseen_page import REQUEST, Page, finished

from stseg.adaptation import Adaptation, AdaptationSettings, curves_of
from stseg.checkpoint import load_checkpoint
from stseg.errors import Cancelled, InputError
from stseg.loss_chart import Curve
from stseg.records import Clip, Segmentation, Settings
from stseg.ui import fit as tab
from stseg.ui.controls import OWN_MODEL, SETTINGS
from stseg.ui.curves import curves_svg
from stseg.ui.fit_work import FitStep, Fitted, fit_clip, picture_of, segment_known
from stseg.ui.jobs import announcement, handler
from stseg.ui.machine import Machine
from stseg.ui.shown import Shown
from stseg.ui.view import Context, Progress

GIVEN = (True, 1.0, 5.0, "Coarse", None)
"""What the tab's controls say after the model to start from."""

SMALL = AdaptationSettings(k=3, steps=3, size=(16, 28), batch=1)


def fit(
    clip: Clip, model: Path, path: Path, stop: Callable[[], bool], fit: AdaptationSettings = SMALL
) -> list[FitStep]:
    return list(fit_clip(clip, str(model), fit, Settings(k=3), path, stop, every=1))


def test_steps_then_a_checkpoint_then_a_result(
    clip: Clip, tiny_model: Path, tmp_path: Path
) -> None:
    steps = fit(clip, tiny_model, tmp_path / "a.safetensors", lambda: False)
    last = steps[-1]
    assert last.saved == tmp_path / "a.safetensors"
    assert "Fitted 3 steps on small" in last.text
    assert [each.step for each in last.told] == [0, 1, 2, 3]
    assert last.first is not None
    assert last.latest is not None
    assert not np.array_equal(last.first, last.latest)
    curves = {curve.name: len(curve.values) for curve in curves_of(last.told, tab.COLOURS)}
    assert curves == {"L": 3, "L_r": 3, "L_c": 3, "L of the clip as it is": 4}
    assert last.flow is not None
    fitted = Fitted(clip, last.saved, Settings(k=3), "Fitted")
    work = segment_known(
        fitted.clip, replace(fitted.settings, model=str(fitted.path)), last.flow, lambda: False
    )
    while True:
        try:
            next(work)
        except StopIteration as ended:
            result: Segmentation = ended.value
            break
    assert len(result) == clip.frames
    assert result.settings.model == str(last.saved)


def test_a_stop_keeps_what_was_learnt(clip: Clip, tiny_model: Path, tmp_path: Path) -> None:
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > clip.frames + 12  # frames, the first look, then a step or so

    path = tmp_path / "a.safetensors"
    settings = AdaptationSettings(k=3, steps=1000, size=(16, 28), batch=1)
    last = fit(clip, tiny_model, path, stop, settings)[-1]
    assert "Stopped after" in last.text
    assert load_checkpoint(path).card["fitted"]["steps"] == last.done < 5


def test_a_stop_before_the_first_step_writes_nothing(
    clip: Clip, tiny_model: Path, tmp_path: Path
) -> None:
    asked = iter([False] * clip.frames + [True] * 9)
    path = tmp_path / "a.safetensors"
    last = fit(clip, tiny_model, path, lambda: next(asked))[-1]
    assert "nothing was learnt" in last.text
    assert last.saved is None
    assert not path.exists()


def test_a_visitor_who_left_leaves_no_model_behind(
    clip: Clip, tiny_model: Path, tmp_path: Path
) -> None:
    """Saving would make their folder anew, which is served and which nobody removes."""
    folder = tmp_path / "served"
    folder.mkdir()
    work = fit_clip(
        clip,
        str(tiny_model),
        SMALL,
        Settings(k=3),
        folder / "a.safetensors",
        lambda: not folder.exists(),
        every=1,
    )
    next(step for step in work if step.done == 2)
    folder.rmdir()
    with pytest.raises(Cancelled):
        list(work)
    assert not folder.exists()


def test_a_frame_of_the_clip(clip: Clip) -> None:
    assert picture_of(clip, 3).shape == (*clip.size, 3)


@pytest.mark.parametrize("values", [[], [0.0], [0.3, 0.25, 0.2]])
def test_curves_are_drawn_inside_their_box(values: list[float]) -> None:
    curve = Curve("L_r & <more>", list(range(len(values))), values, "#123456", marked=True)
    svg = curves_svg([curve], 10)
    assert svg.count("<circle") == len(values)
    assert "<more>" not in svg
    assert "nan" not in svg


# --- the tab ------------------------------------------------------------------------------------


@pytest.fixture
def offered(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tab offers a small model, and fits on a small grid."""
    kind = type("Variant", (), {"name": "tiny", "title": "Tiny", "path": tiny_model})
    monkeypatch.setattr("stseg.variants.VARIANTS", {"tiny": kind})
    monkeypatch.setattr("stseg.ui.told.VARIANTS", {"tiny": kind})
    monkeypatch.setattr(tab, "available_variants", lambda: [kind])
    monkeypatch.setattr(tab, "SIZES", {"Coarse": (16, 28)})


def fitting(about: Context, *reads: Any) -> Iterator[Progress]:
    """The work behind the button."""
    return tab._fit(about, *tab._planned(about, *reads))


def context(
    clip: Clip | None,
    folder: Path,
    added: list[str],
    stop: Callable[[], bool] = lambda: False,
    kept: Callable[[Path], None] = lambda path: None,
    own: Path | None = None,
    room: Sequence[str] = (),
) -> Context:
    return Context(
        clip=clip,
        shown=None,
        settings=lambda model=None: Settings(
            k=2, taus=(-1, 1), max_frames=6, model=str(own) if model == OWN_MODEL else model
        ),
        plain_settings=Settings,
        own_model=lambda: own or folder,
        eta=lambda: 0.01,
        stop=stop,
        served=lambda: folder,
        cache=None,
        compared=lambda: (),
        keep=lambda variants: None,
        add_variant=lambda title, result, _: added.append(f"{title}: {len(result)}") or room,
        keep_model=kept,
        archive=lambda _: None,
    )


@pytest.mark.usefixtures("offered")
def test_the_tab_shows_keeps_and_compares(clip: Clip, tmp_path: Path) -> None:
    added: list[str] = []
    kept: list[Path] = []
    work = fitting(
        context(clip, tmp_path, added, kept=kept.append), "tiny", False, 1.0, 5.0, "Coarse", None
    )
    seen = list(work)
    assert kept == [tmp_path / f"{clip.name}-fitted.safetensors"]
    assert added == ["Fitted to this clip from Tiny, K = 2, without L_c: 6"]
    values = [each.values for each in seen if each.values is not None]
    assert all(len(each) == 6 for each in values)
    drawn = [each[1] for each in values if isinstance(each[1], str) and "<figure" in each[1]]
    assert drawn
    assert f"After 5 steps: {clip.name}" in drawn[-1]  # another clip may be chosen by then
    assert "polyline" in next(each[0] for each in reversed(values) if isinstance(each[0], str))
    fitted = values[-1][5]
    assert isinstance(fitted, Fitted)
    assert fitted.settings.taus == (-1, 1)  # as the left column says, like its neighbours
    assert load_checkpoint(fitted.path).card["fitted"]["settings"]["beta"] == 0
    assert "waits in Compare for Segment" in seen[-1].text
    # Later, from what is kept:
    crowded = context(clip, tmp_path, added, room=["Other"])
    told = list(tab._join(crowded, fitted))[-1].text
    assert "in Compare" in told
    assert "No room was left for: Other. At most 4 fit." in told
    assert len(added) == 2


@pytest.mark.usefixtures("offered")
def test_a_fit_begins_with_a_model_of_ones_own(
    clip: Clip, tiny_model: Path, tmp_path: Path
) -> None:
    """One that was fitted or uploaded: its name is in the card, and no folder of the server."""
    own = tmp_path / "before" / "mine.safetensors"
    own.parent.mkdir()
    own.write_bytes(tiny_model.read_bytes())
    added: list[str] = []
    about = context(clip, tmp_path, added, own=own)
    steps = fitting(about, OWN_MODEL, *GIVEN)
    fitted = [each.values for each in steps if each.values is not None][-1][5]
    assert added == ["Fitted to this clip from mine, K = 2: 6"]
    assert fitted.settings.model == str(own)
    card = load_checkpoint(fitted.path).card["fitted"]
    assert card["base"] == "mine.safetensors"
    (tmp_path / "again").mkdir()
    again = fitting(context(clip, tmp_path / "again", added, own=fitted.path), OWN_MODEL, *GIVEN)
    twice = [each.values for each in again if each.values is not None][-1][5]
    assert load_checkpoint(twice.path).card["fitted"]["before"] == card  # both clips are told


@pytest.mark.parametrize("stuck", [False, True])
def test_a_fit_that_breaks_down_leaves_the_one_before(
    stuck: bool, page: Page, clip: Clip, tiny_model: Path, request: pytest.FixtureRequest
) -> None:
    """Whether it fails itself or the machine gives it up."""
    request.getfixturevalue("offered")  # the page is laid out by now
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    before = Fitted(clip, tiny_model, Settings(k=2, model="tiny", max_frames=6), "Fitted")
    page.session.own.model = tiny_model
    if stuck:
        page.sessions.machine = Machine(1.0)

    def full(self: Adaptation, path: Path) -> None:
        if stuck:
            time.sleep(2.5)
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Adaptation, "save", full)
    monkeypatch.setattr("stseg.ui.controls.check_offered", lambda *_: None)
    job = next(job for view in page.views for job in view.jobs if job.run is tab._fit)
    announcement(page.sessions, job)(REQUEST)
    reads = "tiny", True, 1.0, 5.0, "Coarse", before
    seen: list[tuple[Any, ...]] = []
    with pytest.raises(gr.Error, match="made no progress" if stuck else "disk of the server"):
        seen.extend(handler(page.sessions, job)(REQUEST, *page.values[:SETTINGS], *reads))
    _, _, chart, pictures, file, join, use, fitted = seen[-2]
    assert "was broken off: nothing of it is kept" in chart
    assert not pictures
    assert file["value"] == str(tiny_model)
    assert join["interactive"]
    assert use["interactive"]
    assert fitted is before
    assert page.session.own.model == tiny_model
    assert "Not done." in seen[-1][0]


@pytest.mark.usefixtures("offered")
def test_a_fit_stands_beside_what_it_began_as(clip: Clip, tiny_model: Path, tmp_path: Path) -> None:
    added: list[tuple[str, str, bool]] = []
    fitted = Fitted(clip, tiny_model, Settings(k=2, model="tiny", max_frames=6), "Fitted")
    shown = finished(clip, tiny_model, tmp_path / "files")  # with K = 4
    about = context(clip, tmp_path, [])
    for here, expected in (
        (None, ["Fitted"]),  # there is nothing yet to be beside
        (shown, ["tiny, K = 2", "Fitted"]),
        (with_settings(shown, replace(fitted.settings, taus=(2,))), ["tiny, K = 2", "Fitted"]),
        (with_settings(shown, replace(fitted.settings, eta=0.02)), ["Fitted"]),
    ):
        added.clear()
        own = replace(
            about,
            shown=here,
            add_variant=lambda title, result, brought: (
                added.append((title, result.settings.model, brought)) or ()
            ),
        )
        list(tab._join(own, fitted))
        assert [title for title, *_ in added] == expected
        assert added[-1][1:] == (str(tiny_model), True)
        assert all(each[1:] == ("tiny", False) for each in added[:-1])


def with_settings(shown: Shown, settings: Settings) -> Shown:
    """The result, as if it had been made so."""
    result = replace(shown.result, settings=settings)
    return replace(shown, result=result, others={**shown.others, result.k: result})


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize(
    ("base", "size", "sentence"),
    [("/etc/passwd", "Coarse", "no model '/etc/passwd' here"), ("tiny", "9x9", "no grid '9x9'")],
)
def test_only_what_is_offered_is_taken(
    clip: Clip, tmp_path: Path, base: str, size: str, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        fitting(context(clip, tmp_path, []), base, True, 1.0, 5.0, size, None)


def test_without_a_clip_or_a_fit_a_sentence(clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No clip is chosen"):
        fitting(context(None, tmp_path, []), "full", True, 1.0, 5.0, "Coarse", None)
    with pytest.raises(InputError, match="Nothing is fitted yet"):
        tab._fitting(context(clip, tmp_path, []), None)
