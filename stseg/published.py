"""Published scores, as Table 2 of the paper compares them, beside what is measured here.

The numbers are data: ``published.json``, each with its source. A number that could not be looked up
is marked: it was written from memory, and may be wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DATA_SETS = {"davis16": "DAVIS2016", "segtrackv2": "SegTrackV2", "fbms59": "FBMS59"}
SPLITS = {"davis16": 20, "segtrackv2": 14, "fbms59": 30}
"""Sequences on which the published numbers were measured."""

UNSURE = "?"
"""Mark of a number that nobody has looked up."""


@dataclass(frozen=True)
class Published:
    """The published scores of one system.

    Attributes:
        name: of the system.
        group: what it sees and how it was trained.
        source: where the numbers were published.
        j: mean J in percent by data set; None where none is known.
        f: mean F in percent by data set, where one is known.
        confirmed: for each number of ``j`` that was looked up, where.
        note: what else to know.
    """

    name: str
    group: str
    source: str
    j: Mapping[str, float | None]
    f: Mapping[str, float]
    confirmed: Mapping[str, str]
    note: str = ""

    def told(self, data_set: str) -> str:
        """J as a table tells it: "69.3", "68.3?" for a number that nobody looked up, or "-"."""
        value = self.j.get(data_set)
        if value is None:
            return "-"
        return f"{value:.1f}{'' if data_set in self.confirmed else UNSURE}"


@cache
def published() -> tuple[Published, ...]:
    """All systems, in the order of the table."""
    data = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    places = data["confirmed"]
    return tuple(
        Published(
            each["name"],
            each["group"],
            each["source"],
            each["J"],
            each.get("F", {}),
            {name: places[place] for name, place in each["confirmed"].items()},
            each.get("note", ""),
        )
        for each in data["systems"]
    )


def caption(data_set: str, sequences: int, frames: int) -> str:
    """What was measured here and on what, and what does not compare."""
    title = DATA_SETS.get(data_set)
    plural = "" if sequences == 1 else "s"
    measured = f"Ours: {sequences} sequence{plural}, {frames} frames"
    if title is None:
        return f"{measured} of a folder of yours; nothing is published for it."
    whole = SPLITS[data_set]
    if sequences < whole:
        return (
            f"{measured} of {title}; the published numbers are means over {whole} sequences, so "
            "that they stand beside ours but do not compare."
        )
    return f"{measured} of {title}, as the published numbers."


def table(data_set: str, j: float, sequences: int, frames: int) -> str:
    """Table 2 as Markdown, ours first.

    Args:
        data_set: kind of the data set that was measured.
        j: our mean J, as a fraction of 1.
        sequences: number of sequences that were scored.
        frames: number of frames that were scored.
    """
    ours = [f"**{100 * j:.1f}**" if name == data_set else "-" for name in DATA_SETS]
    lines = [
        f"| J in percent | {' | '.join(DATA_SETS.values())} | source |",
        "|---|" + "---|" * (len(DATA_SETS) + 1),
        f"| **this run** | {' | '.join(ours)} | measured here |",
    ]
    group = ""
    for each in published():
        if each.group != group:
            group = each.group
            lines.append(f"| *{group}* |" + " |" * (len(DATA_SETS) + 1))
        told = " | ".join(each.told(name) for name in DATA_SETS)
        lines.append(f"| {each.name} | {told} | {each.source} |")
    lines += [
        "",
        caption(data_set, sequences, frames),
        f"A {UNSURE} marks a number that was written from memory and not looked up.",
    ]
    return "\n".join(lines)
