"""Whole runs on small copies of the published layouts, scored again from the pictures they write.

The layouts are those that public readers of the data sets take: SegTrackV2 as
``JPEGImages/NAME/NAME_00000.png``, ``GroundTruth/NAME[/OBJECT]/…`` and ``ImageSets/all.txt`` with a
star before each name; FBMS-59 as ``Testset/NAME/NAME_01.jpg`` with a list of frames ``NAME.bmf``
and sparse masks in ``GroundTruth``, which a definition file ``NAMEDef.dat`` describes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stseg import pipeline
from stseg.cli import main
from stseg.synthetic import RenderedClip

N = 6
Reader = Callable[[Path], np.ndarray]


@pytest.fixture(autouse=True)
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "grid_for", lambda size: (32, 56))


def save(picture: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.fixture
def segtrack(tmp_path: Path, rendered: RenderedClip) -> Path:
    """A sequence with a folder an object, and one whose masks lie in one folder."""
    root = tmp_path / "SegTrackv2"
    for index in range(N):
        for name in ("bmx", "frog"):
            save(rendered.frames[index], root / f"JPEGImages/{name}/{name}_{index + 5:05d}.png")
        inside = [(rendered.labels[index] == k).astype(np.uint8) * 255 for k in (1, 2)]
        for number, mask in enumerate(inside, 1):
            save(mask, root / f"GroundTruth/bmx/{number}/bmx_{index + 5:05d}.png")
        save(inside[0] | inside[1], root / f"GroundTruth/frog/{index + 5:05d}.png")
    (root / "ImageSets").mkdir()
    (root / "ImageSets/all.txt").write_text("*bmx\n*frog\n")
    names = "\n".join(f"frog_{index + 5:05d}" for index in range(N))
    (root / "ImageSets/frog.txt").write_text(f"{N}\n{names}\n")
    return root


@pytest.fixture
def fbms(tmp_path: Path, rendered: RenderedClip) -> Path:
    """A sequence with gray masks of frames 0 and 4, and one with colours of frames 1 and 5."""
    root = tmp_path / "FBMS"
    for name, annotated, suffix in (("cars1", (0, 4), "pgm"), ("cats01", (1, 5), "ppm")):
        folder = root / "Testset" / name
        for index in range(N):
            save(rendered.frames[index], folder / f"{name}_{index + 1:02d}.jpg")
        listed = "\n".join(f"{name}_{index + 1:02d}.ppm" for index in range(N))
        (folder / f"{name}.bmf").write_text(f"{N} 1\n{listed}\n")
        colours = np.array([[85] * 3, [0] * 3, [255] * 3], np.uint8)  # the background is gray
        if suffix == "ppm":
            colours = np.array([[255] * 3, [0] * 3, [255, 0, 0]], np.uint8)
        lines = [
            "Ground truth definition file; do not change!",
            "",
            "Total number of regions:",
            "3",
        ]
        for number, (r, g, b) in enumerate(colours.astype(int)):
            code = r if suffix == "pgm" else 65536 * r + 256 * g + b
            lines += [f"Scale of region {number}:", str(code)]
        lines += ["", "Confusion penality matrix", "0 1 1", "1 0 1", "1 1 0", ""]
        lines += ["Total number of frames in this shot:", str(N)]
        lines += ["Total number of labeled frames for this shot:", str(len(annotated))]
        for index in annotated:
            mask = colours[rendered.labels[index]]
            stem = f"{name}_{index + 1:02d}"
            save(
                mask[..., 0] if suffix == "pgm" else mask,
                folder / f"GroundTruth/{stem}_gt.{suffix}",
            )
            lines += ["Frame number:", str(index), "File name:", f"{stem}_gt.{suffix}"]
            lines += ["Input file name:", f"{stem}.ppm"]
        (folder / f"GroundTruth/{name}Def.dat").write_text("\n".join(lines))
    return root


def evaluate(root: Path, model: Path, *words: str) -> int:
    known = ["evaluate", "--root", str(root), "--model", str(model), "--k", "3"]
    return main([*known, "--device", "cpu", "--subsequence", "3", *words])


def j_again(foreground: Path, truth: np.ndarray) -> float:
    """J of a written foreground, with nothing of this project."""
    with Image.open(foreground) as picture:
        ours = np.array(picture) == 255
    return float((ours & truth).sum() / (ours | truth).sum())


def test_segtrack_groups_its_objects_and_averages_over_frames(
    segtrack: Path, rendered: RenderedClip, tiny_model: Path, tmp_path: Path
) -> None:
    out, labels = tmp_path / "out.json", tmp_path / "labels"
    words = ["--split", "all", "--json", str(out), "--labels", str(labels)]
    assert evaluate(segtrack, tiny_model, *words) == 0
    told = json.loads(out.read_text())
    assert (told["dataset"], told["protocol"]) == ("segtrackv2", "frames")
    scores = {}
    for name in ("bmx", "frog"):
        scores[name] = [
            j_again(labels / f"{name}/foreground/{name}_{t + 5:05d}.png", rendered.labels[t] > 0)
            for t in range(N)
        ]
        assert told["sequences"][name]["per_frame"]["J"] == pytest.approx(scores[name], abs=1e-12)
        assert told["sequences"][name]["J"] == pytest.approx(np.mean(scores[name]))
    assert told["mean"]["J"] == pytest.approx(np.mean([*scores["bmx"], *scores["frog"]]))
    assert told["sequences"]["bmx"]["objects_iou"] is not None
    assert told["sequences"]["frog"]["objects_iou"] is None  # one object, as far as masks tell


def test_fbms_scores_the_frames_that_are_annotated(
    fbms: Path, rendered: RenderedClip, tiny_model: Path, tmp_path: Path
) -> None:
    out, labels = tmp_path / "out.json", tmp_path / "labels"
    words = ["--split", "test", "--json", str(out), "--labels", str(labels)]
    assert evaluate(fbms, tiny_model, *words) == 0
    told = json.loads(out.read_text())
    assert (told["dataset"], told["scored"]) == ("fbms59", {"sequences": 2, "frames": 4})
    every = []
    for name, annotated in (("cars1", (0, 4)), ("cats01", (1, 5))):
        scores = [
            j_again(labels / f"{name}/foreground/{name}_{t + 1:02d}.png", rendered.labels[t] > 0)
            for t in annotated
        ]
        assert told["sequences"][name]["per_frame"]["frame"] == list(annotated)
        assert told["sequences"][name]["per_frame"]["J"] == pytest.approx(scores, abs=1e-12)
        assert told["sequences"][name]["objects_iou"] is not None
        assert len(list((labels / name / "labels").glob("*.png"))) == N
        every += scores
    assert told["mean"]["J"] == pytest.approx(np.mean(every))


def without_frame(root: Path) -> None:
    (root / "JPEGImages/frog/frog_00008.png").unlink()


def other_size(root: Path) -> None:
    Image.new("L", (9, 9)).save(root / "GroundTruth/frog/00008.png")


def truncated(root: Path) -> None:
    path = root / "GroundTruth/frog/00008.png"
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (without_frame, "00008.png belongs to no frame of frog"),
        (other_size, "00008.png is 9x9, but its video is 96x64"),
        (truncated, "00008.png is not a readable picture"),
    ],
)
def test_wrong_data_is_named_and_not_averaged_over(
    segtrack: Path,
    tiny_model: Path,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    sentence: str,
) -> None:
    spoil(segtrack)
    out = tmp_path / "out.json"
    assert evaluate(segtrack, tiny_model, "--json", str(out)) == 2
    told = json.loads(out.read_text())
    assert sentence in told["failed"]["frog"]
    assert list(told["sequences"]) == ["bmx"]
    assert told["mean"]["J"] == pytest.approx(told["sequences"]["bmx"]["J"])


def test_odd_masks_are_told_and_scored(segtrack: Path, tiny_model: Path, tmp_path: Path) -> None:
    folder = segtrack / "GroundTruth/frog"
    with Image.open(folder / "00006.png") as mask:
        mask.convert("LA").save(folder / "00006.png")
        palette = Image.fromarray((np.array(mask) > 0).astype(np.uint8))
    palette.putpalette([9, 9, 9, 0, 0, 0])
    palette.save(folder / "00007.png")
    Image.new("L", (96, 64)).save(folder / "00008.png")
    out = tmp_path / "out.json"
    assert evaluate(segtrack, tiny_model, "--sequences", "frog", "--json", str(out)) == 0
    told = json.loads(out.read_text())["sequences"]["frog"]
    notes = " ".join(told["notes"])
    assert "00006.png) is in mode LA" in notes
    assert "00007.png) has a palette whose first colour is not black" in notes
    assert "1 of the masks is empty (frame 3), which" in notes
    assert told["frames"] == N
    assert told["per_frame"]["J"][3] == 0  # something was found where nothing is
