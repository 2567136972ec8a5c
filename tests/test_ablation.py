"""Ablations: one pass serves many settings, and gives what each alone would."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stseg import pipeline, variants
from stseg.ablation import (
    PUBLISHED,
    SWEEPS,
    Figures,
    Row,
    measure,
    same_pass,
    segment_all,
    sweep_rows,
    variant_rows,
)
from stseg.ablation_tables import Line, as_csv, as_json, as_markdown, as_picture, as_text
from stseg.cli import main
from stseg.errors import Cancelled, InputError
from stseg.foreground import moving_labels
from stseg.metrics import region_similarity
from stseg.network import SegmentationNetwork
from stseg.pipeline import SegmentationRun
from stseg.records import Clip, Settings
from stseg.scoring import score
from stseg.stability import flicker
from stseg.synthetic import SceneSettings, render, write_clip
from stseg.truth import ground_truth
from stseg.volume import FlowFields

BASE = Settings(k=4, linkage="greedy", subsequence=4, device="cpu")
WANTED = [
    BASE,
    replace(BASE, k=3),
    replace(BASE, linkage="one-to-one"),
    replace(BASE, subsequence=0),
    replace(BASE, k=2, linkage="one-to-one+similarity", subsequence=0),
]


@pytest.fixture(autouse=True)
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "grid_for", lambda size: (32, 56))


@pytest.fixture
def annotated(clip: Clip) -> Clip:
    return replace(clip, truth=clip.source.with_suffix(""))


@pytest.fixture
def flow(rng: np.random.Generator) -> FlowFields:
    """Smooth random motion: an untrained network makes changing segments of it."""
    fields = FlowFields()
    y, x = np.mgrid[:32, :56] / 30
    for _ in range(8):
        a, b, c, d = rng.normal(size=4) * 2
        fields.forward.append(np.stack([np.sin(a * x + b * y), np.cos(c * x - d * y)]) * 3)
    return fields


def test_one_pass_gives_what_each_run_alone_gives(
    annotated: Clip, tiny_network: SegmentationNetwork, flow: FlowFields
) -> None:
    passes = []
    tiny_network.trunk.register_forward_hook(lambda *_: passes.append(1))
    together = segment_all(annotated, WANTED, tiny_network, flow)
    shared = len(passes)
    for settings in WANTED:
        passes.clear()
        run = SegmentationRun(annotated, settings, tiny_network, flow)
        for _ in run.frames():
            pass
        alone = run.result()
        assert len(passes) == shared  # all of them cost what one does
        np.testing.assert_array_equal(together[settings].assignment, alone.assignment)
        for index in range(len(alone)):
            np.testing.assert_array_equal(together[settings].masks[index], alone.masks[index])


@pytest.mark.parametrize("protocol", ["davis", "frames"])
def test_j_from_counts_is_that_of_the_scores(
    annotated: Clip, tiny_network: SegmentationNetwork, flow: FlowFields, protocol: str
) -> None:
    made = segment_all(annotated, WANTED, tiny_network, flow)
    figures = measure(annotated, made, protocol)
    assert len({found.j for found in figures.values()}) > 1
    for settings, found in figures.items():
        expected = score(made[settings], settings.subsequence, protocol)
        assert found.j == pytest.approx(np.mean(expected.j), abs=1e-12)
        assert found.j_once == pytest.approx(expected.figures["J_once"], abs=1e-12)
        assert found.flicker == pytest.approx(flicker(made[settings]))
        assert found.frames == len(expected.j)
        assert found.j_unsupervised <= found.j + 1e-12 or settings.subsequence == 0


def test_j_without_ground_truth_is_that_of_the_moving_labels(
    annotated: Clip, tiny_network: SegmentationNetwork, flow: FlowFields
) -> None:
    whole = replace(BASE, subsequence=0)
    made = segment_all(annotated, [whole], tiny_network, flow)[whole]
    found = measure(annotated, {whole: made})[whole]
    chosen, truth = moving_labels(made, range(len(made))), ground_truth(annotated)
    expected = [
        region_similarity(np.isin(made.labels(t), chosen), truth.foreground(t))
        for t in range(1, len(made) - 1)
    ]
    assert found.j_unsupervised == pytest.approx(np.mean(expected), abs=1e-12)


def test_stop_and_missing_heads_are_said(
    annotated: Clip, tiny_network: SegmentationNetwork, flow: FlowFields
) -> None:
    with pytest.raises(Cancelled):
        segment_all(annotated, [BASE], tiny_network, flow, stop=lambda: True)
    with pytest.raises(InputError, match="no head for K = 7"):
        segment_all(annotated, [replace(BASE, k=7)], tiny_network, flow)
    with pytest.raises(InputError, match="negative τ needs backward flow"):
        segment_all(annotated, [replace(BASE, taus=(-1,))], tiny_network, flow)


def test_a_pass_serves_what_shares_model_and_tau() -> None:
    other = replace(BASE, taus=(2,))
    assert same_pass([*WANTED, other, BASE]) == [WANTED, [other]]


def test_table_1_names_what_is_missing() -> None:
    rows = variant_rows(BASE, ["full", "spatial", "no-lc", "frame"], lambda name: name == "full")
    assert [row.published for row in rows] == [0.732, 0.705, 0.331, None]
    assert [row.settings is None for row in rows] == [False, True, True, True]
    assert rows[0].base


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_changes_one_thing_and_holds_the_base(name: str) -> None:
    base = replace(BASE, subsequence=10)
    rows = sweep_rows(base, name, (2, 3, 4))
    assert sum(row.base for row in rows) == 1
    field = "taus" if name == "tau" else name
    for row in rows:
        assert row.settings is not None
        assert replace(row.settings, **{field: getattr(base, field)}) == base
    assert len(rows) == (3 if name == "k" else len(SWEEPS[name]))


def test_an_unknown_sweep_is_named() -> None:
    with pytest.raises(InputError, match="There is no sweep 'eta'"):
        sweep_rows(BASE, "eta", (4,))


def lines() -> list[Line]:
    one = Figures(0.5, 0.4, 0.3, 0.1, 0.0, 10)
    other = Figures(0.7, 0.6, 0.5, float("nan"), float("nan"), 20)
    rows = variant_rows(BASE, ["full", "no-lc"], lambda name: name == "full")
    full, missing = (Line(row, {}) for row in rows)
    swept = Row("k", "3", replace(BASE, k=3))
    return [replace(full, sequences={"a": one, "b": other}), missing, Line(swept, {"a": one})]


def test_tables_tell_means_of_sequences_the_paper_and_what_is_missing() -> None:
    text = as_text(lines())
    assert "mean of 2 sequences" in text
    full = next(row for row in text.splitlines() if row.startswith("Space-time, with L_c"))
    assert full.split()[-6:] == ["73.2", "60.0", "50.0", "40.0", "10.0", "0.0"]
    missing = next(row for row in text.splitlines() if "(no checkpoint)" in row)
    assert missing.split()[-6:] == ["33.1", *"-----"]
    assert "| 73.2 | 60.0 | 50.0 |" in as_markdown(lines(), "About.")


def test_values_have_no_nan_and_read_back() -> None:
    told = json.loads(json.dumps(as_json(lines(), {"root": "r"}), allow_nan=False))
    assert told["variants"][0]["mean"]["j"] == pytest.approx(0.6)
    assert told["variants"][0]["sequences"]["b"]["flicker"] is None
    assert told["variants"][1]["missing"]
    assert "η is a part of the loss" in told["eta"]
    records = list(csv.DictReader(io.StringIO(as_csv(lines()))))
    assert [record["sequence"] for record in records] == ["mean", "a", "b", "mean", "mean", "a"]
    assert float(records[0]["j"]) == pytest.approx(0.6)
    assert float(records[0]["published_J"]) == PUBLISHED["full"]
    assert records[3]["j"] == ""


def test_the_picture_is_a_png() -> None:
    assert as_picture(lines()).startswith(b"\x89PNG")
    assert as_picture([]).startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short clips with their masks beside them."""
    folder = tmp_path_factory.mktemp("set")
    for seed in (1, 2):
        scene = SceneSettings(size=(64, 96), frames=4, objects=2, seed=seed)
        write_clip(render(scene), folder, f"clip{seed}")
    return folder


def test_the_command_writes_its_tables(
    data_set: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(variants, "CHECKPOINTS", tmp_path)  # no variant has a checkpoint there
    words = ["ablate", "--root", data_set, "--out", tmp_path / "out", "--model", tiny_model]
    words += ["--variants", "no-lc", tiny_model, "--sweep", "k", "linkage", "eta"]
    assert main([str(word) for word in [*words, "--k", 3, "--device", "cpu"]]) == 0
    said = capsys.readouterr().out
    assert "Space-time, without L_c: its checkpoint is missing" in said
    assert "η is a part of the loss" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "ablation.csv",
        "ablation.json",
        "ablation.md",
        "ablation.png",
    ]
    told = json.loads((tmp_path / "out/ablation.json").read_text())
    assert [line["value"] for line in told["k"]] == ["2", "3", "4"]
    assert list(told["k"][1]["sequences"]) == ["clip1", "clip2"]
    same = (told["variants"][1], told["k"][1], told["linkage"][1])
    assert {json.dumps(line["sequences"]) for line in same} == {json.dumps(same[0]["sequences"])}


def test_the_command_can_be_restricted(
    data_set: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ablate", "--root", data_set, "--out", tmp_path / "out", "--sequences", "clip2"]
    words += ["--variants", tiny_model, "--sweep"]
    assert main([str(word) for word in words]) == 0
    told = json.loads((tmp_path / "out/ablation.json").read_text())
    assert not told.keys() & SWEEPS.keys()
    assert list(told["variants"][0]["sequences"]) == ["clip2"]


def test_nothing_to_measure_is_said(
    data_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(variants, "CHECKPOINTS", tmp_path)
    words = ["ablate", "--root", data_set, "--out", tmp_path / "out", "--sweep"]
    assert main([str(word) for word in words]) == 2
    assert "There is nothing to measure" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
