"""``python -m stseg fit``: what it writes, and that ``segment`` takes it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from stseg import clip_flow
from stseg.adaptation import Adaptation, AdaptationProgress
from stseg.checkpoint import load_checkpoint
from stseg.cli import main
from stseg.errors import InputError
from stseg.records import Clip, Settings


def test_fit_then_segment(
    clip: Clip, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my fit"
    words = [str(clip.source), "--model", str(tiny_model), "--k", "3", "--device", "cpu"]
    more = ["--out", str(out), "--steps", "2", "--size", "16", "28", "--batch", "2"]
    assert main(["fit", *words, *more, "--beta", "0", "--tau", "2", "--eta", "0.05"]) == 0
    assert {path.name for path in out.iterdir()} == {
        "fitted.safetensors",
        "losses.json",
        "losses.png",
    }
    fitted = load_checkpoint(out / "fitted.safetensors").card["fitted"]
    assert fitted["settings"]["beta"] == 0
    assert fitted["settings"]["size"] == [16, 28]
    curve = json.loads((out / "losses.json").read_text())
    assert [each["step"] for each in curve] == [1, 2]
    told = capsys.readouterr().out
    assert "2 steps in" in told
    assert re.search(r"L on the clip \d\.\d{4} before, \d\.\d{4} after 2 of them", told)
    command = shlex.split(told.partition("Segment with it: ")[2])
    assert command[:3] == ["python", "-m", "stseg"]
    assert main([*command[3:], "--out", str(tmp_path / "seg")]) == 0
    assert (tmp_path / "seg" / "labels.npz").is_file()
    settings = json.loads((tmp_path / "seg" / "summary.json").read_text())["settings"]
    assert (settings["k"], settings["taus"], settings["eta"]) == (3, [2], 0.05)
    assert settings["model"] == str(out / "fitted.safetensors")


def test_mistakes_get_a_sentence(
    clip: Clip, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", str(clip.source), "--model", str(tiny_model), "--out", str(tmp_path / "x")]
    assert main([*words, "--k", "7", "--steps", "1"]) == 2
    assert "gives K = 4, 2, 3 segments, not 7" in capsys.readouterr().err
    assert main([*words, "--steps", "0"]) == 2
    assert "0 steps cannot be done" in capsys.readouterr().err
    assert main([*words, "--weights", "/none.pth"]) == 2
    assert "--weights is for RAFT, but the flow is 'dis'" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_written_is_found_before_the_work(
    clip: Clip,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clip_flow, "read_fields", lambda *given: pytest.fail("the flow is read"))
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        words = ["fit", str(clip.source), "--model", str(tiny_model), "--out", str(out)]
        assert main(words) == 2
        assert f"The folder {out} cannot be written" in capsys.readouterr().err


def test_a_fit_is_not_replaced(
    clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_flow, "read_fields", lambda *given: pytest.fail("the flow is read"))
    (tmp_path / "fitted.safetensors").write_bytes(b"mine")
    assert main(["fit", str(clip.source), "--out", str(tmp_path)]) == 2
    assert f"{tmp_path} holds a fit already. Choose another folder" in capsys.readouterr().err
    assert (tmp_path / "fitted.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize("step", [0, 1])
def test_ctrl_c_keeps_what_was_learnt_and_says_so(
    step: int,
    clip: Clip,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Adaptation.run

    def stopped(self: Adaptation) -> Iterator[AdaptationProgress]:
        for progress in run(self):
            yield progress
            if progress.step == step:
                raise KeyboardInterrupt

    monkeypatch.setattr(Adaptation, "run", stopped)
    words = ["fit", str(clip.source), "--model", str(tiny_model), "--k", "3", "--device", "cpu"]
    more = ["--out", str(tmp_path / "fit"), "--steps", "2", "--size", "16", "28", "--batch", "1"]
    assert main([*words, *more]) == 130
    path, error = tmp_path / "fit/fitted.safetensors", capsys.readouterr().err
    if step:
        assert f"stseg: stopped; what 1 of 2 steps learnt is in {path}.\n" in error
        assert load_checkpoint(path).network.settings.ks == (4, 2, 3)
    else:
        assert "stseg: stopped; nothing was learnt, so that nothing is written.\n" in error
        assert not path.parent.exists()


def test_iterations_reach_the_flow(
    clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(clip: Clip, settings: Settings, *_: object) -> None:
        raise InputError(f"Asked for {settings.iterations} of {settings.flow}.")

    monkeypatch.setattr(clip_flow, "read_fields", refuse)
    words = ["fit", str(clip.source), "--out", str(tmp_path), "--iterations", "5"]
    assert main([*words, "--flow", "raft"]) == 2
    assert "Asked for 5 of raft-sintel." in capsys.readouterr().err
    assert main(words) == 2
    assert "--iterations is for RAFT, but the flow is 'dis'" in capsys.readouterr().err
