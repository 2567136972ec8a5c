"""``python -m stseg evaluate``: scores of a model on annotated sequences."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
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
    from pathlib import Path

    from stseg.evaluation import Task
    from stseg.layouts import DataSet, Entry

NAME = "evaluate"
HELP = "Score a model on a data set: J and F as DAVIS measures them, by sub-sequence."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "J and F are in percent, with the foreground chosen with the ground truth once per "
        "sub-sequence. J no truth: chosen without it, as segment --foreground does. J once: chosen "
        "with it, once for the whole video, on labels that are joined across the sub-sequences; "
        "--labels writes them as linked, anew in each (with --subsequence 0 they are the same). "
        "objects: mean IoU over the objects, to which labels are assigned one-to-one in each "
        "sub-sequence; an object that finds no label left scores 0. flicker: sites whose label "
        "changes along the flow."
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--model", type=a_name, default="full", help="name of a variant, or a checkpoint file"
    )
    parser.add_argument("--k", type=int, default=4, help="number of segments, 2 to 8")
    parser.add_argument("--tau", type=int, nargs="+", default=[1], help="temporal steps")
    parser.add_argument(
        "--linkage",
        default="greedy",
        help="greedy (the paper), one-to-one, or either with +similarity",
    )
    parser.add_argument("--subsequence", type=int, default=10, help="frames; 0 for whole videos")
    parser.add_argument("--stride", type=int, default=1, help="frames between triplets, 1 or 2")
    parser.add_argument(
        "--refine", action="store_true", help="refine the masks by the flow (not in the paper)"
    )
    parser.add_argument("--json", type=a_path, default=None, help="also write the scores here")
    parser.add_argument(
        "--labels",
        type=a_path,
        default=None,
        help="also write DIR/NAME/labels/*.png and DIR/NAME/foreground/*.png",
    )
    add_work_arguments(parser)
    parser.add_argument("--table", action="store_true", help="print the published scores, too")


def stopped(arguments: argparse.Namespace) -> str | None:
    """What to tell after Ctrl-C; None where no work has begun."""
    return kept(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Score each sequence and print the table.

    A sequence with wrong data is named and left out of the mean; when all others are done the
    command ends with status 2, and the JSON tells what failed.

    Raises:
        InputError: something given is unusable, or a sequence could not be scored.
    """
    from stseg.evaluation import Failure, SequenceScore, evaluate_task, report
    from stseg.files import check_place, check_writable, write_atomically
    from stseg.published import in_words, table

    data_set, entries, absent = choose_data(arguments)
    if arguments.json is not None:
        check_place(arguments.json)
    if arguments.labels is not None:
        check_writable(arguments.labels)
        _check_apart(arguments.labels, entries)
    task = _task(arguments, data_set, entries)
    outcomes: dict[str, SequenceScore | Failure] = {}
    for outcome in evaluate_task(entries, task):
        outcomes[outcome.name] = outcome
        if isinstance(outcome, Failure):
            print(f"{outcome.name:24s} left out: {outcome.reason}", flush=True)
            continue
        _print_line(outcome.name, outcome.to_json())
        for note in outcome.notes:
            print(f"{'':24s} note: {note}", flush=True)
    ordered = [outcomes[entry.name] for entry in entries]
    scores = [each for each in ordered if isinstance(each, SequenceScore)]
    failed = {each.name: each.reason for each in ordered if isinstance(each, Failure)}
    about = {"dataset": data_set.kind, "model": arguments.model, "flow": arguments.flow}
    result = report(scores, task.settings, about, task.protocol)
    result |= {"split": arguments.split, "absent": absent, "failed": failed}
    of = "frames of " if task.protocol == "frames" else ""
    title = f"mean of {of}{in_words(len(scores))}"
    if scores:
        several = sum(each["objects_iou"] is not None for each in result["sequences"].values())
        line = {**result["mean"], "frames": result["scored"]["frames"]}
        _print_line(title, line, f"objects (of {several})")
    if arguments.table and scores:
        frames = result["scored"]["frames"]
        j, sequences = result["mean"]["J"], result["sequences"]
        print("\n" + table(data_set.kind, j, sequences, frames, arguments.refine))
    if arguments.json is not None:
        write_atomically(arguments.json, (json.dumps(result, indent=1) + "\n").encode())
    if failed:
        raise InputError(
            f"{len(failed)} of {in_words(len(ordered))} could not be scored and are in no mean: "
            f"{', '.join(failed)}. See above for what is wrong with them."
        )


def _check_apart(labels: Path, entries: Sequence[Entry]) -> None:
    """Raise InputError where pictures would be written among frames or masks of the data set."""
    for entry in entries:
        place = (labels / entry.name).resolve()
        for folder in (entry.source, entry.truth):
            if folder is not None and folder.resolve() in (place, *place.parents):
                raise InputError(
                    f"--labels would write into {folder}, which belongs to the data set. Choose "
                    "another folder."
                )


def _print_line(title: str, line: dict[str, Any], objects: str = "objects") -> None:
    text = f"{title:24s} J {100 * line['J']:5.1f}  F {100 * line['F']:5.1f}"
    for key, name in (
        ("objects_iou", objects),
        ("J_unsupervised", "J no truth"),
        ("J_once", "J once"),
        ("flicker", "flicker"),
    ):
        if line.get(key) is not None:
            text += f"  {name} {100 * line[key]:5.1f}"
    print(f"{text}  {line['frames']:5d} frame{'' if line['frames'] == 1 else 's'}", flush=True)


def _task(arguments: argparse.Namespace, data_set: DataSet, entries: Sequence[Entry]) -> Task:
    from stseg.evaluation import Task
    from stseg.flow.cache import FlowCache
    from stseg.records import Settings

    check_flow_options(arguments)
    flows = flow_folder_of(arguments, data_set, entries)
    check_means(arguments, flows)
    settings = Settings(
        k=arguments.k,
        taus=tuple(arguments.tau),
        flow=arguments.flow if flows is None else str(flows),
        weights=arguments.weights,
        iterations=getattr(arguments, "iterations", Settings.iterations),
        model=arguments.model,
        linkage=arguments.linkage,
        device=arguments.device,
        subsequence=arguments.subsequence,
        stride=arguments.stride,
        refine=arguments.refine,
    )
    return Task(
        settings,
        data_set.protocol,
        flows,
        arguments.labels,
        work_folder(arguments),
        FlowCache(),
        arguments.fresh,
    )
