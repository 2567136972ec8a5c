"""Figures of one result: the losses of the paper on its record, and scores where there is truth."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from stseg.errors import Cancelled
from stseg.losses import LossSettings, joint_losses
from stseg.measures import MOTION_MODEL, SAMPLES, at_eta, measure, volumes
from stseg.motion import FitSettings, motion_model
from stseg.pipeline import SegmentationRun, segment
from stseg.records import Clip, Segmentation, Settings, quantise
from stseg.scoring import score
from stseg.segment_motion import SegmentMotion
from stseg.spool import Spool
from stseg.synthetic import RenderedClip
from stseg.volume import FlowFields


@pytest.fixture(scope="module")
def annotated(clip: Clip) -> Clip:
    """The clip with its ground truth, which lies beside it."""
    folder = clip.source.with_suffix("")
    assert folder.is_dir()
    return replace(clip, truth=folder)


@pytest.fixture(scope="module")
def result(annotated: Clip, tiny_model: Path) -> Segmentation:
    return segment(annotated, Settings(k=3, model=str(tiny_model), device="cpu"))


def exact(rendered: RenderedClip, clip: Clip, swap: bool = False) -> Segmentation:
    """The record of somebody who knows the truth; with ``swap`` two labels change every frame."""
    n, k = len(rendered.labels), 3
    flow, masks = Spool(), Spool()
    for field in rendered.flow[: n - 1]:
        flow.append(field.astype(np.float16))
    for labels in rendered.labels:
        soft = (labels[None] == np.arange(k)[:, None, None]).astype(np.float32)
        masks.append(quantise(soft))
    assignment = np.tile(np.arange(k, dtype=np.uint8), (n, 1))
    if swap:
        assignment[1::2] = (0, 2, 1)
    return Segmentation(clip, Settings(k=k), flow, masks, assignment)


def test_losses_are_those_of_the_paper(result: Segmentation) -> None:
    rows = []
    for volume in volumes(result):
        (losses,) = joint_losses(
            [volume.masks],
            volume.flow,
            motion_model(MOTION_MODEL),
            LossSettings(eta=result.settings.eta),
            FitSettings(),
        )
        rows.append((float(losses.reconstruction), float(losses.consistency)))
    measured = measure(result)
    assert (measured.reconstruction, measured.consistency) == pytest.approx(
        np.mean(rows, axis=0), rel=1e-5
    )


def test_volumes_are_spread_over_the_clip(result: Segmentation) -> None:
    found = list(volumes(result))
    assert len(found) == min(SAMPLES, len(result) - 3)
    volume = found[-1]
    assert volume.masks.shape[:3] == (1, 3, 3)
    last = len(result) - 2
    np.testing.assert_array_equal(volume.masks[0, :, -1], result.linked_masks(last))
    np.testing.assert_array_equal(volume.flow[0, :, -1], result.motion(last))
    np.testing.assert_array_equal(volume.labels[0, 0, -1], result.labels_on_grid(last))


def test_the_residual_is_that_of_the_labels_that_are_shown() -> None:
    """Two segments share a label that is small in each and large in both together."""
    flow, masks = Spool(), Spool()
    moving = np.zeros((2, 32, 56), np.float16)
    moving[0, :, :28], moving[0, :, 28:] = -5, 5
    shares = np.repeat(np.array([[0.02, 0.4], [0.49, 0.3], [0.49, 0.3]], np.float32), 28, axis=1)
    for _ in range(4):
        masks.append(quantise(np.repeat(shares[:, None], 32, axis=1)))
    for _ in range(3):
        flow.append(moving)
    clip = Clip(Path("none.mp4"), "none", (32, 56), 24.0, 4)
    assignment = np.tile(np.array([0, 1, 1], np.uint8), (4, 1))
    shared = Segmentation(clip, Settings(k=3), flow, masks, assignment)
    shown = shared.labels_on_grid(0)
    assert (shared.linked_masks(0).argmax(0) != shown).mean() == 0.5
    residual = SegmentMotion(shared).at(0).residual
    own, other = (
        np.take_along_axis(residual, labels[None].astype(int), axis=0).mean()
        for labels in (shown, shared.linked_masks(0).argmax(0))
    )
    assert other > 4 * own
    assert measure(shared).residual == pytest.approx(own, rel=0.2)  # of other sites


def test_frames_that_stand_still_do_not_make_the_residual_smaller(clip: Clip) -> None:
    noise = np.random.default_rng(0).normal(3, 1, (15, 2, 32, 56)).astype(np.float16)
    found = []
    for still in (range(0), range(0, 15, 2), range(7)):  # none, every other one, the first half
        flow, masks = Spool(), Spool()
        for index, field in enumerate(noise):
            flow.append(np.zeros_like(field) if index in still else field)
            masks.append(quantise(np.full((2, 32, 56), 0.5, np.float32)))
        assignment = np.tile(np.arange(2, dtype=np.uint8), (15, 1))
        found.append(measure(Segmentation(clip, Settings(k=2), flow, masks, assignment)).residual)
    assert found[0] == pytest.approx(1.6, abs=0.05)  # of two components with a deviation of 1
    assert found[1:] == pytest.approx([found[0]] * 2, rel=0.02)


def test_the_truth_is_better_than_labels_that_switch(rendered: RenderedClip, clip: Clip) -> None:
    good, bad = (measure(exact(rendered, clip, swap)) for swap in (False, True))
    assert good.flicker < bad.flicker
    assert good.consistency < bad.consistency
    assert good.residual < bad.residual
    assert good.reconstruction < bad.reconstruction


def test_scores_are_those_of_the_protocol(result: Segmentation) -> None:
    scored = score(result, result.settings.subsequence)
    measured = measure(result)
    assert measured.j == pytest.approx(np.mean(scored.j))
    assert measured.f == pytest.approx(np.mean(scored.f))
    assert measured.to_json()["J"] == measured.j
    there = {frame: one for frame, one in enumerate(measured.over_frames.j) if one is not None}
    assert there == pytest.approx(dict(zip(scored.frames, scored.j, strict=True)))
    assert len(measured.over_frames.f) == len(result)
    assert measured.over_frames.to_json()["F"][scored.frames[0]] == pytest.approx(scored.f[0])


def test_flicker_over_the_frames_is_told_where_labels_change(
    rendered: RenderedClip, clip: Clip
) -> None:
    steady = exact(rendered, clip)
    once = replace(steady, assignment=steady.assignment.copy())
    once.assignment[4:] = (0, 2, 1)
    before, after = (measure(each).over_frames.flicker for each in (steady, once))
    assert len(after) == len(steady)
    assert after[0] is after[-1] is None  # nothing before it; no prediction of its own
    pairs = zip(before, after, strict=True)
    assert [frame for frame, (one, other) in enumerate(pairs) if one != other] == [4]
    linked_anew = replace(once, settings=replace(once.settings, subsequence=4))
    assert measure(linked_anew).over_frames.flicker[4] is None


def test_a_clip_without_truth_has_no_scores(result: Segmentation) -> None:
    bare = replace(result, clip=replace(result.clip, truth=None))
    assert measure(bare).j is measure(bare).f is None


def test_part_of_a_clip_is_scored(annotated: Clip, tiny_model: Path) -> None:
    settings = Settings(k=2, model=str(tiny_model), device="cpu", max_frames=4)
    measured = measure(segment(annotated, settings))
    assert measured.j is not None
    assert 0 <= measured.j <= 1


def test_two_frames_are_enough(clip: Clip, tiny_model: Path) -> None:
    settings = Settings(k=2, model=str(tiny_model), device="cpu", max_frames=2)
    result = segment(clip, settings)
    measured = measure(result)
    # One field: there are no two instants to compare, which is not the same as no change.
    assert np.isnan(measured.consistency)
    assert np.isnan(at_eta(measured, result, 0.05).consistency)
    assert measured.to_json()["L_c"] is None
    assert np.isfinite(measured.reconstruction)


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("known", [False, True], ids=["flow-ahead", "flow-known"])
def test_what_a_stopped_run_made(
    frames: int, known: bool, annotated: Clip, result: Segmentation, tiny_model: Path
) -> None:
    settings = Settings(k=3, model=str(tiny_model), device="cpu")
    flow = FlowFields(forward=result.flow) if known else None
    run = SegmentationRun(annotated, settings, flow=flow)
    list(islice(run.frames(), frames))
    part = run.result()
    assert len(part) == frames
    assert len(part.flow) > frames
    volume = list(volumes(part))[-1]
    np.testing.assert_array_equal(volume.masks[0, :, -1], part.linked_masks(frames - 1))
    np.testing.assert_array_equal(volume.flow[0, :, -1], part.motion(frames - 1))
    measured = measure(part)
    assert np.isfinite([measured.residual, measured.reconstruction]).all()
    assert np.isnan(measured.consistency) == (frames == 1)
    assert np.isnan(measured.flicker) == (frames == 1)  # nothing to compare the only frame with


def test_stop(result: Segmentation) -> None:
    with pytest.raises(Cancelled):
        measure(result, lambda: True)
