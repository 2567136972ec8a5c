"""Flow that lies beside a data set: where it is, and whether it belongs to a clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stseg.errors import InputError
from stseg.flow import on_grid, open_flow
from stseg.records import Clip, grid_for
from stseg.video import read_frames
from stseg.volume import FlowFields

PREFERRED = ("raft-sintel", "raft-large", "raft-small")
"""Which folder of flow is taken where several have flow of the same sequences, best first."""


def flow_folder(root: Path, names: Sequence[str]) -> Path:
    """The folder of cached flow of a data set: ``ROOT/flows/ESTIMATOR``, as ``PREFERRED`` has them.

    Other folders come after those, and files ``NAME.npz`` in ``ROOT`` itself (rendered clips have
    them) last.

    Args:
        root: folder of the data set.
        names: the sequences; the folder that has flow of the most of them is taken.

    Raises:
        InputError: there is none.
    """
    flows = root / "flows"
    known = [flows / name for name in PREFERRED]
    others = sorted(path for path in flows.glob("*") if path.is_dir() and path not in known)
    best, most = flows, 0
    for folder in (*known, flows, *others):
        count = sum(1 for name in names if _flow_path(folder, name) is not None)
        if count > most:
            best, most = folder, count
    if not most and any((root / f"{name}.npz").is_file() for name in names):
        return root
    if not most:
        raise InputError(
            f"There is no cached flow in {flows}. Put NAME.npz or NAME/*.flo files into a folder "
            "there, name another folder with --flow, or name an estimator."
        )
    return best


def flow_of(folder: Path, name: str) -> Path:
    """The cached flow of a sequence: ``FOLDER/NAME.npz``, or fields in ``FOLDER/NAME``.

    Raises:
        InputError: there is none.
    """
    path = _flow_path(folder, name)
    if path is None:
        raise InputError(
            f"There is no flow of {name} in {folder}, neither {name}.npz nor {name}/*.flo. "
            "Compute it, or leave the sequence out."
        )
    return path


def _flow_path(folder: Path, name: str) -> Path | None:
    file, fields = folder / f"{name}.npz", folder / name
    if file.is_file():
        return file
    fits = fields.is_dir() and any(each.suffix in (".flo", ".png") for each in fields.iterdir())
    return fields if fits else None


def cached_flow(path: Path, clip: Clip) -> FlowFields:
    """Flow of a clip from a cache file or a folder of fields, on the network's grid.

    Raises:
        InputError: the file is unusable, or belongs to a video of another size or length.
    """
    flow = open_flow(path)
    if flow.size != clip.size:
        raise InputError(
            f"{path} was computed on frames of {flow.size[1]}x{flow.size[0]}, but {clip.name} has "
            f"{clip.size[1]}x{clip.size[0]}. Compute the flow of this clip."
        )
    frames = clip.frames
    if flow.count != frames - 1 and clip.source.exists():
        frames = sum(1 for _ in read_frames(clip))  # some headers are wrong, or say nothing of it
    if frames and flow.count != frames - 1:
        raise InputError(
            f"{path} has {flow.count} fields, but {clip.name} has {frames} frames, which make "
            f"{frames - 1}. Give the flow of this clip, and all of its frames."
        )
    fields, grid = FlowFields(), grid_for(clip.size)
    for field in flow.fields():
        fields.forward.append(on_grid(field, grid))
    return fields
