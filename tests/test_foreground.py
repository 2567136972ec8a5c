"""The choice of the foreground without ground truth, on scenes whose motion is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stseg.cli import main
from stseg.export import outputs
from stseg.foreground import (
    CHOICE,
    ROUNDING,
    Foreground,
    border_shares,
    foreground_masks,
    moving_labels,
    own_motion,
)
from stseg.records import Clip, Segmentation, Settings
from stseg.selection import subsequences
from stseg.spool import Spool

H, W, K = 48, 80, 4
Y, X = np.mgrid[:H, :W].astype(np.float32)
CAMERA = np.stack([3 + 0.05 * X - 0.02 * Y, 0.02 * X + 0.05 * Y - 2])
"""An affine field: the camera moves, turns and comes nearer."""

LABELS = np.zeros((H, W), np.uint8)
LABELS[:, 50:] = 1  # the background falls into two segments
LABELS[10:30, 10:30] = 2
LABELS[15:35, 55:70] = 3


def made(flow: np.ndarray, labels: np.ndarray = LABELS, n: int = 4) -> Segmentation:
    flows, masks = Spool(), Spool()
    for index in range(n):
        masks.append((np.arange(K)[:, None, None] == labels).astype(np.uint8) * 255)
        if index < n - 1:
            flows.append(flow.astype(np.float16))
    names = np.tile(np.arange(K, dtype=np.uint8), (n, 1))
    return Segmentation(
        Clip(Path("x.mp4"), "x", (H, W), 24.0, n), Settings(k=K), flows, masks, names
    )


def with_motion(**own: tuple[float, float]) -> np.ndarray:
    """The camera's field, and what labels add to it (``l2=(u, v)``)."""
    flow = CAMERA.copy()
    for name, motion in own.items():
        flow[:, int(name[1:]) == LABELS] += np.array(motion, np.float32)[:, None]
    return flow


def test_what_moves_with_the_camera_is_background() -> None:
    assert moving_labels(made(with_motion(l2=(5, 0))), range(4)) == (2,)
    assert moving_labels(made(with_motion(l3=(-4, 4))), range(4)) == (3,)


def test_two_objects_are_both_foreground() -> None:
    assert moving_labels(made(with_motion(l2=(5, 0), l3=(-4, 0))), range(4)) == (2, 3)


def test_what_moves_little_beside_a_fast_thing_is_foreground_too() -> None:
    assert moving_labels(made(with_motion(l2=(9, 0), l3=(1.5, 0))), range(4)) == (2, 3)


def test_what_hardly_moves_beside_a_fast_thing_is_background() -> None:
    """Both surely move on their own, one of them at a tenth of the other's speed."""
    assert moving_labels(made(with_motion(l3=(1.2, 0))), range(4)) == (3,)
    assert moving_labels(made(with_motion(l2=(12, 0), l3=(1.2, 0))), range(4)) == (2,)


def test_a_speck_that_is_fast_does_not_make_the_rest_slow() -> None:
    labels = np.where(LABELS == 2, LABELS, 0)
    labels[20:22, 60:62] = 1  # four sites with ten times the motion of the object
    flow = CAMERA.copy()
    flow[0, labels == 2] += 2
    flow[0, labels == 1] += 20
    assert moving_labels(made(flow, labels), range(4)) == (1, 2)


@pytest.mark.parametrize(("times", "chosen"), [(12, (2,)), (20, (2,)), (30, (2, 3))])
def test_the_border_says_what_is_sure_to_move(times: float, chosen: tuple[int, ...]) -> None:
    """By the logarithm, 12 times the border's distance is a third of the way from 6 to 48."""
    distance = np.full((H, W), 0.01, np.float32)
    distance[LABELS == 2] = 0.6
    distance[LABELS == 3] = 0.01 * times
    found = moving_labels(made(np.zeros((2, H, W))), range(4), [distance] * 4)
    assert found == chosen


@pytest.mark.parametrize(("share", "chosen"), [(0.55, (2,)), (0.65, (2, 3))])
def test_a_label_is_foreground_if_enough_of_it_moves(share: float, chosen: tuple[int, ...]) -> None:
    """Label 2 moves as a whole; so many of the 20 rows of label 3 do."""
    flow = with_motion(l2=(5, 0))
    flow[0, 15 : 15 + round(20 * share), 55:70] += 5
    assert moving_labels(made(flow), range(4)) == chosen


def test_frames_without_a_label_do_not_speak_against_it() -> None:
    seldom = made(with_motion(l2=(5, 0), l3=(5, 0)))
    masks = Spool()
    for index in range(4):
        labels = np.where((LABELS == 3) & (index != 1), 1, LABELS)
        masks.append((np.arange(K)[:, None, None] == labels).astype(np.uint8) * 255)
    assert moving_labels(replace(seldom, masks=masks), range(4)) == (2, 3)


def test_what_float16_rounds_is_no_motion() -> None:
    """Here the border moves as one to the last bit: any other number is far from it."""
    flow = np.stack([np.full((H, W), 3.0), np.zeros((H, W))])
    flow[0, LABELS == 2] = np.nextafter(np.float16(3), np.float16(4))
    distance = own_motion(made(flow).motion(0))
    assert 0 < distance[LABELS == 2].max() < ROUNDING
    assert moving_labels(made(flow), range(4)) == ()
    flow[0, LABELS == 2] = 3.03
    assert moving_labels(made(flow), range(4)) == (2,)


def test_noise_is_no_motion(rng: np.random.Generator) -> None:
    noise = rng.normal(0, 0.05, (2, H, W)).astype(np.float32)
    assert moving_labels(made(CAMERA + noise), range(4)) == ()
    assert moving_labels(made(with_motion(l2=(5, 0)) + noise), range(4)) == (2,)


def test_an_object_that_moves_against_the_camera_and_stands_still_in_the_picture() -> None:
    flow = CAMERA.copy()
    flow[:, LABELS == 2] = 0
    assert moving_labels(made(flow), range(4)) == (2,)


def test_a_label_at_the_border_is_background_though_it_moves() -> None:
    # A strip along the right edge moves most, as what a camera passes close by does.
    labels = np.where(LABELS == 2, 2, (X >= 68).astype(np.uint8)).astype(np.uint8)
    assert border_shares(labels, K)[1] > 0.2
    flow = with_motion(l2=(5, 0))
    flow[0, labels == 1] += 6
    assert moving_labels(made(flow, labels), range(4)) == (2,)


def test_without_motion_or_without_candidate_nothing_is_foreground() -> None:
    assert moving_labels(made(np.zeros((2, H, W))), range(4)) == ()
    halves = (X >= W / 2).astype(np.uint8)
    assert moving_labels(made(with_motion(l2=(5, 0)), halves), range(4)) == ()


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_the_choice_is_blind_to_the_unit_of_the_flow(factor: float) -> None:
    flow = with_motion(l2=(5, 0), l3=(-3, 0))
    assert moving_labels(made(flow * factor), range(4)) == moving_labels(made(flow), range(4))


def test_the_choice_is_made_for_each_subsequence() -> None:
    flows, masks = Spool(), Spool()
    for index in range(6):
        masks.append((np.arange(K)[:, None, None] == LABELS).astype(np.uint8) * 255)
        if index < 5:
            flow = with_motion(l2=(5, 0)) if index < 3 else with_motion(l3=(5, 0))
            flows.append(flow.astype(np.float16))
    names = np.tile(np.arange(K, dtype=np.uint8), (6, 1))
    clip = Clip(Path("x.mp4"), "x", (H, W), 24.0, 6)
    both = Segmentation(clip, Settings(k=K), flows, masks, names)
    assert [moving_labels(both, part) for part in subsequences(6, 3)] == [(2,), (3,)]
    assert moving_labels(both, range(6)) == (2, 3)


def test_linked_labels_are_chosen_not_the_networks_own() -> None:
    segmentation = made(with_motion(l2=(5, 0)))
    segmentation.assignment[:] = [1, 2, 3, 0]
    assert moving_labels(segmentation, range(4)) == (3,)


def test_the_motion_of_the_camera_costs_nothing() -> None:
    distance = own_motion(with_motion(l2=(5, 0)))
    assert np.abs(distance[LABELS != 2]).max() < 1e-2
    mean = np.abs(with_motion(l2=(5, 0))).sum(axis=0).mean()
    np.testing.assert_allclose(distance[LABELS == 2], 5 / mean, rtol=1e-2)


def test_masks_are_made_for_each_subsequence_at_full_size() -> None:
    two = replace(made(with_motion(l2=(5, 0))), settings=Settings(k=K, subsequence=2))
    two.assignment[2:] = [1, 2, 3, 0]  # another name in the second sub-sequence
    masks = list(foreground_masks(two))
    assert len(masks) == 4
    for mask in masks:
        np.testing.assert_array_equal(mask, LABELS == 2)
    one_by_one = Foreground(two)
    assert [one_by_one.labels(index) for index in (0, 3, 1, 2)] == [(2,), (3,), (2,), (3,)]
    assert CHOICE == 10  # where linkage has no sub-sequences (Sec. 4.2)


def test_segment_writes_the_foreground_where_it_is_asked_for(
    clip: Clip, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["segment", clip.source, "--out", tmp_path / "o", "--model", tiny_model, "--k", 3]
    words += ["--frames", 5, "--device", "cpu"]
    assert main([str(word) for word in [*words, "--foreground"]]) == 0
    assert {path.name for path in (tmp_path / "o").iterdir()} == set(outputs(["foreground"]))
    pictures = sorted((tmp_path / "o/foreground").iterdir())
    assert [path.name for path in pictures] == [f"{index:05d}.png" for index in range(5)]
    for path in pictures:
        with Image.open(path) as picture:
            assert (picture.height, picture.width) == clip.size
            assert set(np.unique(np.array(picture))) <= {0, 255}
    # What is not ours is not replaced, and that is said before the work.
    (tmp_path / "o/foreground/mine.txt").touch()
    assert main([str(word) for word in [*words, "--foreground"]]) == 2
    assert "holds files that are not of an earlier result (mine.txt)" in capsys.readouterr().err
