"""Frames that repeat the one before them: what a clip says once, it says for all copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stseg.ablation import segment_all
from stseg.network import SegmentationNetwork
from stseg.pipeline import SegmentationRun
from stseg.records import Clip, Segmentation, Settings
from stseg.repeats import REACH, SMALL, ClipLine, DistinctFrames
from stseg.synthetic import SceneSettings, render
from stseg.timeline import FramePrediction, Timeline
from stseg.video import probe
from stseg.video_writer import VideoWriter
from stseg.volume import FlowFields

GRID = (8, 16)


def flow_of(strengths: Sequence[float]) -> FlowFields:
    """Fields whose vectors all are as long as told, the same backwards."""
    flow = FlowFields()
    for index, strength in enumerate(strengths):
        flow.forward.append(np.array([strength, 0.0], np.float16)[:, None, None] * np.ones(GRID))
        flow.backward.append(np.array([0.0, -index], np.float16)[:, None, None] * np.ones(GRID))
    return flow


def shown(strengths: Sequence[float], one_by_one: bool = False) -> list[int]:
    """Which distinct frame each frame of a clip with such fields shows."""
    flow, n = flow_of(strengths), len(strengths) + 1
    distinct = DistinctFrames(flow)
    for frames in range(1, n) if one_by_one else ():
        distinct.look(frames, ended=False)
    known = distinct.look(n, ended=True)
    copies = [distinct.copies(index) for index in range(known)]
    assert [frame for each in copies for frame in each] == list(range(n))
    assert [each[0] for each in copies] == [distinct.first(index) for index in range(known)]
    assert distinct.repeated == n - known
    return [index for index, each in enumerate(copies) for _ in each]


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize(
    ("strengths", "expected"),
    [
        ([3, 3, 3], [0, 1, 2, 3]),
        ([3, 3, 3, 0, 3, 3, 3, 0.1, 3], [0, 1, 2, 3, 3, 4, 5, 6, 6, 7]),  # 24 in 30 a second
        ([2, 0, 2, 0, 0, 2, 0, 2], [0, 1, 1, 2, 2, 2, 3, 3, 4]),  # 24 in 60
        ([0, 2, 0, 2, 0, 2], [0, 0, 1, 1, 2, 2, 3]),  # animated on twos
        ([5, 0, 0, 0, 0, 5], [0, 1, 1, 1, 1, 1, 2]),  # 12 in 60
        ([5, 0, 0, 0, 0, 0, 5], [0, 1, 2, 3, 4, 5, 6, 7]),  # it stood still
        ([5, 5, 0, 0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),  # it stopped
        ([4, 4, 0], [0, 1, 2, 2]),  # the last frame twice
        ([0], [0, 1]),
        ([0, 0, 0, 0], [0, 1, 2, 3, 4]),  # nothing moves at all
        ([4, 1, 4, 0.7, 4], [0, 1, 2, 3, 4, 5]),  # a hand that shakes
    ],
)
def test_a_field_that_is_still_between_moving_ones_joins_copies(
    strengths: list[float], expected: list[int], one_by_one: bool
) -> None:
    assert shown(strengths, one_by_one) == expected


def test_both_sides_count_by_the_strongest_nearby() -> None:
    just = SMALL * 8
    assert shown([8, 1.1 * just, 8]) == [0, 1, 2, 3]
    assert shown([8, 0.9 * just, 8]) == [0, 1, 1, 2]
    assert shown([8, 0.9 * just, *[1] * REACH, 8]) == [0, 1, *range(2, REACH + 4)]


def test_a_still_field_waits_until_the_other_side_is_known() -> None:
    flow = flow_of([3, 0, 0, 0, 0, 0])
    distinct = DistinctFrames(flow)
    # The first field moves where nothing stronger follows; then what follows may be repeats.
    assert [distinct.look(frames, ended=False) for frames in range(8)] == [0, 1, 1, 1, 1, 1, 2, 7]
    assert [list(distinct.copies(index)) for index in range(3)] == [[0], [1], [2]]


def test_motion_is_that_of_the_copies_beside_each_other() -> None:
    distinct = DistinctFrames(flow_of([3, 0, 4, 0, 0, 5]))
    assert distinct.look(7, ended=True) == 4
    assert [distinct.at(index, backward=False)[0, 0, 0] for index in range(3)] == [3, 4, 5]
    # Field i backwards is (0, -i): from frame i + 1 to frame i.
    assert [distinct.at(index, backward=True)[1, 0, 0] for index in (1, 2, 3)] == [0, -2, -5]
    volume = distinct.volume((0, 1, 2), backward=False)
    assert volume[0, :, 0, 0].tolist() == [3, 4, 5]


def random_flow(rng: np.random.Generator, fields: int, copies: Sequence[int] = ()) -> FlowFields:
    """Random fields; after frame i come ``copies[i]`` repeats of it."""
    flow = FlowFields()
    still = np.zeros((2, *GRID), np.float16)
    for index in range(fields + 1):
        for _ in range(copies[index] if copies else 0):
            flow.forward.append(still)
            flow.backward.append(still)
        if index < fields:
            forward = rng.normal(0, 3, (2, *GRID))
            flow.forward.append(forward.astype(np.float16))
            flow.backward.append((-forward).astype(np.float16))
    return flow


CLIP = Clip(name="made", source=Path("made.mp4"), size=(16, 32), frames=12, fps=24.0)


def known(flow: FlowFields, settings: Settings, network: SegmentationNetwork) -> Segmentation:
    run = SegmentationRun(CLIP, settings, network, flow=flow)
    assert [frame.index for frame in run.frames()] == list(range(len(flow.forward) + 1))
    return run.result()


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize(
    ("taus", "stride"), [((1,), 1), ((1,), 2), ((2,), 1), ((-1,), 2), ((1, -2), 1)]
)
def test_a_clip_with_repeats_has_the_masks_of_the_clip_without(
    taus: tuple[int, ...], stride: int, refine: bool, tiny_network: SegmentationNetwork
) -> None:
    settings = Settings(k=3, taus=taus, stride=stride, refine=refine, device="cpu")
    copies = [0, 1, 0, 2, 0, 0, 4, 0, 1, 0, 0, 1]
    plain = known(random_flow(np.random.default_rng(0), 11), settings, tiny_network)
    longer = known(random_flow(np.random.default_rng(0), 11, copies), settings, tiny_network)
    source = [index for index, more in enumerate(copies) for _ in range(1 + more)]
    assert len(longer) == len(source) == 21
    for frame, index in enumerate(source):
        np.testing.assert_array_equal(longer.masks[frame], plain.masks[index])
        np.testing.assert_array_equal(longer.assignment[frame], plain.assignment[index])
        np.testing.assert_array_equal(longer.latents[frame], plain.latents[index])
    longer.close()
    plain.close()


@pytest.mark.parametrize("length", [0, 2, 4])
def test_sub_sequences_are_those_of_the_clip_with_its_repeats(
    length: int, tiny_network: SegmentationNetwork
) -> None:
    """Every frame twice: sub-sequences of twice the length are the same ones."""
    n = 12
    once = Settings(k=3, subsequence=length, device="cpu")
    twice = replace(once, subsequence=2 * length)
    plain = known(random_flow(np.random.default_rng(1), n - 1), once, tiny_network)
    flow = random_flow(np.random.default_rng(1), n - 1, [1] * n)
    longer = known(flow, twice, tiny_network)
    np.testing.assert_array_equal(longer.assignment, plain.assignment.repeat(2, axis=0))

    other = replace(twice, subsequence=6)
    swept = segment_all(CLIP, [twice, other], tiny_network, flow)
    alone = known(flow, other, tiny_network)
    for settings, expected in ((twice, longer), (other, alone)):
        np.testing.assert_array_equal(swept[settings].assignment, expected.assignment)
        for frame in range(2 * n):
            np.testing.assert_array_equal(swept[settings].masks[frame], expected.masks[frame])


class Told(Timeline):
    """Says what it is given, frame by frame."""

    def __init__(self, predictions: Sequence[FramePrediction]) -> None:
        self._told = list(predictions)

    def advance(self, frames: int, ended: bool) -> Iterator[tuple[int, FramePrediction]]:
        yield from enumerate(self._told[:frames])


def halves(border: int, names: list[int]) -> FramePrediction:
    masks = np.zeros((2, *GRID), np.uint8)
    masks[0, :, :border], masks[1, :, border:] = 255, 255
    return FramePrediction(masks, np.array(names, np.uint8), np.zeros((2, 1), np.float32))


def test_copies_beyond_a_boundary_are_named_as_the_frame_after_them() -> None:
    flow = flow_of([3, 0, 0, 3])  # a b b b c
    distinct = DistinctFrames(flow)
    # From c on the segments are in the other order, and the names are other ones.
    line = Told([halves(6, [0, 1]), halves(7, [0, 1]), halves(8, [1, 0])])
    told = list(ClipLine(line, distinct, subsequence=3).advance(5, ended=True))
    assert [frame for frame, _ in told] == [0, 1, 2, 3, 4]
    names = [each.assignment.tolist() for _, each in told]
    assert names == [[0, 1], [0, 1], [0, 1], [1, 0], [1, 0]]
    assert (told[3][1].masks == halves(7, [0, 1]).masks).all()


def test_copies_beyond_the_last_boundary_keep_their_names() -> None:
    distinct = DistinctFrames(flow_of([3, 3, 0]))
    line = Told([halves(6, [0, 1]), halves(7, [0, 1]), halves(8, [1, 0])])
    told = list(ClipLine(line, distinct, subsequence=3).advance(4, ended=True))
    assert [each.assignment.tolist() for _, each in told] == [[0, 1], [0, 1], [1, 0], [1, 0]]


def test_repeats_of_a_video_are_found_and_told(
    clip: Clip, tmp_path: Path, tiny_network: SegmentationNetwork
) -> None:
    """A lossy codec makes copies that are alike, not the same."""
    frames = render(SceneSettings(size=(128, 224), frames=9, seed=3, speed=2.0)).frames
    doubled = tmp_path / "doubled.mp4"
    with VideoWriter(doubled, 30.0, crf=18) as writer:
        for index, frame in enumerate(frames):
            for _ in range(2 if index % 4 == 3 else 1):
                writer.write(frame)
    run = SegmentationRun(probe(doubled), Settings(k=3, device="cpu"), tiny_network)
    labels = [frame.labels((128, 224)) for frame in run.frames()]
    more = len(frames) // 4
    assert len(labels) == len(frames) + more
    assert run.notes == (f"{more} frames repeat the one before and have its masks.",)
    assert (labels[4] == labels[3]).all()
    assert (labels[5] != labels[4]).any()
    run.result().close()

    whole = SegmentationRun(clip, Settings(k=3, device="cpu"), tiny_network)
    assert len(list(whole.frames())) == clip.frames
    assert whole.notes == ()
    whole.result().close()
