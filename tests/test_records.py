"""The records: what settings refuse, and that masks, labels and areas of a result agree."""

from __future__ import annotations

import copy
import json
import reprlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stseg.errors import InputError
from stseg.masks import gathered, largest
from stseg.records import (
    Clip,
    Segmentation,
    Settings,
    checked_setting,
    grid_for,
    label_map,
    quantise,
)
from stseg.spool import Spool

SIZE = (48, 80)
K = 3


def soft(rng: np.random.Generator, k: int = K, h: int = 12, w: int = 20) -> np.ndarray:
    """Smooth soft masks that sum to 1."""
    logits = np.stack([cv2.resize(rng.normal(0, 3, (3, 4)), (w, h)) for _ in range(k)])
    weights = np.exp(logits)
    return (weights / weights.sum(0)).astype(np.float32)


@pytest.fixture
def result(rng: np.random.Generator) -> Segmentation:
    """Four frames; in the last one two segments share a label."""
    flow, masks = Spool(), Spool(1000)
    for index in range(4):
        masks.append(quantise(soft(rng)))
        if index < 3:
            flow.append(np.full((2, 12, 20), index + 0.5, np.float16))
    assignment = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1], [1, 1, 0]], np.uint8)
    clip = Clip(Path("a.mp4"), "a", SIZE, 24.0, 4)
    return Segmentation(clip, Settings(k=K), flow, masks, assignment)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"k": 1}, "K is 1, but the number of segments is from 2 to 8. Choose a K in this range."),
        ({"k": 9}, "K is 9, but the number of segments is from 2 to 8. Choose a K in this range."),
        ({"taus": ()}, "No τ is given. Choose at least one, for instance τ = 1."),
        (
            {"taus": (0,)},
            "τ is 0, but the temporal step is from 1 to 8 or from -8 to -1. "
            "Choose a τ in this range.",
        ),
        (
            {"taus": (1, 9)},
            "τ is 9, but the temporal step is from 1 to 8 or from -8 to -1. "
            "Choose a τ in this range.",
        ),
        (
            {"taus": (-9,)},
            "τ is -9, but the temporal step is from 1 to 8 or from -8 to -1. "
            "Choose a τ in this range.",
        ),
        ({"taus": (1, 2, 1)}, "A τ is given twice. Give every τ once."),
        ({"eta": -0.1}, "η is -0.1, but it is a fraction from 0 to 1 (0.01 is 1 %)."),
        ({"eta": 1.5}, "η is 1.5, but it is a fraction from 0 to 1 (0.01 is 1 %)."),
        ({"eta": float("nan")}, "η is nan, but it is a fraction from 0 to 1 (0.01 is 1 %)."),
        (
            {"subsequence": -1},
            "A sub-sequence of -1 frames makes no sense. Give its length, or 0 for the whole "
            "video.",
        ),
        (
            {"subsequence": 2, "taus": (3,)},
            "In a sub-sequence of 2 frames no two triplets of τ = 3 follow each other, so that "
            "there is nothing to link. Give a longer one, or a smaller τ.",
        ),
        ({"max_frames": 1}, "At least 2 frames must be read: motion needs two of them."),
    ],
)
def test_settings_refuse_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        Settings(**values)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"linkage": "fuzzy"},
            "There is no linkage 'fuzzy'. Choose one of one-to-one, greedy, "
            "one-to-one+similarity, greedy+similarity.",
        ),
        ({"device": "tpu"}, "There is no device 'tpu'. Choose auto, cpu or cuda."),
    ],
)
def test_settings_refuse_unknown_names(values: dict[str, Any], sentence: str) -> None:
    # The type checker of the tests would refuse these at the door; a person's input has none.
    settings = Settings()
    for name, value in values.items():
        object.__setattr__(settings, name, value)
    with pytest.raises(InputError) as error:
        settings.__post_init__()
    assert str(error.value) == sentence


WRONG_TYPES: list[tuple[str, object, str]] = [
    ("k", 4.0, "a whole number"),
    ("k", "4", "a whole number"),
    ("k", None, "a whole number"),
    ("k", True, "a whole number"),
    ("taus", 1, "whole numbers, as in [1, 2]"),
    ("taus", [1.5], "whole numbers, as in [1, 2]"),
    ("eta", "x", "a number"),
    ("max_frames", 2.5, "a whole number or None"),
    ("subsequence", None, "a whole number"),
    ("iterations", "x", "a whole number"),
    ("flow", None, "a text"),
    ("model", 3, "a text"),
    ("weights", 3, "a text or None"),
    ("refine", "no", "True or False"),
    ("merge", "a", "a number or None"),
    ("merge", False, "a number or None"),
    ("eta", 10**400, "a number"),
]


@pytest.mark.parametrize(("name", "value", "wanted"), WRONG_TYPES)
def test_a_setting_of_another_type_is_refused(name: str, value: object, wanted: str) -> None:
    sentence = f"The setting {name!r} cannot be {reprlib.repr(value)}. Give {wanted}."
    with pytest.raises(InputError) as error:
        checked_setting(name, value)
    assert str(error.value) == sentence


def test_settings_look_at_types_and_keep_plain_ones() -> None:
    """In a process of its own, whose calls no type checker refuses at the door."""
    code = f"""
import json
import reprlib
from pathlib import Path
import numpy as np
from dataclasses import replace
from stseg import InputError, Settings
for name, value, _ in {WRONG_TYPES!r}:
    for make in (Settings, lambda **given: replace(Settings(), **given)):
        try:
            raise SystemExit(f"{{make(**{{name: value}})}} was taken")
        except InputError as error:
            told = reprlib.repr(value)
            assert str(error).startswith(f"The setting {{name!r}} cannot be {{told}}."), error
given = Settings(np.int64(3), [np.int32(1), -2], np.float32(0), flow=Path("a.npz"), merge=1)
assert given == Settings(3, (1, -2), 0.0, flow="a.npz", merge=1.0) != Settings()
assert json.loads(json.dumps(given.to_json()))["taus"] == [1, -2]
print(hash(given))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "values",
    [{"k": 2}, {"k": 8}, {"taus": (8, -8)}, {"eta": 0.0}, {"eta": 1.0}, {"max_frames": 2}],
)
def test_settings_accept_the_ends_of_their_ranges(values: dict[str, Any]) -> None:
    settings = Settings(**values)
    assert all(getattr(settings, name) == value for name, value in values.items())


@pytest.mark.parametrize(
    ("taus", "stride", "step"),
    [
        ((1,), None, 2),
        ((-1,), None, 2),
        ((2,), None, 1),
        ((1, 2), None, 1),
        ((1, -1), None, 1),
        ((1,), 1, 1),
        ((-1,), 2, 2),
    ],
)
def test_triplets_are_at_every_second_frame_where_tau_allows_it(
    taus: tuple[int, ...], stride: int | None, step: int
) -> None:
    assert Settings(taus=taus, stride=stride).step == step


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(
            3,
            (2, -1),
            0.05,
            model="no-lc",
            linkage="greedy",
            device="cpu",
            max_frames=50,
        ),
    ],
)
def test_settings_survive_json(settings: Settings) -> None:
    values = json.loads(json.dumps(settings.to_json()))
    assert set(values) == set(Settings.__dataclass_fields__)
    restored = Settings(**{**values, "taus": tuple(values["taus"])})
    assert restored == settings


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((480, 854), (128, 224)),
        ((854, 480), (224, 128)),
        ((64, 64), (128, 224)),
        ((65, 64), (224, 128)),
    ],
)
def test_the_grid_turns_with_the_clip(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert grid_for(size) == grid


@pytest.mark.parametrize("size", [(12, 20), (48, 80), (37, 53), (5, 7), (1, 1)])
@pytest.mark.parametrize("k", [2, 4, 8])
def test_a_label_map_is_the_argmax_of_the_enlarged_masks(
    size: tuple[int, int], k: int, rng: np.random.Generator
) -> None:
    masks = soft(rng, k)
    planes = [cv2.resize(m, size[::-1], interpolation=cv2.INTER_LINEAR) for m in masks]
    large = np.stack(planes).reshape(k, *size)
    labels = label_map(masks, size)
    assert labels.shape == size
    assert labels.dtype == np.uint8
    # Planes and the stack round apart, so that only a tie may fall otherwise.
    chosen = np.take_along_axis(large, labels[None].astype(np.intp), 0)[0]
    np.testing.assert_allclose(chosen, large.max(0), rtol=0, atol=1e-6)
    assert (labels == large.argmax(0)).mean() > 0.999


def test_ties_go_to_the_first_segment() -> None:
    masks = np.full((4, 6, 6), 0.25, np.float32)
    assert (label_map(masks, (13, 11)) == 0).all()


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
def test_the_largest_plane_is_that_of_argmax(kind: type, rng: np.random.Generator) -> None:
    planes = rng.integers(0, 5, (8, 7, 4)).astype(kind)  # many ties
    np.testing.assert_array_equal(largest(planes), planes.argmax(0))


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_masks_of_one_label_are_summed(kind: type, rng: np.random.Generator) -> None:
    masks = rng.integers(0, 100, (4, 5, 6)).astype(kind)
    linked = gathered(masks, np.array([2, 0, 2, 3], np.uint8))
    assert linked.dtype == kind
    np.testing.assert_array_equal(linked[2], masks[0] + masks[2])
    np.testing.assert_array_equal(linked[0], masks[1])
    assert not linked[1].any()


@given(st.integers(0, 255))
def test_masks_are_kept_in_steps_of_a_255th(value: int) -> None:
    masks = np.full((2, 1, 1), value / 255, np.float32)
    assert (quantise(masks) == value).all()


def test_quantised_masks_are_off_by_half_a_step_at_most(rng: np.random.Generator) -> None:
    masks = soft(rng)
    assert np.abs(quantise(masks) / 255 - masks).max() <= 0.5 / 255 + 1e-6


def test_labels_follow_the_assignment(result: Segmentation) -> None:
    assert (len(result), result.k) == (4, K)
    for index in range(4):
        segments, labels = result.segments(index), result.labels(index)
        assert segments.shape == labels.shape == SIZE
        assert labels.dtype == np.uint8
        for segment in range(K):
            assert (labels[segments == segment] == result.assignment[index, segment]).all()
        assert set(np.unique(segments)) == set(range(K))  # else the test would show nothing
    assert not (result.labels(3) == 2).any()


def test_labels_on_the_grid_are_those_of_the_masks(result: Segmentation) -> None:
    for index in range(4):
        labels = result.labels_on_grid(index)
        assert labels.shape == (12, 20)
        expected = result.assignment[index][result.masks[index].argmax(0)]
        np.testing.assert_array_equal(labels, expected)


def test_linked_masks_sum_to_one_and_add_up_segments_that_share_a_label(
    result: Segmentation,
) -> None:
    for index in range(4):
        linked, own = result.linked_masks(index), result.soft_masks(index)
        np.testing.assert_allclose(linked.sum(0), own.sum(0), atol=1e-6)
        np.testing.assert_allclose(linked.sum(0), 1, atol=K * 0.5 / 255 + 1e-6)
        for label in range(K):
            expected = own[result.assignment[index] == label].sum(0)
            np.testing.assert_allclose(linked[label], expected, atol=1e-6)
    assert (result.linked_masks(3)[2] == 0).all()


def test_areas_are_the_shares_of_the_labels(result: Segmentation) -> None:
    areas = result.areas()
    assert areas.shape == (4, K)
    np.testing.assert_allclose(areas.sum(1), 1, atol=1e-6)
    for index in range(4):
        for label in range(K):
            share = (result.labels_on_grid(index) == label).mean()
            assert areas[index, label] == pytest.approx(share, abs=1e-6)


def test_the_last_frame_repeats_the_motion_before_it(result: Segmentation) -> None:
    means = [float(result.motion(index).mean()) for index in range(4)]
    assert means == [0.5, 1.5, 2.5, 2.5]
    assert result.motion(0).dtype == np.float32


def test_a_deep_copy_shares_the_arrays_of_the_result(result: Segmentation) -> None:
    twin = copy.deepcopy(result)
    assert twin.masks is result.masks
    assert twin.flow is result.flow
    np.testing.assert_array_equal(twin.labels(2), result.labels(2))


def test_closing_frees_both_spools(result: Segmentation) -> None:
    result.close()
    assert (len(result.flow), len(result.masks)) == (0, 0)
