"""``python -m stseg evaluate``: scores of a model on annotated clips."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from stseg.errors import InputError

if TYPE_CHECKING:
    from stseg.records import Clip

NAME = "evaluate"
HELP = "Score a model on annotated clips (J and F of DAVIS, by sub-sequence)."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--split", default=None, help="a list in ROOT/splits/SPLIT.txt; else all")
    parser.add_argument("--sequences", nargs="+", default=None, help="only these sequences")
    parser.add_argument("--model", default="full", help="name of a variant, or a checkpoint file")
    parser.add_argument(
        "--flow", default="dis", help="a flow estimator, or a folder of cached flow (NAME.npz)"
    )
    parser.add_argument("--k", type=int, default=4, help="number of segments, 2 to 8")
    parser.add_argument("--tau", type=int, nargs="+", default=[1], help="temporal steps")
    parser.add_argument("--linkage", default="greedy", help="greedy (the paper) or one-to-one")
    parser.add_argument("--subsequence", type=int, default=10, help="frames; 0 for whole videos")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--json", type=Path, default=None, help="also write the scores here")


def run(arguments: argparse.Namespace) -> None:
    """Score each sequence and print the table.

    Raises:
        InputError: something given is unusable.
    """
    from stseg.evaluation import evaluate, report
    from stseg.files import write_atomically
    from stseg.flow import ESTIMATORS
    from stseg.pipeline import load_network
    from stseg.records import Settings

    computed = arguments.flow in ESTIMATORS
    folder = None if computed else Path(arguments.flow)
    if folder is not None and not folder.is_dir():
        raise InputError(
            f"{arguments.flow!r} is neither a flow estimator ({', '.join(ESTIMATORS)}) nor a "
            "folder of cached flow."
        )
    settings = Settings(
        k=arguments.k,
        taus=tuple(arguments.tau),
        flow=arguments.flow if computed else "dis",
        model=arguments.model,
        linkage=arguments.linkage,
        device=arguments.device,
        subsequence=arguments.subsequence,
    )
    network = load_network(arguments.model)
    scores = []
    for score in evaluate(_clips(arguments), settings, network, folder):
        scores.append(score)
        line = score.to_json()
        print(f"{score.name:24s} J {100 * line['J']:5.1f}  F {100 * line['F']:5.1f}", flush=True)
    about = {"dataset": str(arguments.root), "model": arguments.model, "flow": arguments.flow}
    result = report(scores, settings, about)
    mean = result["mean"]
    title = f"mean of {len(scores)} sequences"
    print(f"{title:24s} J {100 * mean['J']:5.1f}  F {100 * mean['F']:5.1f}")
    if arguments.json is not None:
        write_atomically(arguments.json, (json.dumps(result, indent=2) + "\n").encode())


def _clips(arguments: argparse.Namespace) -> list[Clip]:
    from stseg.layouts import find_clips

    wanted = arguments.sequences
    if wanted is None and arguments.split is not None:
        path = arguments.root / "splits" / f"{arguments.split}.txt"
        if not path.is_file():
            raise InputError(f"There is no list {path}. Give the name of a list in that folder.")
        wanted = path.read_text(encoding="utf-8").split()
    clips = {clip.name: clip for clip in find_clips(arguments.root)}
    if wanted is None:
        return [clip for clip in clips.values() if clip.truth is not None]
    missing = [name for name in wanted if name not in clips]
    if missing:
        raise InputError(f"{arguments.root} has no sequence {', '.join(missing)}.")
    return [clips[name] for name in wanted]
