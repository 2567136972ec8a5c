"""Whole sequences: resumed, shared, and with wrong data that is named and not averaged over."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stseg import result_keys
from stseg.checkpoint import save_checkpoint
from stseg.claims import WorkFolder
from stseg.cli import main
from stseg.device import Device
from stseg.errors import Cancelled, InputError
from stseg.evaluation import Failure, SequenceScore, Task, evaluate, evaluate_task
from stseg.flow import write_flow_file, write_flow_folder
from stseg.known_flow import cached_flow, flow_folder, flow_of
from stseg.layouts import Entry, open_clip, open_data_set
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.pipeline import load_network
from stseg.records import Clip, Settings
from stseg.result_keys import result_key
from stseg.synthetic import RenderedClip, SceneSettings, render
from stseg.synthetic_files import write_clip

ROOT = Path(__file__).resolve().parents[1]
N = 9


@pytest.fixture(scope="module")
def scene() -> RenderedClip:
    return render(SceneSettings(size=(64, 96), frames=N, objects=2, seed=3, speed=2.0))


@pytest.fixture
def data(tmp_path: Path, scene: RenderedClip) -> Path:
    """A data set in the layout of DAVIS2016, with cached flow: three copies of one clip."""
    root = tmp_path / "davis"
    for name in ("ant", "bee", "cat"):
        write_clip(scene, root / "videos", name)
        (root / "Annotations/480p").mkdir(parents=True, exist_ok=True)
        shutil.move(root / "videos" / name, root / "Annotations/480p" / name)
        (root / "flows/raft-sintel").mkdir(parents=True, exist_ok=True)
        flow = np.stack(scene.flow[: N - 1]).astype(np.float32)
        write_flow_file(root / "flows/raft-sintel" / f"{name}.npz", flow, (64, 96))
    return root


def task_for(data: Path, model: Path, **other: object) -> tuple[list[Entry], Task]:
    entries, _ = open_data_set(data).choose()
    settings = Settings(k=3, model=str(model), device="cpu", subsequence=4)
    flows = flow_folder(data, [entry.name for entry in entries])
    return entries, replace(Task(settings, "davis", flows), **other)  # type: ignore[arg-type]


def names(outcomes: list[SequenceScore | Failure]) -> list[str]:
    return [each.name for each in outcomes]


def test_a_run_goes_on_where_it_was_interrupted(
    data: Path,
    scene: RenderedClip,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Path(shutil.copy(tiny_model, tmp_path / "model.safetensors"))
    entries, task = task_for(data, model, work=WorkFolder(tmp_path / "work"))
    first = []
    for outcome in evaluate_task(entries, task):
        first.append(outcome)
        if len(first) == 2:
            break
    made = []
    from stseg import evaluation

    score = evaluation.score
    monkeypatch.setattr(evaluation, "score", lambda *a: made.append(a[0].clip.name) or score(*a))
    again = list(evaluate_task(entries, task))
    assert names(again) == ["ant", "bee", "cat"]
    assert made == ["cat"]
    assert again[:2] == first
    # Whatever decides the result is part of its key: settings, protocol, masks, flow, model.
    made.clear()
    other = replace(task, settings=replace(task.settings, k=2))
    list(evaluate_task(entries[:1], other))
    assert made == ["ant"]
    (every,) = evaluate_task(entries[:1], replace(task, protocol="frames"))
    assert made == ["ant", "ant"]
    assert isinstance(every, SequenceScore)
    assert len(every.j) == N  # not the kept score of the inner frames
    mask = data / "Annotations/480p/ant/00003.png"
    Image.fromarray(255 - np.array(Image.open(mask).convert("L"))).save(mask)
    list(evaluate_task(entries, task))
    assert made == ["ant", "ant", "ant"]
    flow = np.stack(scene.flow[: N - 1]).astype(np.float32)
    write_flow_file(data / "flows/raft-sintel/bee.npz", -flow, (64, 96))
    list(evaluate_task(entries[:2], task))
    assert made[3:] == ["bee"]
    torch.manual_seed(1)
    network = SegmentationNetwork(NetworkSettings(levels=2, features=8, ks=(4, 2, 3)))
    save_checkpoint(model, network, {})  # other weights under the same name
    list(evaluate_task(entries[:1], task))
    assert made[4:] == ["ant"]
    list(evaluate_task(entries[:1], task))
    assert made[5:] == []  # nothing has changed
    list(evaluate_task(entries[:1], replace(task, fresh=True)))
    assert made[5:] == ["ant"]


def test_all_that_decides_a_result_is_in_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(torch.device("cpu"), False, "CPU")
    monkeypatch.setattr(result_keys, "choose_device", lambda name: device)
    settings = Settings(k=3, taus=(2,), linkage="greedy", device="cpu")
    keys = [
        result_key(*words, settings, protocol)
        for *words, protocol in (
            ("scores", "clip", "model", "davis"),
            ("rows", "clip", "model", "davis"),
            ("scores", "other", "model", "davis"),
            ("scores", "clip", "other", "davis"),
            ("scores", "clip", "model", "frames"),
        )
    ]
    for other in (
        {"k": 2},
        {"taus": (1,)},
        {"linkage": "one-to-one"},
        {"similarity_weight": 2.0},
        {"merge": 0.5},
        {"refine": True},
        {"subsequence": 10},
        {"max_frames": 5},
        {"iterations": 3},
        {"taus": (1,), "stride": 1},
    ):
        told = replace(settings, **other)  # type: ignore[arg-type]
        keys.append(result_key("scores", "clip", "model", told, "davis"))
    for rounds in (device, replace(device, torch=torch.device("cuda"))):
        device = replace(rounds, bfloat16=True)
        keys.append(result_key("scores", "clip", "model", settings, "davis"))
    assert len(set(keys)) == len(keys)


def test_masks_are_written_again_only_if_they_are_not_there(
    data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    work = WorkFolder(tmp_path / "work")
    entries, task = task_for(data, tiny_model, work=work, masks=tmp_path / "out")
    (score,) = evaluate_task(entries[:1], task)
    written = tmp_path / "out/ant/foreground/00004.png"
    before = written.stat().st_mtime_ns
    assert list(evaluate_task(entries[:1], task)) == [score]
    assert written.stat().st_mtime_ns == before

    def shown() -> np.ndarray:
        return np.array(Image.open(tmp_path / "out/ant/labels/00004.png"))

    # Masks of other settings in the same place are not taken for these.
    first = shown()
    list(evaluate_task(entries[:1], replace(task, settings=replace(task.settings, k=2))))
    assert (shown() != first).any()
    list(evaluate_task(entries[:1], task))
    labels = shown()
    np.testing.assert_array_equal(labels, first)
    assert labels.shape == (64, 96)
    assert isinstance(score, SequenceScore)
    inside = np.isin(labels, score.chosen[1])
    assert (np.array(Image.open(written)) == 255 * inside).all()


def test_wrong_data_is_named_and_the_others_go_on(
    data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (data / "Annotations/480p/ant/00004.png").unlink()
    (data / "flows/raft-sintel/cat.npz").unlink()
    entries, task = task_for(data, tiny_model)
    outcomes = {each.name: each for each in evaluate_task(entries, task)}
    ant, bee, cat = outcomes["ant"], outcomes["bee"], outcomes["cat"]
    assert isinstance(ant, Failure)
    assert "no mask of frame 4" in ant.reason
    assert isinstance(bee, SequenceScore)
    assert isinstance(cat, Failure)
    assert "no flow of cat" in cat.reason


@pytest.mark.parametrize(
    ("masks", "sentence"),
    [
        ({}, "x has no ground truth inside the video"),
        ({1: (9, 9), 2: (48, 32)}, "1.png is 9x9, but its video is 48x32"),
        ({2: (48, 32)}, "x has no mask of frame 1"),
        ({1: (48, 32), 2: (48, 32), 7: (48, 32)}, "7.png belongs to no frame of x, which has 4"),
    ],
)
def test_wrong_ground_truth_costs_no_computation(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_network: SegmentationNetwork,
    masks: dict[int, tuple[int, int]],
    sentence: str,
) -> None:
    frames, truth = tmp_path / "x", tmp_path / "truth"
    frames.mkdir()
    truth.mkdir()
    for index in range(4):
        Image.new("RGB", (48, 32)).save(frames / f"{index}.png")
    for index, size in masks.items():
        Image.new("L", size).save(truth / f"{index}.png")
    monkeypatch.setattr("stseg.evaluation.SegmentationRun", lambda *_, **__: pytest.fail("a run"))
    clip = open_clip(Entry("x", frames, truth))
    with pytest.raises(InputError, match=sentence):
        list(evaluate([clip], Settings(k=3), tiny_network))


def test_of_a_video_file_the_number_of_frames_is_a_guess(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_network: SegmentationNetwork
) -> None:
    class Begun(Exception):
        pass

    def run(*_: object, **__: object) -> None:
        raise Begun("the network")

    monkeypatch.setattr("stseg.evaluation.SegmentationRun", run)
    clip = Clip(tmp_path / "x.mp4", "x", (32, 48), 24.0, 2, tmp_path)
    for masks, error, sentence in (
        ((), InputError, "no mask belongs to a frame of it"),
        (
            ((48, 32), (48, 32), (48, 32)),
            Begun,
            "the network",
        ),  # it may have more frames than it said
        (((48, 32), (9, 9)), InputError, "1.png is 9x9"),
    ):
        for index, size in enumerate(masks):
            Image.new("L", size).save(tmp_path / f"{index}.png")
        with pytest.raises(error, match=sentence):
            list(evaluate([clip], Settings(k=3), tiny_network))


def test_stop_keeps_what_there_is(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    work = WorkFolder(tmp_path / "work")
    done: list[SequenceScore | Failure] = []
    entries, task = task_for(data, tiny_model, work=work, stop=lambda: len(done) == 1)
    with pytest.raises(Cancelled):
        for outcome in evaluate_task(entries, task):
            done.append(outcome)
    assert names(done) == ["ant"]
    assert list(evaluate_task(entries[:1], replace(task, stop=None))) == done


def test_evaluate_gives_the_same_scores(data: Path, tiny_model: Path) -> None:
    entries, task = task_for(data, tiny_model)
    (kept,) = evaluate_task(entries[:1], task)
    clip = open_clip(entries[0])
    (plain,) = evaluate([clip], task.settings, load_network(str(tiny_model)), task.flows)
    assert isinstance(kept, SequenceScore)
    assert (plain.j, plain.f, plain.figures) == (kept.j, kept.f, kept.figures)


def command(data: Path, model: Path, tmp_path: Path, number: int) -> list[str]:
    words = [sys.executable, "-m", "stseg", "evaluate", "--root", str(data), "--flow", "cached"]
    words += ["--model", str(model), "--k", "3", "--work", str(tmp_path / "work")]
    return [*words, "--json", str(tmp_path / f"{number}.json")]


@pytest.mark.slow
def test_two_processes_share_the_work_and_one_may_die(
    data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    # A process that hangs in its first sequence, with the claim on it, and is killed.
    hold = (
        "import sys, time, stseg.evaluation as e, stseg.cli\n"
        "e.score = lambda *a: time.sleep(300)\n"
        "stseg.cli.main(sys.argv[1:])"
    )
    words = command(data, tiny_model, tmp_path, 0)
    started = [subprocess.Popen([sys.executable, "-c", hold, *words[3:]], cwd=ROOT)]
    deadline = time.monotonic() + 240

    def wait_for(pattern: str, count: int) -> None:
        while len(list((tmp_path / "work").glob(pattern))) < count:
            assert time.monotonic() < deadline, pattern
            time.sleep(0.1)

    try:
        wait_for("*.claim", 1)
        for number in (1, 2):
            started.append(subprocess.Popen(command(data, tiny_model, tmp_path, number), cwd=ROOT))
        wait_for("*.json", 2)
        assert all(each.poll() is None for each in started)  # the others wait for the third
        os.kill(started[0].pid, signal.SIGKILL)
        remaining = deadline - time.monotonic()
        assert [each.wait(timeout=remaining) for each in started[1:]] == [0, 0]
    finally:
        for each in started:
            each.kill()
            each.wait()
    results = [json.loads((tmp_path / f"{number}.json").read_text()) for number in (1, 2)]
    # Each sequence was scored once: even its seconds are the same in both reports.
    assert results[0] == results[1]
    assert set(results[0]["sequences"]) == {"ant", "bee", "cat"}
    assert len(list((tmp_path / "work").glob("*.json"))) == 3


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main(["evaluate", *(str(word) for word in words)])
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.mark.parametrize("place", ["Annotations/480p", "Annotations/480p/ant"])
def test_no_pictures_are_written_into_the_data_set(
    place: str, data: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(data.rglob("*"))
    words = ["--dataset", "davis16", "--root", data, "--flow", "cached", "--model", tiny_model]
    status, _, err = run(capsys, *words, "--labels", data / place)
    assert status == 2
    assert "which belongs to the data set. Choose another folder." in err
    assert sorted(data.rglob("*")) == before


def test_the_command_line(
    data: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "splits").mkdir()
    (data / "splits/dev.txt").write_text("ant\nbee\nwasp\n")
    words = ["--dataset", "davis16", "--root", data, "--split", "dev", "--flow", "cached"]
    words += ["--model", tiny_model, "--k", 3, "--json", tmp_path / "out.json", "--table"]
    status, out, _ = run(capsys, *words, "--labels", tmp_path / "labels")
    assert status == 0
    assert "Not on the disk: wasp." in out
    assert f"The flow is that in {data / 'flows/raft-sintel'}." in out
    assert "mean of 2 sequences" in out
    assert "| MATNet |" in out
    assert "2 sequences, 14 frames of DAVIS2016" in out
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["dataset"] == "davis16"
    assert (result["model"], result["flow"]) == (str(tiny_model), "cached")
    assert result["absent"] == ["wasp"]
    assert Settings(**{**result["settings"], "taus": (1,)}).subsequence == 10
    assert set(result["sequences"]) == {"ant", "bee"}
    ant = result["sequences"]["ant"]
    assert ant["frames"] == N - 2
    assert 0 <= ant["J"] <= 1
    assert ant["J"] == pytest.approx(np.mean(ant["per_frame"]["J"]))
    assert {"flicker", "J_once", "switches", "objects_iou"} <= set(ant)
    assert result["mean"]["J"] == pytest.approx(ant["J"])  # two copies of one clip
    for kind in ("labels", "foreground"):
        assert len(list((tmp_path / "labels/ant" / kind).glob("*.png"))) == N


@pytest.mark.parametrize("fresh", [False, True])
def test_ctrl_c_tells_that_what_is_scored_is_kept(
    fresh: bool,
    data: Path,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(*given: Any) -> Any:
        yield next(iter(evaluate_task(*given)))
        raise KeyboardInterrupt

    monkeypatch.setattr("stseg.evaluation.evaluate_task", stopped)
    words = ["--root", data, "--flow", "cached", "--model", tiny_model, "--k", 3]
    words += ["--work", tmp_path / "work", *(["--fresh"] if fresh else [])]
    status, _, error = run(capsys, *words)
    assert status == 130
    assert f"stopped; what is finished is kept in {tmp_path / 'work'}, and the same" in error
    assert (" without --fresh goes on" in error) == fresh


def test_a_failed_sequence_is_in_no_mean_and_tells_by_the_status(
    data: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (9, 9)).save(data / "Annotations/480p/bee/00002.png")
    words = ["--root", data, "--flow", "cached", "--model", tiny_model, "--k", 3]
    status, out, error = run(capsys, *words, "--json", tmp_path / "out.json")
    assert status == 2
    assert "mean of 2 sequences" in out
    assert "1 of 3 sequences could not be scored and are in no mean: bee." in error
    result = json.loads((tmp_path / "out.json").read_text())
    assert set(result["sequences"]) == {"ant", "cat"}
    assert "00002.png is 9x9" in result["failed"]["bee"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--flow", "magic"], "'magic' is neither a flow estimator"),
        (["--sequences", "dog"], "has no sequence dog"),
        (["--split", "none"], "has no list 'none'"),
        (["--dataset", "coco"], "There is no data set 'coco'"),
        (["--model", "nobody"], "There is no model 'nobody'"),
        (["--iterations", "30"], "--iterations is for RAFT, but the flow is 'cached'"),
        (["--k", "5"], "could not be scored"),
    ],
)
def test_mistakes(
    data: Path,
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    known = ["--root", data, "--flow", "cached", "--model", tiny_model, "--k", 3]
    status, _, error = run(capsys, *known, *words)
    assert status == 2
    assert sentence in error


def test_where_cached_flow_lies(data: Path, tmp_path: Path) -> None:
    (data / "flows/other").mkdir()
    shutil.copy(data / "flows/raft-sintel/ant.npz", data / "flows/other/ant.npz")
    shutil.copytree(data / "flows/raft-sintel", data / "flows/raft-large")
    assert flow_folder(data, ["ant"]) == data / "flows/raft-sintel"
    shutil.rmtree(data / "flows/raft-large")
    (data / "flows/raft-sintel/ant.npz").unlink()
    assert flow_folder(data, ["ant"]) == data / "flows/other"
    with pytest.raises(InputError, match="no cached flow"):
        flow_folder(data, ["dog"])
    fields = [np.full((2, 64, 96), index, np.float32) for index in range(N - 1)]
    write_flow_folder(tmp_path / "flo/ant", fields, "flo")
    path = flow_of(tmp_path / "flo", "ant")
    clip = Clip(data / "videos/ant.mp4", "ant", (64, 96), 24.0, N)
    flow = cached_flow(path, clip).forward
    assert len(flow) == N - 1
    assert flow[3].shape == (2, 128, 224)  # full fields come to the network's grid
    assert (flow[3] == 3).all()
    # Some containers only tell how long they are, and how many frames that makes is a guess.
    assert len(cached_flow(path, replace(clip, frames=7)).forward) == N - 1
    assert len(cached_flow(path, replace(clip, frames=0)).forward) == N - 1
    frames = Path(shutil.copytree(data / "Annotations/480p/ant", tmp_path / "frames"))
    assert len(cached_flow(path, replace(clip, source=frames, frames=7)).forward) == N - 1
    write_flow_file(tmp_path / "ant.npz", np.stack(fields), (64, 96))
    fine = cached_flow(tmp_path / "ant.npz", clip).forward
    assert fine[3].shape == (2, 128, 224)  # those of a file, too
    write_flow_folder(tmp_path / "short/ant", fields[1:], "flo")
    with pytest.raises(InputError, match="7 fields, but ant has 9 frames, which make 8"):
        cached_flow(flow_of(tmp_path / "short", "ant"), clip)
    with pytest.raises(InputError, match="7 fields, but ant has 9 frames"):  # counted
        cached_flow(flow_of(tmp_path / "short", "ant"), replace(clip, frames=0))


def test_flow_of_another_video_is_refused(tmp_path: Path) -> None:
    write_flow_file(tmp_path / "f.npz", np.zeros((N - 1, 2, 8, 8), np.float32), (99, 99))
    clip = Clip(tmp_path / "x.mp4", "x", (32, 48), 24.0, N)
    with pytest.raises(InputError, match="99x99, but x has 48x32"):
        cached_flow(tmp_path / "f.npz", clip)
