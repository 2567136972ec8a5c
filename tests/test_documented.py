"""The scores that the documents tell of the shipped models are those that they have now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stseg.evaluation import evaluate
from stseg.layouts import find_clips
from stseg.pipeline import load_network
from stseg.records import Settings

SEQUENCE = "libby"
"""Short, and the first to fall when labels are lost."""

TABLE_1 = {"no-lc": 2, "spatial": 4, "frame": 6}
"""Variants of the table of ablations, and the column of their J."""

PAPER = Settings(stride=1, linkage="greedy", subsequence=10, device="cpu")
PAGE = replace(PAPER, stride=2, linkage="one-to-one")

NEAR = 3.0
"""Points: rounding differs from processor to processor."""


def documented(variant: str) -> tuple[float, float]:
    """J and F with RAFT in checkpoints/README.md."""
    text = (Path(__file__).parents[1] / "checkpoints" / "README.md").read_text(encoding="utf-8")
    title = "`no-lc`, `spatial`" if variant in TABLE_1 else f"`{variant}`"
    section = text.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0]
    (row,) = (line for line in section.splitlines() if line.startswith(f"| {SEQUENCE} |"))
    figures = [float(each) for each in row.strip("| ").split("|")[1:]]
    column = TABLE_1.get(variant, 0)
    return figures[column], figures[column + 1]


@pytest.mark.parametrize("variant", ["full", "several", "no-lc"])
def test_a_model_scores_what_the_documents_say(variant: str, shared: Path) -> None:
    root = shared / "davis16"
    (clip,) = (each for each in find_clips(root) if each.name == SEQUENCE)
    settings = replace(PAGE if variant == "several" else PAPER, model=variant)
    flows = root / "flows" / "raft-sintel"
    (score,) = evaluate([clip], settings, load_network(variant), flows)
    told = score.to_json()
    j, f = documented(variant)
    assert 100 * told["J"] == pytest.approx(j, abs=NEAR)
    assert 100 * told["F"] == pytest.approx(f, abs=NEAR)
