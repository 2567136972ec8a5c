"""The page as a visitor meets it, in headless Chromium."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from app_process import PATIENCE, ROOT, Served, Visit
from playwright.sync_api import Browser, Request
from pycocotools.mask import decode

from stseg.flow import write_flow_file
from stseg.flow.files import write_flow_folder
from stseg.records import Clip
from stseg.ui.tabs import TABS
from stseg.video_writer import VideoWriter

pytestmark = pytest.mark.browser

PIXELS = """name => {
  const image = document.querySelector(`#board figure[data-name=${name}] img`);
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Set();
  for (let i = 0; i < data.length; i += 4) seen.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
  return {width: canvas.width, height: canvas.height, colours: seen.size};
}"""


OPEN_TAB = """number => {
  const title = (tab) => tab.textContent.trim();
  const named = [...document.querySelectorAll('#tabs .tab-container[aria-hidden] button')];
  const tabs = document.querySelectorAll('#tabs [role=tab], #tabs .overflow-dropdown button');
  [...tabs].find((tab) => title(tab) === title(named[number])).click();
}"""
"""Opens a tab; on a narrow page some are in a menu of their own."""


LATE_ANSWERS = """part => {
  const ask = window.fetch;
  window.late = 0;
  window.fetch = async (...what) => {
    const answer = await ask(...what);
    if (String(what[0]).includes(part)) {
      await new Promise((done) => setTimeout(done, 500));
      window.late += 1;
    }
    return answer;
  };
}"""
"""Answers from addresses with a part of this name come half a second later."""


def test_example_then_segment_then_scrub(visit: Visit) -> None:
    page = visit.page
    assert "An example, finished: orbit" in visit.status()
    assert page.locator("#legend input[type=checkbox]").count() == 4
    assert page.locator("#board figure").count() == 7  # the rendered clip has ground truth

    visit.pick("crossing")
    assert "not segmented yet" in page.inner_text("#board")
    assert page.locator("#board figure[tabindex]").count() == 0  # one picture: nothing to enlarge
    page.click("#board figure")
    visit.read_only(10)
    page.click("#segment")
    page.wait_for_selector("#status progress", timeout=5000 * PATIENCE)
    page.wait_for_selector("#board figure[data-name=overlay] img", timeout=30_000 * PATIENCE)
    visit.wait_status("crossing: 10 frames", 60)

    assert page.input_value("#frame input[type=number]") == "0"
    assert page.get_attribute("#frame input[type=range]", "max") == "9"
    assert page.locator("#board[data-large], #board [data-large]").count() == 0
    first = {name: visit.picture(name) for name in ("overlay", "flow", "labels", "occlusions")}
    begun = time.monotonic()
    page.focus("#frame input[type=range]")
    page.keyboard.press("ArrowRight")
    # Not the source of a picture: the end of the work draws frame 0 once more.
    page.wait_for_function(
        "() => document.querySelector('#board').innerText.includes('Segments, frame 1')"
    )
    assert time.monotonic() - begun < 2 * PATIENCE
    assert all(visit.picture(name) != source for name, source in first.items())
    assert page.input_value("#frame input[type=number]") == "1"
    labels = page.evaluate(PIXELS, "labels")
    assert (labels["width"], labels["height"]) == (480, 270)
    assert 2 <= labels["colours"] <= 4  # a PNG without loss: nothing but the colours of labels

    page.wait_for_function(
        "() => { const v = document.querySelector('#grid-video video');"
        " return v && v.readyState >= 2 && v.duration > 0; }",
        timeout=10_000 * PATIENCE,
    )
    duration = page.evaluate("document.querySelector('#grid-video video').duration")
    assert duration == pytest.approx(10 / 24, abs=0.1)
    assert not visit.errors
    assert not visit.outside


def test_what_moves_without_new_work(visit: Visit) -> None:
    page = visit.page
    page.evaluate("window.stseg.go(20)")
    page.wait_for_selector("#board figcaption:has-text('frame 20')")
    before = {name: visit.picture(name) for name in ("overlay", "occlusions", "labels")}

    page.fill("#eta input[type=number]", "8")
    page.keyboard.press("Enter")
    page.wait_for_selector("#board figcaption:has-text('η = 8.0 %')")
    assert visit.picture("occlusions") != before["occlusions"]
    assert visit.picture("labels") == before["labels"]

    page.focus("#legend input[type=checkbox] >> nth=1")
    page.keyboard.press("Space")
    page.wait_for_function(
        "old => document.querySelector('#board figure[data-name=overlay] img').src !== old",
        arg=before["overlay"],
    )
    page.keyboard.press("Space")  # the focus is still there: it is shown again
    page.wait_for_function(
        "old => document.querySelector('#board figure[data-name=overlay] img').src === old",
        arg=before["overlay"],
    )
    page.keyboard.press("ArrowRight")  # a box and a choice leave the arrows to the page
    page.wait_for_selector("#board figcaption:has-text('frame 21')")
    page.focus("#style input[type=radio] >> nth=0")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#board figcaption:has-text('frame 20')")
    bands = page.locator("#board .bands")
    box = bands.bounding_box()
    assert box is not None
    bands.click(position={"x": box["width"] - 2, "y": 5})
    page.wait_for_selector("#board figcaption:has-text('frame 23')")
    page.click("#previous")
    page.wait_for_selector("#board figcaption:has-text('frame 22')")
    page.keyboard.press("ArrowRight")  # the focus is on a button: the arrow is the page's
    page.wait_for_selector("#board figcaption:has-text('frame 23')")
    page.click("button[role=tab]:has-text('Segments')")  # nor have tabs a use for arrows
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#board figcaption:has-text('frame 22')")
    page.click("#play")
    page.wait_for_selector("#board figcaption:has-text('frame 2')", timeout=10_000 * PATIENCE)
    page.click("#play")
    assert "finished" in visit.status()
    assert not visit.errors


def test_known_flow_is_used_again(visit: Visit) -> None:
    page = visit.page
    assert "its flow is known" in page.inner_text("#badge")
    page.click("#advanced > button")
    page.fill("#subsequence input", "5")
    page.keyboard.press("Tab")
    page.wait_for_selector("#badge .urgent:has-text('The sub-sequence changed: press Segment')")
    page.click("#segment")
    visit.wait_status("known flow", 20)
    visit.wait_status("frame", 30)
    page.wait_for_selector("#badge .badge:not(.urgent)")
    page.click("#stop")
    visit.wait_status("Stopped", 10)


def test_k_moves_without_new_work(visit: Visit) -> None:
    page = visit.page
    assert page.input_value("#k input[type=number]") == "4"  # that of the example
    before = visit.picture("labels")
    begun = time.monotonic()
    page.fill("#k input[type=number]", "2")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('#legend input[type=checkbox]').length === 2")
    assert (
        time.monotonic() - begun < 2.5 * PATIENCE
    )  # a second, on a machine that does nothing else
    assert visit.picture("labels") != before
    assert "urgent" not in page.inner_html("#badge")
    page.click("button[role=tab]:has-text('Downloads')")
    page.wait_for_selector(
        "#download-state:has-text('Files of orbit, K = 2')", timeout=60_000 * PATIENCE
    )
    assert "masks-coco.json ·" in page.inner_text("#tabs")
    page.fill("#k input[type=number]", "4")
    page.keyboard.press("Enter")
    visit.wait_status("K = 4, from the same run.", 5)
    page.wait_for_selector("#download-state:has-text('Files of orbit, K = 4')")
    page.wait_for_function("document.querySelectorAll('#legend input[type=checkbox]').length === 4")
    page.wait_for_timeout(500)  # there is nothing to write: the page stays as it is
    assert "K = 4, from the same run." in visit.status()
    assert page.input_value("#frame input[type=number]") == "0"
    assert not visit.errors
    assert not visit.outside


def test_turning_to_another_clip_ends_what_ran(visit: Visit) -> None:
    page = visit.page
    visit.pick("pause")
    page.click("#segment")
    # The next one ends at 1. A quick machine may be through before the slider itself is seen there.
    beyond = "document.querySelector('#frame input[type=range]').max > 2"
    page.wait_for_function(beyond, timeout=30_000 * PATIENCE)
    visit.pick("crossing")
    visit.wait_status("crossing is chosen. Press Segment.", 10)
    page.wait_for_timeout(2500)  # what the run had shown last came again when it was at its end
    assert visit.status() == "crossing is chosen. Press Segment."
    assert page.get_attribute("#frame input[type=range]", "max") == "1"
    assert "crossing, not segmented yet" in page.inner_text("#board")
    page.fill("#k input[type=number]", "3")
    page.wait_for_selector("#badge:has-text('crossing: about')")
    assert not visit.errors


def test_segment_may_be_pressed_before_the_page_knows_the_clip(visit: Visit) -> None:
    """Its values are still those of the clip before, of more frames and more labels."""
    page = visit.page
    page.fill("#frame input[type=number]", "9")
    page.keyboard.press("Enter")
    page.wait_for_selector("#board figcaption:has-text('frame 9')")
    page.evaluate(
        """() => {
          document.querySelector("#clips button[title^='pause']").click();
          setTimeout(() => document.querySelector('#segment').click(), 50);
        }"""
    )
    visit.wait_status("frame", 30)
    page.click("#stop")
    visit.wait_status("Stopped", 10)
    assert page.locator(".toast-body").count() == 0
    assert "pause" in page.inner_text("#clips button[aria-pressed=true]")
    assert not visit.errors


def test_the_last_of_two_clips_counts(visit: Visit) -> None:
    page = visit.page
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    slow = {"offline": False, "latency": 300, "downloadThroughput": -1, "uploadThroughput": -1}
    network.send("Network.emulateNetworkConditions", slow)
    for name in ("pause", "orbit", "crossing"):
        page.click(f"#clips button[title^='{name}']")
        page.wait_for_timeout(100)
    visit.wait_status("crossing is chosen. Press Segment.", 10)
    page.wait_for_timeout(2000)
    assert visit.status() == "crossing is chosen. Press Segment."
    assert "crossing" in page.inner_text("#clips button[aria-pressed=true]")
    assert not visit.errors


def test_sliders_listen_to_keys_and_know_their_ends(visit: Visit) -> None:
    page = visit.page
    entries = "document.querySelectorAll('#legend input[type=checkbox]').length === %d"
    page.fill("#k input[type=number]", "99")
    page.keyboard.press("Tab")
    page.wait_for_function(entries % 8)
    assert page.input_value("#k input[type=number]") == "8"
    page.fill("#k input[type=number]", "")
    page.keyboard.press("Tab")
    assert page.input_value("#k input[type=number]") == "8"
    page.click("button[role=tab]:has-text('Similarity')")
    page.wait_for_selector("#similarity .matrices")
    page.check("#use-merged input")
    page.focus("#threshold input[type=range]")
    page.keyboard.press("ArrowLeft")
    visit.wait_status("merged at 0.99", 10)
    page.fill("#threshold input[type=number]", "-7")
    page.keyboard.press("Enter")
    visit.wait_status("merged at −1.00", 10)
    page.wait_for_function(entries % 1)
    assert page.locator(".toast-body").count() == 0
    assert not visit.errors


def test_a_tab_does_not_show_what_is_no_longer_there(visit: Visit) -> None:
    page = visit.page
    page.click("button[role=tab]:has-text('Motion')")
    page.wait_for_selector("#motion figure[data-name=explained] img")
    page.click("button[role=tab]:has-text('Segments')")
    page.wait_for_timeout(500 * PATIENCE)  # else Motion, which is open still, is drawn anew
    page.fill("#k input[type=number]", "2")
    visit.wait_status("K = 2, from the same run", 10)
    page.wait_for_function("!document.querySelector('#motion figure')")
    page.click("button[role=tab]:has-text('Motion')")
    page.wait_for_selector("#motion figure[data-name=explained] img")
    assert not visit.errors


def test_zip_of_flo_fields(visit: Visit, clip: Clip, tmp_path: Path) -> None:
    page = visit.page
    page.set_input_files("#left input[type=file] >> nth=0", clip.source)
    visit.wait_status("small is chosen", 10)
    page.click("#advanced > button")
    fields = np.zeros((clip.frames - 1, 2, *clip.size), np.float32)
    fields[:, 0, 16:48, 24:72] = 6  # a box that moves to the right, whatever the video shows
    write_flow_folder(tmp_path / "fields", fields, "flo")
    packed = Path(shutil.make_archive(str(tmp_path / "fields"), "zip", tmp_path / "fields"))
    page.set_input_files("#left input[type=file] >> nth=1", packed)
    visit.wait_status("The flow fields.zip of small is taken", 10)
    page.click("#segment")
    visit.wait_status(f"small: {clip.frames} frames", 60)
    seen = page.evaluate(PIXELS, "flow")
    assert seen["colours"] <= 40  # white, red, and the blend between the two
    page.click("button[role=tab]:has-text('Downloads')")
    page.wait_for_selector("#command:has-text('--flow fields.zip')")
    assert not visit.errors


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_the_command_of_the_page_makes_the_same_labels(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    page.click("button[role=tab]:has-text('Downloads')")
    page.wait_for_selector("#download-state:has-text('Files of orbit, K = 4')")
    kept: dict[str, Path] = {}
    for name in ("labels.npz", "masks-coco.json", "soft-masks.npz", "settings.json"):
        with page.expect_download() as download:
            page.click(f"button:has-text('{name}')")
        kept[name] = tmp_path / name
        download.value.save_as(kept[name])
    line = " ".join(page.inner_text("#command .cm-content").split())
    words = shlex.split(line)
    assert words[:4] == ["python", "-m", "stseg", "segment"]
    words[words.index("--out") + 1] = str(tmp_path / "again")
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

    with np.load(kept["labels.npz"]) as data, np.load(tmp_path / "again" / "labels.npz") as again:
        labels = data["labels"]
        np.testing.assert_array_equal(labels, again["labels"])
    summary = json.loads((tmp_path / "again" / "summary.json").read_text())
    told = summary["settings"]
    chosen = json.loads(kept["settings.json"].read_text())
    assert chosen["stride"] is None  # nobody chose it; the command tells what came of that
    assert {**chosen, "stride": 2} == told
    assert summary["stride"] == 2
    # The masks of COCO are these labels, and the soft masks are a share for each of them.
    coco = json.loads(kept["masks-coco.json"].read_text())
    one = [each for each in coco["annotations"] if each["image_id"] == 8]
    assert {each["category_id"] - 1 for each in one} == set(np.unique(labels[7]))
    for each in one:
        mask = decode(each["segmentation"])
        np.testing.assert_array_equal(mask, labels[7] == each["category_id"] - 1)
    with np.load(kept["soft-masks.npz"]) as data:
        masks = data["masks"]
    assert masks.shape == (24, 4, 128, 224)
    assert np.abs(masks.astype(int).sum(axis=1) - 255).max() <= 2
    assert not visit.errors


def test_a_triplet_at_every_frame_or_at_every_second_and_refined(visit: Visit) -> None:
    page = visit.page
    page.click("#advanced > button")
    assert page.input_value("#stride input") == "automatic"
    page.click("#stride input")
    page.get_by_role("option", name="at every frame (paper)").click()
    page.wait_for_selector("#badge .urgent:has-text('The triplets changed: press Segment')")
    page.check("#refine input")
    page.wait_for_selector("#badge .urgent:has-text('The triplets and the refinement changed')")
    page.click("#segment")
    visit.wait_status("24 frames in", 60)
    page.click("button[role=tab]:has-text('Downloads')")
    page.wait_for_selector("#command .cm-content:has-text('--stride 1 --refine')")
    assert not visit.errors
    # A longer τ has nothing to say of the frames between: one sentence, and nothing else happens.
    page.click("#stride input")
    page.get_by_role("option", name="at every second frame").click()
    page.click("#tau input")
    page.get_by_role("option", name="+2").click()
    page.click("#segment")
    toast = page.wait_for_selector(".toast-body", timeout=10_000 * PATIENCE)
    assert toast is not None
    assert "A stride of 2 is for one τ of 1 or -1" in toast.inner_text()


def test_compare(visit: Visit) -> None:
    page = visit.page
    page.click("button[role=tab]:has-text('Compare')")
    page.wait_for_selector("#comparison:has-text('Nothing is compared yet')")
    boxes = page.locator("#compare-models input[type=checkbox]")
    for number in range(1, boxes.count()):
        boxes.nth(number).uncheck()
    page.click("#compare")
    visit.wait_status("A comparison needs at least two variants", 10)
    page.click("#compare-k input")
    page.click("#compare-k [role=option]:has-text('3')")
    page.check("#compare-refine input")
    page.click("#compare")
    visit.wait_status("3 variants of orbit, side by side", 90)
    page.wait_for_function("document.querySelectorAll('#comparison figure').length === 3")
    rows = page.locator("table.figures tbody tr").all_inner_texts()
    assert len(rows) == 3
    assert "K = 4" in rows[0]
    assert "K = 3" in rows[1]
    assert "K = 4, refined" in rows[2]
    assert "–" not in rows[0]  # the rendered clips have ground truth: J and F are there
    assert visit.enlarges("#comparison figure[data-name=variant-1]")
    second = "#comparison figure[data-name=variant-1] img"
    for act in (lambda: page.check("#compare-tint input"), lambda: page.click("#next")):
        old = page.get_attribute(second, "src")
        act()
        page.wait_for_function(
            "([where, old]) => document.querySelector(where).src !== old", arg=[second, old]
        )
    lines = page.locator("#comparison .bands")
    assert lines.count() == 2  # J and flicker
    box = lines.first.bounding_box()
    assert box is not None
    lines.first.click(position={"x": box["width"] - 2, "y": 5})
    page.wait_for_function("document.querySelector('#frame input[type=range]').value === '23'")
    visit.pick("crossing")
    page.click("button[role=tab]:has-text('Segments')")
    assert not visit.errors
    assert not visit.outside


def test_camera(visit: Visit) -> None:
    page = visit.page
    page.click("#camera .record")
    page.wait_for_selector("#camera video:visible")
    page.wait_for_timeout(1500)
    page.click("#camera .record")
    visit.wait_status("camera is chosen. Press Segment.", 20)
    assert "Yours" in page.inner_text("#clips")
    assert page.locator("#camera video:visible").count() == 0
    assert not visit.errors


LARGEST = (
    "() => Math.max(...[...document.querySelectorAll('.board img')].map((each) => "
    "each.getBoundingClientRect().height)) / innerHeight"
)
"""Height of the highest picture, as a share of the screen."""


WHEEL_HANGS_OUT = """() => {
  document.querySelector('#board .board').style.setProperty('--ratio', '12 / 1');
  const [frame, wheel] = ['img:first-child', '.wheel'].map((part) =>
    document.querySelector(`#board figure[data-name=flow] ${part}`).getBoundingClientRect());
  return [wheel.bottom > frame.bottom || wheel.top < frame.top, wheel.height > 5];
}"""


def test_a_portrait_clip_fits_the_screen(
    visit: Visit, rng: np.random.Generator, tmp_path: Path
) -> None:
    page = visit.page
    ground = rng.integers(0, 255, (176, 110, 3)).astype(np.uint8)
    with VideoWriter(tmp_path / "tall.mp4", 24.0) as video:
        for index in range(5):
            video.write(np.ascontiguousarray(ground[:160, index : index + 90]))
    page.click("#board figure[data-name=truth]")
    page.set_input_files("#left input[type=file] >> nth=0", tmp_path / "tall.mp4")
    visit.wait_status("tall is chosen", 10)
    assert 0.4 < page.evaluate(LARGEST) < 0.76  # the picture of a clip that is not segmented
    page.click("#segment")
    visit.wait_status("tall: 5 frames", 60)
    # It has no ground truth to be the large picture.
    assert page.locator("#board[data-large], #board [data-large]").count() == 0
    assert 0.5 < page.evaluate(LARGEST) < 0.76
    page.click("#board figure[data-name=flow]")  # made on a grid that is wide
    page.wait_for_selector("#board[data-large=flow], #board [data-large=flow]")
    assert 0.5 < page.evaluate(LARGEST) < 0.76
    # Of a very wide clip, on a telephone, the wheel stays within its picture.
    page.set_viewport_size({"width": 390, "height": 844})
    page.click("#board figure[data-name=flow]")
    assert page.evaluate(WHEEL_HANGS_OUT) == [False, True]
    assert not visit.errors


def test_pictures_are_enlarged_by_the_keyboard(visit: Visit) -> None:
    page = visit.page
    figure = page.locator("#board figure[data-name=flow]")
    top = page.evaluate("scrollY")
    widths = []
    for key in ("", "Space", "Enter"):
        if key:
            figure.focus()
            top = page.evaluate("scrollY")
            page.keyboard.press(key)
            assert page.evaluate("scrollY") == top
        widths.append(figure.evaluate("figure => figure.getBoundingClientRect().width"))
        pressed = "true" if key == "Space" else "false"
        assert figure.get_attribute("aria-pressed") == pressed
        if key == "Space":  # it stays told when the board is drawn anew
            page.click("#next")
            page.wait_for_selector("#board figcaption:has-text('frame 1')")
            page.wait_for_selector("#board figure[data-name=flow][aria-pressed=true]")
    assert widths[1] > 1.8 * widths[0]
    assert widths[2] == widths[0]
    assert page.get_by_role("button", name="Linked labels").count() == 1
    page.get_by_role("tab", name="Similarity").click()
    page.wait_for_selector("#similarity .across", timeout=30_000)
    page.focus("#similarity .across")
    top = page.evaluate("scrollY")
    page.keyboard.press("Space")
    page.wait_for_selector(
        "#similarity .caption:has-text('segment 0 in frame 1 and segment 0 in frame 0')"
    )
    assert page.evaluate("scrollY") == top
    assert not visit.errors


def test_a_double_click_opens_one_camera(visit: Visit) -> None:
    page = visit.page
    page.evaluate("""() => {
      const media = navigator.mediaDevices, ask = media.getUserMedia.bind(media);
      window.opened = [];
      media.getUserMedia = async (wanted) => {
        await new Promise((done) => setTimeout(done, 500));  // somebody is asked for leave
        const stream = await ask(wanted);
        window.opened.push(...stream.getTracks());
        return stream;
      };
    }""")
    page.dblclick("#camera .record")
    page.wait_for_selector("#camera video:visible")
    page.wait_for_timeout(1000)
    page.click("#camera .record")
    visit.wait_status("camera is chosen. Press Segment.", 20)
    assert page.evaluate("window.opened.map((track) => track.readyState)") == ["ended"]
    assert not visit.errors


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tab_fits(
    browser: Browser, served: Served, width: int, scheme: Literal["light", "dark"]
) -> None:
    with browser.new_context(viewport={"width": width, "height": 844}) as context:
        visit = Visit(context.new_page(), served.address)
        visit.open(f"?__theme={scheme}")
        page = visit.page
        dark = page.evaluate("document.body.classList.contains('dark')")
        assert dark == (scheme == "dark")
        for number, tab in enumerate(TABS):
            page.evaluate(OPEN_TAB, number)
            page.wait_for_timeout(150)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{tab.TITLE} is {wide} wide"
        assert not visit.errors
        assert not visit.outside


def test_stop_ends_the_work(visit: Visit) -> None:
    page = visit.page
    stops = page.locator("#stop, #fit-stop, #benchmark-stop")
    page.get_by_role("tab", name="Fit").click()
    page.wait_for_selector("#fit-stop:visible")
    assert stops.count() == 2
    visit.pick("pause")
    assert not any(each.is_enabled() for each in stops.all())  # nothing goes on
    page.click("#segment")
    visit.wait_status("frame", 30)
    assert all(each.is_enabled() for each in stops.all())
    begun = time.monotonic()
    page.click("#stop")
    visit.wait_status("Stopped", 5)
    assert (
        time.monotonic() - begun < 2.5 * PATIENCE
    )  # a second, on a machine that does nothing else
    assert page.locator("#status progress").count() == 0
    assert not any(each.is_enabled() for each in stops.all())


def test_file_that_is_no_video(visit: Visit, tmp_path: Path) -> None:
    bad = tmp_path / "notes.mp4"
    bad.write_text("This is no video.")
    before = visit.picture("overlay")
    visit.page.set_input_files("#left input[type=file] >> nth=0", bad)
    toast = visit.page.wait_for_selector(".toast-body", timeout=10_000 * PATIENCE)
    assert toast is not None
    said = toast.inner_text()
    assert "'notes.mp4' is not a video" in said
    assert "Traceback" not in visit.page.content()
    visit.wait_status(
        "Not taken. The file 'notes.mp4' is not a video", 10
    )  # when the toast is gone, too
    assert visit.picture("overlay") == before  # what was there stays
    assert "orbit" in visit.page.inner_text("#badge")


def test_visitors_see_only_their_own(
    visit: Visit, browser: Browser, served: Served, clip: Clip
) -> None:
    visit.page.set_input_files("#left input[type=file] >> nth=0", clip.source)
    visit.wait_status("small", 10)
    assert "Yours" in visit.page.inner_text("#clips")
    mine = list(served.temporary.glob("stseg-app-*/stseg-private-*/*/small.mp4"))
    assert len(mine) == 1
    assert not list((served.temporary / "gradio").rglob("small.mp4"))
    with browser.new_context() as context:
        other = Visit(context.new_page(), served.address)
        other.open()
        assert "small" not in other.page.inner_text("#clips")
        assert "orbit" in other.status()
        refused = context.request.get(f"{served.address}gradio_api/file={mine[0]}")
        assert refused.status in (403, 404)
    visit.page.close()
    deadline = time.monotonic() + 10
    while mine[0].exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not mine[0].exists(), "the upload is still there after the visitor left"


def test_the_player_gets_its_pictures_past_the_events(visit: Visit) -> None:
    page = visit.page
    asked: list[str] = []

    def note(request: Request) -> None:
        if request.method == "POST":
            asked.append(request.url.split("gradio_api/")[-1].strip("/"))

    page.on("request", note)
    page.evaluate("window.stseg.go(3)")
    page.wait_for_selector("#board figcaption:has-text('frame 3')")
    page.fill("#frame input[type=number]", "5")
    page.wait_for_selector("#board figcaption:has-text('frame 5')")
    assert set(asked) == {"component_server"}
    # What the page has by then is what the next event begins from.
    filled = visit.picture("overlay")
    page.click("#style input[value=outline]")
    page.wait_for_function(
        "old => document.querySelector('#board figure[data-name=overlay] img').src !== old",
        arg=filled,
    )
    assert "frame 5" in page.inner_text("#board")
    page.click("#style input[value=moving]")
    page.wait_for_selector("#board figcaption:has-text('Moving objects, frame 5')")
    # An event that was on its way when the slider was moved is not the last word.
    page.evaluate(LATE_ANSWERS, "run/predict")
    page.click("#style input[value=fill]")
    page.evaluate("window.stseg.go(6)")
    page.wait_for_selector("#board figcaption:has-text('frame 6')")
    page.wait_for_function("() => window.late > 0")
    page.wait_for_timeout(1000)
    assert "frame 6" in page.inner_text("#board")
    # Nor are pictures that were asked for before an event moved the slider.
    page.evaluate(LATE_ANSWERS, "component_server")
    page.evaluate("window.stseg.go(9)")
    page.wait_for_timeout(100)
    page.evaluate("document.querySelector('#frame input[type=range]').value = 4")
    page.wait_for_selector("#board figcaption:has-text('frame 4')")
    # Where the server has nothing to say to the player, an event asks again.
    page.route("**/component_server/**", lambda route: route.fulfill(body="null"))
    page.evaluate("window.stseg.go(7)")
    page.wait_for_selector("#board figcaption:has-text('frame 7')")
    assert "run/predict" in asked


def test_a_page_at_rest_draws_nothing(visit: Visit) -> None:
    page = visit.page
    page.evaluate("""() => {
      const ask = window.requestAnimationFrame.bind(window);
      window.asked = 0;
      window.requestAnimationFrame = (does) => { window.asked += 1; return ask(does); };
    }""")
    drawn = []
    deadline = time.monotonic() + 10 * PATIENCE
    while not drawn or (drawn[-1] >= 10 and time.monotonic() < deadline):
        before = page.evaluate("window.asked")
        page.wait_for_timeout(1000)
        drawn.append(page.evaluate("window.asked") - before)
    assert drawn[-1] < 10, drawn


def test_second_visitor_need_not_wait(visit: Visit, browser: Browser, served: Served) -> None:
    with browser.new_context() as context:
        # Here before the work begins, which must still go on when this visitor has scrubbed.
        other = Visit(context.new_page(), served.address)
        other.open()
        old = other.picture("overlay")
        visit.pick("pause")
        visit.page.click("#segment")
        visit.wait_status("frame", 30)
        begun = time.monotonic()
        other.page.evaluate("for (let i = 1; i <= 12; i++) window.stseg.step(1)")
        other.page.wait_for_function(
            "old => document.querySelector('#board figure[data-name=overlay] img').src !== old",
            arg=old,
        )
        assert time.monotonic() - begun < 1.5 * PATIENCE
        # Only the last of many moves has to be drawn, but it must be.
        other.page.wait_for_selector("#board figcaption:has-text('frame 12')")
        assert "finished" in other.status()
        other.page.fill("#k input[type=number]", "3")
        other.page.keyboard.press("Enter")
        other.page.click("#segment")
        other.wait_status("Waiting for the machine", 5)
        other.page.click("#stop")
        other.wait_status("Stopped before it began", 5)
    visit.page.bring_to_front()  # behind another page it draws nothing, and nothing can be clicked
    visit.page.click("#stop")
    visit.wait_status("Stopped", 5)


def test_every_button_says_what_it_does(visit: Visit) -> None:
    page = visit.page
    for number in range(len(TABS) + 1):
        page.evaluate(OPEN_TAB, number)
        page.wait_for_timeout(150)
        places = ("#left", "#player", "#tabs [role=tabpanel]")
        buttons = ", ".join(f"{place} button[id]:not(.file):visible" for place in places)
        for button in page.locator(buttons).all():
            button.dispatch_event("pointerover")
            where = "node => node.closest('[title]')?.title"
            assert button.evaluate(where), button.inner_text()


def test_unchosen_tau_is_a_sentence(visit: Visit) -> None:
    page = visit.page
    page.click("#tau .token-remove")
    page.click("#segment")
    visit.wait_status("No τ is given", 10)
    assert page.wait_for_selector(".toast-body") is not None
    assert page.locator("#status progress").count() == 0


def test_flow_of_ones_own_and_its_colours(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    visit.pick("crossing")
    page.click("#advanced > button")
    rng = np.random.default_rng(0)
    short, whole = tmp_path / "short.npz", tmp_path / "brought.npz"
    flow = rng.normal(0, 0.2, (23, 2, 128, 224)).astype(np.float32)
    flow[:, 0, 40:90, 60:150] += np.linspace(2, 9, 23, dtype=np.float32)[:, None, None]
    write_flow_file(short, flow[:9], (270, 480))
    write_flow_file(whole, flow, (270, 480))

    page.set_input_files("#left input[type=file] >> nth=1", short)
    toast = page.wait_for_selector(".toast-body", timeout=10_000 * PATIENCE)
    assert toast is not None
    assert "short.npz has 9 fields, but crossing has 24 frames" in toast.inner_text()

    page.set_input_files("#left input[type=file] >> nth=1", whole)
    visit.wait_status("The flow brought.npz of crossing is taken", 10)
    page.click("#segment")
    visit.wait_status("crossing: 24 frames", 60)
    before = visit.picture("flow")
    page.check("#flow-scale input[value=frame]")
    page.wait_for_function(
        "old => document.querySelector('#board figure[data-name=flow] img').src !== old",
        arg=before,
    )
    assert not visit.errors
