"""Files for other programs say what the record says; pycocotools itself reads the run lengths."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco
from pycocotools.coco import COCO

from stseg.errors import Cancelled, InputError
from stseg.export import OUTPUTS, export_all, outputs
from stseg.flow import read_flow_file
from stseg.formats import EXTRAS, Source, run_length
from stseg.pipeline import segment
from stseg.records import Clip, Segmentation, Settings
from stseg.segment_motion import SegmentMotion
from stseg.settings_file import read_settings, settings_of, write_settings
from stseg.similarity import relabelled
from stseg.stability import joined
from stseg.summary import summary

# pycocotools 2.0.11 reads run lengths by an old protocol of NumPy; it writes them without a word.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def result(clip: Clip, tiny_model: Path) -> Segmentation:
    settings = Settings(model=str(tiny_model), k=3, device="cpu", taus=(2, -1), merge=0.999)
    return segment(clip, settings)


def write(name: str, result: Segmentation, folder: Path) -> Path:
    path = folder / EXTRAS[name].file
    EXTRAS[name].write(Source(result, SegmentMotion(result)), path, lambda: None)
    return path


@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_run_lengths_come_back(h: int, w: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((h, w)) < share
    code = json.loads(json.dumps(run_length(mask)))
    np.testing.assert_array_equal(coco.decode(code), mask)


def test_coco_masks_are_the_labels(
    result: Segmentation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = COCO(str(write("coco", result, tmp_path)))
    capsys.readouterr()  # it talks
    assert len(read.getImgIds()) == len(result)
    assert read.getCatIds() == [1, 2, 3]
    for index in range(len(result)):
        labels = np.full(result.clip.size, 255, np.uint8)
        for one in read.loadAnns(read.getAnnIds(imgIds=[index + 1])):
            mask = read.annToMask(one).astype(bool)
            assert one["area"] == mask.sum() > 0
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            x, y, width, height = one["bbox"]
            assert (x, y) == (columns[0], rows[0])
            assert (x + width - 1, y + height - 1) == (columns[-1], rows[-1])
            assert one["track_id"] == one["category_id"]
            labels[mask] = one["category_id"] - 1
        np.testing.assert_array_equal(labels, result.labels(index))


def test_soft_masks_are_by_linked_label(result: Segmentation, tmp_path: Path) -> None:
    with np.load(write("soft", result, tmp_path)) as data:
        masks = data["masks"]
    assert masks.dtype == np.uint8
    assert masks.shape == (9, 3, *result.masks[0].shape[1:])
    for index in range(9):
        np.testing.assert_allclose(masks[index] / 255, result.linked_masks(index), atol=1.5 / 255)


def test_soft_masks_that_share_a_label_do_not_overflow(
    result: Segmentation, tmp_path: Path
) -> None:
    one = replace(result, assignment=np.zeros_like(result.assignment))
    with np.load(write("soft", one, tmp_path)) as data:
        assert data["masks"][:, 0].min() >= 253
        assert not data["masks"][:, 1:].any()


def test_flow_is_a_file_that_segment_takes(result: Segmentation, tmp_path: Path) -> None:
    flow, size = read_flow_file(write("flow", result, tmp_path))
    assert size == result.clip.size
    assert len(flow) == 8
    for index in range(8):
        np.testing.assert_allclose(flow[index], result.flow[index], atol=1 / 32)


def test_motion_is_what_the_models_say(result: Segmentation, tmp_path: Path) -> None:
    with write("motion", result, tmp_path).open(encoding="utf-8", newline="") as file:
        head, *lines = csv.reader(file)
    assert head[:4] == ["frame", "segment", "right (px a frame)", "down (px a frame)"]
    assert head[6:8] == ["rotation (degrees a frame)", "deformation (% a frame)"]
    assert [line[:2] for line in lines] == [[str(n), str(k)] for n in range(9) for k in range(3)]
    told = SegmentMotion(result).over_time()
    values = np.array([[float(cell or "nan") for cell in line[2:]] for line in lines])
    expected = [
        *(told.translation[..., 0], told.translation[..., 1], told.speed, 100 * told.divergence),
        *(told.rotation, 100 * told.deformation, told.residual),
        np.repeat(told.reconstruction[:, None], 3, axis=1),
    ]
    np.testing.assert_allclose(values, np.stack(expected, axis=-1).reshape(27, 8), rtol=1e-5)
    assert np.isfinite(values).any()


def test_models_that_are_known_are_not_fitted_again(
    result: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    motion = SegmentMotion(result)
    export_all(result, tmp_path, also=("motion",), motion=motion)
    monkeypatch.setattr(SegmentMotion, "_parameters", None)
    assert motion.over_time().speed.shape == (9, 3)


def test_a_segment_that_is_gone_has_empty_cells(result: Segmentation, tmp_path: Path) -> None:
    one = replace(result, assignment=np.zeros_like(result.assignment))
    lines = write("motion", one, tmp_path).read_text(encoding="utf-8").splitlines()[1:]
    assert [",,,,,,," in line for line in lines] == [False, True, True] * 9


@pytest.mark.parametrize("subsequence", [0, 4])
def test_labels_that_are_fused_are_one_in_every_file(
    result: Segmentation, subsequence: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(result.settings, subsequence=subsequence)
    became = np.tile(np.array([0, 1, 0], np.uint8), (len(result), 1))
    if subsequence:
        became[subsequence:] = (0, 1, 1)  # so that no name says what is fused
    fused = relabelled(replace(result, settings=settings), 0.5, became)
    names = ["0", "1"] if subsequence else ["0 + 2", "1"]
    told = summary(fused)["segments"]
    assert [(each["label"], each["name"]) for each in told] == list(zip((0, 1), names, strict=True))
    assert sum(each["mean_area"] for each in told) == pytest.approx(1, abs=1e-4)
    read = COCO(str(write("coco", fused, tmp_path)))
    capsys.readouterr()  # it talks
    kinds = [(each["id"], each["name"]) for each in read.loadCats(read.getCatIds())]
    assert kinds == [(1, f"segment {names[0]}"), (2, "segment 1")]
    assert {each["category_id"] for each in read.loadAnns(read.getAnnIds())} <= {1, 2}
    with write("motion", fused, tmp_path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [each["segment"] for each in rows] == names * len(fused)


def test_what_is_fused_twice_has_one_name(result: Segmentation) -> None:
    once = relabelled(result, 0.9, np.array([0, 1, 1], np.uint8))
    twice = relabelled(once, 0.5, np.array([0, 0, 2], np.uint8))
    assert once.called == {0: "0", 1: "1 + 2"}
    assert twice.called == {0: "0 + 1 + 2"}
    assert not twice.assignment.any()
    apart = replace(once, settings=replace(once.settings, subsequence=4))
    assert joined(apart).called == {0: "0", 1: "1", 2: "2"}  # of which nobody knows what it holds


def test_settings_come_back(result: Segmentation, tmp_path: Path) -> None:
    assert read_settings(write("settings", result, tmp_path)) == result.settings
    export_all(result, tmp_path / "out")
    assert read_settings(tmp_path / "out" / "summary.json") == result.settings
    every = replace(
        Settings(),
        taus=(-8, 1),
        weights="w.pth",
        max_frames=7,
        similarity_weight=2.5,
        eta=0.123456789,
    )
    for settings in (every, Settings(stride=2, refine=True)):
        write_settings(settings, tmp_path / "every.json")
        assert read_settings(tmp_path / "every.json") == settings


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([1], "These are no settings: an object of names and values is expected."),
        ({"colour": 1}, "There is no setting 'colour'. Choose among "),
        ({"k": "4"}, "The setting 'k' cannot be '4'. Give a whole number."),
        ({"k": True}, "The setting 'k' cannot be True. Give a whole number."),
        ({"refine": 1}, "The setting 'refine' cannot be 1. Give True or False."),
        ({"taus": [1.5]}, "The setting 'taus' cannot be [1.5]. Give whole numbers, as in [1, 2]."),
        ({"taus": 1}, "The setting 'taus' cannot be 1. Give whole numbers, as in [1, 2]."),
        ({"model": None}, "The setting 'model' cannot be None. Give a text."),
        ({"k": 40}, "K is 40, but the number of segments is from 2 to 8."),
        ({"merge": 2}, "The merge threshold is 2.0, but a similarity is from -1 to 1."),
        ({"stride": 3}, "The stride is 3, but triplets are taken at every frame (1) or"),
        ({"stride": 2, "taus": [2]}, "A stride of 2 is for one τ of 1 or -1:"),
        ({"stride": 2, "taus": [1, 2]}, "A stride of 2 is for one τ of 1 or -1:"),
        ({"similarity_weight": -1}, "The weight of similarity is -1.0, but"),
    ],
)
def test_settings_of_anything_else_get_a_sentence(values: object, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        settings_of(values)
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize("text", ["", "{", "[1, 2", "\x00"])
def test_a_file_that_holds_no_settings_gets_a_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is not a file of settings"):
        read_settings(path)
    with pytest.raises(InputError, match="is not a file of settings"):
        read_settings(tmp_path / "none.json")


def test_extras_are_written_where_asked_for(result: Segmentation, tmp_path: Path) -> None:
    also = (*EXTRAS, "coco")
    paths = export_all(result, tmp_path, also=also)
    names = [path.name for path in paths]
    assert names == list(outputs(also))
    assert sorted(names) == sorted({*OUTPUTS, *(each.file for each in EXTRAS.values())})
    assert names[-1] == "summary.json"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_an_unknown_extra_gets_a_sentence_before_any_work(
    result: Segmentation, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        export_all(result, tmp_path / "o", also=("pdf",))
    assert str(error.value) == (f"There is no extra file 'pdf'. Choose among {', '.join(EXTRAS)}.")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("name", ["coco", "soft", "flow", "foreground", "motion"])
def test_extras_stop_between_frames(name: str, result: Segmentation, tmp_path: Path) -> None:
    def stop() -> None:
        raise Cancelled("stopped")

    source = Source(result, SegmentMotion(result))
    with pytest.raises(Cancelled):
        EXTRAS[name].write(source, tmp_path / EXTRAS[name].file, stop)
