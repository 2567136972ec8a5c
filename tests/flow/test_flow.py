"""Frames → flow, pair by pair: order, both directions, the network's grid."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from whole_flow import read_whole

from stseg.cli import main
from stseg.errors import InputError
from stseg.flow import (
    ESTIMATORS,
    Estimator,
    FlowSettings,
    clip_fields,
    estimator,
    flow_pairs,
    own_flow,
    read_flow_file,
    to_grid,
    write_flow_file,
    write_flow_folder,
)
from stseg.records import Clip
from stseg.synthetic import RenderedClip
from stseg.video import probe, read_frames


class Numbers:
    """An estimator that tells which frames it was given; frames carry their number."""

    def __init__(self) -> None:
        self.prepared: list[int] = []

    def prepare(self, image: np.ndarray) -> int:
        self.prepared.append(int(image[0, 0, 0]))
        return self.prepared[-1]

    def between(self, first: int, second: int, size: tuple[int, int]) -> np.ndarray:
        flow = np.empty((*size, 2), np.float32)
        flow[..., 0], flow[..., 1] = first, second
        return flow


def frames(count: int) -> Iterator[np.ndarray]:
    for index in range(count):
        yield np.full((6, 8, 3), index, np.uint8)


def test_pairs_come_in_order_with_the_image_they_start_from() -> None:
    using = Numbers()
    out = list(flow_pairs(frames(5), using, None))
    assert [int(image[0, 0, 0]) for image, _, _ in out] == [0, 1, 2, 3, 4]
    for index, (_, forward, backward) in enumerate(out[:-1]):
        assert forward.shape == (2, 6, 8)
        assert forward[:, 0, 0].tolist() == [index, index + 1]
        assert backward is None
    assert out[-1][1].shape == (2, 0, 0)
    assert out[-1][2] is None
    assert using.prepared == [0, 1, 2, 3, 4]  # once a frame


def test_backward_flow_goes_from_the_next_frame_to_this_one() -> None:
    using = Numbers()
    out = list(flow_pairs(frames(4), using, (3, 4), backward=True))
    for index, (_, forward, backward) in enumerate(out[:-1]):
        assert backward is not None
        assert forward.shape == backward.shape == (2, 3, 4)
        assert backward[:, 0, 0].tolist() == [index + 1, index]
    assert out[-1][2] is None
    assert using.prepared == [0, 1, 2, 3]


def test_a_pair_is_there_as_soon_as_its_second_frame() -> None:
    given = []

    def source() -> Iterator[np.ndarray]:
        for image in frames(5):
            given.append(int(image[0, 0, 0]))
            yield image

    pairs = flow_pairs(source(), Numbers(), None)
    next(pairs)
    assert given == [0, 1]
    next(pairs)
    assert given == [0, 1, 2]


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_frames(count: int) -> None:
    out = list(flow_pairs(frames(count), Numbers(), None))
    assert len(out) == count
    assert all(forward.size == 0 for _, forward, _ in out)


@pytest.mark.parametrize("grid", [(128, 224), (3, 4), (6, 8), (5, 5)])
def test_the_grid_keeps_the_unit(grid: tuple[int, int]) -> None:
    flow = np.empty((6, 8, 2), np.float32)
    flow[..., 0], flow[..., 1] = 12.5, -3
    resized = to_grid(flow, grid)
    assert resized.shape == (2, *grid)
    assert resized.flags.c_contiguous
    np.testing.assert_allclose(resized[0], 12.5, rtol=1e-6)
    np.testing.assert_allclose(resized[1], -3, rtol=1e-6)


def test_a_smaller_grid_has_the_means_of_its_cells(rng: np.random.Generator) -> None:
    flow = rng.normal(size=(6, 8, 2)).astype(np.float32)
    cells = flow.reshape(3, 2, 4, 2, 2).mean(axis=(1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(to_grid(flow, (3, 4)), cells, atol=1e-6)


def test_dis_comes_first_and_needs_nothing() -> None:
    assert next(iter(ESTIMATORS)) == "dis"
    assert FlowSettings().name == "dis"
    assert isinstance(estimator(FlowSettings()), Estimator)
    assert estimator(FlowSettings()) is not estimator(FlowSettings())  # each run has its own


def test_an_unknown_estimator_gets_a_sentence() -> None:
    names = ", ".join(ESTIMATORS)
    with pytest.raises(InputError, match=f"no flow estimator 'guess'. Choose one of {names}"):
        estimator(FlowSettings("guess"))


def flow_of(clip: Clip, grid: tuple[int, int] | None = None, backward: bool = False) -> np.ndarray:
    """All fields of a clip, (m, 2, h, w)."""
    return np.stack(list(clip_fields(clip, FlowSettings(), grid, backward)))


# --- whole clips ---------------------------------------------------------------------------------


def test_the_flow_of_a_clip_is_near_the_exact_one(clip: Clip, rendered: RenderedClip) -> None:
    flow = flow_of(clip)
    assert flow.shape == rendered.flow.shape
    assert flow.dtype == np.float32
    still = rendered.labels[:-1] == 0
    error = np.hypot(*(flow - rendered.flow).transpose(1, 0, 2, 3))
    assert np.median(error[still]) < 0.25
    assert np.median(error) < 0.5


def test_backward_flow_of_a_clip_undoes_the_forward_one(clip: Clip) -> None:
    forward = flow_of(clip, (32, 48))
    back = flow_of(clip, (32, 48), backward=True)
    assert forward.shape == back.shape == (8, 2, 32, 48)
    assert np.median(np.abs(forward + back)) < 0.2
    assert np.abs(forward).mean() > 0.5


def test_a_clip_of_one_frame_has_no_flow(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((32, 48, 3), np.uint8))
    still = Clip(tmp_path, "still", (32, 48), 24.0, 1)
    with pytest.raises(InputError, match="still has fewer than two frames"):
        flow_of(still)


def test_fields_are_given_as_frames_are_read(
    clip: Clip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[int] = []

    def source(clip: Clip) -> Iterator[np.ndarray]:
        for index, image in enumerate(read_frames(clip)):
            given.append(index)
            yield image

    monkeypatch.setattr("stseg.flow.read_frames", source)
    fields = clip_fields(clip, FlowSettings(), (32, 48))
    next(fields)
    assert given == [0, 1]
    fields.close()
    given.clear()
    seen = []
    write_flow_folder(
        tmp_path,
        (
            seen.append((index, len(given), len(list(tmp_path.rglob("*.flo"))))) or field
            for index, field in enumerate(clip_fields(clip, FlowSettings(), None))
        ),
        "flo",
    )
    assert seen == [(index, index + 2, index) for index in range(8)]  # written one by one


def test_full_size_is_the_size_of_the_frames(tmp_path: Path) -> None:
    for index in range(2):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((20, 1500, 3), index, np.uint8))
    wide = Clip(tmp_path, "wide", (20, 1500), 24.0, 2)  # DIS sees it reduced
    assert flow_of(wide).shape == (1, 2, 20, 1500)


# --- the command -------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "shape"), [("full", (64, 96)), ("32x56", (32, 56))])
@pytest.mark.parametrize("backward", [False, True])
def test_the_command_writes_flow(
    clip: Clip, tmp_path: Path, size: str, shape: tuple[int, int], backward: bool
) -> None:
    words = ["flow", str(clip.source), "--estimator", "dis", "--size", size]
    words += ["--backward"] if backward else []
    assert main([*words, "--out", str(tmp_path / "flow.npz")]) == 0
    assert main([*words, "--out", str(tmp_path / "fields"), "--format", "flo"]) == 0
    flow, of = read_flow_file(tmp_path / "flow.npz", backward)
    with pytest.raises(InputError, match=r"ward flow is expected. Compute it again with"):
        read_flow_file(tmp_path / "flow.npz", not backward)
    assert flow.shape == (8, 2, *shape)
    assert of == clip.size
    expected = flow_of(clip, shape, backward)
    assert np.abs(flow.astype(np.float32) - expected).max() <= 1 / 64 + 1e-2
    fields, _ = read_whole(tmp_path / "fields")
    np.testing.assert_array_equal(fields, expected)


@pytest.mark.parametrize(("turned", "grid"), [(False, (128, 224)), (True, (224, 128))])
def test_without_a_size_an_npz_has_the_grid_of_its_clip_and_fields_are_whole(
    clip: Clip, tmp_path: Path, turned: bool, grid: tuple[int, int]
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for index, frame in enumerate(islice(read_frames(clip), 3)):
        picture = frame.transpose(1, 0, 2) if turned else frame
        Image.fromarray(picture).save(frames / f"{index}.png")
    words = ["flow", str(frames), "--out"]
    assert main([*words, str(tmp_path / "f.npz")]) == 0
    assert read_flow_file(tmp_path / "f.npz")[0].shape == (2, 2, *grid)
    assert main([*words, str(tmp_path / "flo"), "--format", "flo"]) == 0
    mine = probe(frames)
    assert read_whole(tmp_path / "flo")[0].shape == (2, 2, *mine.size)
    for path in (tmp_path / "f.npz", tmp_path / "flo"):
        assert [field.shape for field in own_flow(path, mine).forward] == [(2, *grid)] * 2


@pytest.mark.parametrize("name", ["x.flo", "x.PNG"])
@pytest.mark.parametrize("form", ["npz", "flo"])
def test_the_name_of_one_field_is_no_folder(
    clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, form: str
) -> None:
    out = tmp_path / name
    assert main(["flow", str(clip.source), "--out", str(out), "--format", form]) == 2
    assert f"Give a folder, such as {tmp_path / 'x'}, with --format" in capsys.readouterr().err
    assert not out.exists()


def test_clips_of_one_name_are_not_written_over_each_other(
    clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [tmp_path / "a" / "frames.1", tmp_path / "b" / "frames.1"]
    for folder in others:
        folder.mkdir(parents=True)
        for index, frame in enumerate(islice(read_frames(clip), 2)):
            Image.fromarray(frame).save(folder / f"{index}.png")
    out = ["--out", str(tmp_path / "flow"), "--size", "32x56"]
    assert main(["flow", *map(str, others), *out]) == 2
    assert "are both called 'frames.1'" in capsys.readouterr().err
    assert not (tmp_path / "flow").exists()
    assert main(["flow", str(others[0]), *out]) == 0
    assert [path.name for path in (tmp_path / "flow").iterdir()] == ["frames.1.npz"]


def test_only_flow_is_replaced_by_flow(
    clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "labels.npz"
    np.savez(path, labels=np.zeros((2, 4, 5), np.uint8))
    before = path.read_bytes()
    words = ["flow", str(clip.source), "--size", "32x56", "--out", str(path)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert f"{path} is not flow of an earlier run, and would be replaced. Choose" in said
    assert path.read_bytes() == before
    np.savez(path, flow=np.zeros((1, 2, 4, 5), np.float32))
    assert main(words) == 0
    assert read_flow_file(path)[0].shape == (8, 2, 32, 56)


def test_the_command_refuses_what_does_not_go_together(
    clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["flow", str(clip.source), "--out", str(tmp_path / "flow.npz")]
    for words, sentence in (
        (["--format", "flo"], "names an .npz"),
        (["--format", "exr"], "no format"),
        (["--size", "4x4"], "neither 'full' nor"),
        (["--iterations", "0"], "at least 1 iteration"),
        (["--estimator", "guess"], "no flow estimator"),
    ):
        assert main([*start, *words]) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "flow.npz").exists()


# --- cached flow ---------------------------------------------------------------------------------


def test_written_flow_comes_back_rounded_to_a_32nd(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    flow = rng.normal(0, 4, (3, 2, 8, 14)).astype(np.float32)
    write_flow_file(tmp_path / "new" / "a.npz", flow, (480, 854))
    read, size = read_flow_file(tmp_path / "new" / "a.npz")
    assert size == (480, 854)
    assert read.dtype == np.float16
    assert np.abs(read.astype(np.float32) - flow).max() <= 1 / 64 + 1e-3
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.npz"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_flow_that_is_not_finite_is_not_written(value: float, tmp_path: Path) -> None:
    flow = np.zeros((3, 2, 8, 14), np.float32)
    flow[1, 0, 2, 3] = value
    with pytest.raises(InputError, match="not finite"):
        write_flow_file(tmp_path / "a.npz", flow, (48, 84))
    assert list(tmp_path.iterdir()) == []


def test_vectors_too_large_for_the_file_are_not_written_as_infinite(tmp_path: Path) -> None:
    """float16 ends at 65,504: such a file could not be read again."""
    flow = np.full((3, 2, 8, 14), 1e5, np.float32)
    try:
        write_flow_file(tmp_path / "a.npz", flow, (48, 84))
    except InputError:
        assert list(tmp_path.iterdir()) == []
    else:
        assert np.isfinite(read_flow_file(tmp_path / "a.npz")[0]).all()
