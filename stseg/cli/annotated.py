"""What the commands that score share: which sequences of which data set, and whose flow."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stseg.cli.given import a_name, a_path
from stseg.errors import InputError

if TYPE_CHECKING:
    from stseg.claims import WorkFolder
    from stseg.layouts import DataSet, Entry

CACHED = "cached"


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say what is scored."""
    parser.add_argument("--root", type=a_path, required=True, help="folder of the data set")
    parser.add_argument(
        "--dataset",
        default="auto",
        help="its layout: davis16, segtrackv2, fbms59, folder (frames/ and masks/, or videos with "
        "a folder of masks beside them); auto tells it by its folders. Masks of a video are "
        "numbered from 0, as its frames are",
    )
    parser.add_argument(
        "--split",
        default=None,
        help="a list in ROOT/splits or ROOT/ImageSets, or train and val as published; else all "
        "that has ground truth",
    )
    parser.add_argument("--sequences", nargs="+", default=None, help="only these sequences")
    parser.add_argument(
        "--flow",
        type=a_name,
        default="dis",
        help="a flow estimator; 'cached' for the flow beside the data (ROOT/flows/*/NAME.npz); or "
        "a folder with NAME.npz or NAME/*.flo",
    )
    parser.add_argument(
        "--weights", type=a_name, default=None, help="weight file of the flow estimator"
    )
    parser.add_argument(
        "--iterations", type=int, default=argparse.SUPPRESS, help="refinements of RAFT (12)"
    )


def add_work_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say where, and from what that is kept."""
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--work",
        type=a_path,
        default=None,
        help="folder in which results are kept, so that an interrupted run goes on and several "
        "processes share the work (default: scores in the cache folder)",
    )
    parser.add_argument("--fresh", action="store_true", help="measure anew what was kept")


def choose_data(arguments: argparse.Namespace) -> tuple[DataSet, list[Entry], list[str]]:
    """The data set, the sequences to score, and the names of those that are not on the disk.

    The last are told to the user.

    Raises:
        InputError: there is no such data set, list or sequence.
    """
    from stseg.layouts import open_data_set

    data_set = open_data_set(arguments.root, arguments.dataset)
    entries, absent = data_set.choose(arguments.split, arguments.sequences)
    if absent:
        print(f"Not on the disk: {', '.join(absent)}.", flush=True)
    return data_set, entries, absent


def flow_folder_of(
    arguments: argparse.Namespace, data_set: DataSet, entries: Sequence[Entry]
) -> Path | None:
    """Where the flow lies; None where it is computed. What is found for "cached" is told.

    Raises:
        InputError: what ``--flow`` names is neither an estimator nor a folder.
    """
    from stseg.flow import ESTIMATORS
    from stseg.known_flow import flow_folder
    from stseg.records import flow_name

    if arguments.flow == CACHED:
        folder = flow_folder(data_set.root, [entry.name for entry in entries])
        print(f"The flow is that in {folder}.", flush=True)
        return folder
    if flow_name(arguments.flow) in ESTIMATORS:
        return None
    folder = Path(arguments.flow)
    if not folder.is_dir():
        raise InputError(
            f"{arguments.flow!r} is neither a flow estimator ({', '.join(ESTIMATORS)}) nor "
            f"{CACHED!r} nor a folder of flow."
        )
    return folder


def check_means(arguments: argparse.Namespace, flows: Path | None) -> None:
    """Look for the device and the flow estimator: what lacks here is no fault of each sequence.

    Args:
        arguments: of the command.
        flows: where the flow lies; None where it is computed.

    Raises:
        InputError: one of them cannot be had.
    """
    from stseg.device import choose_device
    from stseg.flow import FlowSettings, estimator

    choose_device(arguments.device)
    if flows is None:
        iterations = getattr(arguments, "iterations", FlowSettings.iterations)
        settings = FlowSettings(arguments.flow, arguments.weights, iterations, arguments.device)
        estimator(settings)


def work_folder(arguments: argparse.Namespace) -> WorkFolder:
    """Where results are kept."""
    from stseg.claims import WorkFolder

    return WorkFolder(_work_path(arguments))


def kept(arguments: argparse.Namespace) -> str | None:
    """What to tell after Ctrl-C; None where no work has begun."""
    folder = _work_path(arguments)
    if not folder.is_dir():
        return None
    again = "the same command without --fresh" if arguments.fresh else "the same command"
    return f"what is finished is kept in {folder}, and {again} goes on from there"


def _work_path(arguments: argparse.Namespace) -> Path:
    from stseg.flow.weights import cache_folder

    folder: Path = arguments.work or cache_folder() / "scores"
    return folder
