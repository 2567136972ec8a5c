"""Pictures that the page shows: occluded sites, the timeline, encoded frames."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from stseg.charts import area_timeline, area_top
from stseg.losses import visible_sites
from stseg.pipeline import segment
from stseg.records import Clip, Segmentation, Settings
from stseg.render import (
    COLOURS,
    from_jpeg,
    jpeg,
    label_png,
    occluded_sites,
    occlusion_picture,
    png,
    shrink,
)
from stseg.spool import Spool


@pytest.fixture(scope="module")
def result(clip: Clip, tiny_model: object) -> Segmentation:
    return segment(clip, Settings(k=3, model=str(tiny_model), device="cpu"))


@pytest.mark.parametrize("eta", [0.0, 0.01, 0.1, 1.0])
def test_occluded_sites_are_those_of_the_loss(result: Segmentation, eta: float) -> None:
    pair = np.stack([result.motion(2), result.motion(3)], axis=1)
    change = np.abs(pair[:, 1] - pair[:, 0]).sum(0)
    hidden = occluded_sites(result, 2, eta)
    assert hidden.sum() == round(eta * hidden.size)
    expected = ~visible_sites(torch.from_numpy(pair)[None], eta)[0, 0].numpy()
    # Ties may fall on either side, so the changes are compared and not the sites.
    np.testing.assert_array_equal(np.sort(change[hidden]), np.sort(change[expected]))


@pytest.mark.parametrize("eta", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_of_equal_changes_the_first_are_occluded(result: Segmentation, eta: float) -> None:
    coarse = Spool()
    for field in result.flow:
        coarse.append(np.round(field))  # many ties
    known = replace(result, flow=coarse)
    change = np.abs(known.motion(2) - known.motion(1)).sum(0).ravel()
    expected = np.zeros(change.size, bool)
    expected[np.argsort(-change, kind="stable")[: round(eta * change.size)]] = True
    np.testing.assert_array_equal(occluded_sites(known, 1, eta).ravel(), expected)


def test_last_frames_show_the_last_pair(result: Segmentation) -> None:
    last = occluded_sites(result, len(result) - 1, 0.05)
    np.testing.assert_array_equal(last, occluded_sites(result, len(result.flow) - 2, 0.05))


def test_occlusion_picture_marks_the_sites(result: Segmentation) -> None:
    image = np.full((*result.motion(0).shape[1:], 3), 200, np.uint8)
    picture = occlusion_picture(result, 1, 0.02, image)
    marked = (picture == COLOURS[7]).all(axis=2)
    np.testing.assert_array_equal(marked, occluded_sites(result, 1, 0.02))


def test_timeline_has_a_band_a_label() -> None:
    areas = np.array([[0.125, 0.5, 0.375], [0, 1, 0]], np.float32)
    assert area_top(areas) == 0.5
    picture = area_timeline(areas, width=10, height=8)
    assert picture.shape == (8, 10, 3)
    # An eighth and three eighths of the frame are two and six rows of a height of half of it.
    assert [tuple(picture[row, 0]) for row in range(8)] == [
        *[COLOURS[0]] * 2,
        *[COLOURS[2]] * 6,
    ]
    assert (picture[:, 5:] == COLOURS[1]).all()


@pytest.mark.parametrize(("rest", "top"), [(0.0, 0.01), (0.04, 0.05), (0.3, 0.5), (0.6, 1.0)])
def test_what_is_small_is_seen_beside_the_background(rest: float, top: float) -> None:
    rows = [[1 - rest, rest / 2, rest / 2], [1 - rest / 2, rest / 2, 0]]
    areas = np.array(rows, np.float32)
    assert area_top(areas) == top
    picture = area_timeline(areas, width=2, height=100)
    shares = [(picture[:, 0] == COLOURS[label]).all(axis=1).mean() * top for label in (1, 2)]
    assert shares == pytest.approx([rest / 2, rest / 2], abs=top / 100)


def test_encoded_pictures_come_back(rng: np.random.Generator) -> None:
    labels = rng.integers(0, 8, (31, 47)).astype(np.uint8)
    opened = Image.open(io.BytesIO(label_png(labels)))
    np.testing.assert_array_equal(np.array(opened), labels)
    np.testing.assert_array_equal(np.array(opened.convert("RGB")), np.array(COLOURS)[labels])
    image = rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(png(image)))), image)
    flat = np.full((20, 30, 3), (200, 40, 90), np.uint8)
    assert np.abs(from_jpeg(jpeg(flat)).astype(int) - flat).max() < 6
    assert shrink(image, 15).shape == (10, 15, 3)
    assert shrink(image, 40) is image
