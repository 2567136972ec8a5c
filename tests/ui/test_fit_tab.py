"""Tab Fit and endpoint /fit: a model learns from one clip while somebody watches."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from app_process import PATIENCE, Served, Visit
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from stseg.checkpoint import load_checkpoint
from stseg.records import Clip

pytestmark = pytest.mark.browser

LEGEND = "#fit-chart .curves .legend"


def open_tab(visit: Visit, steps: int) -> None:
    page = visit.page
    page.get_by_role("tab", name="Fit").click()
    page.fill("#fit-steps input[type=number]", str(steps))
    page.keyboard.press("Enter")


def test_fit_then_compare_and_download(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    open_tab(visit, 5)
    page.click("#fit-start")
    page.wait_for_selector(LEGEND, timeout=60_000)
    page.wait_for_selector("#fit-pictures figcaption:has-text('After 5 steps')", timeout=120_000)
    pictures = page.locator("#fit-pictures img")
    assert pictures.count() == 2
    assert page.locator("#fit-pictures figure[tabindex]").count() == 0  # nothing to click for
    before, now = (pictures.nth(index).get_attribute("src") for index in (0, 1))
    assert before != now
    said = page.inner_text(LEGEND)
    assert all(name in said for name in ("L_r", "L_c", "L of the clip as it is"))
    assert page.locator("#fit-chart circle").count() >= 2  # the loss of the clip, before and after
    visit.wait_status("The result is in Compare", 120)
    with page.expect_download() as download:
        page.click("#fit-download")
    kept = tmp_path / "fitted.safetensors"
    download.value.save_as(kept)
    fitted = load_checkpoint(kept).card["fitted"]
    assert fitted["clip"] == "orbit"
    assert fitted["steps"] == 5
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_selector("text=Fitted to this clip from Several motions", timeout=20_000)
    # The model can be taken like any other: for all tabs and files.
    page.get_by_role("tab", name="Fit").click()
    page.click("#fit-use")
    visit.wait_status("frames in", 120)
    page.get_by_role("tab", name="Segments").click()
    page.wait_for_selector("#grid-heading:has-text('orbit-fitted')", timeout=20_000)
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_selector("text=Fitted to this clip from Several motions", timeout=20_000)
    # What was downloaded can be brought another day, to segment with and to fit on.
    mine = kept.rename(tmp_path / "mine.safetensors")
    page.click("#advanced > button")
    page.set_input_files("#left input[type=file] >> nth=2", mine)
    visit.wait_status("The model mine.safetensors is taken: K = 2, 3, 4, 5, 6, 7, 8", 60)
    assert "The model changed" in page.inner_text("#badge")
    page.click("#segment")
    visit.wait_status("frames in", 120)
    page.get_by_role("tab", name="Segments").click()
    page.wait_for_selector("#grid-heading:has-text('mine')", timeout=20_000)
    assert not visit.errors
    assert not visit.outside


def test_stop_keeps_what_there_is(visit: Visit) -> None:
    page = visit.page
    open_tab(visit, 1000)
    page.click("#fit-start")
    # Not every step is told: on a quick machine there is a second one within the same second.
    done = "/step [1-9][0-9]* of 1000/.test(document.querySelector('#status').innerText)"
    page.wait_for_function(done, timeout=60_000 * PATIENCE)
    begun = time.monotonic()
    page.click("#fit-stop")
    visit.wait_status("What it learnt is kept", 10)
    assert time.monotonic() - begun < 5  # a second, on a machine that does nothing else
    page.wait_for_selector("#fit-join:not([disabled])")
    page.wait_for_selector("#fit-download:not([disabled])")
    assert "Checkpoint · orbit" in page.inner_text("#fit-download")
    # The buttons go with the chart: those of the fit before are off while a new one learns.
    page.click("#fit-start")
    page.wait_for_selector("#fit-download[disabled]", timeout=60_000 * PATIENCE)
    assert page.is_disabled("#fit-join")
    assert page.locator("#fit-pictures img").count() == 2
    # Another clip ends it as Stop does.
    visit.pick("crossing")
    visit.wait_status("crossing is chosen. Press Segment. The fit was stopped.", 10)
    page.wait_for_selector("#fit-download:not([disabled])")
    page.wait_for_selector("#fit-join:not([disabled])")
    assert "Checkpoint · orbit" in page.inner_text("#fit-download")
    assert "to orbit" in page.inner_text("#fit-chart")
    assert page.locator("#fit-pictures img").count() == 2
    assert not visit.errors


def test_the_endpoint_gives_a_checkpoint(served: Served, clip: Clip, tmp_path: Path) -> None:
    client = Client(served.address, verbose=False, download_files=tmp_path, analytics_enabled=False)
    video = handle_file(str(clip.source))
    checkpoint, losses = client.predict(video=video, k=3, steps=2, api_name="/fit")
    loaded = load_checkpoint(Path(checkpoint))
    assert loaded.card["fitted"]["settings"]["k"] == 3
    assert [each["step"] for each in losses["steps"]] == [1, 2]
    assert losses["before"]["loss"] > 0
    with pytest.raises(AppError, match="3000 steps are too many"):
        client.predict(video=video, steps=3000, api_name="/fit")
    with pytest.raises(AppError, match=r"There is no model '/etc/passwd' here"):
        client.predict(video=video, model="/etc/passwd", api_name="/fit")
