"""Variants side by side: colours that agree, and which ones are compared."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stseg.comparison import (
    MOST,
    comparable,
    compare,
    difference_picture,
    differences,
    plan,
    title_of,
    with_variant,
)
from stseg.comparison_files import FILES, comparison_video, write_comparison
from stseg.errors import Cancelled, InputError
from stseg.pipeline import segment
from stseg.records import Clip, Segmentation, Settings
from stseg.render import COLOURS
from stseg.video import probe


def renamed(result: Segmentation, names: list[int]) -> Segmentation:
    return replace(result, assignment=np.array(names, np.uint8)[result.assignment])


def test_labels_of_a_variant_have_the_names_of_the_first(
    results: dict[int, Segmentation],
) -> None:
    one = results[3]
    variant = compare("other names", renamed(one, [1, 2, 0]), first=one)
    labels = variant.labels(4, one.clip.size)
    np.testing.assert_array_equal(labels, one.labels(4))
    np.testing.assert_array_equal(variant.labels(99, one.clip.size), one.labels(len(one) - 1))


def test_the_table_keeps_four(results: dict[int, Segmentation]) -> None:
    one = compare("0", results[3])
    known = (one,)
    for number in range(1, MOST + 2):
        known = with_variant(known, replace(one, title=str(number)))
    assert [each.title for each in known] == ["0", "3", "4", "5"]
    again = with_variant(known, replace(one, title="4", brought=True))
    assert [each.title for each in again] == ["0", "3", "4", "5"]
    assert again[2].brought


def test_another_first_one_renames_the_others(results: dict[int, Segmentation]) -> None:
    one = results[3]
    known = with_variant((compare("a", one),), compare("b", one, first=one))
    other = compare("a", renamed(one, [2, 0, 1]))
    first, second = with_variant(known, other)
    np.testing.assert_array_equal(first.renamed, [0, 1, 2])
    np.testing.assert_array_equal(second.labels(2, (32, 48)), first.labels(2, (32, 48)))


def test_plan() -> None:
    base = Settings(k=4, model="full")
    planned = plan(base, ["full", "no-lc"], ks=[3], taus=[2])
    assert list(planned) == [
        "Space-time, with L_c, K = 4",
        "Space-time, without L_c, K = 4",
        "Space-time, with L_c, K = 3",
        "Space-time, with L_c, K = 4, τ = +2",
    ]
    assert planned["Space-time, without L_c, K = 4"] == replace(base, model="no-lc")
    assert list(plan(base, ["full"], refinement=True).values())[1] == replace(base, refine=True)
    other_way = plan(replace(base, refine=True), ["full"], refinement=True)
    assert list(other_way)[1] == "Space-time, with L_c, K = 4, not refined"
    halved = plan(replace(base, stride=2), ["full"], taus=[2, -1])
    assert [(each.taus, each.stride) for each in halved.values()] == [
        ((1,), 2),
        ((2,), 1),
        ((-1,), 2),
    ]
    assert list(halved)[1].endswith("τ = +2, stride 1")
    alike = plan(base, ["full", "a/best.safetensors", "b/best.safetensors"])
    assert list(alike)[1:] == ["best, K = 4", "best, K = 4 (2)"]
    assert alike["best, K = 4 (2)"].model == "b/best.safetensors"
    with pytest.raises(InputError, match="at least two"):
        plan(base, ["full"], ks=[4])  # the same twice
    with pytest.raises(InputError, match="5 variants are chosen, but 4 fit"):
        plan(base, ["full", "no-lc", "spatial"], ks=[3], taus=[2])
    assert title_of(replace(base, model="x/fitted.safetensors")) == "fitted, K = 4, τ = +1"


def test_differences_keep_their_colour() -> None:
    image = np.full((4, 6, 3), 200, np.uint8)
    first = np.zeros((4, 6), np.uint8)
    labels = first.copy()
    labels[1, 2] = 3
    picture = difference_picture(image, labels, labels != first)
    coloured = (picture != picture[..., :1]).any(axis=2)
    assert np.argwhere(coloured).tolist() == [[1, 2]]
    assert tuple(picture[1, 2]) == COLOURS[3]


def test_a_background_that_differs_is_not_taken_for_agreement() -> None:
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)  # all grays
    differs = np.zeros((16, 16), bool)
    differs[8:] = True
    picture = difference_picture(image, np.zeros((16, 16), np.uint8), differs)
    assert (picture[8:] == COLOURS[0]).all()
    assert int(picture[:8].min()) - max(COLOURS[0]) > 90
    assert (np.diff(picture[:8, :, 0].reshape(-1)[::4].astype(int)) == 1).all()  # still a frame


@pytest.mark.parametrize("count", [2, 3])
def test_video(results: dict[int, Segmentation], tmp_path: Path, count: int) -> None:
    variants = [compare(f"K = {k}", results[k], results[3]) for k in (3, 2, 4)[:count]]
    path = tmp_path / "comparison.mp4"
    comparison_video(variants, path)
    written = probe(path)
    assert written.frames == len(results[3])
    assert written.size == ((count + 1) // 2 * (64 + 26), 2 * 96)
    with pytest.raises(Cancelled):
        comparison_video(variants, tmp_path / "stopped.mp4", stop=lambda: True)


def test_files_hold_what_the_screen_shows(results: dict[int, Segmentation], tmp_path: Path) -> None:
    variants = [compare(f"K = {k}", results[k], results[3]) for k in (3, 2)]
    n = len(results[3])

    def told(settings: Settings) -> Settings:
        return replace(settings, model="told")

    steps = list(write_comparison(variants, tmp_path / "out", told=told))
    assert steps == list(range(1, n + 1))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert record["eta"] == variants[0].measures.eta
    assert [each["title"] for each in record["variants"]] == ["K = 3", "K = 2"]
    assert [each["settings"]["model"] for each in record["variants"]] == ["told", "told"]
    with (tmp_path / "out" / "comparison.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    with (tmp_path / "out" / "frames.csv").open(newline="") as file:
        frames = list(csv.DictReader(file))
    assert [each["variant"] for each in table] == ["K = 3", "K = 2"]
    for row, variant in zip(table, variants, strict=True):
        assert float(row["flicker"]) == pytest.approx(variant.measures.flicker, rel=1e-5)
        assert row["J"] == ("" if variant.measures.j is None else f"{variant.measures.j:.6g}")
        assert int(row["frames"]) == n
    assert len(frames) == 2 * n
    assert frames[0]["flicker"] == ""  # there is no frame before the first
    for row, flicker in zip(frames, variants[0].measures.over_frames.flicker, strict=False):
        assert row["flicker"] == ("" if flicker is None else f"{flicker:.6g}")
    assert any(each["flicker"] for each in frames)
    with pytest.raises(Cancelled):
        list(write_comparison(variants, tmp_path / "stopped", stop=lambda: True))


def test_one_clip_alone_is_not_renamed(clip: Clip, tiny_model: Path) -> None:
    one = segment(clip, Settings(k=2, model=str(tiny_model), device="cpu"))
    np.testing.assert_array_equal(compare("one", one).renamed, [0, 1])


def test_the_temporal_loss_is_that_at_one_eta(results: dict[int, Segmentation]) -> None:
    one = results[3]
    other = replace(one, settings=replace(one.settings, eta=0.3))
    first = compare("0", one)
    own = compare("1", other)
    assert own.measures.eta == 0.3
    assert own.measures.consistency < first.measures.consistency
    beside = with_variant((first,), own)[1]
    assert beside.measures.eta == first.measures.eta
    assert beside.measures.consistency == pytest.approx(first.measures.consistency, rel=1e-5)
    asked = compare("1", other, one)
    assert asked.measures.consistency == pytest.approx(first.measures.consistency, rel=1e-5)


def test_a_title_tells_what_the_shown_run_has_otherwise() -> None:
    base = Settings(stride=1)
    changed = replace(base, k=3, model="full", merge=0.5, eta=0.1)
    assert comparable(base, changed)
    assert differences(changed, base) == []
    changed = replace(base, taus=(-2,), flow="x/mine", linkage="greedy", max_frames=20)
    assert not comparable(base, changed)
    told = ["τ = -2", "own flow", "linkage greedy", "20 frames"]
    assert differences(changed, base) == told
    assert differences(base, replace(base, max_frames=5)) == ["all frames"]


def test_merged_labels_are_called_so_beside_other_merged_ones() -> None:
    """Else figures of merged and of separate segments stand under one title."""
    base = Settings(merge=0.3)
    assert title_of(base, base) == "Several motions, K = 4, merged at 0.30"
    assert all(title.endswith("merged at 0.30") for title in plan(base, ["full", "no-lc"]))
