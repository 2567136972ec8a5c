"""``segment`` again: by the command that a summary prints, by --settings, and with --merge."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from stseg.cli import main
from stseg.flow import write_flow_file
from stseg.records import Clip, Settings
from stseg.settings_file import write_settings


def labels(folder: Path) -> np.ndarray:
    with np.load(folder / "labels.npz") as data:
        array: np.ndarray = data["labels"]
    return array


def told(folder: Path) -> dict[str, object]:
    read: dict[str, object] = json.loads((folder / "summary.json").read_text())
    return read


@pytest.mark.parametrize(
    "options",
    [
        "--k 4",
        "--k 3 --tau 2 -1 --linkage greedy+similarity --similarity-weight 0.5 --frames 7",
        "--k 4 --eta 0.0123456789 --subsequence 4 --merge 0.5 --device cpu",
        "--k 3 --stride 2 --device cpu --refine",
    ],
)
def test_the_printed_command_and_the_settings_make_it_again(
    options: str, clip: Clip, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(clip.source), "--model", str(tiny_model), *options.split()]
    assert main(["segment", *words, "--out", "one", "--also", "settings"]) == 0
    first = told(Path("one"))

    command = shlex.split(str(first["command"]))
    assert command[:4] == ["python", "-m", "stseg", "segment"]
    assert command[command.index("--out") + 1] == "one"
    assert command[-2:] == ["--also", "settings"]
    kept = Path("one").rename("kept")
    assert main(command[3:]) == 0
    settings = first["settings"]
    assert isinstance(settings, dict)
    # The stride is told also where it was left open.
    assert told(Path("one"))["settings"] == {**settings, "stride": first["stride"]}
    assert told(Path("one"))["files"] == told(kept)["files"]
    np.testing.assert_array_equal(labels(Path("one")), labels(kept))

    again = ["segment", str(clip.source), "--settings", "kept/settings.json", "--out", "again"]
    assert main(again) == 0
    assert told(Path("again"))["settings"] == first["settings"]
    np.testing.assert_array_equal(labels(Path("again")), labels(kept))


def test_options_overrule_the_settings(clip: Clip, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"k": 3, "model": str(tiny_model), "taus": [2]}))
    words = ["segment", str(clip.source), "--settings", str(tmp_path / "s.json"), "--k", "2"]
    assert main([*words, "--out", str(tmp_path / "o")]) == 0
    settings = told(tmp_path / "o")["settings"]
    assert isinstance(settings, dict)
    assert (settings["k"], settings["taus"], settings["linkage"]) == (2, [2], "one-to-one")


def test_merging_fuses_the_exported_labels_and_the_summary_says_so(
    clip: Clip, tiny_model: Path, tmp_path: Path
) -> None:
    words = ["segment", str(clip.source), "--model", str(tiny_model), "--k", "4", "--out"]
    assert main([*words, str(tmp_path / "plain")]) == 0
    assert main([*words, str(tmp_path / "all"), "--merge", "-1"]) == 0
    assert len(np.unique(labels(tmp_path / "plain"))) > 1
    assert np.unique(labels(tmp_path / "all")).tolist() == [0]
    settings = told(tmp_path / "all")["settings"]
    assert isinstance(settings, dict)
    assert settings["merge"] == -1


@pytest.mark.parametrize("name", ["settings.json", "summary.json", "flow.npz", "grid.mp4"])
def test_what_a_result_is_made_from_is_not_replaced_by_it(
    name: str, clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = json.dumps({"clip": {}, "settings": {}, "segments": []})
    (tmp_path / "summary.json").write_text(summary)
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "grid.mp4").write_bytes(clip.source.read_bytes())
    write_flow_file(tmp_path / "flow.npz", np.zeros((1, 2, 8, 8), np.float32), clip.size)
    given = {
        "settings.json": [str(clip.source), "--settings", f"{tmp_path}/settings.json"],
        "summary.json": [str(clip.source), "--settings", f"{tmp_path}/summary.json"],
        "flow.npz": [str(clip.source), "--flow", f"{tmp_path}/flow.npz"],
        "grid.mp4": [f"{tmp_path}/grid.mp4"],
    }
    assert main(["segment", *given[name], "--out", f"{tmp_path}"]) == 2
    assert f"{name} would be replaced by the results" in capsys.readouterr().err
    assert (tmp_path / name).exists()


def test_weights_of_the_settings_are_those_of_its_estimator_by_either_name(
    clip: Clip, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.pth").write_bytes(b"no weights")
    own = Settings(flow="raft", weights=f"{tmp_path}/own.pth", model=str(tiny_model), k=3)
    write_settings(own, tmp_path / "s.json")
    words = ["segment", clip.source, "--out", tmp_path / "o", "--settings", tmp_path / "s.json"]
    assert main([str(word) for word in [*words, "--flow", "raft"]]) == 2
    assert "own.pth cannot be read as weights" in capsys.readouterr().err


def test_weights_of_the_settings_are_not_those_of_another_estimator(
    clip: Clip, tiny_model: Path, tmp_path: Path
) -> None:
    write_settings(
        Settings(flow="raft", weights="/none.pth", model=str(tiny_model), k=3, max_frames=3),
        tmp_path / "s.json",
    )
    words = ["segment", clip.source, "--out", tmp_path / "o", "--settings", tmp_path / "s.json"]
    assert main([str(word) for word in [*words, "--flow", "dis"]]) == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--merge", "1.5"], "The merge threshold is 1.5, but a similarity is from -1 to 1."),
        (["--similarity-weight", "-1"], "The weight of similarity is -1.0"),
        (
            ["--linkage", "greedy", "--similarity-weight", "2"],
            "--similarity-weight does nothing with the linkage greedy. Choose greedy+similarity, "
            "or leave it out.",
        ),
        (["--also", "pdf"], "There is no extra file 'pdf'."),
        (["--settings", "/none.json"], "/none.json is not a file of settings"),
    ],
)
def test_what_is_unusable_gets_a_sentence(
    words: list[str], sentence: str, clip: Clip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(clip.source), "--out", str(tmp_path / "o"), *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
