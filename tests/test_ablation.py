"""Ablations: one pass serves many settings, and gives what each alone would."""

from __future__ import annotations

import csv
import errno
import io
import json
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from stseg import ablation_work, measures, pipeline, variants
from stseg.ablation import Figures, measure, same_pass, segment_all
from stseg.ablation_rows import PUBLISHED, SWEEPS, Row, sweep_rows, variant_rows
from stseg.ablation_tables import Line, as_csv, as_json, as_markdown, as_picture, as_text
from stseg.ablation_work import AblationTask as Task
from stseg.ablation_work import Measured, ablate
from stseg.claims import WorkFolder
from stseg.cli import main
from stseg.errors import Cancelled, InputError
from stseg.foreground import moving_labels
from stseg.layouts import Entry, open_data_set
from stseg.metrics import region_similarity
from stseg.network import SegmentationNetwork
from stseg.pipeline import SegmentationRun, segment
from stseg.published import in_words
from stseg.records import Clip, Settings
from stseg.scoring import score
from stseg.splits import DAVIS16
from stseg.stability import carried_counts, flicker
from stseg.synthetic import SceneSettings, render
from stseg.synthetic_files import write_clip
from stseg.truth import ground_truth
from stseg.volume import FlowFields

BASE = Settings(4, model="full", linkage="greedy", subsequence=4, device="cpu", stride=1)
PAPER = replace(BASE, subsequence=10)
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


def test_frames_between_triplets_have_the_order_of_their_own_subsequence(
    annotated: Clip, tiny_network: SegmentationNetwork, flow: FlowFields
) -> None:
    """Before a seam another triplet says which segment is which: these masks are not shared."""
    halved = [replace(BASE, stride=2, subsequence=length) for length in (0, 3, 5)]
    together = segment_all(annotated, halved, tiny_network, flow)
    for settings in halved:
        alone = segment_all(annotated, [settings], tiny_network, flow)[settings]
        for index in range(len(alone)):
            np.testing.assert_array_equal(together[settings].labels(index), alone.labels(index))


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
        assert found.flicker == pytest.approx(flicker(carried_counts(made[settings])))
        assert found.frames == len(expected.j)
        assert found.j_unsupervised <= found.j + 1e-12 or settings.subsequence == 0


def test_void_sites_count_as_little_as_in_the_scores(
    annotated: Clip, tiny_network: SegmentationNetwork, flow: FlowFields, tmp_path: Path
) -> None:
    truth = ground_truth(annotated)
    for index in truth.files:
        codes = truth.codes(index).astype(np.uint8)
        codes[:, ::3] = 255
        Image.fromarray(np.where(codes == 255, 255, codes > 0).astype(np.uint8)).save(
            tmp_path / f"{index:05d}.png"
        )
    clip = replace(annotated, truth=tmp_path)
    made = segment_all(clip, WANTED, tiny_network, flow)
    for settings, found in measure(clip, made).items():
        expected = score(made[settings], settings.subsequence)
        assert found.j == pytest.approx(np.mean(expected.j), abs=1e-12)
        assert measures.measure(made[settings]).j == pytest.approx(found.j, abs=1e-12)


def test_j_without_ground_truth_is_that_of_the_moving_labels(
    annotated: Clip, tiny_network: SegmentationNetwork, flow: FlowFields
) -> None:
    whole = replace(BASE, subsequence=0)
    made = segment_all(annotated, [whole], tiny_network, flow)[whole]
    found = measure(annotated, {whole: made})[whole]
    chosen, truth = moving_labels(made, range(len(made))), ground_truth(annotated)
    expected = [
        region_similarity(np.isin(made.labels(t), chosen), (truth.codes(t) > 0))
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


def test_a_pass_serves_what_shares_model_tau_and_stride() -> None:
    other, halved = replace(BASE, taus=(2,)), replace(BASE, stride=2)
    automatic, refined = replace(BASE, stride=None), replace(BASE, refine=True)
    passes = [WANTED, [other], [halved, automatic], [refined]]
    assert same_pass([*WANTED, other, halved, automatic, refined, BASE]) == passes
    flows = [replace(BASE, flow="raft"), replace(BASE, max_frames=5), replace(BASE, iterations=3)]
    assert same_pass([BASE, *flows]) == [[BASE], *([each] for each in flows)]


def test_each_pass_refines_as_its_settings_say(
    annotated: Clip, tiny_network: SegmentationNetwork, flow: FlowFields
) -> None:
    plain, refined = (replace(BASE, k=3, refine=refine) for refine in (False, True))
    masks = [
        segment_all(annotated, [each], tiny_network, flow)[each].soft_masks(2)
        for each in (plain, refined)
    ]
    run = SegmentationRun(annotated, refined, tiny_network, flow)
    expected = [frame.masks for frame in run.frames()][2]
    np.testing.assert_allclose(masks[1], expected, atol=1.01 / 255)
    assert not np.array_equal(masks[0], expected)


def test_table_1_names_what_is_missing() -> None:
    rows = variant_rows(PAPER, ["full", "spatial", "no-lc", "frame"], lambda name: name == "full")
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


def test_what_does_not_fit_the_base_is_not_in_its_sweep() -> None:
    halved = replace(BASE, stride=2)
    taus = [row.settings.taus for row in sweep_rows(halved, "tau", (4,)) if row.settings]
    assert taus == [(1,)]
    later = replace(BASE, taus=(2,), stride=1)
    assert [row.value for row in sweep_rows(later, "stride", (4,))] == ["1"]


def test_an_unknown_sweep_is_named() -> None:
    with pytest.raises(InputError, match="There is no sweep 'beta'"):
        sweep_rows(BASE, "beta", (4,))


def lines() -> list[Line]:
    one = Figures(0.5, 0.4, 0.3, 0.1, 0.0, 0.002, 10)
    other = Figures(0.7, 0.6, 0.5, float("nan"), float("nan"), 0.004, 20)
    rows = variant_rows(PAPER, ["full", "no-lc"], lambda name: name == "full")
    full, missing = (Line(row, {}) for row in rows)
    swept = Row("k", "3", replace(BASE, k=3))
    return [replace(full, sequences={"a": one, "b": other}), missing, Line(swept, {"a": one})]


def of_eta() -> Line:
    swept = Row("eta", "2 %", replace(BASE, eta=0.02))
    return Line(swept, {"a": Figures(0.5, 0.4, 0.3, 0.1, 0.0, 0.002, 10)})


def test_a_note_on_eta_is_there_where_it_is_swept() -> None:
    assert "η is a part of the loss" in as_markdown([*lines(), of_eta()], "About.")
    assert "η" not in as_markdown(lines(), "About.")
    assert not as_json(lines(), {})["eta_note"]


def test_the_mean_is_that_of_the_protocol() -> None:
    """As in ``evaluate``: of sets that are scored by frames, J is over the frames of all."""
    pooled = replace(lines()[0], protocol="frames")
    assert pooled.mean("J") == pytest.approx((10 * 0.5 + 20 * 0.7) / 30)
    assert pooled.mean("J_once") == pytest.approx((10 * 0.3 + 20 * 0.5) / 30)
    assert pooled.mean("L_c") == lines()[0].mean("L_c")
    assert pooled.mean("flicker") == 0.1


def test_tables_tell_means_of_sequences_the_paper_and_what_is_missing() -> None:
    text = as_text(lines())
    assert "mean of 2 sequences" in text
    full = next(row for row in text.splitlines() if row.startswith("Space-time, with L_c"))
    assert full.split()[-7:] == ["73.2", "60.0", "50.0", "40.0", "10.0", "0.0", "0.300"]
    missing = next(row for row in text.splitlines() if "(no checkpoint)" in row)
    assert missing.split()[-7:] == ["33.1", *"------"]
    assert "| 73.2 | 60.0 | 50.0 |" in as_markdown(lines(), "About.")


def on(names: Sequence[str]) -> list[Line]:
    """The table of variants, measured on these sequences."""
    full, missing, swept = lines()
    return [replace(full, sequences=dict.fromkeys(names, full.sequences["a"])), missing, swept]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["a", "b"], "(a is none of them): not to be compared."),
        (DAVIS16["val"][:1], "Ours: 1 sequence, 10 frames of DAVIS2016; the published numbers are"),
        (DAVIS16["val"], "20 sequences, 200 frames of DAVIS2016, as the published numbers."),
    ],
)
def test_beside_the_paper_stands_what_its_number_is_a_mean_over(
    names: Sequence[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = on(names)
    for text in (as_text(told), as_markdown(told, "About."), as_json(told, {})["paper_note"]):
        assert text.count(sentence) == 1
    assert as_text(told).index(sentence) < as_text(told).index("Number of segments K")
    assert "J (paper, 20 sequences)" in as_text(told).splitlines()[1]
    assert "| J (paper, 20 sequences) |" in as_markdown(told, "About.")
    drawn: list[Figure] = []
    with monkeypatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
        as_picture(told)
    variants, swept = drawn[0].axes
    labels = [text.get_text() for text in variants.get_legend().get_texts()]
    assert labels[-1] == "J (paper, 20 sequences)"
    assert f"mean of {in_words(len(names))}" in variants.get_title()
    assert "mean of 1 sequence" in swept.get_title()


def test_no_word_of_the_paper_where_its_number_is_not_shown() -> None:
    told = [replace(line, row=replace(line.row, published=None)) for line in lines()]
    assert as_json(told, {})["paper_note"] == ""
    assert "Ours:" not in as_text(told) + as_markdown(told, "About.")


def test_files_call_a_figure_what_evaluate_calls_it(annotated: Clip, tiny_model: Path) -> None:
    made = segment(annotated, replace(BASE, k=3, model=str(tiny_model)))
    scored = score(made, 4).to_json()
    (figures,) = measure(annotated, {made.settings: made}).values()
    ours = figures.to_json()
    assert ours.keys() - scored.keys() == {"L_c"}  # which no score of evaluate has
    for name in ours.keys() & scored.keys():
        assert ours[name] == pytest.approx(scored[name], abs=1e-12)
    header = as_csv(lines()).splitlines()[0].split(",")
    assert header == ["part", "value", "sequence", "published_J", *ours]


def test_values_have_no_nan_and_read_back() -> None:
    told = json.loads(json.dumps(as_json([*lines(), of_eta()], {"root": "r"}), allow_nan=False))
    assert told["variants"][0]["mean"]["J"] == pytest.approx(0.6)
    assert told["variants"][0]["sequences"]["b"]["flicker"] is None
    assert told["variants"][1]["missing"]
    assert "η is a part of the loss" in told["eta_note"]
    again = [Figures.from_json(each.to_json()) for each in lines()[0].sequences.values()]
    assert [each.to_json() for each in again] == [
        each.to_json() for each in lines()[0].sequences.values()
    ]
    assert np.isnan(again[1].flicker)
    records = list(csv.DictReader(io.StringIO(as_csv(lines()))))
    assert [record["sequence"] for record in records] == ["mean", "a", "b", "mean", "mean", "a"]
    assert float(records[0]["J"]) == pytest.approx(0.6)
    assert float(records[0]["published_J"]) == PUBLISHED["full"]
    assert records[3]["J"] == ""


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
    monkeypatch.setattr(variants, "SHIPPED", tmp_path)  # no variant has a checkpoint there
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
    # η changes what L_c leaves out, and nothing else.
    assert [line["value"] for line in told["eta"]] == ["0 %", "0.5 %", "1 %", "2 %", "5 %", "10 %"]
    assert len({line["mean"]["J"] for line in told["eta"]}) == 1
    left = [line["mean"]["L_c"] for line in told["eta"]]
    assert left == sorted(left, reverse=True)
    assert left[0] > left[-1] > 0
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
    assert "model" not in told  # of the sweeps
    assert not told.keys() & SWEEPS.keys()
    assert list(told["variants"][0]["sequences"]) == ["clip2"]


def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Clip and number of settings of every pass of a network from now on."""
    made: list[tuple[str, int]] = []
    segment = ablation_work.segment_all

    def counted(clip: Clip, wanted: Sequence[Settings], *rest: Any) -> object:
        made.append((clip.name, len(wanted)))
        return segment(clip, wanted, *rest)

    monkeypatch.setattr(ablation_work, "segment_all", counted)
    return made


def task_of(data_set: Path, model: Path, work: Path) -> tuple[list[Entry], list[Settings], Task]:
    entries, _ = open_data_set(data_set).choose()
    base = replace(BASE, model=str(model), k=3)
    wanted = [
        base,
        replace(base, k=2),
        replace(base, linkage="one-to-one"),
        replace(base, taus=(2,)),
    ]
    return entries, wanted, Task("frames", work=WorkFolder(work))


def test_an_ablation_goes_on_and_measures_only_what_is_new(
    data_set: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries, wanted, task = task_of(data_set, tiny_model, tmp_path / "work")
    made = passes(monkeypatch)
    first = next(ablate(entries, wanted, task))  # interrupted after one sequence
    assert made == [("clip1", 3), ("clip1", 1)]
    again = list(ablate(entries, wanted, task))
    assert made[2:] == [("clip2", 3), ("clip2", 1)]
    assert again[0] == first
    assert [each.name for each in again] == ["clip1", "clip2"]
    # Another sweep: one setting is new. And nothing stale is taken for other data.
    del made[:]
    list(ablate(entries[:1], [*wanted, replace(wanted[0], subsequence=2)], task))
    assert made == [("clip1", 1)]
    list(ablate(entries[:1], wanted[-1:], replace(task, protocol="davis")))
    list(ablate(entries[:1], wanted[-1:], replace(task, fresh=True)))
    assert made == [("clip1", 1)] * 3
    figures = again[1]
    assert isinstance(figures, Measured)
    (alone,) = ablate(entries[1:], wanted[1:2], replace(task, work=None))
    assert isinstance(alone, Measured)
    assert alone.figures[wanted[1]].to_json() == figures.figures[wanted[1]].to_json()


def test_wrong_ground_truth_and_a_single_frame_are_named_and_no_network_runs(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = []
    for name, frames, masks in (("still", 1, 1), ("bare", 3, 0), ("short", 3, 4)):
        for kind, count in (("frames", frames), ("masks", masks)):
            folder = tmp_path / kind / name
            folder.mkdir(parents=True)
            for index in range(count):
                Image.new("L", (48, 32)).save(folder / f"{index}.png")
        entries.append(Entry(name, tmp_path / "frames" / name, tmp_path / "masks" / name))
    monkeypatch.setattr("stseg.ablation.Predictor", lambda *_: pytest.fail("a pass"))
    wanted = [replace(BASE, model=str(tiny_model))]
    still, bare, short = (each for each in ablate(entries, wanted, Task("frames")))
    assert "a single frame, but motion needs at least two" in getattr(still, "reason", "")
    assert "bare has no ground truth" in getattr(bare, "reason", "")
    assert "3.png belongs to no frame of short" in getattr(short, "reason", "")


def test_a_model_without_the_head_is_refused_before_anything_is_measured(
    data_set: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ablate", "--root", str(data_set), "--variants", str(tiny_model), "--k", "7"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert "segments, not 7" in capsys.readouterr().err


def test_two_processes_share_an_ablation(
    data_set: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries, wanted, task = task_of(data_set, tiny_model, tmp_path / "work")
    assert task.work is not None
    made = passes(monkeypatch)
    waited: list[list[tuple[str, int]]] = []
    claims: list[str] = []
    claim = task.work.claim

    def noting(_: WorkFolder, key: str) -> AbstractContextManager[bool]:
        claims.append(key)
        return claim(key)

    monkeypatch.setattr(WorkFolder, "claim", noting)
    list(ablate(entries[:1], wanted[:1], task))
    del made[:]
    with claim(claims[0]) as ours:  # as another process holds it: the first pass over clip1
        assert ours

        def wait(stop: object) -> None:
            waited.append(list(made))
            raise Cancelled("enough")

        monkeypatch.setattr(ablation_work, "pause", wait)
        with pytest.raises(Cancelled):
            list(ablate(entries, wanted, task))
    assert waited == [[("clip1", 1), ("clip2", 3), ("clip2", 1)]]  # all but what is claimed
    assert [each.name for each in ablate(entries, wanted, task)] == ["clip1", "clip2"]
    assert made[3:] == [("clip1", 2)]  # that of the first three is kept


def test_wrong_data_is_named_and_in_no_line(
    data_set: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "set"
    shutil.copytree(data_set, root)
    Image.new("L", (9, 9)).save(root / "clip1/00002.png")
    words = ["ablate", "--root", root, "--out", tmp_path / "out", "--variants", tiny_model]
    status = main([str(word) for word in [*words, "--sweep", "--work", tmp_path / "work"]])
    said = capsys.readouterr()
    assert status == 2
    assert "clip1                    left out" in said.out
    assert "00002.png is 9x9" in said.out
    assert "1 of 2 sequences could not be measured and are in no mean: clip1." in said.err
    told = json.loads((tmp_path / "out/ablation.json").read_text())
    assert list(told["variants"][0]["sequences"]) == ["clip2"]
    assert list(told["failed"]) == ["clip1"]


def test_a_model_for_sweeps_that_are_not_made_is_refused(
    data_set: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ablate", "--root", data_set, "--out", tmp_path / "out", "--variants", tiny_model]
    assert main([str(word) for word in [*words, "--sweep", "--model", "nope"]]) == 2
    assert "--model is the model of the sweeps, and nothing is swept" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_to_measure_is_said(
    data_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(variants, "SHIPPED", tmp_path)
    words = ["ablate", "--root", data_set, "--out", tmp_path / "out", "--sweep"]
    assert main([str(word) for word in words]) == 2
    assert "There is nothing to measure" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_tables_say_how_they_were_measured(
    data_set: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data_set / "splits").mkdir(exist_ok=True)
    (data_set / "splits/some.txt").write_text("clip1\nclip9\n")
    words = ["ablate", "--root", data_set, "--out", tmp_path / "out", "--variants", tiny_model]
    words += ["--sweep", "--split", "some", "--k", 3, "--subsequence", 0, "--refine"]
    assert main([str(word) for word in words]) == 0
    (data_set / "splits/some.txt").unlink()
    told = json.loads((tmp_path / "out/ablation.json").read_text())
    assert (told["dataset"], told["protocol"]) == ("folder", "frames")
    assert told["absent"] == ["clip9"]
    text = (tmp_path / "out/ablation.md").read_text()
    assert "K = 3, linkage greedy, by video, masks refined by the flow" in text
    assert "not there: clip9" in text
    assert "mean of 1 sequence (J of all their frames)" in text
    # A run that measures nothing leaves these tables.
    capsys.readouterr()
    assert main([str(word) for word in [*words[:5], "--flow", tmp_path, *words[5:7]]]) == 2
    assert json.loads((tmp_path / "out/ablation.json").read_text()) == told


def test_the_paper_is_beside_its_own_settings_alone() -> None:
    def published(base: Settings) -> list[float | None]:
        return [row.published for row in variant_rows(base, ["full"], lambda model: True)]

    assert published(PAPER) == [0.732]
    for other in (replace(PAPER, k=2), replace(PAPER, refine=True), replace(PAPER, subsequence=0)):
        assert published(other) == [None]


@pytest.mark.parametrize("command", ["ablate", "evaluate"])
def test_a_mistake_of_the_command_is_none_of_each_sequence(
    data_set: Path,
    tiny_model: Path,
    tmp_path: Path,
    command: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [command, "--root", data_set, "--device", "cuda", "--work", tmp_path / "work"]
    words += ["--out", tmp_path, "--variants", tiny_model] if command == "ablate" else []
    if torch.cuda.is_available():
        pytest.skip("this machine has what the command asks for")
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr()
    assert "left out" not in said.out
    assert said.err.count("CUDA") == 1


def test_an_interrupted_command_says_what_is_waiting(
    data_set: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(*given: Any) -> Any:
        yield next(iter(ablate(*given)))
        raise KeyboardInterrupt

    out, work = tmp_path / "out", tmp_path / "work"
    words = ["ablate", "--root", data_set, "--out", out, "--variants", tiny_model, "--sweep"]
    words += ["--work", work, "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr(ablation_work, "ablate", stopped)
        assert main([str(word) for word in words]) == 130
    told = f"stseg: stopped; what is finished is kept in {work}, and the same command goes on "
    assert told in capsys.readouterr().err
    assert json.loads((out / "ablation.json").read_text())["waiting"] == ["clip2"]
    sentence = "The run was not at its end: clip2 is waiting."
    assert sentence in (out / "ablation.md").read_text()
    assert main([str(word) for word in words]) == 0
    assert json.loads((out / "ablation.json").read_text())["waiting"] == []
    assert sentence not in (out / "ablation.md").read_text()


def test_nothing_is_measured_for_a_place_that_cannot_be_written(
    data_set: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def denied(**_: Any) -> None:  # root may write everywhere
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(ablation_work, "ablate", lambda *_: pytest.fail("it is measured"))
    monkeypatch.setattr("stseg.files.tempfile.TemporaryFile", denied)
    words = ["ablate", "--root", data_set, "--out", tmp_path, "--variants", tiny_model]
    assert main([str(word) for word in words]) == 2
    assert f"The folder {tmp_path} cannot be written" in capsys.readouterr().err


def test_weights_and_iterations_reach_every_run(
    data_set: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr("stseg.cli.ablate.check_means", lambda *_: None)
    monkeypatch.setattr(ablation_work, "ablate", lambda _, wanted, __: seen.extend(wanted) or [])
    words = ["ablate", "--root", data_set, "--out", tmp_path, "--variants", tiny_model]
    words += ["--model", tiny_model, "--sweep", "k", "refine", "--flow", "raft"]
    assert main([str(word) for word in [*words, "--weights", "my.pth", "--iterations", 3]]) == 0
    assert len(seen) == 1 + 3 + 2
    assert {(each.weights, each.iterations) for each in seen} == {("my.pth", 3)}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--iterations", "30"], "--iterations is for RAFT, but the flow is 'dis'"),
        (["--flow", "raft", "--weights", "my.pth"], "There is no file my.pth. Give a weight file"),
    ],
)
def test_options_of_the_flow_are_checked(
    words: list[str],
    sentence: str,
    data_set: Path,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = ["ablate", "--root", data_set, "--out", tmp_path / "out", "--variants", tiny_model]
    assert main([str(word) for word in [*known, "--sweep", *words]]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
