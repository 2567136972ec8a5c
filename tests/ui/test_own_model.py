"""A model that a visitor fitted or uploaded is one to segment with, for all tabs and files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from unseen_page import REQUEST, Page

from stseg.checkpoint import load_checkpoint, save_checkpoint
from stseg.errors import InputError
from stseg.limits import Limits
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.records import Clip, Settings
from stseg.settings_file import read_settings as read_file
from stseg.ui.benchmark_board import board_of
from stseg.ui.benchmark_work import scores_of, scoring_of
from stseg.ui.controls import MODEL, OWN_MODEL, SETTINGS, read_settings
from stseg.ui.fit_work import Fitted
from stseg.ui.guard import guarded
from stseg.ui.jobs import announcement, handler
from stseg.ui.offered import ALL, SHIPPED, offered
from stseg.ui.offered import chosen as chosen_set
from stseg.ui.session import SEGMENT
from stseg.ui.view import Context, Job, Progress
from stseg.ui.work import command_of
from stseg.uploads import Door

NONE_YET = r"There is no model of your own yet\. Fit one on the tab Fit, upload one"


def chosen(page: Page) -> list[Any]:
    """The values of the left column with the visitor's own model."""
    values = page.values[:SETTINGS]
    values[MODEL] = OWN_MODEL
    return values


def fitted_model(page: Page, clip: Clip, tiny_model: Path) -> Fitted:
    """What the tab Fit has at its end."""
    path = page.session.own.new_job_folder() / "small-fitted.safetensors"
    path.write_bytes(tiny_model.read_bytes())
    return Fitted(clip, path, Settings(model=str(tiny_model)), "Fitted")


def bring(page: Page, tiny_model: Path, folder: Path, name: str = "mine") -> tuple[str, str, str]:
    """Upload a model: it is taken from where it lies."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.safetensors"
    path.write_bytes(tiny_model.read_bytes())
    return page.events.bring_model(REQUEST, str(path), *page.values[:SETTINGS])


def segment(page: Page) -> str:
    """The model that Segment takes now."""
    page.running.announce(REQUEST, *chosen(page), *page.values[SETTINGS:])
    list(page.running.segment(REQUEST, *chosen(page)))
    shown = page.session.shown
    assert shown is not None
    return shown.result.settings.model


def test_there_may_be_none(page: Page) -> None:
    with pytest.raises(InputError, match=r"Nothing is fitted yet\. Press Fit first"):
        page.events.use_fitted(REQUEST, None, *page.values[:SETTINGS])
    page.session.controls = chosen(page)
    badge = page.events.estimate(REQUEST, *chosen(page))
    assert "There is no model of your own yet" in badge  # said before Segment is pressed
    # A fit begins with a model of its own, so that it may be pressed.
    assert page.session.own.settings(None, chosen(page), "full").model == "full"
    page.running.announce(REQUEST, *chosen(page), *page.values[SETTINGS:])
    with pytest.raises(gr.Error, match=NONE_YET):
        list(guarded(page.running.segment)(REQUEST, *chosen(page)))


def test_the_fitted_model_segments(page: Page, clip: Clip, tiny_model: Path) -> None:
    session, fitted = page.session, fitted_model(page, clip, tiny_model)
    model, badge = page.events.use_fitted(REQUEST, fitted, *page.values[:SETTINGS])
    assert model == OWN_MODEL
    assert "changed: press Segment" in badge
    assert segment(page) == str(fitted.path)
    shown = session.shown
    assert shown is not None
    assert "model" not in page.events.estimate(REQUEST, *chosen(page))  # nothing has changed since
    # Files tell its name, which is that of the download, and no folder of this machine.
    assert "--model small-fitted.safetensors" in command_of(shown.result)
    summary = json.loads(shown.files["summary.json"].read_text())
    assert summary["settings"]["model"] == fitted.path.name
    assert read_file(shown.files["settings.json"]).model == fitted.path.name
    assert str(fitted.path.parent) not in shown.files["summary.json"].read_text()
    # It scores data sets, too.
    assert session.own.plain_settings(chosen(page)).model == str(fitted.path)
    # Another one may take its place: the badge says so though no control moved.
    later = fitted_model(page, clip, tiny_model)
    session.own.model = later.path
    session.controls = chosen(page)
    assert "The model changed: press Segment" in page.events.settled(REQUEST)[0]


def test_an_uploaded_model_segments(page: Page, tiny_model: Path, tmp_path: Path) -> None:
    model, line, badge = bring(page, tiny_model, tmp_path)
    assert model == OWN_MODEL
    assert "The model mine.safetensors is taken: K = 2, 3, 4. Press Segment." in line
    assert "The model" in badge
    assert "changed: press Segment" in badge
    page.session.controls = chosen(page)
    assert page.events.retune(REQUEST, *chosen(page))[0] == gr.skip()  # the line stays
    kept = page.session.own.model
    assert kept is not None
    assert segment(page) == str(kept)
    shown = page.session.shown
    assert shown is not None
    assert "--model mine.safetensors" in command_of(shown.result)
    assert not kept.is_relative_to(page.session.own.served)  # only what is fitted is served


def test_the_line_on_a_model_stays_where_another_was_refused(
    page: Page, tiny_model: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"none")
    with pytest.raises(InputError):
        page.events.bring_model(REQUEST, str(bad), *page.values[:SETTINGS])
    assert page.session.refused
    bring(page, tiny_model, tmp_path)
    assert not page.session.refused
    assert page.events.retune(REQUEST, *chosen(page))[0] == gr.skip()


def test_segment_with_it_means_what_was_fitted(
    page: Page, clip: Clip, tiny_model: Path, tmp_path: Path
) -> None:
    fitted = fitted_model(page, clip, tiny_model)
    page.session.own.model = fitted.path
    bring(page, tiny_model, tmp_path)
    assert page.session.own.model != fitted.path
    page.events.use_fitted(REQUEST, fitted, *page.values[:SETTINGS])
    assert page.session.own.model == fitted.path


def test_what_is_asked_for_while_a_fit_runs(
    page: Page, clip: Clip, tiny_model: Path, tmp_path: Path
) -> None:
    """A fit that Segment or another fit ends keeps its model: they take the one before."""
    bring(page, tiny_model, tmp_path)
    asked, later = page.session.own.model, fitted_model(page, clip, tiny_model)
    page.running.announce(REQUEST, *chosen(page), *page.values[SETTINGS:])
    page.session.own.model = later.path
    list(page.running.segment(REQUEST, *chosen(page)))
    shown = page.session.shown
    assert shown is not None
    assert shown.result.settings.model == str(asked)

    def tell(context: Context) -> Iterator[Progress]:
        yield Progress(context.settings().model)

    work = Job(start=print, run=tell)
    page.session.own.model = asked
    announcement(page.sessions, work)(REQUEST)
    page.session.own.model = later.path
    told = list(handler(page.sessions, work)(REQUEST, *chosen(page)))
    assert str(asked) in told[0][0]


def test_a_fit_does_not_take_the_place_of_what_was_chosen(
    page: Page, clip: Clip, tiny_model: Path, tmp_path: Path
) -> None:
    """Its own button reaches what it made."""
    own = page.session.own
    first, second = (fitted_model(page, clip, tiny_model) for _ in range(2))
    page.session.keep_model(first.path)
    assert own.model == first.path  # there was none
    page.session.keep_model(second.path)
    assert own.model == first.path
    page.events.use_fitted(REQUEST, second, *page.values[:SETTINGS])
    assert own.model == second.path
    bring(page, tiny_model, tmp_path)
    page.session.keep_model(first.path)
    assert own.model.name == "mine.safetensors"
    own.model.unlink()  # which the page answers with: fit again
    page.session.keep_model(first.path)
    assert own.own_model() == first.path


def odd(folder: Path, tiny_model: Path, **card: Any) -> Path:
    """A checkpoint whose card was edited."""
    path = folder / "odd.safetensors"
    known = load_checkpoint(tiny_model)
    plain = {"motion_model": "quadratic-time", "fit": {}, "augment": {}, "instants": 3, **card}
    save_checkpoint(path, known.network, {"settings": plain})
    return path


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        ({"fit": {"steps": 10**9}}, "A fit cannot take 1000000000 steps"),
        ({"fit": {"stride": 0}}, "cannot use every 0th site"),
        ({"fit": {"floor": "x"}}, "describes no training that STSeg knows"),
        ({"augment": {"global_motion": 1e300}}, "A global motion cannot be 1e.300 times"),
        ({"augment": {"corrupt": float("nan")}}, "cannot be lost with chance nan"),
        ({"instants": float("inf")}, "volumes of inf instants"),
        ({"more": list(range(300_000))}, "has a header of .* KiB, but one of at most 1,024 KiB"),
    ],
)
def test_a_card_that_would_break_a_fit_is_refused(
    card: dict[str, Any], sentence: str, tmp_path: Path, tiny_model: Path
) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        Door(Limits()).model(odd(tmp_path, tiny_model, **card))
    assert str(tmp_path) not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_refusal_is_in_the_status_until_a_control_moves(
    page: Page, tmp_path: Path, tiny_model: Path
) -> None:
    path = odd(tmp_path, tiny_model, instants=7)
    take = guarded(page.events.bring_model, page.events.refused_part)
    seen: list[Any] = []
    with pytest.raises(gr.Error):
        seen.extend(take(REQUEST, str(path), *page.values[:SETTINGS]))
    ((model, line, badge),) = seen
    assert model == badge == gr.skip()
    assert "Not taken. The card of this model describes no training" in line
    assert page.session.refused
    line, _ = page.events.retune(REQUEST, *page.values[:SETTINGS])
    assert "Not taken" not in line
    assert "press Segment" in line
    page.session.begin(SEGMENT)  # whose own lines come after it
    path = odd(tmp_path, tiny_model, instants=7)
    with pytest.raises(InputError):
        page.events.bring_model(REQUEST, str(path), *page.values[:SETTINGS])
    assert not page.session.refused


def test_a_network_that_is_too_much_work_or_gives_no_numbers_is_refused(
    tmp_path: Path, tiny_model: Path
) -> None:
    path = tmp_path / "odd.safetensors"
    wide = SegmentationNetwork(NetworkSettings(levels=1, features=100, ks=(2,)))
    save_checkpoint(path, wide, {})
    with pytest.raises(InputError, match="1 levels and 100 features, but at most 5 and 64"):
        Door(Limits()).model(path)
    network = load_checkpoint(tiny_model).network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(3e38)
    save_checkpoint(path, network, {})
    with pytest.raises(InputError, match=r"odd\.safetensors give masks that are not numbers"):
        Door(Limits()).model(path)


DIGITS = b'{"__metadata__": {"stseg": "{\\"format\\": ' + b"1" * 5000 + b'}"}}'


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"no tensors at all",
        b"\x08" + bytes(7) + b"{}      ",
        len(DIGITS).to_bytes(8, "little") + DIGITS,
    ],
)
def test_what_is_no_model_is_refused(page: Page, tmp_path: Path, written: bytes) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(written)
    with pytest.raises(InputError, match=r"^odd\.safetensors is not a"):
        page.events.bring_model(REQUEST, str(path), *page.values[:SETTINGS])
    assert page.session.own.model is None
    assert not list(page.session.own.private.iterdir())


def test_no_upload_stays_whatever_its_check_ran_into(
    page: Page, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("nobody foresaw it")

    monkeypatch.setattr("stseg.uploads.vetted_model", fail)
    with pytest.raises(RuntimeError):
        bring(page, tiny_model, tmp_path)
    assert not list(page.session.own.private.iterdir())


def test_scores_do_not_tell_where_a_model_is_kept(
    page: Page, tiny_model: Path, tmp_path: Path
) -> None:
    bring(page, tiny_model, tmp_path)
    settings = replace(page.session.own.plain_settings(chosen(page)), k=7)
    data_set = chosen_set(offered([]), SHIPPED)
    *_, last = scores_of(scoring_of(data_set, ALL, ["orbit"], settings, True), lambda: False)
    assert "Model 'mine.safetensors' gives K = 4, 2, 3" in json.dumps(last.to_json())
    assert str(page.session.own.private) not in json.dumps(last.to_json()) + board_of(last)


def test_a_model_that_was_asked_for_does_not_make_room(
    page: Page, tiny_model: Path, tmp_path: Path
) -> None:
    page.session.own._door = Door(Limits(clips=1))
    bring(page, tiny_model, tmp_path)
    asked = page.session.own.model
    page.running.announce(REQUEST, *chosen(page), *page.values[SETTINGS:])
    for number in range(3):
        bring(page, tiny_model, tmp_path, str(number))
    list(page.running.segment(REQUEST, *chosen(page)))
    assert page.session.shown is not None
    assert page.session.shown.result.settings.model == str(asked)


def test_a_model_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.truncate(2 * 2**20)
    with pytest.raises(InputError, match=r"has 2 MiB, but a model of at most 1 MiB is taken here"):
        Door(Limits(weights=1)).model(path)


def test_old_models_make_room(page: Page, tiny_model: Path, tmp_path: Path) -> None:
    """But not the one of what the page shows."""
    own = page.session.own
    own._door = Door(replace(own._door.limits, clips=2))
    bring(page, tiny_model, tmp_path)
    first = own.model
    segment(page)
    kept = [first]
    for number in range(4):
        bring(page, tiny_model, tmp_path, str(number))
        kept.append(own.model)
    there = [path.is_file() for path in kept if path is not None]
    assert there == [True, False, False, True, True]  # the last but one was theirs until now


def test_a_model_that_somebody_removed(page: Page, tiny_model: Path, tmp_path: Path) -> None:
    bring(page, tiny_model, tmp_path)
    assert page.session.own.model is not None
    page.session.own.model.unlink()
    sentence = r"^The model mine\.safetensors is not there any more\. Fit or upload it again"
    with pytest.raises(InputError, match=sentence):
        page.session.own.settings(None, chosen(page))


def test_programs_have_no_own_model(page: Page) -> None:
    del page
    with pytest.raises(InputError, match="There is no model 'own' here"):
        read_settings(4, 1, 1.0, "dis", OWN_MODEL, Settings().linkage, None)
