"""The command line: work, and sentences with status 2."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from stseg.adaptation import AdaptationSettings
from stseg.checkpoint import load_checkpoint
from stseg.cli import COMMANDS, main
from stseg.export import OUTPUTS
from stseg.records import Clip
from stseg.video import read_frames
from stseg.video_writer import VideoWriter

ROOT = Path(__file__).resolve().parents[2]


def video(path: Path, frames: int, size: tuple[int, int] = (48, 64)) -> Path:
    rng = np.random.default_rng(0)
    texture = (rng.random((size[0], size[1] * 2, 3)) * 255).astype(np.uint8)
    with VideoWriter(path, 10.0) as writer:
        for index in range(frames):
            writer.write(np.ascontiguousarray(texture[:, 2 * index : 2 * index + size[1]]))
    return path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    status = main([str(word) for word in words])
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return status, error


def test_segment_writes_everything(
    clip: Clip, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["segment", clip.source, "--out", tmp_path / "o", "--model", tiny_model, "--k", 3]
    status, _ = run(capsys, *words, "--tau", 2, 1, "--linkage", "greedy")
    assert status == 0
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == sorted(OUTPUTS)
    summary = json.loads((tmp_path / "o/summary.json").read_text())
    assert summary["settings"]["taus"] == [2, 1]
    assert summary["settings"]["linkage"] == "greedy"
    assert len(summary["segments"]) == 3


def test_a_gap_in_the_frames_is_told_and_their_names_are_kept(
    clip: Clip, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{number:05d}.png" for number in (0, 1, 2, 5, 6)]
    (tmp_path / "walk/frames").mkdir(parents=True)
    (tmp_path / "walk/masks").mkdir()
    for name, frame in zip(names, read_frames(clip), strict=False):
        Image.fromarray(frame).save(tmp_path / "walk/frames" / name)
        Image.fromarray((frame[..., 0] > 128).astype(np.uint8)).save(tmp_path / "walk/masks" / name)
    told = "frames have a gap between 00002.png and 00005.png: the motion across a gap is treated"
    frames, model = str(tmp_path / "walk/frames"), str(tiny_model)
    out = str(tmp_path / "o")
    assert main(["segment", frames, "--out", out, "--model", model, "--k", "3"]) == 0
    assert told in capsys.readouterr().out
    assert json.loads((tmp_path / "o/summary.json").read_text())["clip"]["files"] == names
    assert main(["flow", frames, "--out", f"{out}/flow.npz", "--size", "32x56"]) == 0
    assert told in capsys.readouterr().out
    scored = ["evaluate", "--root", str(tmp_path / "walk"), "--model", model, "--k", "3"]
    assert main([*scored, "--work", str(tmp_path / "work")]) == 0
    assert told in capsys.readouterr().out
    Image.new("RGB", (96, 64)).save(tmp_path / "walk/frames/00000.jpg")
    for words in (["segment", frames, "--out", out], ["flow", frames, "--out", out], scored):
        status = main(words)
        said = capsys.readouterr()
        assert status == 2
        assert "'00000.jpg' and '00000.png': one frame in two formats" in said.out + said.err


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--k", 1, "number of segments is from 2 to 8"),
        ("--k", 9, "number of segments is from 2 to 8"),
        ("--tau", 0, "temporal step is from 1 to"),
        ("--tau", 99, "temporal step is from 1 to"),
        ("--eta", 1.5, "fraction from 0 to 1"),
        ("--flow", "magic", "There is no flow estimator 'magic'"),
        ("--iterations", 20, "--iterations is for RAFT, but the flow is 'dis'"),
        ("--weights", "raft.pth", "--weights is for RAFT, but the flow is 'dis'"),
        ("--model", "nobody", "There is no model 'nobody'"),
        ("--linkage", "chain", "There is no linkage 'chain'"),
        ("--device", "tpu", "There is no device 'tpu'"),
        ("--frames", 1, "At least 2 frames"),
        ("--k", 5, "not 5. Choose one of these"),  # the tiny model has no such head
    ],
)
def test_options_out_of_range(
    clip: Clip,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: object,
    sentence: str,
) -> None:
    words = ["segment", clip.source, "--out", tmp_path / "o", "--model", tiny_model]
    status, error = run(capsys, *words, option, value)
    assert status == 2
    assert sentence in error
    assert not (tmp_path / "o").exists()


def text_as_video(folder: Path) -> Path:
    path = folder / "text.mp4"
    path.write_text("Dear reader,\nthis is no video.\n" * 50)
    return path


def sound_alone(folder: Path) -> Path:
    path = folder / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut_short(folder: Path) -> Path:
    whole = video(folder / "whole.mp4", 8).read_bytes()
    path = folder / "cut.mp4"
    path.write_bytes(whole[:300])
    return path


def one_frame(folder: Path) -> Path:
    return video(folder / "one.mp4", 1)


def absent(folder: Path) -> Path:
    return folder / "absent.mp4"


def empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (text_as_video, "Try MP4"),
        (sound_alone, "no video stream"),
        (cut_short, "Try MP4"),
        (one_frame, "motion needs at least two"),
        (absent, "There is no file"),
        (empty_folder, "empty"),
    ],
)
def test_unusable_videos(
    make, sentence: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["segment", make(tmp_path), "--out", tmp_path / "o", "--model", tiny_model]
    status, error = run(capsys, *words)
    assert status == 2
    assert sentence in error
    assert not (tmp_path / "o").exists()


def ten_bit(folder: Path) -> Path:
    path = folder / "ten.mp4"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        for _ in range(4):
            image = (rng.random((48, 64, 3)) * 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("make", "n", "size"),
    [
        (lambda folder: video(folder / "two.mp4", 2), 2, (48, 64)),
        (lambda folder: video(folder / "portrait.mp4", 5, (64, 48)), 5, (64, 48)),
        (ten_bit, 4, (48, 64)),
    ],
)
def test_unusual_videos_work(
    make,
    n: int,
    size: tuple[int, int],
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["segment", make(tmp_path), "--out", tmp_path / "o", "--model", tiny_model]
    assert run(capsys, *words)[0] == 0
    with np.load(tmp_path / "o/labels.npz") as data:
        assert data["labels"].shape == (n, *size)


def test_an_unwritable_folder_costs_no_computation(
    clip: Clip, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    words = ["segment", clip.source, "--out", tmp_path / "file/out", "--model", tiny_model]
    status, error = run(capsys, *words)
    assert status == 2
    assert "cannot be written" in error
    assert "segmenting" not in error  # the bar never started


@pytest.mark.parametrize("place", ["file/x.npz", "folder.npz"])
def test_flow_is_not_computed_for_a_place_that_cannot_be_written(
    place: str, clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.npz").mkdir()
    status, error = run(capsys, "flow", clip.source, "--out", tmp_path / place)
    assert status == 2
    assert "cannot be written" in error or "is a folder, not a file to write" in error
    assert "pair" not in error


@pytest.mark.parametrize("option", ["--json", "--labels"])
def test_nothing_is_scored_for_a_place_that_cannot_be_written(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    words = ["evaluate", "--dataset", "folder", "--root", ROOT / "assets" / "clips"]
    status, error = run(capsys, *words, "--flow", "dis", option, tmp_path / "file" / "x")
    assert status == 2
    assert "cannot be written" in error


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["flow", "x.mp4", "--out", "f.npz", "--size", "100000x100000"], "Give at most 8,192"),
        (["flow", "a.mp4", "b.mp4", "--out", "f.npz"], "2 clips need a folder"),
        (
            ["flow", "a.mp4", "--out", "f", "--estimator", "own.npz"],
            "'own.npz' to compute flow with. Choose one of dis, dis-plain, raft-sintel, "
            "raft-large, raft-s",
        ),
        (["clips", "--out", "c", "--count", "-1"], "Give 1 or more"),
        (["clips", "--out", "c", "--shipped", "--frames", "9"], "--frames is for clips that are"),
        (["clips", "--out", "c", "--shipped", "--stop"], "--stop is for clips that are"),
        (["segment", "x" * 300 + ".mp4", "--out", "o"], "A name is too long: xxx"),
        (["segment", "vid\udce9o.mp4", "--out", "o"], "'vid\\udce9o.mp4' is not UTF-8"),
    ],
)
def test_what_cannot_be_done_gets_a_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, error = run(capsys, *words)
    assert status == 2
    assert sentence in error


def test_nobody_needs_to_read_to_the_end(tmp_path: Path) -> None:
    """As in ``stseg … | head -1``."""
    program = (
        "import sys; from stseg.cli import main; import stseg.cli.clips as clips\n"
        "clips.run = lambda arguments: [print('x' * 80) for _ in range(9999)]\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "clips", "--out", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


def test_nobody_needs_to_listen(tmp_path: Path) -> None:
    """As in ``stseg … >&-``."""
    program = (
        "import sys; from stseg.cli import main; import stseg.cli.clips as clips\n"
        "clips.run = lambda arguments: print('done', flush=True)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", program, "clips", "--out", str(tmp_path)]
    done = subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *words], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_what_the_terminal_cannot_show_is_written_in_its_letters() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stseg", "ablate", "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "sweep over K, \\u03c4" in done.stdout


@pytest.mark.parametrize(
    "option", [["--weights", "x.pth"], ["--iterations", "9"], ["--warm-start"]]
)
def test_flow_refuses_what_would_do_nothing(
    option: list[str], clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, error = run(capsys, "flow", clip.source, "--out", tmp_path / "f.npz", *option)
    assert status == 2
    assert f"{option[0]} is for RAFT, but the flow is 'dis'" in error
    assert not (tmp_path / "f.npz").exists()


@pytest.mark.parametrize("kind", ["flo", "kitti"])
def test_flow_is_not_written_among_frames(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for index in range(2):
            frame = np.full((16, 16, 3), index, np.uint8)
            Image.fromarray(frame).save(tmp_path / name / f"{index:05d}.png")
    words = ["flow", tmp_path / "a", tmp_path / "b", "--format", kind, "--out", tmp_path]
    status, error = run(capsys, *words)
    assert status == 2
    assert "holds the frames of a clip" in error
    assert sorted(each.name for each in (tmp_path / "a").iterdir()) == ["00000.png", "00001.png"]


@pytest.mark.parametrize(
    ("words", "name"), [(["--count", 2], "clip-001"), (["--shipped"], "pause")]
)
def test_clips_are_not_rendered_over_those_of_others(
    words: list[object], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).mkdir()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / name / "00000.png")
    status, error = run(capsys, "clips", "--out", tmp_path, *words)
    assert status == 2
    assert f"{name} is not of a rendered clip" in error
    assert [path.name for path in tmp_path.rglob("*")] == [name, "00000.png"]


def test_what_may_not_be_opened_is_named(
    clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("stseg.video.probe", denied)  # root may open everything
    status, error = run(capsys, "segment", clip.source, "--out", tmp_path / "o")
    assert status == 2
    assert f"{clip.source} may not be opened: Permission denied. Change its rights" in error


def test_ctrl_c_leaves_nothing_that_looks_whole(tiny_model: Path, tmp_path: Path) -> None:
    source = video(tmp_path / "long.mp4", 60, (240, 320))
    command = [sys.executable, "-m", "stseg", "segment", str(source), "--out", str(tmp_path / "o")]
    process = subprocess.Popen(
        [*command, "--model", str(tiny_model)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    seen = ""
    deadline = time.monotonic() + 60
    while "writing" not in seen and time.monotonic() < deadline:
        seen += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert "stopped" in rest
    assert not (tmp_path / "o").exists()


def test_flow_clips_train_and_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--height", 64, "--width", 96, "--frames", 12, "--objects", 2]
    assert run(capsys, "clips", "--out", tmp_path / "c", "--count", 2, *size)[0] == 0
    videos = sorted((tmp_path / "c").glob("*.mp4"))
    assert [path.name for path in videos] == ["clip-000.mp4", "clip-001.mp4"]
    assert run(capsys, "flow", *videos, "--out", tmp_path / "f", "--size", "32x56")[0] == 0
    with np.load(tmp_path / "f/clip-000.npz") as data:
        assert data["flow"].shape == (11, 2, 32, 56)
        assert tuple(data["size"]) == (64, 96)
    words = ["train", "--flows", tmp_path / "f", "--out", tmp_path / "r", "--k", 2, "--batch", 2]
    assert run(capsys, *words, "--stage", "16x28:2:1e-3:0", "16x28:3:1e-3")[0] == 0
    stages = load_checkpoint(tmp_path / "r/best.safetensors").card["settings"]["stages"]
    assert [(stage["steps"], stage["beta"]) for stage in stages] == [(2, 0.0), (3, None)]
    again = [*words[:4], tmp_path / "s", *words[5:], "--start", tmp_path / "r/best.safetensors"]
    again += ["--stage", "16x28:1:1e-3", "--eta", 0.05]
    assert run(capsys, *again)[0] == 0
    card = load_checkpoint(tmp_path / "s/best.safetensors").card
    assert (card["start"]["file"], card["start"]["card"]["step"]) == ("best.safetensors", 5)
    assert card["settings"]["losses"] == {"beta": 1.0, "eta": 0.05, "along_motion": False}
    status, error = run(capsys, *again, "--eta", 5)
    assert status == 2
    assert "fraction" in error
    status, error = run(capsys, *words, "--stage", "16x28:1:1e-3", "--only-heads", 2)
    assert status == 2
    assert "--start" in error
    alone = [*words[:4], tmp_path / "h", *words[5:], "--start", tmp_path / "r/best.safetensors"]
    alone += ["--stage", "16x28:1:1e-3", "--only-heads", 2, "--objects", 3, "--spread", 2]
    alone += ["--zoom", 1.5, "--pasted", 0.5, "--exaggerate", 2]
    better = shutil.copytree(tmp_path / "f", tmp_path / "better")
    alone += ["--reference", better]
    assert run(capsys, *alone)[0] == 0
    settings = load_checkpoint(tmp_path / "h/best.safetensors").card["settings"]
    augment = settings["augment"]
    assert (settings["only_heads"], augment["objects"], augment["zoom"]) == ([2], 3, 1.5)
    assert (augment["pasted"], augment["exaggerate"]) == (0.5, 2.0)
    assert settings["spread"] == 2.0
    status, error = run(capsys, *alone, "--zoom", 0.5)
    assert status == 2
    assert "Give 1 or more" in error
    begun = [*words[:4], tmp_path / "d", *words[5:], "--k", 2, 3]
    status, error = run(capsys, *begun, "--stage", "16x28:1:1e-3", "--direction-heads", 3)
    assert status == 2
    assert "--start" in error
    led = [*words[:4], tmp_path / "l", *words[5:], "--k", 2, 3, "--first-leads"]
    assert run(capsys, *led, "--stage", "16x28:1:1e-3")[0] == 0
    assert load_checkpoint(tmp_path / "l/best.safetensors").card["settings"]["first_leads"]
    status, error = run(capsys, *led, "--k", 2)
    assert status == 2
    assert "Name more heads than one" in error
    assert run(capsys, *words, "--stage", "16x28:3:fast")[0] == 2
    model = tmp_path / "r/best.safetensors"
    words = ["evaluate", "--root", tmp_path / "c", "--model", model, "--k", 2]
    assert run(capsys, *words, "--json", tmp_path / "scores.json")[0] == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores["sequences"]) == {"clip-000", "clip-001"}
    assert scores["sequences"]["clip-000"]["frames"] == 12
    capsys.readouterr()
    assert main([str(word) for word in [*words, "--sequences", "clip-000"]]) == 0
    assert "mean of frames of 1 sequence " in capsys.readouterr().out
    assert 0 <= scores["mean"]["J"] <= 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["segment", "", "--out", "o"], "argument video: The name is empty."),
        (["segment", "x.mp4", "--out", ""], "argument --out: The name is empty."),
        (["segment", "x.mp4", "--out", "o", "--flow="], "argument --flow: The name is empty."),
        (["clips", "--out", "c", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_what_cannot_be_parsed_gets_the_usage_of_its_command(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    error = capsys.readouterr().err
    assert f"usage: stseg {words[0]} " in error
    assert sentence in error


@pytest.mark.parametrize("command", [command.NAME for command in COMMANDS])
def test_help_tells_no_default_that_is_none(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    told = capsys.readouterr().out
    assert "default: None" not in told
    assert "default: []" not in told


def test_the_help_of_fit_tells_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    usual = AdaptationSettings()
    size = " ".join(map(str, usual.size))
    for words, value in (
        ("optimiser steps", usual.steps),
        ("learning rate at the start", usual.learning_rate),
        ("grid of the volumes of a landscape clip", size),
        ("volumes a step", usual.batch),
    ):
        assert f"{words} ({value})" in told


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from stseg.cli import build_parser; build_parser().format_help(); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'cv2', 'gradio', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_status_two_comes_from_the_process_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stseg", "segment", "absent.mp4", "--out", str(tmp_path / "o")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("stseg: There is no file")
    assert os.listdir(tmp_path) == []
