"""Video → ``Segmentation`` with an untrained network: frames, labels, Stop, flow known before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import stseg
from stseg import flow, pipeline
from stseg.clip_flow import read_fields
from stseg.errors import Cancelled, InputError
from stseg.flow import write_flow_file
from stseg.network import SegmentationNetwork
from stseg.pipeline import SegmentationRun, load_network, segment
from stseg.records import Clip, Segmentation, SegmentedFrame, Settings
from stseg.synthetic import RenderedClip
from stseg.video import probe, read_frames
from stseg.video_writer import VideoWriter
from stseg.volume import FlowFields

SIZE = (64, 96)
SETTINGS = Settings(k=3, device="cpu")


@pytest.fixture(autouse=True)
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the paper's grid, so that the tests are quick."""

    def grid(size: tuple[int, int]) -> tuple[int, int]:
        return (32, 56) if size[1] >= size[0] else (56, 32)

    monkeypatch.setattr(pipeline, "grid_for", grid)


def video(folder: Path, frames: list[np.ndarray]) -> Clip:
    path = folder / "made.mp4"
    with VideoWriter(path, 24.0, crf=10) as writer:
        for frame in frames:
            writer.write(frame)
    return probe(path)


def worked(run: SegmentationRun) -> tuple[list[SegmentedFrame], Segmentation]:
    frames = list(run.frames())
    return frames, run.result()


def assert_equal(one: Segmentation, other: Segmentation) -> None:
    assert len(one) == len(other)
    for index in range(len(one)):
        np.testing.assert_array_equal(one.masks[index], other.masks[index])
    np.testing.assert_array_equal(one.assignment, other.assignment)


@pytest.mark.parametrize("taus", [(1,), (2,), (-1,), (1, 2), (2, -1)])
@pytest.mark.parametrize("linkage", ["one-to-one", "greedy"])
def test_every_frame_has_labels_at_the_size_of_the_source(
    taus: tuple[int, ...], linkage: str, clip: Clip, tiny_network: SegmentationNetwork
) -> None:
    settings = replace(SETTINGS, taus=taus, linkage=linkage)
    frames, result = worked(SegmentationRun(clip, settings, tiny_network))
    assert [frame.index for frame in frames] == list(range(9))
    assert len(result) == result.clip.frames == 9
    assert result.assignment.shape == (9, 3)
    assert len(result.flow) == 8
    for index in range(9):
        labels = result.labels(index)
        assert labels.shape == SIZE
        assert labels.max() < 3
        np.testing.assert_allclose(result.soft_masks(index).sum(0), 1, atol=0.01)
    np.testing.assert_allclose(result.areas().sum(1), 1, atol=1e-6)


def test_yielded_frames_are_those_of_the_video_and_of_the_record(
    clip: Clip, tiny_network: SegmentationNetwork
) -> None:
    frames, result = worked(SegmentationRun(clip, SETTINGS, tiny_network))
    for frame, image in zip(frames, read_frames(clip), strict=True):
        np.testing.assert_array_equal(frame.image, image)
        np.testing.assert_allclose(frame.masks, result.soft_masks(frame.index), atol=0.6 / 255)
        np.testing.assert_array_equal(frame.assignment, result.assignment[frame.index])
        np.testing.assert_array_equal(frame.flow, result.motion(frame.index))
        assert frame.flow.shape == (2, 32, 56)
        assert frame.masks.shape == (3, 32, 56)
    np.testing.assert_array_equal(frames[8].flow, frames[7].flow)


def test_the_flow_is_in_pixels_of_the_source(
    clip: Clip, rendered: RenderedClip, tiny_network: SegmentationNetwork
) -> None:
    _, result = worked(SegmentationRun(clip, SETTINGS, tiny_network))
    measured = [np.median(result.motion(index), axis=(1, 2)) for index in range(8)]
    exact = [np.median(flow, axis=(1, 2)) for flow in rendered.flow]
    np.testing.assert_allclose(measured, exact, atol=0.25)


def test_two_runs_agree(clip: Clip, tiny_network: SegmentationNetwork) -> None:
    assert_equal(segment(clip, SETTINGS, tiny_network), segment(clip, SETTINGS, tiny_network))


def test_the_public_door(clip: Clip, tiny_model: Path) -> None:
    settings = stseg.Settings(k=2, model=str(tiny_model), device="cpu")
    result = stseg.segment(stseg.probe(clip.source), settings)
    for path in (clip.source, str(clip.source)):
        assert_equal(stseg.segment(path, settings), result)
    assert isinstance(result, stseg.Segmentation)
    assert result.labels(0).shape == SIZE
    assert result.settings is settings


def test_the_record_says_how_it_was_made(clip: Clip, tiny_network: SegmentationNetwork) -> None:
    result = segment(clip, SETTINGS, tiny_network)
    assert result.settings is SETTINGS
    assert (result.clip.name, result.clip.size) == (clip.name, SIZE)
    assert result.made_with["torch"] == torch.__version__
    assert result.made_with["device"].startswith("CPU")
    assert set(result.seconds) == {"flow", "network"}
    assert all(value > 0 for value in result.seconds.values())


@pytest.mark.parametrize("frames", [2, 3, 4, 6])
@pytest.mark.parametrize("taus", [(1,), (3,), (-2,)])
def test_a_video_may_be_as_short_as_two_frames(
    frames: int,
    taus: tuple[int, ...],
    rendered: RenderedClip,
    tmp_path: Path,
    tiny_network: SegmentationNetwork,
) -> None:
    short = video(tmp_path, list(rendered.frames[:frames]))
    result = segment(short, replace(SETTINGS, taus=taus), tiny_network)
    assert len(result) == frames
    assert len(result.flow) == frames - 1
    assert result.labels(frames - 1).shape == SIZE


def test_one_frame_is_too_few(
    rendered: RenderedClip, tmp_path: Path, tiny_network: SegmentationNetwork
) -> None:
    still = video(tmp_path, [rendered.frames[0]])
    with pytest.raises(InputError) as error:
        segment(still, SETTINGS, tiny_network)
    assert str(error.value) == (
        f"{still.name} has 1 frame, but motion needs at least two. Give a longer video."
    )


def test_a_portrait_has_a_portrait_grid(
    rendered: RenderedClip, tmp_path: Path, tiny_network: SegmentationNetwork
) -> None:
    turned = video(tmp_path, [np.rot90(frame).copy() for frame in rendered.frames[:4]])
    result = segment(turned, SETTINGS, tiny_network)
    assert result.motion(0).shape == (2, 56, 32)
    assert result.labels(0).shape == (96, 64)


@pytest.mark.parametrize("limit", [2, 5, 9, 100])
def test_no_more_frames_are_read_than_allowed(
    limit: int, clip: Clip, tiny_network: SegmentationNetwork
) -> None:
    result = segment(clip, replace(SETTINGS, max_frames=limit), tiny_network)
    assert len(result) == result.clip.frames == min(limit, 9)
    assert len(result.flow) == min(limit, 9) - 1


def test_a_still_video_has_finite_masks(tmp_path: Path, tiny_network: SegmentationNetwork) -> None:
    gray = np.full((*SIZE, 3), 120, np.uint8)
    result = segment(video(tmp_path, [gray] * 5), SETTINGS, tiny_network)
    for index in range(5):
        np.testing.assert_allclose(result.soft_masks(index).sum(0), 1, atol=0.01)


# --- stopping ------------------------------------------------------------------------------------


def after(count: int) -> Callable[[], bool]:
    """A Stop that is pressed after it was asked ``count`` times."""
    asked = iter(range(count))
    return lambda: next(asked, None) is None


@pytest.mark.parametrize("count", [0, 1, 4, 8, 10])
def test_stop_ends_the_run(count: int, clip: Clip, tiny_network: SegmentationNetwork) -> None:
    run = SegmentationRun(clip, SETTINGS, tiny_network, stop=after(count))
    done = []
    with pytest.raises(Cancelled):
        done.extend(run.frames())
    assert len(done) < 9


def test_what_was_done_before_stop_is_a_record(
    clip: Clip, tiny_network: SegmentationNetwork
) -> None:
    whole = segment(clip, SETTINGS, tiny_network)
    run = SegmentationRun(clip, SETTINGS, tiny_network)
    frames = run.frames()
    for _ in range(3):
        next(frames)
    frames.close()
    part = run.result()
    assert len(part) == part.clip.frames == 3
    assert part.assignment.shape == (3, 3)
    for index in range(3):
        np.testing.assert_array_equal(part.labels(index), whole.labels(index))
        np.testing.assert_array_equal(part.motion(index), whole.motion(index))


def test_nothing_done_is_an_empty_record(clip: Clip, tiny_network: SegmentationNetwork) -> None:
    result = SegmentationRun(clip, SETTINGS, tiny_network).result()
    assert len(result) == 0
    assert result.assignment.shape == (0, 3)


def test_the_run_does_not_read_ahead(
    clip: Clip, tiny_network: SegmentationNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window of 2 max|τ| + 8 frames, whatever the length of the video."""
    read = 0
    (image,) = list(read_frames(clip, 1))

    def endless(*_: object) -> object:
        nonlocal read
        while True:
            read += 1
            yield image

    monkeypatch.setattr(pipeline, "read_frames", endless)
    run = SegmentationRun(clip, replace(SETTINGS, taus=(2,)), tiny_network)
    for done, _ in enumerate(run.frames(), 1):
        assert read - done <= 2 * 2 + 8
        if done == 30:
            break


# --- flow known before ---------------------------------------------------------------------------


def test_a_long_clip_gives_memory_back_on_the_way(
    clip: Clip, tiny_network: SegmentationNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr(pipeline, "_GIVE_BACK_EVERY", 4)
    run = SegmentationRun(clip, Settings(k=3, device="cpu"), tiny_network)
    monkeypatch.setattr(pipeline, "give_back", lambda: given.append(len(run.flow.forward)))
    for _ in run.frames():
        pass
    assert given == [4, 8]  # of eight fields: after four and eight of nine frames


@pytest.mark.parametrize("taus", [(1,), (2, 1), (-1,), (1, -2)])
def test_known_flow_gives_the_same_without_a_look_at_the_video(
    taus: tuple[int, ...],
    clip: Clip,
    tiny_network: SegmentationNetwork,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = replace(SETTINGS, taus=taus)
    first = SegmentationRun(clip, settings, tiny_network)
    _, expected = worked(first)

    def refuse(*_: object) -> None:
        raise AssertionError("the video was read")

    monkeypatch.setattr(pipeline, "read_frames", refuse)
    monkeypatch.setattr(pipeline, "estimator", refuse)
    frames, again = worked(SegmentationRun(clip, settings, tiny_network, flow=first.flow))
    assert_equal(again, expected)
    assert again.flow is expected.flow
    assert all(frame.image.size == 0 for frame in frames)
    assert again.seconds["flow"] == 0
    # Other settings need no other flow.
    other = replace(settings, k=2)
    _, few = worked(SegmentationRun(clip, other, tiny_network, flow=first.flow))
    assert (few.k, len(few)) == (2, 9)


def test_backward_flow_is_estimated_only_where_it_is_needed(
    clip: Clip, tiny_network: SegmentationNetwork
) -> None:
    for taus, expected in (((1, 2), 0), ((1, -2), 8), ((-1,), 8)):
        run = SegmentationRun(clip, replace(SETTINGS, taus=taus), tiny_network)
        worked(run)
        assert len(run.flow.forward) == 8
        assert len(run.flow.backward) == expected


def test_a_negative_tau_needs_backward_flow(clip: Clip, tiny_network: SegmentationNetwork) -> None:
    run = SegmentationRun(clip, SETTINGS, tiny_network)
    worked(run)
    with pytest.raises(InputError) as error:
        SegmentationRun(clip, replace(SETTINGS, taus=(1, -1)), tiny_network, flow=run.flow)
    assert str(error.value) == (
        "A negative τ needs backward flow, which this flow does not have. Choose a positive τ, "
        "or an estimator, which computes both."
    )


def test_known_flow_without_a_field_gets_a_sentence(
    clip: Clip, tiny_network: SegmentationNetwork
) -> None:
    with pytest.raises(InputError, match="needs at least two"):
        list(SegmentationRun(clip, SETTINGS, tiny_network, flow=FlowFields()).frames())


@pytest.mark.parametrize("limit", [None, 5])
def test_flow_that_somebody_brings_ends_with_the_frames(
    limit: int | None,
    clip: Clip,
    rendered: RenderedClip,
    tiny_network: SegmentationNetwork,
    tmp_path: Path,
) -> None:
    write_flow_file(tmp_path / "own.npz", rendered.flow, SIZE)
    settings = replace(SETTINGS, flow=str(tmp_path / "own.npz"), max_frames=limit)
    result = segment(clip, settings, tiny_network)
    assert len(result) == (limit or 9)
    assert len(result.flow) == len(result) - 1


def test_stop_works_with_known_flow(clip: Clip, tiny_network: SegmentationNetwork) -> None:
    run = SegmentationRun(clip, SETTINGS, tiny_network)
    worked(run)
    with pytest.raises(Cancelled):
        list(SegmentationRun(clip, SETTINGS, tiny_network, run.flow, after(3)).frames())


@pytest.mark.parametrize("count", [3, 12])
def test_stop_works_while_brought_flow_is_read(
    count: int,
    clip: Clip,
    rendered: RenderedClip,
    tiny_network: SegmentationNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All frames are counted first, which of a long clip takes minutes."""
    counted = []
    monkeypatch.setattr(flow, "read_frames", lambda clip: map(counted.append, range(clip.frames)))
    write_flow_file(tmp_path / "own.npz", rendered.flow, SIZE)
    settings = replace(SETTINGS, flow=str(tmp_path / "own.npz"))
    run = SegmentationRun(clip, settings, tiny_network, stop=after(count))
    with pytest.raises(Cancelled):
        next(run.frames())
    assert len(counted) == min(count + 1, clip.frames)
    assert not len(run.flow.forward)
    reading = read_fields(clip, settings, stop=after(count))
    assert len([*until_cancelled(reading)]) == max(0, count - clip.frames)


def until_cancelled(steps: Iterator[int]) -> Iterator[int]:
    with pytest.raises(Cancelled):
        yield from steps


# --- the unusable --------------------------------------------------------------------------------


def test_a_k_without_a_head_is_refused_before_any_work(
    clip: Clip, tiny_network: SegmentationNetwork
) -> None:
    with pytest.raises(InputError) as error:
        SegmentationRun(clip, Settings(k=5, device="cpu"), tiny_network)
    assert str(error.value) == (
        "Model 'several' gives K = 4, 2, 3 segments, not 5. Choose one of these, or another model."
    )


def test_unknown_models_and_estimators_are_refused(
    clip: Clip, tiny_network: SegmentationNetwork, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no model 'best'"):
        load_network("best")
    (tmp_path / "words.safetensors").write_text("words")
    with pytest.raises(InputError, match="is not a whole safetensors file"):
        load_network(str(tmp_path / "words.safetensors"))
    with pytest.raises(InputError, match="no flow estimator 'guess'"):
        segment(clip, replace(SETTINGS, flow="guess"), tiny_network)


def test_cuda_without_a_gpu_is_refused(
    clip: Clip, tiny_network: SegmentationNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA device"):
        SegmentationRun(clip, replace(SETTINGS, device="cuda"), tiny_network)


def test_a_video_that_has_gone_gets_a_sentence(
    clip: Clip, tiny_network: SegmentationNetwork, tmp_path: Path
) -> None:
    with pytest.raises(InputError):
        segment(replace(clip, source=tmp_path / "gone.mp4"), SETTINGS, tiny_network)


REPEATED = "No triplet of τ = {:+d} fits into {} frames: the flow at its ends is repeated."
BESIDE = (
    "No triplet of τ = {:+d} fits into {} frames beside one of τ = {:+d}: it has no part in the "
    "mean."
)


@pytest.mark.parametrize(
    ("taus", "limit", "told"),
    [
        ((2,), 6, ()),  # frames 0 to 5 have five fields: those of one triplet
        ((2,), 5, (REPEATED.format(2, 5),)),
        ((1, -2), 6, ()),
        ((1, -2), 5, (BESIDE.format(-2, 5, 1),)),
        ((-1, 1), 4, (BESIDE.format(1, 4, -1),)),  # centres 2 and 1 do not meet
        ((3, 1), 5, (REPEATED.format(3, 5), BESIDE.format(1, 5, 3))),
    ],
)
def test_a_tau_too_long_for_the_clip_is_told(
    clip: Clip,
    tiny_network: SegmentationNetwork,
    taus: tuple[int, ...],
    limit: int,
    told: tuple[str, ...],
) -> None:
    run = SegmentationRun(clip, replace(SETTINGS, taus=taus, max_frames=limit), tiny_network)
    assert len(worked(run)[0]) == limit
    assert run.notes == told
