"""What an ablation found, as tables, as JSON and CSV values, and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stseg.ablation import Figures
from stseg.ablation_rows import ETA_NOTE, PUBLISHED_ON, Row
from stseg.published import MEASURED_ON, caption, in_words

COLUMNS = {
    "J": "J",
    "J_unsupervised": "J no truth",
    "J_once": "J once",
    "flicker": "flicker",
    "switches": "switches",
    "L_c": "L_c",
}
"""Figures of a line (``Figures.to_json``), in the order of the tables, with the words over them."""

DIGITS = {"L_c": 3}
"""Digits after the point, where one is not enough."""

TITLES = {
    "variants": "Variants (Table 1 of the paper)",
    "k": "Number of segments K",
    "tau": "Temporal step τ",
    "eta": "Share η of sites that L_c leaves out",
    "subsequence": "Length of the sub-sequences, in frames",
    "linkage": "Linkage",
    "stride": "Frames from one triplet to the next",
    "refine": "Masks refined by the flow",
}

NAMED = ("variants", "linkage", "refine")
"""Parts whose values have no order: no line joins them."""

LINES = {
    "J": ("#0072b2", "o", 11),
    "J_unsupervised": ("#009e73", "s", 7),
    "J_once": ("#e69f00", "^", 4),
    "flicker": ("#d55e00", "x", 6),
}
"""What the picture shows: colour, marker and its size. Markers nest, since values often agree, and
the colours are told apart in the common colour-vision deficiencies."""

ETA_LINES = {"L_c": ("#cc79a7", "d", 6)}
"""The same for the sweep over η, on which nothing else depends."""

SCORES = ("J", "J_unsupervised", "J_once")
"""Figures that are means over frames."""

PAPER = f"paper, {in_words(len(MEASURED_ON[PUBLISHED_ON]))}"
"""What the paper's J is a mean over, whatever is measured here."""


@dataclass(frozen=True)
class Line:
    """A line of a table with what was measured for it.

    Attributes:
        row: what was tried.
        sequences: figures of each sequence; none where the checkpoint is missing.
        protocol: in ``stseg.scoring.PROTOCOLS``; with ``frames`` J of every kind is a mean over the
            frames of all sequences.
    """

    row: Row
    sequences: Mapping[str, Figures]
    protocol: str = "davis"

    def mean(self, figure: str) -> float | None:
        """Mean over the sequences that have the figure, as a fraction of 1; None without any."""
        every = list(self.sequences.values())
        values = np.array([each.to_json()[figure] for each in every], np.float64)  # NaN for None
        by_frame = self.protocol == "frames" and figure in SCORES
        weights = np.array([each.frames if by_frame else 1 for each in every], np.float64)
        known = np.isfinite(values) & (weights > 0)
        return float(np.average(values[known], weights=weights[known])) if known.any() else None

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        row = self.row
        return {
            "value": row.value,
            "base": row.base,
            "missing": row.settings is None,
            "published_J": row.published,
            "settings": None if row.settings is None else row.settings.to_json(),
            "mean": {name: self.mean(name) for name in COLUMNS},
            "sequences": {name: each.to_json() for name, each in self.sequences.items()},
        }


def parts_of(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """The lines of each table, in order."""
    parts: dict[str, list[Line]] = {}
    for line in lines:
        parts.setdefault(line.row.part, []).append(line)
    return parts


def as_json(lines: Sequence[Line], about: Mapping[str, Any]) -> dict[str, Any]:
    """The whole result as JSON values, scores as fractions of 1."""
    tables = {part: [line.to_json() for line in own] for part, own in parts_of(lines).items()}
    notes = {"eta_note": eta_note(lines), "paper_note": paper_note(lines)}
    return {**about, **notes, **tables}


def eta_note(lines: Sequence[Line]) -> str:
    """What a sweep over η shows, as a sentence; empty where there is none."""
    return ETA_NOTE if any(line.row.part == "eta" for line in lines) else ""


def paper_note(lines: Sequence[Line]) -> str:
    """Whether J compares with the paper's, as a sentence; empty where none stands beside it."""
    beside = [line.sequences for line in lines if line.row.published is not None and line.sequences]
    if not beside:
        return ""
    return caption(PUBLISHED_ON, beside[0], sum(each.frames for each in beside[0].values()))


def as_csv(lines: Sequence[Line]) -> str:
    """One record a line and sequence, and one for the mean of each line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["part", "value", "sequence", "published_J", *COLUMNS, "frames"])
    for line in lines:
        row = line.row
        head = [row.part, row.value]
        means = [line.mean(name) for name in COLUMNS]
        frames = sum(each.frames for each in line.sequences.values())
        writer.writerow([*head, "mean", _plain(row.published), *map(_plain, means), frames])
        for name, figures in line.sequences.items():
            told = figures.to_json()
            values = [_plain(told[column]) for column in COLUMNS]
            writer.writerow([*head, name, "", *values, figures.frames])
    return text.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None or not np.isfinite(value) else f"{value:.6f}"


def as_text(lines: Sequence[Line]) -> str:
    """The tables for a terminal, in percent."""
    blocks = []
    for part, own in parts_of(lines).items():
        note = paper_note(own)
        rows = [_title(part, own), *_aligned(_cells(part, own)), *([note] if note else [])]
        blocks.append("\n".join(rows))
    return "\n\n".join(blocks)


def as_markdown(lines: Sequence[Line], about: str) -> str:
    """The tables in Markdown, in percent, with what they were measured on."""
    blocks = [about]
    for part, own in parts_of(lines).items():
        head, *rows = _cells(part, own)
        rule = ["---", *["---:"] * (len(head) - 1)]
        table = "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))
        note = paper_note(own)
        blocks += [f"## {_title(part, own)}\n\n{table}", *([note] if note else [])]
    note = eta_note(lines)
    return "\n\n".join([*blocks, *([note] if note else [])]) + "\n"


def _title(part: str, lines: Sequence[Line]) -> str:
    return f"{TITLES.get(part, part)}: {_measured(lines)}, in %"


def _measured(lines: Sequence[Line]) -> str:
    of = f"mean of {in_words(max((len(line.sequences) for line in lines), default=0))}"
    if any(line.protocol == "frames" for line in lines):
        of += " (J of all their frames)"
    return of


def _cells(part: str, lines: Sequence[Line]) -> list[list[str]]:
    paper = part == "variants"
    rows = [["", *([f"J ({PAPER})"] if paper else []), *COLUMNS.values()]]
    for line in lines:
        name = line.row.value + (" *" if line.row.base and not paper else "")
        cells = [f"{name} (no checkpoint)" if line.row.settings is None else name]
        if paper:
            cells.append(_percent(line.row.published))
        figures = [_percent(line.mean(name), DIGITS.get(name, 1)) for name in COLUMNS]
        rows.append([*cells, *figures])
    return rows


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for name, *figures in rows:
        cells = [each.rjust(width) for each, width in zip(figures, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *cells]))
    return lines


def as_picture(lines: Sequence[Line]) -> bytes:
    """One chart a table, as a PNG file: the mean of each figure over what was tried."""
    parts = parts_of(lines)
    figure = Figure(figsize=(5 * max(len(parts), 1), 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (part, own) in zip(
        figure.subplots(1, max(len(parts), 1), squeeze=False)[0], parts.items(), strict=False
    ):
        shown = ETA_LINES if part == "eta" else LINES
        for name, (colour, marker, size) in shown.items():
            known = [(at, line.mean(name)) for at, line in enumerate(own)]
            points = [(at, 100 * value) for at, value in known if value is not None]
            if points:
                style = marker if part in NAMED else f"{marker}-"
                axes.plot(
                    *zip(*points, strict=True),
                    style,
                    color=colour,
                    ms=size,
                    mfc="none",
                    label=COLUMNS[name],
                )
        published = [(at, line.row.published) for at, line in enumerate(own)]
        told = [(at, 100 * value) for at, value in published if value is not None]
        if told:
            axes.plot(*zip(*told, strict=True), "k_", ms=16, mew=2, label=f"J ({PAPER})")
        axes.set_xticks(range(len(own)), [line.row.value for line in own])
        if part in NAMED:
            for label in axes.get_xticklabels():
                label.set(rotation=20, ha="right")
        axes.set_title(f"{TITLES.get(part, part)}\n{_measured(own)}", fontsize=10)
        axes.set_xlim(-0.5, len(own) - 0.5)
        if part == "eta":
            axes.margins(y=0.15)
        axes.set_ylim(0, None if part == "eta" else 100)
        axes.set_ylabel("%")
        axes.grid(alpha=0.3)
        if axes.has_data():
            axes.legend(frameon=False, fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
