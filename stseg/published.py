"""Published scores, as Table 2 of the paper compares them, beside what is measured here.

The numbers are data: ``published.json``, each with its source. A number that could not be looked up
is marked: it was written from memory, and may be wrong.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stseg.splits import DAVIS16, FBMS59, SEGTRACKV2

DATA_SETS = {"davis16": "DAVIS2016", "segtrackv2": "SegTrackV2", "fbms59": "FBMS59"}
MEASURED_ON = {"davis16": DAVIS16["val"], "segtrackv2": SEGTRACKV2["all"], "fbms59": FBMS59["test"]}
"""Sequences on which the published numbers were measured."""

OWN = "your data"
"""Column of a data set for which nothing is published."""

UNSURE = "?"
"""Mark of a number that nobody has looked up."""

UNSURE_NOTE = f"{UNSURE} marks a number from memory: nobody could look it up at its source."


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


def caption(data_set: str, sequences: Collection[str], frames: int, refined: bool = False) -> str:
    """What was measured here and on what, and what does not compare.

    Args:
        data_set: kind of the data set that was measured.
        sequences: names of those that were scored: as many others are another test.
        frames: number of frames that were scored.
        refined: whether the masks were refined by the flow.
    """
    said = _measured(data_set, sequences, frames)
    return (
        f"{said} Masks were refined by the flow, which the paper does not do." if refined else said
    )


def in_words(sequences: int) -> str:
    """A number of sequences."""
    return f"{sequences} sequence{'' if sequences == 1 else 's'}"


def _measured(data_set: str, sequences: Collection[str], frames: int) -> str:
    title = DATA_SETS.get(data_set)
    measured = f"Ours: {in_words(len(sequences))}, {frames} frames"
    if title is None:
        return f"{measured} of data for which nothing is published."
    whole = MEASURED_ON[data_set]
    others = [name for name in sequences if name not in whole]
    if others:
        return (
            f"{measured} of {title}; other sequences than the {len(whole)} of the published "
            f"numbers ({others[0]} is none of them): not to be compared."
        )
    if len(sequences) < len(whole):
        return (
            f"{measured} of {title}; the published numbers are means over {len(whole)} sequences, "
            "so that they stand beside ours but do not compare."
        )
    return f"{measured} of {title}, as the published numbers."


def table(
    data_set: str, j: float, sequences: Collection[str], frames: int, refined: bool = False
) -> str:
    """Table 2 as Markdown, ours first; a data set that it does not have gets a column of its own.

    Args:
        data_set: kind of the data set that was measured.
        j: our mean J, as a fraction of 1.
        sequences: names of those that were scored.
        frames: number of frames that were scored.
        refined: whether the masks were refined by the flow.
    """
    columns = DATA_SETS if data_set in DATA_SETS else {data_set: OWN, **DATA_SETS}
    ours = [f"**{100 * j:.1f}**" if name == data_set else "-" for name in columns]
    lines = [
        f"| J in percent | {' | '.join(columns.values())} | source |",
        "|---|" + "---|" * (len(columns) + 1),
        f"| **this run** | {' | '.join(ours)} | measured here |",
    ]
    group = ""
    for each in published():
        if each.group != group:
            group = each.group
            lines.append(f"| *{group}* |" + " |" * (len(columns) + 1))
        told = " | ".join(each.told(name) for name in columns)
        lines.append(f"| {each.name} | {told} | {each.source} |")
    lines += [
        "",
        caption(data_set, sequences, frames, refined),
        UNSURE_NOTE,
    ]
    return "\n".join(lines)
