"""A model that a visitor fitted is one to segment with, for all tabs and files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from unseen_page import REQUEST, Page, finished

from stseg.errors import InputError
from stseg.records import Clip, Settings
from stseg.settings_file import read_settings as read_file
from stseg.ui.controls import MODEL, OWN_MODEL, SETTINGS, read_settings
from stseg.ui.guard import guarded
from stseg.ui.work import command_of


@pytest.fixture
def page(clip: Clip, tiny_model: Path, tmp_path: Path) -> Iterator[Page]:
    page = Page(finished(clip, tiny_model, tmp_path / "files"))
    yield page
    page.sessions.close_all()


def chosen(page: Page) -> list[object]:
    """The values of the left column with the fitted model."""
    values = page.values[:SETTINGS]
    values[MODEL] = OWN_MODEL
    return values


def test_without_a_fit_there_is_nothing_to_segment_with(page: Page) -> None:
    with pytest.raises(InputError, match=r"No model is fitted yet\. Press Fit on the tab Fit"):
        page.events.use_own_model(REQUEST, *page.values[:SETTINGS])
    page.session.controls = chosen(page)
    badge = page.events.estimate(REQUEST, *chosen(page))
    assert "No model is fitted yet" in badge  # it says so before Segment is pressed
    # A fit begins with a model of its own, so that it may be pressed.
    assert page.session.own.settings(None, chosen(page), "full").model == "full"
    page.running.announce(REQUEST, *chosen(page), *page.values[SETTINGS:])
    with pytest.raises(gr.Error, match="No model is fitted yet"):
        list(guarded(page.running.segment)(REQUEST, *chosen(page)))


def test_the_fitted_model_segments(page: Page, clip: Clip, tiny_model: Path) -> None:
    session = page.session
    fitted = session.own.new_job_folder() / "small-fitted.safetensors"
    fitted.write_bytes(tiny_model.read_bytes())
    session.own.model = fitted
    model, badge = page.events.use_own_model(REQUEST, *page.values[:SETTINGS])
    assert model == OWN_MODEL
    assert "changed: press Segment" in badge
    page.running.announce(REQUEST, *chosen(page), *page.values[SETTINGS:])
    list(page.running.segment(REQUEST, *chosen(page)))
    shown = session.shown
    assert shown is not None
    assert shown.result.settings.model == str(fitted)
    assert "model" not in page.events.estimate(REQUEST, *chosen(page))  # nothing has changed since
    # Files tell its name, which is that of the download, and no folder of this machine.
    assert "--model small-fitted.safetensors" in command_of(shown.result)
    summary = json.loads(shown.files["summary.json"].read_text())
    assert summary["settings"]["model"] == fitted.name
    assert read_file(shown.files["settings.json"]).model == fitted.name
    assert str(fitted.parent) not in shown.files["summary.json"].read_text()
    # It scores data sets, too.
    assert session.own.plain_settings(chosen(page)).model == str(fitted)
    # A later fit takes its place, and the page says that what is shown is not of it.
    session.own.model = session.own.new_job_folder() / fitted.name
    assert "The model changed: press Segment" in page.events.estimate(REQUEST, *chosen(page))


def test_programs_have_no_fitted_model(page: Page) -> None:
    del page
    with pytest.raises(InputError, match="There is no model 'fitted' here"):
        read_settings(4, 1, 1.0, "dis", OWN_MODEL, Settings().linkage, None)
