"""Tab: a data set scored sequence by sequence, beside what was published."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from stseg.errors import Cancelled, InputError
from stseg.files import write_atomically
from stseg.published import in_words
from stseg.ui.benchmark_board import board_of
from stseg.ui.benchmark_work import CACHED, Scores, Scoring, scores_of, scoring_of
from stseg.ui.controls import OWN_FLOW
from stseg.ui.given import whole_or_none
from stseg.ui.markup import note
from stseg.ui.offered import ALL, chosen, splits
from stseg.ui.view import Context, Job, Progress, TabView

SUBSEQUENCE = 10
LENGTH = "Sub-sequence"
ABOUT = (
    "Segments the sequences of a data set, chooses the foreground with the ground truth once per "
    "sub-sequence (Sec. 4.2) and scores it as DAVIS does. K, τ, model, linkage and "
    "refinement are those of the left column. A triplet is taken at every frame, as in what was "
    "published, unless the left column asks for every second one. Results are kept: the same "
    "settings are scored once."
)
EMPTY = "Scores appear here, a row as soon as its sequence is done."
FLOW_CHOICES = [("Cached, beside the data", CACHED), ("As on the left", "left")]


class Benchmark:
    """The tab, for the data sets that the server offers.

    Args:
        folders: title → folder.
    """

    TITLE = "Benchmark"

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders

    def build(self) -> TabView:
        """Lay out the tab."""
        first = next(iter(self._folders), None)
        gr.HTML(note(ABOUT), elem_classes="heading")
        with gr.Row(elem_id="benchmark-options", equal_height=True):
            data = gr.Dropdown(
                choices=list(self._folders),
                value=first,
                label="Data set",
                info="Offered by whoever runs this server (--data DIR).",
                elem_id="benchmark-data",
            )
            lists, names = self._contents(first)
            split = gr.Dropdown(
                choices=lists,
                value=ALL,
                label="Split",
                info="A list of the data set, or all that has ground truth.",
                elem_id="benchmark-split",
            )
            only = gr.Dropdown(
                choices=names,
                value=[],
                multiselect=True,
                label="Sequences",
                info="Only these; none takes all.",
                elem_id="benchmark-only",
            )
            flow = gr.Radio(
                choices=FLOW_CHOICES,
                value=CACHED,
                label="Flow",
                info="Flow that is there already, or by the estimator on the left.",
                elem_id="benchmark-flow",
            )
            length = gr.Number(
                # No minimum: Gradio would refuse what is below, and the job never hear of it.
                SUBSEQUENCE,
                label=LENGTH,
                info="Frames for which the foreground is chosen at once; 0 is the whole video.",
                elem_id="benchmark-length",
            )
        with gr.Row(elem_id="benchmark-buttons"):
            start = gr.Button("Score", variant="primary", elem_id="benchmark-start", min_width=80)
            stop = gr.Button("Stop", variant="stop", elem_id="benchmark-stop", min_width=80)
            download = gr.DownloadButton(
                "Scores (JSON)",
                interactive=False,
                size="sm",
                min_width=80,
                elem_id="benchmark-download",
            )
        board = gr.HTML(note(EMPTY), elem_id="benchmark-board")
        data.input(
            self._turn,
            data,
            [split, only],
            show_progress="hidden",
            api_visibility="private",
            queue=False,
        )
        job = Job(
            start.click,
            self._run,
            reads=(data, split, only, flow, length),
            fills=(board, download),
            stop=(stop.click,),
            plan=self._planned,
            waiting="Waiting for the machine to score …",
            called="the scoring",
            lasting=True,
        )
        return TabView(jobs=(job,))

    def _contents(self, title: str | None) -> tuple[list[str], list[str]]:
        if title is None or title not in self._folders:
            return [ALL], []
        data_set = chosen(self._folders, title)
        return splits(data_set), [each.name for each in data_set.choose()[0]]

    def _turn(self, title: str | None) -> tuple[Any, Any]:
        lists, names = self._contents(title)
        return gr.update(choices=lists, value=ALL), gr.update(choices=names, value=[])

    def _planned(
        self,
        context: Context,
        title: str | None,
        split: str,
        only: Sequence[str],
        flow: str,
        length: int | float | None,
    ) -> tuple[str, Scoring]:
        """What is scored, and how. Raises InputError where it cannot be."""
        data_set = chosen(self._folders, title or "")
        subsequence = whole_or_none(LENGTH, length, SUBSEQUENCE) or 0
        settings = replace(context.plain_settings(), subsequence=subsequence)
        if flow != CACHED and settings.flow == OWN_FLOW:
            raise InputError(
                "The flow on the left is your own and belongs to one clip. Choose an estimator on "
                "the left, or the cached flow, to score a data set."
            )
        return str(title), scoring_of(data_set, split, only, settings, flow == CACHED)

    def _run(self, context: Context, title: str, scoring: Scoring) -> Iterator[Progress]:
        steps = scores_of(scoring, context.stop)
        shown = 0  # the table of an earlier run stays, with its file, until there is a row
        latest: Scores | None = None
        for latest in steps:
            done, total = len(latest.outcomes), len(latest.entries)
            values = None
            if done != shown:
                values, shown = (board_of(latest), _file(context, latest)), done
            name, frames = latest.doing
            text = f"Scoring {in_words(total)} of {title}: {done} done"
            text += f", {name} at frame {frames}" if name and done < total else ""
            yield Progress(text, done, total, values)
        if latest is None:
            return
        yield Progress(_told(latest, title))


def _file(context: Context, latest: Scores) -> Any:
    """The button with the scores of this table: it may be the last, if the visitor turns away."""
    folder = context.served() / str(len(latest.outcomes))  # an address of its own for each table
    try:
        folder.mkdir()
    except FileNotFoundError as error:
        raise Cancelled("The visitor left, and their folder went.") from error
    path = folder / "scores.json"
    write_atomically(path, (json.dumps(latest.to_json(), indent=1) + "\n").encode())
    return gr.update(value=str(path), interactive=bool(latest.scores))


def _told(latest: Scores, title: str) -> str:
    count, total = len(latest.scores), len(latest.entries)
    if latest.stopped:
        scored = f"{count} of {in_words(total)} of {title} {'is' if count == 1 else 'are'} scored"
        return f"Stopped. {scored} and kept."
    failed = total - count
    wrong = f" {failed} could not be scored and are in no mean." if failed else ""
    return f"{in_words(count)} of {title} {'is' if count == 1 else 'are'} scored.{wrong}"
