"""The tab Similarity in headless Chromium, and ``/similarity`` through ``gradio_client``."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from app_process import Served, Visit
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Page

from stseg import similarity
from stseg.pipeline import segment
from stseg.records import Clip, Segmentation, Settings
from stseg.render import COLOURS
from stseg.similarity import merged
from stseg.spool import Spool
from stseg.ui import api_similarity
from stseg.ui import similarity as tab
from stseg.ui.affinity import Affinity, spread
from stseg.ui.api_similarity import summary
from stseg.ui.legend import labels_of
from stseg.ui.shown import Choice, shown_of

SEEN = """name => {
  const image = document.querySelector(`#similarity figure[data-name=${name}] img`);
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Set();
  for (let i = 0; i < data.length; i += 4) seen.add([data[i], data[i + 1], data[i + 2]].join());
  return [...seen];
}"""


@pytest.fixture(scope="module")
def result(clip: Clip, tiny_model: object) -> Segmentation:
    return segment(clip, Settings(k=3, model=str(tiny_model), device="cpu"))


def source(page: Page, name: str) -> str:
    found = page.get_attribute(f"#similarity figure[data-name={name}] img", "src")
    assert found is not None
    return found


def set_threshold(page: Page, value: float) -> None:
    page.fill("#threshold input[type=number]", str(value))
    page.keyboard.press("Enter")


@pytest.mark.browser
def test_similarity_of_the_example(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("tab", name="Similarity").click()
    page.wait_for_selector("#similarity .matrix", timeout=30_000)
    cells = page.locator("#similarity .matrix >> nth=0 >> button")
    assert cells.count() == 16  # K = 4
    assert cells.nth(0).inner_text() == "1.00"
    assert cells.nth(1).inner_text() == cells.nth(4).inner_text()

    cells.nth(4).click()  # row 1, column 0: segment 1 beside segment 0
    page.wait_for_selector("#similarity figure[data-name=pair-a]:has-text('Segment 1, frame 0')")
    page.wait_for_selector("#similarity figure[data-name=pair-b]:has-text('Segment 0, frame 0')")
    assert source(page, "pair-a") != source(page, "pair-b")

    assert tab.CHEQUERED in page.inner_text("#similarity")  # a triplet at every second frame
    across = page.locator("#similarity .across")
    box = across.bounding_box()
    assert box is not None
    across.click(position={"x": 0.26 * box["width"], "y": 0.76 * box["height"]})
    page.wait_for_selector("#similarity figure[data-name=pair-a]:has-text('Segment 0, frame 18')")
    page.wait_for_selector("#similarity figure[data-name=pair-b]:has-text('Segment 0, frame 6')")

    for name in ("pair-a", "pair-b", "merged"):
        assert visit.enlarges(f"#similarity figure[data-name={name}]"), name

    # At -1 everything fuses: one colour is left, and the page says so.
    colours = [",".join(map(str, colour)) for colour in COLOURS]
    assert sorted(page.evaluate(SEEN, "merged")) == sorted(colours[:4])
    set_threshold(page, -1)
    page.wait_for_selector("#similarity figcaption:has-text('1 of 4 left')")
    assert page.evaluate(SEEN, "merged") == colours[:1]
    assert "Merged: 0 + 1 + 2 + 3" in page.inner_text("#similarity")
    set_threshold(page, 1)
    page.wait_for_selector("#similarity figcaption:has-text('4 of 4 left')")

    assert page.locator("#similarity .map .point").count() == 96
    page.locator("#similarity .map .point.label-1[data-frame='20']").dispatch_event("click")
    page.wait_for_selector("#similarity .caption:has-text('Segments of frame 20')")
    assert page.input_value("#frame input[type=number]") == "20"
    assert page.locator("#similarity .map .point.now[data-frame='20']").count() == 4
    assert not visit.errors
    assert not visit.outside


@pytest.mark.browser
def test_merged_labels_are_those_of_all_tabs(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    page.get_by_role("tab", name="Similarity").click()
    page.wait_for_selector("#similarity .matrix", timeout=30_000)
    set_threshold(page, -1)
    page.wait_for_selector("#similarity figcaption:has-text('1 of 4 left')")
    page.check("#use-merged input")
    visit.wait_status("K = 4, merged at −1.00", 10)
    # The matrices are about the segments before they fuse, so that the threshold can go back.
    assert page.locator("#similarity .matrix >> nth=0 >> button").count() == 16
    page.get_by_role("tab", name="Segments").click()
    assert page.locator("#legend label").all_inner_texts() == ["0 + 1 + 2 + 3 · 100.0 %"]
    page.get_by_role("tab", name="Downloads").click()
    page.wait_for_selector(
        "#download-state:has-text('Files of orbit, K = 4, merged at −1.00')", timeout=60_000
    )
    assert "--merge -1.0" in page.inner_text("#command")
    with page.expect_download() as download:
        page.click("button:has-text('labels.npz')")
    download.value.save_as(tmp_path / "labels.npz")
    with np.load(tmp_path / "labels.npz") as data:
        assert np.unique(data["labels"]).tolist() == [0]
    page.get_by_role("tab", name="Similarity").click()
    page.uncheck("#use-merged input")
    visit.wait_status("K = 4: all tabs show these labels", 10)
    page.get_by_role("tab", name="Segments").click()
    assert page.locator("#legend label").count() == 4
    assert not visit.errors


def test_pairs_that_belong_elsewhere_are_not_read(result: Segmentation) -> None:
    affinity = Affinity(result)
    assert affinity.read("3.1-0.2") == ((3, 1), (0, 2))
    for pair in ("", "3.1", "3.1-0.3", "9.0-0.0", "-1.0-0.0", "x", "1.1-2.2-0.0"):
        assert affinity.read(pair) is None


def test_a_long_clip_is_drawn_no_larger_than_a_short_one() -> None:
    class Long(Affinity):
        def __init__(self) -> None:
            pass

        def across(self, label: int, measure: str) -> np.ndarray:
            values = np.zeros((3000, 3000), np.float32)
            values[1500:] = np.nan
            return values

    told = tab._across(Long(), "cosine", 0, 20)
    assert 'data-frames="3000"' in told  # what a click is told in
    picture = Image.open(io.BytesIO(base64.b64decode(told.split("base64,")[1].split('"')[0])))
    assert picture.size == (520, 520)
    rows = np.asarray(picture.convert("RGB"))[:, 0]
    assert (rows[260:] == 128).all()
    assert not (rows[:260] == 128).all(axis=1).any()


def test_answer_and_merged_result_agree(result: Segmentation) -> None:
    answer = summary(result, -1.0, "cosine")
    seen = [label for label, row in enumerate(answer["whole_clip"]) if row[label] is not None]
    assert {answer["merged"][label] for label in seen} == {seen[0]}
    assert set(np.unique(merged(result, -1.0).labels_on_grid(0))) == {seen[0]}
    assert answer["areas"][str(seen[0])] == pytest.approx(1, abs=1e-3)
    assert np.shape(answer["frames"]) == (len(result), 3, 3)
    assert np.shape(answer["across_time"]) == (3, len(result), len(result))
    assert answer["across_time_frames"] == list(range(len(result)))
    assert np.shape(answer["plane"]) == (len(result), 3, 2)


def test_the_page_merges_each_sub_sequence_by_itself(result: Segmentation) -> None:
    """As ``segment --merge --subsequence`` does: the command of the page makes the same labels."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(3, 4)) for _ in range(3)]  # of 9 frames, by sub-sequences of 3
    for part, (one, other) in zip(parts, [(0, 1), (1, 2), (0, 2)], strict=True):
        part[one] = part[other]
    latents = np.repeat(np.stack(parts), 3, axis=0).astype(np.float32)
    settings = replace(result.settings, subsequence=3)
    own = replace(result, settings=settings, latents=latents)
    own = replace(own, assignment=np.tile(np.arange(3, dtype=np.uint8), (9, 1)))
    shown = shown_of({3: own}, 3, Spool()).chosen(Choice(3, 0.999))
    assert shown is not None
    expected = merged(own, 0.999)
    np.testing.assert_array_equal(shown.result.assignment, expected.assignment)
    assert shown.result.assignment[::3].tolist() == [[0, 0, 2], [0, 1, 1], [0, 1, 0]]
    assert labels_of(shown) == {0: "0", 1: "1", 2: "2"}


def test_the_answer_does_not_grow_with_the_square_of_the_frames(
    result: Segmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = summary(result, 1.0, "cosine")
    monkeypatch.setattr(api_similarity, "ACROSS", 3)
    answer = summary(result, 1.0, "cosine")
    assert answer["across_time_frames"] == [1, 4, 7]  # of 9
    assert np.shape(answer["across_time"]) == (3, 3, 3)
    for few, all_pairs in zip(answer["across_time"], whole["across_time"], strict=True):
        assert few == [[all_pairs[row][column] for column in (1, 4, 7)] for row in (1, 4, 7)]
    assert answer["frames"] == whole["frames"]


def test_frames_that_stand_for_a_clip_are_spread_over_it() -> None:
    assert spread(5, 160).tolist() == [0, 1, 2, 3, 4]
    assert spread(0, 160).tolist() == []
    kept = spread(3000, 160)
    assert len(kept) == 160
    assert set(np.diff(kept)) == {18, 19}
    assert kept[0] == 2999 - kept[-1] == 9


@pytest.mark.browser
def test_through_the_client(served: Served, clip: Clip, tmp_path: Path) -> None:
    client = Client(served.address, verbose=False, download_files=tmp_path, analytics_enabled=False)
    video = handle_file(str(clip.source))
    answer = client.predict(video=video, k=2, threshold=0.5, api_name="/similarity")
    assert answer["settings"]["k"] == 2
    assert answer["threshold"] == 0.5
    assert len(answer["frames"]) == len(answer["across_time_frames"]) == clip.frames
    matrix = answer["whole_clip"]
    assert matrix[0][0] == 1
    assert answer["merged"] == ([0, 0] if (matrix[0][1] or -1) > 0.5 else [0, 1])
    with pytest.raises(AppError, match="a similarity is from -1 to 1"):
        client.predict(video=video, k=2, threshold=2, api_name="/similarity")
    with pytest.raises(AppError, match="no similarity 'angle'"):
        client.predict(video=video, k=2, measure="angle", api_name="/similarity")


@pytest.fixture(scope="module")
def parts(result: Segmentation) -> Segmentation:
    """In two sub-sequences, of which the second calls the same segments otherwise."""
    half = (len(result) + 1) // 2
    assignment = result.assignment.copy()
    assignment[half:] = np.array([1, 2, 0], np.uint8)[assignment[half:]]
    settings = replace(result.settings, subsequence=half)
    return replace(result, settings=settings, assignment=assignment)


def fusing(result: Segmentation) -> float:
    """A threshold at which two of three segments fuse."""
    alike = Affinity(result).whole("cosine")[np.triu_indices(3, 1)]
    first, second = np.sort(alike)[::-1][:2]
    return float((first + second) / 2)


def test_what_is_told_to_merge_is_what_is_merged(parts: Segmentation) -> None:
    threshold = fusing(parts)
    fused = merged(parts, threshold)
    told = summary(parts, threshold, "cosine")
    half = parts.settings.subsequence
    assert [part["frames"] for part in told["parts"]] == [[0, half - 1], [half, len(parts) - 1]]
    for part in told["parts"]:
        first, last = part["frames"]
        for frame in (first, last):
            names = np.array(part["merged"], np.uint8)
            np.testing.assert_array_equal(names[parts.assignment[frame]], fused.assignment[frame])
    assert told["whole_clip"] is told["merged"] is None  # no label has one meaning in both
    areas = fused.areas().mean(axis=0)
    assert told["areas"] == {
        str(label): pytest.approx(float(areas[label]), abs=1e-4)
        for label in sorted({label for part in told["parts"] for label in part["merged"]})
    }


def test_each_sub_sequence_is_compared_by_itself(parts: Segmentation) -> None:
    affinity, half = Affinity(parts), parts.settings.subsequence
    rows = similarity.linked_latents(parts)[:half]
    mean = similarity.mean_latents(rows, parts.areas()[:half])
    np.testing.assert_allclose(affinity.whole("cosine", half - 1), similarity.compare(mean))
    assert not np.allclose(affinity.whole("cosine", 0), affinity.whole("cosine", half))
    assert all(frame < half for frame in affinity.typical(0))
    assert all(frame >= half for frame in affinity.typical(half))
