"""The scores of a data set as HTML: table, published scores, best and worst frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from stseg.evaluation import Failure, SequenceScore
from stseg.published import DATA_SETS, UNSURE_NOTE, caption, published
from stseg.ui.benchmark_work import Scores
from stseg.ui.markup import note
from stseg.ui.told import told

SHOWN = 4
"""Pictures of the best and of the worst frames."""


def board_of(latest: Scores) -> str:
    """Settings, table, published scores and pictures as HTML."""
    result = latest.to_json()
    # The left column may say something else by now.
    scores = note(told(latest.settings)) + _table(latest, result) + _pictures(latest.scores)
    return (
        f'<div class="benchmark"><div class="scores">{scores}</div>'
        f'<div class="published">{_published(latest, result)}</div></div>'
    )


COLUMNS = {
    "J": ("J", "Region similarity: intersection over union."),
    "F": ("F", "Contour accuracy."),
    "J_once": ("J once", "J where the foreground is chosen once, on labels joined over the video."),
    "flicker": ("Flicker", "Share of the sites whose label changes against the motion."),
    "switches": ("Switches", "Share of the labels that go over to another region."),
    "objects_iou": ("Objects", "Mean IoU: labels assigned to objects one-to-one, 0 if none left."),
}


def _table(latest: Scores, result: Mapping[str, Any]) -> str:
    rows = [each.to_json() for each in latest.scores]
    keys = [key for key in COLUMNS if any(row[key] is not None for row in rows)] or ["J", "F"]
    head = "".join(f'<th title="{escape(COLUMNS[key][1])}">{COLUMNS[key][0]}</th>' for key in keys)
    body = []
    for outcome in latest.outcomes:
        name = f'<th scope="row">{escape(outcome.name)}</th>'
        if isinstance(outcome, Failure):
            reason = f'<td colspan="{len(keys) + 1}">{escape(outcome.reason)}</td>'
            body.append(f'<tr class="failed">{name}{reason}</tr>')
            continue
        row = outcome.to_json()
        cells = "".join(_cell(row[key]) for key in keys)
        hint = escape(" ".join(outcome.notes))
        told = f'role="note" tabindex="0" title="{hint}" aria-label="{hint}"'
        mark = f'<span class="told" {told}></span>' if hint else ""
        body.append(
            f"<tr>{name.replace('</th>', mark + '</th>')}{cells}<td>{row['frames']}</td></tr>"
        )
    mean = ""
    if rows:
        cells = "".join(_cell(result["mean"].get(key)) for key in keys)
        frames = result["scored"]["frames"]
        of = f" of {len(rows)} of {len(latest.entries)}" if len(rows) < len(latest.entries) else ""
        mean = f'<tr class="mean"><th scope="row">Mean{of}</th>{cells}<td>{frames}</td></tr>'
    absent = note(f"Not on the disk: {', '.join(latest.absent)}.") if latest.absent else ""
    return (
        f'<table><thead><tr><th scope="col">Sequence</th>{head}<th>Frames</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody><tfoot>{mean}</tfoot></table>{absent}"
    )


def _cell(value: float | None) -> str:
    if value is None:
        return "<td>-</td>"
    share = f"{100 * min(max(value, 0), 1):.0f}%"
    return f'<td class="bar" style="--share: {share}">{100 * value:.1f}</td>'


def _published(latest: Scores, result: Mapping[str, Any]) -> str:
    kind, scored = latest.data_set.kind, result["scored"]
    said = caption(kind, result["sequences"], scored["frames"], result["settings"]["refine"])
    if kind not in DATA_SETS:
        return note(said)
    ours = f"{100 * result['mean']['J']:.1f}" if result["mean"] else "-"
    rows = [f'<tr class="mean"><th scope="row">This run</th><td>{ours}</td></tr>']
    group = ""
    for each in published():
        if each.group != group:
            group = each.group
            rows.append(f'<tr class="group"><td colspan="2">{escape(group.capitalize())}</td></tr>')
        rows.append(
            f'<tr title="{escape(f"{each.source}. {each.note}")}">'
            f'<th scope="row">{escape(each.name)}</th><td>{each.told(kind)}</td></tr>'
        )
    return (
        f'<table><thead><tr><th scope="col">Published</th><th>J, {DATA_SETS[kind]}</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table>{note(said)}"
        f"{note(UNSURE_NOTE)}"
    )


def _pictures(scores: Sequence[SequenceScore]) -> str:
    parts = []
    for name, title, sign in (("worst", "Worst frames", 1), ("best", "Best frames", -1)):
        ranked = sorted(
            (each for each in scores if name in each.pictures),
            key=lambda each: sign * _j(each, name),
        )
        figures = "".join(
            f'<figure><img src="data:image/jpeg;base64,{each.pictures[name]}" '
            f'alt="{escape(each.name)}: found, false and missed"><figcaption>{escape(each.name)}, '
            f"frame {_frame(each, name)}: J {100 * _j(each, name):.1f}</figcaption></figure>"
            for each in ranked[:SHOWN]
        )
        if figures:
            parts.append(f'<h4>{title}</h4><div class="extremes">{figures}</div>')
    if not parts:
        return ""
    legend = "".join(
        f'<span class="{name}">{title}</span>'
        for name, title in (("found", "found"), ("false", "false"), ("missed", "missed"))
    )
    return (
        f'<div class="verdicts">{"".join(parts)}<p class="note verdict-legend">{legend}</p></div>'
    )


def _j(score: SequenceScore, name: str) -> float:
    return min(score.j) if name == "worst" else max(score.j)


def _frame(score: SequenceScore, name: str) -> int:
    return score.frames[list(score.j).index(_j(score, name))]
