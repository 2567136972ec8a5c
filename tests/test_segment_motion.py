"""Motions that are known are read back from the models fitted to the segments of a result."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stseg.losses import consistency_loss, reconstruction_loss
from stseg.measures import measure
from stseg.motion import MODELS, fit_motion
from stseg.records import Clip, Segmentation, Settings, quantise
from stseg.segment_motion import FIT, MODEL, SegmentMotion, mask_change
from stseg.spool import Spool

GRID = (64, 112)
NONE = np.zeros((0, 0, 0), np.float32)
SIZE = (256, 560)  # a site is 4 source pixels high and 5 wide: derivatives must know both


def source_pixels() -> tuple[np.ndarray, np.ndarray]:
    """X and Y of every site in source pixels, from the centre of the frame."""
    y, x = np.mgrid[: GRID[0], : GRID[1]].astype(np.float64)
    x = (x + 0.5) * SIZE[1] / GRID[1] - SIZE[1] / 2
    y = (y + 0.5) * SIZE[0] / GRID[0] - SIZE[0] / 2
    return x, y


def affine(t: tuple[float, float], jacobian: list[list[float]], about: float = 0) -> np.ndarray:
    """A motion in source pixels, with its centre ``about`` pixels right of the frame's."""
    x, y = source_pixels()
    (a, b), (c, d) = jacobian
    return np.stack([t[0] + a * (x - about) + b * y, t[1] + c * (x - about) + d * y])


def result(
    flows: list[np.ndarray],
    masks: list[np.ndarray],
    assignment: list[list[int]] | None = None,
    taus: tuple[int, ...] = (1,),
) -> Segmentation:
    """A result with these n - 1 fields and n soft masks; latents are not looked at here."""
    flow, kept, k = Spool(), Spool(), len(masks[0])
    for each in flows:
        flow.append(each.astype(np.float16))
    for mask in masks:
        kept.append(quantise(mask.astype(np.float32)))
    n = len(masks)
    clip = Clip(Path("none.mp4"), "none", SIZE, 24.0, n)
    rows = np.array(assignment or [list(range(k))] * n, np.uint8)
    return Segmentation(
        clip=clip,
        settings=Settings(k=k, taus=taus),
        flow=flow,
        masks=kept,
        assignment=rows,
    )


def left_and_right() -> np.ndarray:
    masks = np.zeros((2, *GRID), np.float32)
    masks[0, :, : GRID[1] // 2] = 1
    masks[1] = 1 - masks[0]
    return masks


CASES = {
    "rotation": ([[0.0, -0.02], [0.02, 0.0]], {"curl": 0.04, "rotation": np.degrees(0.02)}),
    "zoom": ([[0.015, 0.0], [0.0, 0.015]], {"divergence": 0.03}),
    "stretch": ([[0.01, 0.0], [0.0, -0.01]], {"deformation": 0.02}),
    "shear": ([[0.0, 0.03], [0.0, 0.0]], {"deformation": 0.03, "curl": -0.03}),
}
NAMES = ("divergence", "curl", "rotation", "deformation")


@pytest.mark.parametrize("column", [51, 52, 53])
def test_a_thin_segment_is_seen_wherever_it_is(column: int) -> None:
    """Two columns may lie between those that the fit of a picture looks at."""
    masks = np.zeros((2, *GRID), np.float32)
    masks[1, :, column : column + 2] = 1
    masks[0] = 1 - masks[1]
    flow = np.where(masks[1] > 0, 6.0, 1.0) * np.array([1.0, 0.0])[:, None, None]
    told = SegmentMotion(result([flow] * 4, [masks] * 5)).over_time()
    np.testing.assert_allclose(told.translation[:, 1, 0], 6, atol=0.05)
    np.testing.assert_allclose(told.residual, 0, atol=0.05)


@pytest.mark.parametrize("at", range(30, 36))
@pytest.mark.parametrize("across", [False, True])
def test_a_narrow_segment_has_its_motion_wherever_it_is(at: int, across: bool) -> None:
    """Five sites hold one or two of the lines that the fit of a picture looks at."""
    masks = np.zeros((2, *GRID), np.float32)
    thin, along = slice(at, at + 5), slice(10, 60)
    masks[(1, thin, along) if across else (1, along, thin)] = 1
    masks[0] = 1 - masks[1]
    flow = affine((-2.0, 1.0), [[0.01, -0.03], [0.03, 0.01]])
    told = SegmentMotion(result([flow] * 4, [masks] * 5)).over_time()
    np.testing.assert_allclose(told.divergence[:, 1], 0.02, atol=5e-4)
    np.testing.assert_allclose(told.rotation[:, 1], np.degrees(0.03), atol=0.03)
    np.testing.assert_allclose(told.deformation[:, 1], 0, atol=1e-3)
    np.testing.assert_allclose(told.residual[:, 1], 0, atol=0.02)


def test_a_frame_that_is_there_twice_does_not_move() -> None:
    masks = left_and_right()
    moves = affine((3.0, 1.0), [[0.01, 0], [0, 0]])
    still = np.zeros_like(moves)
    segmentation = result([moves, moves, still, moves, moves], [masks] * 6)
    told = SegmentMotion(segmentation).over_time()
    for values in (told.speed, told.divergence, told.deformation, told.residual):
        np.testing.assert_allclose(values[2], 0, atol=1e-6)
    assert told.speed[[0, 1, 3, 4]].min() > 1.8
    np.testing.assert_allclose(told.residual, 0, atol=0.02)
    seen = SegmentMotion(segmentation).at(2)
    assert not seen.flow.any()
    assert not seen.residual.any()
    assert measure(segmentation).residual < 0.02  # as L_r, which leaves that frame out


@pytest.mark.parametrize("tau", [1, 2, 3, 8])
def test_a_triplet_that_the_clip_has_no_room_for_is_shorter(tau: int) -> None:
    masks = left_and_right()
    fields = [affine((3 + 0.25 * t, 0.0), [[0, 0], [0, 0]]) for t in range(5)]
    told = SegmentMotion(result(fields, [masks] * 6, taus=(tau,))).over_time()
    np.testing.assert_allclose(told.translation[:5, 0, 0], 3 + 0.25 * np.arange(5), atol=0.02)
    np.testing.assert_allclose(told.residual, 0, atol=0.02)


@pytest.mark.parametrize("name", CASES)
def test_a_known_motion_is_read_back_to_one_percent(name: str) -> None:
    jacobian, expected = CASES[name]
    still, moving = affine((2.0, -1.0), [[0, 0], [0, 0]]), affine((3.0, 4.0), jacobian, about=140)
    masks = left_and_right()
    flow = np.where(masks[0] > 0, still, moving)
    told = SegmentMotion(result([flow] * 5, [masks] * 6)).over_time()
    np.testing.assert_allclose(told.translation[:, 0], [[2.0, -1.0]] * 6, atol=0.02)
    # The centroid of the right half is the point about which the motion turns.
    np.testing.assert_allclose(told.translation[:, 1], [[3.0, 4.0]] * 6, rtol=0.01)
    np.testing.assert_allclose(told.speed[:, 1], 5, rtol=0.01)
    scale = max(abs(value) for value in expected.values())
    for each in NAMES:
        value = getattr(told, each)
        target = expected.get(each, 0.0)
        if each == "rotation" and "curl" in expected:
            target = np.degrees(expected["curl"] / 2)
        np.testing.assert_allclose(value[:, 1], target, rtol=0.01, atol=0.005 * scale)
        np.testing.assert_allclose(value[:, 0], 0, atol=0.005 * scale)
    assert np.nanmax(told.residual) < 0.05


def test_a_motion_that_grows_is_read_at_each_frame_and_at_the_ends() -> None:
    masks = np.ones((1, *GRID), np.float32)
    masks = np.concatenate([masks, np.zeros_like(masks)])
    flows = [affine((2.0 + 0.5 * t, 1.0), [[0, 0], [0, 0]]) for t in range(9)]
    told = SegmentMotion(result(flows, [masks] * 10, taus=(-2, 1))).over_time()
    speed = [2.0 + 0.5 * min(t, 8) for t in range(10)]  # the last frame repeats the one before
    np.testing.assert_allclose(told.translation[:, 0, 0], speed, atol=0.02)
    assert np.isnan(told.translation[:, 1]).all()  # an empty label has no motion
    assert told.reconstruction.shape == (10,)
    assert told.reconstruction.max() < 1e-2


def test_models_of_linked_labels_and_their_residual() -> None:
    masks = left_and_right()
    left, right = affine((5.0, 0.0), [[0, 0], [0, 0]]), affine((-3.0, 1.0), [[0, 0], [0, 0]])
    flow = np.where(masks[0] > 0, left, right)
    flow[:, 20:24, 20:24] += 6  # something that no model explains
    swapped = result([flow] * 4, [masks] * 5, assignment=[[1, 0]] * 5)
    motion = SegmentMotion(swapped).at(2)
    np.testing.assert_allclose(motion.flow[1], left, atol=0.05)
    np.testing.assert_allclose(motion.flow[0], right, atol=0.05)
    composed = np.where(masks[0] > 0, left, right)
    np.testing.assert_allclose(motion.composed(), composed, atol=0.05)
    rest = motion.unexplained()
    np.testing.assert_allclose(rest[20:24, 20:24], 12, rtol=0.02)
    rest[20:24, 20:24] = 0
    assert rest.max() < 0.1
    np.testing.assert_array_equal(motion.masks, swapped.linked_masks(2))


def test_short_clips_have_a_motion() -> None:
    masks = left_and_right()
    flow = affine((1.0, 2.0), [[0, 0], [0, 0]])
    for fields in (1, 2):
        segmentation = result([flow] * fields, [masks] * (fields + 1), taus=(3,))
        told = SegmentMotion(segmentation).over_time()
        np.testing.assert_allclose(told.translation, np.full_like(told.translation, 1) * [1, 2],
                                   atol=0.01)  # fmt: skip
        last = SegmentMotion(segmentation).at(fields)
        np.testing.assert_allclose(last.flow[0], flow, atol=0.02)


def test_the_loss_is_that_of_the_paper(rng: np.random.Generator) -> None:
    flows = [rng.normal(0, 2, (2, *GRID)) for _ in range(5)]
    soft = rng.random((6, 3, *GRID))
    soft /= soft.sum(1, keepdims=True)
    segmentation = result(flows, list(soft))
    volume = torch.from_numpy(np.stack([segmentation.motion(t) for t in (1, 2, 3)], axis=1))[None]
    masks = torch.from_numpy(np.stack([segmentation.linked_masks(t) for t in (1, 2, 3)], axis=1))[
        None
    ]
    expected = reconstruction_loss(masks, volume, fit_motion(volume, masks, MODELS[MODEL], FIT))
    told = SegmentMotion(segmentation).over_time()
    assert told.reconstruction[2] == pytest.approx(float(expected), rel=1e-4)

    for eta in (0.0, 0.05):
        change = mask_change(segmentation, 2, eta)
        pair = consistency_loss(masks[:, :, 1:], volume[:, :, 1:], eta)
        assert change.after == pytest.approx(float(pair), rel=1e-3)
        assert (~change.visible).sum() == round(eta * change.visible.size)
    assert change.before > change.after


def test_what_is_known_is_kept() -> None:
    masks = left_and_right()
    flow = affine((1.0, 2.0), [[0, 0], [0, 0]])
    motion = SegmentMotion(result([flow] * 30, [masks] * 31))
    assert motion.at(3) is motion.at(3)
    begun = time.perf_counter()
    first = motion.over_time()
    again = time.perf_counter()
    assert motion.over_time() is first
    assert time.perf_counter() - again < 0.01 * max(1.0, again - begun)


def test_a_single_frame_of_a_run_that_goes_on_has_no_change() -> None:
    field = affine((2, 1), [[0, 0], [0, 0]])
    whole = result([field] * 5, [np.full((2, *GRID), 0.5)] * 6)
    masks = Spool()
    masks.append(whole.masks[0])
    first = replace(whole, masks=masks, assignment=whole.assignment[:1], latents=NONE)
    change = mask_change(first, 0, 0.1)
    assert change.before == change.after == 0
    motion = SegmentMotion(first)
    assert motion.at(0).composed()[0].mean() == pytest.approx(2, abs=0.01)
    assert motion.over_time().translation.shape[:2] == (1, 2)
