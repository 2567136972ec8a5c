"""``python -m stseg train``: mistakes get a sentence, and only what is there is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from stseg import datasets
from stseg.checkpoint import load_checkpoint
from stseg.cli import main
from stseg.errors import InputError
from stseg.flow import write_flow_file
from stseg.training import Trainer


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A run of one step."""
    flow = np.random.default_rng(0).normal(0, 1, (8, 2, 16, 28)).astype(np.float32)
    (tmp_path / "flows").mkdir()
    write_flow_file(tmp_path / "flows" / "a.npz", flow, (128, 224))
    out = str(tmp_path / "run")
    given = ["train", "--flows", str(tmp_path / "flows"), "--out", out, "--device", "cpu"]
    return [*given, "--k", "2", "--batch", "1", "--stage", "8x14:1:1e-3"]


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (["--batch", "0"], "at least 1 volume, not 0"),
        (["--batch", "-1"], "at least 1 volume, not -1"),
        (["--stage", "0x28:1:1e-3"], "A stage of 0x28 has no sites"),
        (["--stage", "2x28:1:1e-3"], "Give sides of 4 or more"),
        (["--stage", "16x28:0:1e-3"], "A stage of 0 steps trains nothing"),
        (["--stage", "16x28:1:nan"], "cannot learn at a rate of nan"),
        (["--stage", "16x28:1:1e-3:nan"], "β is the weight of L_c and cannot be nan"),
        (["--stage", "16x28:1:fast"], "is not like 64x112:6000:5e-4"),
        (["--split", "picture.webp"], "picture.webp is not a text file"),
        (["--split", "empty.txt"], "The list of sequences is empty"),
        (["--reference", "absent"], "There is no folder absent"),
        (["--reference", "flows"], "flows is the folder of the flow itself"),
        (["--start", "absent", "--spread", "10"], "Leave it out, or name the heads"),
        (["--exaggerate", "2"], "Name its folder with --reference"),
        (["--teacher", "absent"], "Name its folder with --reference"),
        (["--teacher", "absent", "--reference", "flows", "--eta", "0"], "takes their place"),
        (
            ["--teacher", "absent", "--reference", "flows", "--stage", "16x28:1:1e-3:0"],
            "takes their place",
        ),
        (["--pasted", "0.5", "--variant", "spatial"], "'spatial' pastes none into its samples"),
    ],
)
def test_mistakes_get_a_sentence_and_leave_nothing(
    mistake: list[str],
    sentence: str,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("picture.webp").write_bytes(b"RIFF\xff\xfe\x00")
    Path("empty.txt").touch()
    assert main([*words, *mistake]) == 2
    told = capsys.readouterr()
    assert sentence in told.err
    assert "checkpoint is" not in told.out
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_found_before_the_work(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(datasets, "read_training_flows", lambda *_: pytest.fail("flow is read"))
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main([*words, "--out", str(out)]) == 2
        assert f"The folder {out} cannot be written" in capsys.readouterr().err


def test_lists_are_those_of_the_data_sets(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: object, names: list[str], *__: object) -> None:
        raise InputError(f"Asked for {names}.")

    monkeypatch.setattr("stseg.datasets.read_training_flows", refuse)
    lines = [
        "\ufeffmy clip",
        "*bmx",
        "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/0.png",
    ]
    (tmp_path / "mine.txt").write_text("\n".join(lines), encoding="utf-8")
    assert main([*words, "--split", str(tmp_path / "mine.txt")]) == 2
    assert "Asked for ['my clip', 'bmx', 'bear']." in capsys.readouterr().err


def test_ctrl_c_tells_that_the_run_is_kept(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(datasets, "read_training_flows", stop)
        assert main(words) == 130
        assert capsys.readouterr().err == "stseg: stopped; nothing unfinished is left.\n"
    words[-1] = "8x14:2:1e-3"
    step = Trainer._train_step
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", lambda self: stop() if self.step else step(self))
        assert main(words) == 130
        assert "the same command goes on with it.\n" in capsys.readouterr().err
    assert main(words) == 0
    best, state = (tmp_path / "run" / f"{name}.safetensors" for name in ("best", "state"))
    assert main([*words, "--out", str(tmp_path / "new"), "--start", str(state)]) == 2
    assert f"which `stseg train` goes on, not a checkpoint. Give {best}." in capsys.readouterr().err
    best.unlink()
    with pytest.raises(InputError, match="Train on until there is"):
        load_checkpoint(state)


def test_a_checkpoint_that_is_not_there_is_not_told(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = tmp_path / "run" / "best.safetensors"
    assert main(words) == 0
    first = capsys.readouterr()
    assert first.out == f"The checkpoint is {best}\n"
    assert "nothing was left to do" not in first.err
    assert main(words) == 0
    assert "The run was at its end: nothing was left to do." in capsys.readouterr().err
    best.unlink()
    assert main(words) == 2
    told = capsys.readouterr()
    assert "best.safetensors is not there" in told.err
    assert told.out == ""


def test_the_card_tells_whom_the_network_imitates(words: list[str], tmp_path: Path) -> None:
    assert main(words) == 0
    teacher = tmp_path / "teacher.safetensors"
    (tmp_path / "run" / "best.safetensors").rename(teacher)
    out, better = tmp_path / "pupil", tmp_path / "better"
    shutil.copytree(tmp_path / "flows", better)
    more = ["--out", str(out), "--teacher", str(teacher), "--reference", str(better)]
    assert main([*words, *more]) == 0
    card = load_checkpoint(out / "best.safetensors").card
    assert card["teacher"] == {
        "file": "teacher.safetensors",
        "card": dict(load_checkpoint(teacher).card),
    }
    assert "start" not in card


def test_a_run_does_not_replace_what_it_starts_from(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(words) == 0
    run = tmp_path / "run"
    best = run / "best.safetensors"
    before = best.read_bytes()
    monkeypatch.chdir(run)
    for option in ("--start", "--teacher"):
        more = [option, "best.safetensors", "--reference", str(tmp_path / "flows")]
        assert main([*words, *more]) == 2
        said = f"{option} names best.safetensors, which the run in {run} would replace"
        assert said in capsys.readouterr().err
    (run / "state.safetensors").unlink()
    assert main(words) == 2
    assert f"{best} is not of an unfinished run" in capsys.readouterr().err
    assert best.read_bytes() == before
