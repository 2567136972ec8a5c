"""``python -m stseg ablate``: the variants of Table 1 and sweeps, on an annotated data set."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from stseg.cli.annotated import (
    add_data_arguments,
    add_work_arguments,
    check_means,
    choose_data,
    flow_folder_of,
    kept,
    work_folder,
)
from stseg.cli.given import a_name, a_path, check_flow_options
from stseg.errors import InputError

if TYPE_CHECKING:
    from stseg.ablation import Figures
    from stseg.ablation_rows import Row
    from stseg.ablation_tables import Line
    from stseg.ablation_work import AblationTask
    from stseg.layouts import DataSet, Entry
    from stseg.records import Settings

NAME = "ablate"
HELP = "Compare the variants (Table 1) and sweep over K, τ, η, linkage, stride and the like."
MODEL = "full"
SWEEPS = ("k", "tau", "eta", "subsequence", "linkage", "stride", "refine")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_data_arguments(parser)
    parser.add_argument(
        "--out", type=a_path, required=True, help="folder for the tables (JSON, CSV, Markdown, PNG)"
    )
    parser.add_argument(
        "--variants",
        nargs="*",
        default=["full", "spatial", "no-lc", "frame", "motion-lc", "several"],
        help="names of variants or checkpoint files to compare; none with no name after it",
    )
    parser.add_argument(
        "--sweep",
        nargs="*",
        default=list(SWEEPS),
        choices=SWEEPS,
        help="what to sweep over; nothing with no name after it",
    )
    parser.add_argument("--model", type=a_name, default=MODEL, help="model of the sweeps")
    parser.add_argument("--k", type=int, default=4, help="number of segments, where not swept")
    parser.add_argument("--linkage", default="greedy", help="linkage, where not swept")
    parser.add_argument("--subsequence", type=int, default=10, help="frames, where not swept")
    parser.add_argument(
        "--refine", action="store_true", help="refine the masks by the flow, where not swept"
    )
    add_work_arguments(parser)


def stopped(arguments: argparse.Namespace) -> str | None:
    """What to tell after Ctrl-C; None where no work has begun."""
    return kept(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the tables and write them.

    A sequence with wrong data is named and left out of all lines; when all others are done the
    command ends with status 2.

    Raises:
        InputError: something given is unusable, or a sequence could not be measured.
    """
    from stseg.ablation_tables import Line, as_text, eta_note
    from stseg.ablation_work import ablate
    from stseg.evaluation import Failure
    from stseg.files import check_writable
    from stseg.published import in_words

    data_set, entries, absent = choose_data(arguments)
    check_writable(arguments.out)
    check_flow_options(arguments)
    about = {"dataset": data_set.kind, "protocol": data_set.protocol, "absent": absent}
    rows = _rows(arguments, data_set.kind)
    task = _task(arguments, data_set, entries)
    measured: dict[str, Mapping[Settings, Figures]] = {}
    failed: dict[str, str] = {}
    protocol = data_set.protocol
    lines = [Line(row, {}, protocol) for row in rows]
    wanted = [row.settings for row in rows if row.settings is not None]
    for outcome in ablate(entries, wanted, task):
        if isinstance(outcome, Failure):
            failed[outcome.name] = outcome.reason
            print(f"{outcome.name:24s} left out: {outcome.reason}", flush=True)
            continue
        measured[outcome.name] = outcome.figures
        print(f"{outcome.name:24s} done", flush=True)
        done = [entry.name for entry in entries if entry.name in measured]
        lines = [
            Line(
                row,
                {name: measured[name][row.settings] for name in done} if row.settings else {},
                protocol,
            )
            for row in rows
        ]
        waiting = [each.name for each in entries if each.name not in {*measured, *failed}]
        # If interrupted, these are there, and say what is not in them.
        _write(arguments, lines, {**about, "failed": failed, "waiting": waiting})
    if measured:
        print(f"\n{as_text(lines)}")
        if any(line.row.base and line.row.part != "variants" for line in lines):
            print("\n* the settings of the other tables")
        if note := eta_note(lines):
            print(f"\n{note}")
    if measured:  # else tables of before stay
        _write(arguments, lines, {**about, "failed": failed, "waiting": []})
        print(f"\nTables in {arguments.out}")
    if failed:
        raise InputError(
            f"{len(failed)} of {in_words(len(entries))} could not be measured and are in no mean: "
            f"{', '.join(failed)}. See above for what is wrong with them."
        )


def _rows(arguments: argparse.Namespace, data_set: str) -> list[Row]:
    from dataclasses import replace

    from stseg.ablation_rows import PUBLISHED_ON, sweep_rows, variant_rows
    from stseg.pipeline import load_network
    from stseg.records import Settings
    from stseg.variants import VARIANTS, model_path

    base = Settings(
        k=arguments.k,
        flow=arguments.flow,
        weights=arguments.weights,
        iterations=getattr(arguments, "iterations", Settings.iterations),
        model=arguments.model,
        linkage=arguments.linkage,
        device=arguments.device,
        subsequence=arguments.subsequence,
        stride=1,
        refine=arguments.refine,
    )

    @cache
    def heads(model: str) -> tuple[int, ...]:
        return load_network(model).settings.ks

    def present(model: str) -> bool:
        return VARIANTS[model].path.is_file() if model in VARIANTS else bool(model_path(model))

    rows = variant_rows(base, list(dict.fromkeys(arguments.variants)), present)
    if data_set != PUBLISHED_ON:
        rows = [replace(row, published=None) for row in rows]
    for row in rows:
        if row.settings is None:
            print(f"{row.value}: its checkpoint is missing; it is left out.", flush=True)
    swept = list(dict.fromkeys(arguments.sweep))
    if not swept and arguments.model != MODEL:
        raise InputError(
            "--model is the model of the sweeps, and nothing is swept. Name it with --variants, or "
            "leave it out."
        )
    if swept:
        rows += [row for name in swept for row in sweep_rows(base, name, heads(arguments.model))]
    for each in (row.settings for row in rows if row.settings is not None):
        ks = heads(each.model)
        if each.k not in ks:
            raise InputError(
                f"Model {each.model!r} gives K = {', '.join(map(str, ks))} segments, not {each.k}. "
                "Choose one of these with --k, or leave the model out."
            )
    if not any(row.settings for row in rows):
        raise InputError(
            "There is nothing to measure: none of the variants has a checkpoint, and nothing is "
            "swept. Name a checkpoint file with --variants, or a sweep with --sweep."
        )
    return rows


def _task(
    arguments: argparse.Namespace, data_set: DataSet, entries: Sequence[Entry]
) -> AblationTask:
    from stseg.ablation_work import AblationTask
    from stseg.flow.cache import FlowCache

    flows = flow_folder_of(arguments, data_set, entries)
    check_means(arguments, flows)
    return AblationTask(
        data_set.protocol,
        flows,
        work_folder(arguments),
        FlowCache(),
        arguments.fresh,
    )


def _write(arguments: argparse.Namespace, lines: Sequence[Line], data: Mapping[str, Any]) -> None:
    import json

    from stseg.ablation_tables import as_csv, as_json, as_markdown, as_picture
    from stseg.files import write_atomically
    from stseg.published import in_words

    about = {
        "root": str(arguments.root),
        "split": arguments.split,
        "flow": arguments.flow,
        **({"model": arguments.model} if arguments.sweep else {}),
        **data,
    }
    names = next((list(line.sequences) for line in lines if line.sequences), [])
    words = (
        f"Measured on {in_words(len(names))} of {arguments.root.name} ({', '.join(names)}), flow: "
        f"{arguments.flow}, K = {arguments.k}, linkage {arguments.linkage}, by "
        + (f"sub-sequences of {arguments.subsequence} frames" if arguments.subsequence else "video")
        + (", masks refined by the flow" if arguments.refine else "")
    )
    if data["absent"]:
        words += f"; not there: {', '.join(data['absent'])}"
    swept = any(line.row.part != "variants" for line in lines)
    words += (
        f", sweeps with model {arguments.model}. An asterisk marks the settings of the other "
        "tables."
        if swept
        else "."
    )
    if data["waiting"]:
        words += (
            f" The run was not at its end: {', '.join(data['waiting'])} "
            f"{'is' if len(data['waiting']) == 1 else 'are'} waiting."
        )
    result = json.dumps(as_json(lines, about), indent=1, ensure_ascii=False) + "\n"
    write_atomically(arguments.out / "ablation.json", result.encode())
    write_atomically(arguments.out / "ablation.csv", as_csv(lines).encode())
    write_atomically(arguments.out / "ablation.md", as_markdown(lines, words).encode())
    write_atomically(arguments.out / "ablation.png", as_picture(lines))
