"""Labels and foreground of a scored sequence as pictures, for any other scorer to check."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from stseg.annotations import frame_names
from stseg.errors import InputError
from stseg.export import write_label_png
from stseg.files import sweep
from stseg.records import Segmentation
from stseg.selection import subsequences

KINDS = ("labels", "foreground")
MARK = ".stseg-key"
"""File beside the pictures that says of which result they are; empty until all are there."""

HIDDEN = ".stseg-masks-"
"""Beginning of the names of folders in the making."""


def write_masks(
    segmentation: Segmentation,
    chosen: Sequence[tuple[int, ...]],
    subsequence: int,
    folder: Path,
    key: str = "",
) -> None:
    """Write ``labels/*.png`` (linked labels, indexed) and ``foreground/*.png`` (0 and 255).

    One of each for every frame, at the size of the video, under the name of its frame. They are
    made in a hidden folder and moved when all are there; then the PNG files of an earlier run go.

    Args:
        segmentation: what to write.
        chosen: the labels of the foreground, for each sub-sequence.
        subsequence: its length; 0 for the whole video.
        folder: of this sequence.
        key: of the result, see ``masks_of``.

    Raises:
        InputError: the folder cannot be written, or holds pictures that no run has marked as ours.
    """
    made = not folder.exists()
    try:
        _earlier(folder)  # a mistake costs no pictures
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder, f"{HIDDEN}*")
        with tempfile.TemporaryDirectory(prefix=HIDDEN, dir=folder) as staging:
            count = _make(segmentation, chosen, subsequence, Path(staging))
            _move(Path(staging), folder)
        (folder / MARK).write_text(f"{key} {count}", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror or error}. Choose another folder."
        ) from error
    finally:
        if made:
            with suppress(OSError):  # not empty: it holds pictures
                folder.rmdir()


def _earlier(folder: Path) -> list[Path]:
    """The pictures of an earlier run. Raises InputError where no run has marked them as ours."""
    earlier = [path for kind in KINDS for path in (folder / kind).glob("*.png")]
    if earlier and not (folder / MARK).exists():
        raise InputError(
            f"{earlier[0].parent} holds pictures that are not of an earlier run "
            f"({earlier[0].name}), and would be replaced. Choose another folder."
        )
    return earlier


def _make(
    segmentation: Segmentation, chosen: Sequence[tuple[int, ...]], subsequence: int, folder: Path
) -> int:
    """Write the pictures of ``write_masks`` into an empty folder; the number of each kind."""
    names = frame_names(segmentation.clip, len(segmentation))
    for kind in KINDS:
        (folder / kind).mkdir()
    parts = subsequences(len(segmentation), subsequence)
    for part, labels_of_part in zip(parts, chosen, strict=True):
        for index in part:
            labels = segmentation.labels(index)
            write_label_png(folder / "labels" / f"{names[index]}.png", labels)
            inside = np.isin(labels, labels_of_part).astype(np.uint8) * 255
            path = folder / "foreground" / f"{names[index]}.png"
            Image.fromarray(inside).save(path, compress_level=1)
    return len(names)


def _move(staging: Path, folder: Path) -> None:
    """Put the pictures of ``staging`` in the place of those of an earlier run."""
    earlier = _earlier(folder)
    for kind in KINDS:
        (folder / kind).mkdir(exist_ok=True)
    (folder / MARK).write_text("", encoding="utf-8")
    for old in earlier:
        old.unlink()
    for kind in KINDS:
        for path in (staging / kind).iterdir():
            path.replace(folder / kind / path.name)


def masks_of(folder: Path) -> str:
    """Key of the result whose pictures ``folder`` holds, all of them; empty where it does not."""
    try:
        key, _, count = (folder / MARK).read_text(encoding="utf-8").rpartition(" ")
        whole = all(len(list((folder / kind).glob("*.png"))) == int(count) for kind in KINDS)
    except (OSError, ValueError):
        return ""
    return key if whole else ""
