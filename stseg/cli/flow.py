"""``python -m stseg flow``: optical flow of clips as ``.npz`` files."""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stseg.cli.given import a_name, a_path
from stseg.errors import InputError

if TYPE_CHECKING:
    from stseg.records import Clip

NAME = "flow"
MOST_SIDE = 8192

HELP = "Compute the optical flow of clips and write it as .npz, .flo or KITTI .png."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("input", type=a_path, nargs="+", help="video files or folders of frames")
    parser.add_argument(
        "--out",
        type=a_path,
        required=True,
        help="an .npz file, or a folder (with several inputs, one part in it for each)",
    )
    parser.add_argument(
        "--estimator",
        default="dis",
        help="dis, dis-plain, raft (raft-sintel), raft-large or raft-small",
    )
    parser.add_argument("--weights", type=a_name, default=None, help="weight file of the estimator")
    parser.add_argument(
        "--iterations", type=int, default=argparse.SUPPRESS, help="refinements of RAFT (12)"
    )
    parser.add_argument(
        "--warm-start", action="store_true", help="RAFT starts from the flow of the pair before"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--backward",
        action="store_true",
        help="motion from t + 1 to t instead (only an .npz tells that to who reads it)",
    )
    parser.add_argument(
        "--size",
        default=None,
        help="'full', or rows x columns; else an .npz has the network's grid (128x224, upright for "
        "upright clips), and folders of fields, which cannot say how large the frames were, 'full'",
    )
    parser.add_argument("--format", default="npz", help="npz, flo or kitti (folders of fields)")


def run(arguments: argparse.Namespace) -> None:
    """Compute and write the flow of each input, field by field.

    Raises:
        InputError: something given is unusable.
    """
    from stseg.annotations import gap_notes
    from stseg.flow import (
        ESTIMATORS,
        FlowSettings,
        check_options,
        clip_fields,
        write_flow_file,
        write_flow_folder,
    )
    from stseg.flow.files import FOLDERS
    from stseg.records import flow_name, grid_for
    from stseg.video import probe

    kind = arguments.format
    if kind not in ("npz", *FOLDERS):
        raise InputError(f"There is no format {kind!r}. Choose npz, {', '.join(FOLDERS)}.")
    if kind != "npz" and arguments.out.suffix == ".npz":
        raise InputError(f"--format {kind} writes a folder of fields, but --out names an .npz.")
    if len(arguments.input) > 1 and arguments.out.suffix == ".npz":
        raise InputError(
            f"{len(arguments.input)} clips need a folder, with a file for each, but --out names an "
            f".npz. Give {arguments.out.with_suffix('')}, for instance."
        )
    single = {form.suffix for form in FOLDERS.values()}
    if arguments.out.suffix.lower() in single and not arguments.out.is_dir():
        raise InputError(
            f"--out names {arguments.out}, a file of one field, but a clip has many. Give a "
            f"folder, such as {arguments.out.with_suffix('')}, with --format "
            f"{' or '.join(FOLDERS)}; or an .npz file."
        )
    if flow_name(arguments.estimator) not in ESTIMATORS:
        raise InputError(
            f"There is no flow estimator {arguments.estimator!r} to compute flow with. Choose one "
            f"of {', '.join(ESTIMATORS)}."
        )
    iterations = getattr(arguments, "iterations", FlowSettings.iterations)
    if iterations < 1:
        raise InputError(f"RAFT needs at least 1 iteration, not {iterations}.")
    given = {
        "--weights": arguments.weights is not None,
        "--iterations": hasattr(arguments, "iterations"),
        "--warm-start": arguments.warm_start,
    }
    check_options(arguments.estimator, [option for option, is_given in given.items() if is_given])
    settings = FlowSettings(
        arguments.estimator,
        arguments.weights,
        iterations,
        arguments.device,
        arguments.warm_start,
    )
    size = None if arguments.size is None else _grid(arguments.size)
    clips = [probe(path) for path in arguments.input]
    _check_names(clips)
    places = _places(arguments.out, clips, kind)
    if kind == "npz":
        _check_files(places)
    else:
        _check_folders(places, clips, kind)
    for clip, place in zip(clips, places, strict=True):
        grid = size
        if arguments.size is None and kind == "npz":
            grid = grid_for(clip.size)
        fields = _counted(clip_fields(clip, settings, grid, arguments.backward), clip)
        if kind == "npz":
            write_flow_file(place, fields, clip.size, backward=arguments.backward)
        else:
            write_flow_folder(place, fields, kind)
        print(f"{clip.name}: its flow is in {place}")
        if arguments.backward and kind != "npz":
            print("Its fields lead back; their format cannot tell that to who reads them.")
        for note in gap_notes(clip, clip.frames):
            print(note)


def _places(out: Path, clips: Sequence[Clip], kind: str) -> list[Path]:
    """Where the flow of each clip goes: ``out`` is it, or has a part for each."""
    if len(clips) == 1 and (kind != "npz" or out.suffix == ".npz"):
        return [out]
    suffix = ".npz" if kind == "npz" else ""
    return [out / f"{clip.name}{suffix}" for clip in clips]


def _check_names(clips: Sequence[Clip]) -> None:
    """Raise InputError where two clips would be written to the same place."""
    seen: dict[str, Clip] = {}
    for clip in clips:
        other = seen.setdefault(clip.name, clip)
        if other is not clip:
            raise InputError(
                f"{other.source} and {clip.source} are both called {clip.name!r}, and would be "
                "written to the same place. Rename one, or run the command once for each."
            )


def _check_files(files: Sequence[Path]) -> None:
    """Raise InputError where a file cannot be written, or would go in place of another one."""
    from stseg.files import check_place

    for file in files:
        check_place(file)
        if file.exists() and not _is_flow(file):
            raise InputError(
                f"{file} is not flow of an earlier run, and would be replaced. Choose another file."
            )


def _is_flow(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return "flow.npy" in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _check_folders(folders: Sequence[Path], clips: Sequence[Clip], kind: str) -> None:
    """Raise InputError where fields would be written among frames, or in place of other files."""
    from stseg.flow.files import fields_there

    sources = {clip.source.resolve() for clip in clips}
    for folder in folders:
        if folder.resolve() in sources:
            raise InputError(
                f"{folder} holds the frames of a clip, and the flow would be written among them. "
                "Choose another folder."
            )
        fields_there(folder, kind)


def _counted(fields: Iterator[Any], clip: Clip) -> Iterator[Any]:
    """The same fields, with a bar that counts them."""
    from tqdm import tqdm

    yield from tqdm(fields, clip.name, total=max(clip.frames - 1, 0) or None, unit="pair")


def _grid(text: str) -> tuple[int, int] | None:
    if text == "full":
        return None
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if not found or min(int(side) for side in found.groups()) < 8:
        raise InputError(f"The size {text!r} is neither 'full' nor like 128x224. Give one of them.")
    size = int(found[1]), int(found[2])
    if max(size) > MOST_SIDE:
        raise InputError(f"The size {text!r} is too large. Give at most {MOST_SIDE:,} a side.")
    return size
