"""Files: what is there is whole, and says the same as the record."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from stseg.cli import build_parser
from stseg.errors import Cancelled, InputError
from stseg.export import (
    OUTPUTS,
    check_folder,
    command_line,
    export_all,
    outputs,
    summary,
)
from stseg.flow import check_options
from stseg.pipeline import segment
from stseg.records import Clip, Segmentation, Settings
from stseg.render import COLOURS


@pytest.fixture(scope="module")
def result(clip: Clip, tiny_model: Path) -> Segmentation:
    return segment(clip, Settings(model=str(tiny_model), k=3, device="cpu"))


def test_everything_is_written_and_agrees(result: Segmentation, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    paths = export_all(result, tmp_path / "a/b", lambda done, total: calls.append((done, total)))
    assert [path.name for path in paths] == list(OUTPUTS)
    assert sorted(path.name for path in (tmp_path / "a/b").iterdir()) == sorted(OUTPUTS)
    n, (h, w) = len(result), result.clip.size
    assert calls == [(index + 1, n) for index in range(n)]

    with np.load(tmp_path / "a/b/labels.npz") as data:
        labels = data["labels"]
    assert labels.shape == (n, h, w)
    assert labels.dtype == np.uint8
    files = sorted((tmp_path / "a/b/labels").iterdir())
    assert [path.name for path in files] == [f"{index:05d}.png" for index in range(n)]
    for index, path in enumerate(files):
        with Image.open(path) as picture:
            assert picture.mode == "P"
            assert tuple(picture.getpalette()[:3]) == COLOURS[0]
            assert (np.array(picture) == labels[index]).all()
        assert (labels[index] == result.labels(index)).all()

    for name in ("overlay.mp4", "grid.mp4"):
        with av.open(str(tmp_path / "a/b" / name)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == "yuv420p"
            assert sum(1 for _ in container.decode(video=0)) == n

    written = json.loads((tmp_path / "a/b/summary.json").read_text())
    assert written["clip"]["frames"] == n
    assert "files" not in written["clip"]  # of a video
    for each in written["segments"]:  # of the labels that are written, not of those on the grid
        there = labels == each["label"]
        assert each["mean_area"] == pytest.approx(there.mean(), abs=1e-5)
        assert each["frames"] == there.any(axis=(1, 2)).sum()


def test_a_second_run_replaces_the_first(result: Segmentation, tmp_path: Path) -> None:
    export_all(result, tmp_path, also=("coco", "foreground", "settings"))
    (tmp_path / "labels" / "99999.png").write_bytes(b"of an earlier, longer run")
    export_all(result, tmp_path, also=("motion",))
    # What tells of the labels of the first run would be taken for those of the second.
    assert {path.name for path in tmp_path.iterdir()} == set(outputs(["motion"]))
    assert not (tmp_path / "labels" / "99999.png").exists()


def test_files_that_a_result_did_not_write_stay(result: Segmentation, tmp_path: Path) -> None:
    export_all(result, tmp_path)
    (tmp_path / "flow.npz").write_bytes(b"hours of RAFT")
    (tmp_path / "notes.txt").write_text("mine")
    export_all(result, tmp_path)
    assert (tmp_path / "flow.npz").read_bytes() == b"hours of RAFT"
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(InputError, match=r"flow\.npz is not of an earlier result"):
        export_all(result, tmp_path, also=("flow",))
    assert (tmp_path / "flow.npz").read_bytes() == b"hours of RAFT"


@pytest.mark.parametrize("name", ["overlay.mp4", "grid.mp4/precious", "summary.json/x", "labels"])
def test_files_with_our_names_are_not_replaced(
    name: str, result: Segmentation, tmp_path: Path
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("keep")
    with pytest.raises(InputError, match=r"not of an earlier result, and would be replaced"):
        check_folder(tmp_path)
    assert (tmp_path / name).read_text() == "keep"


def test_what_a_killed_process_left_is_replaced(
    result: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_all(result, tmp_path, also=("flow",))
    replace_ = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if path.name == "grid.mp4":
            raise KeyboardInterrupt
        return replace_(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        export_all(result, tmp_path, also=("flow",))
    assert not (tmp_path / "summary.json").exists()
    assert (tmp_path / "labels").is_dir()
    export_all(result, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(outputs())


@pytest.mark.parametrize("name", ["mine.txt", "00000.png"])
@pytest.mark.parametrize("kind", ["labels", "foreground"])
def test_foreign_files_are_not_replaced(
    name: str, kind: str, result: Segmentation, tmp_path: Path
) -> None:
    (tmp_path / kind).mkdir()
    (tmp_path / kind / name).write_text("keep")  # annotations have the names of our pictures
    with pytest.raises(InputError, match=rf"not of an earlier result \({name}\)"):
        export_all(result, tmp_path, also=("foreground",))
    assert (tmp_path / kind / name).read_text() == "keep"
    assert [path.name for path in tmp_path.iterdir()] == [kind]


def test_a_foreign_file_among_the_pictures_of_an_earlier_result_is_kept(
    result: Segmentation, tmp_path: Path
) -> None:
    export_all(result, tmp_path, also=("foreground",))
    (tmp_path / "foreground/mine.txt").write_text("keep")
    with pytest.raises(InputError, match=r"not of an earlier result \(mine\.txt\)"):
        export_all(result, tmp_path)
    assert (tmp_path / "foreground/mine.txt").read_text() == "keep"


def test_stop_leaves_nothing(result: Segmentation, tmp_path: Path) -> None:
    answers = iter([False, False, True])
    with pytest.raises(Cancelled):
        export_all(result, tmp_path / "out", stop=lambda: next(answers))
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder_is_named(result: Segmentation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        export_all(result, tmp_path / "file" / "out")


def test_summary_measures_motion(result: Segmentation) -> None:
    told = summary(result)
    areas = result.areas()[:-1]
    motion = np.array([each["mean_motion"] for each in told["segments"]])
    weights = areas.sum(0) / areas.sum()
    mean = np.mean([result.motion(index).mean((1, 2)) for index in range(len(result) - 1)], axis=0)
    assert weights @ motion == pytest.approx(mean, abs=0.01)


def test_a_segment_without_a_site_has_no_motion(result: Segmentation) -> None:
    joined = np.where(result.assignment == 2, 0, result.assignment).astype(np.uint8)
    told = summary(replace(result, assignment=joined))["segments"]
    assert told[2] == {**told[2], "mean_area": 0, "frames": 0, "mean_motion": None}
    assert all(len(each["mean_motion"]) == 2 for each in told[:2] if each["frames"])


def test_the_command_line_gives_the_same_settings(result: Segmentation) -> None:
    words = command_line(result.clip, result.settings).split()
    assert words[:3] == ["python", "-m", "stseg"]
    got = build_parser().parse_args(words[3:])
    assert (got.k, tuple(got.taus), got.eta) == (3, (1,), 0.01)
    assert got.model == result.settings.model
    assert got.video == result.clip.source


@pytest.mark.parametrize("merge", [-1.0, -1e-5, 0.25])
def test_the_command_line_is_no_option_by_mistake(result: Segmentation, merge: float) -> None:
    clip = replace(result.clip, source=Path("-dash.mp4"))
    settings = replace(result.settings, merge=merge, taus=(-1,), model="-m.safetensors")
    words = shlex.split(command_line(clip, settings, "-out"))
    got = build_parser().parse_args(words[3:])
    assert (got.merge, got.taus) == (merge, [-1])
    assert (got.video, got.out) == (Path("-dash.mp4"), Path("-out"))
    assert Path(got.model) == Path("-m.safetensors")


@pytest.mark.parametrize(
    ("flow", "weights", "told"),
    [
        ("raft-fields", None, []),
        ("raft-flow.npz", "own.pth", []),
        ("dis", None, []),
        ("raft", None, ["--iterations"]),
        ("raft-small", "own.pth", ["--iterations", "--weights"]),
    ],
)
def test_the_command_line_has_what_segment_takes(
    flow: str, weights: str | None, told: list[str], clip: Clip
) -> None:
    words = command_line(clip, Settings(flow=flow, weights=weights)).split()
    given = [word for word in words if word in ("--iterations", "--weights")]
    assert given == told
    check_options(words[words.index("--flow") + 1], given)
