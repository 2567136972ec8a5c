"""Extra files of a run: those that somebody asked for, and no work for others."""

from __future__ import annotations

from pathlib import Path

from stseg.formats import EXTRAS
from stseg.records import Clip, Settings
from stseg.ui.work import segment_clip


def test_only_what_was_asked_for_is_made(clip: Clip, tiny_model: Path, tmp_path: Path) -> None:
    settings = Settings(k=2, model=str(tiny_model), device="cpu", max_frames=4)
    *_, last = segment_clip(clip, settings, tmp_path, None, lambda: False, extras=["motion"])
    assert last.shown is not None
    always = {"labels-png.zip", "labels.npz", "overlay.mp4", "grid.mp4", "summary.json"}
    assert last.shown.files.keys() == {*always, "motion.csv"}
    others = {extra.file for name, extra in EXTRAS.items() if name != "motion"}
    assert not others & {path.name for path in tmp_path.rglob("*")}
