"""Which mask file belongs to which frame.

A mask file belongs to the frame picture of the same stem (``bear01_0001_gt.ppm`` to
``bear01_0001.jpg``), else to the one with the same number in its name; the definition file of
FBMS-59 (``*Def.dat``) says it where it is there, and which colours are regions. Of a video file
the number in the name is the number of the frame, from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from stseg.errors import InputError
from stseg.files import natural_key
from stseg.numbering import told_gaps, trailing_number
from stseg.records import Clip
from stseg.video import PICTURES

MASKS = frozenset({".png", ".bmp", ".pgm", ".ppm", ".tif", ".tiff"})
"""Formats without loss: a JPEG beside the masks is no mask."""


def numbered(folder: Path, stems: Sequence[str]) -> list[tuple[Path, int | None]]:
    """The mask files of a folder, each with the number of its frame; None where it has none.

    Args:
        folder: where the masks of a clip, or of one object of it, are.
        stems: names of the frames in order (``frame_stems``); empty for a video file.

    Raises:
        InputError: a list of annotated frames names a file that is not there.
    """
    listed = _listed(folder, stems)
    if listed:
        return [*listed]
    paths = sorted(
        (path for path in folder.iterdir() if path.suffix.lower() in MASKS and path.is_file()),
        key=lambda path: natural_key(path.name),
    )
    # FBMS-59 keeps a second picture of the same frame, of how sure the annotators were.
    paths = [path for path in paths if path.name[0] != "." and "PROB" not in path.stem]
    known = [(path, trailing_number(_bare(path))) for path in paths]
    if not stems:
        return [(path, number) for path, number in known if number is not None]
    by_stem = {stem: index for index, stem in enumerate(stems)}
    numbers = [trailing_number(stem) for stem in stems]
    unique = len(set(numbers)) == len(numbers)
    by_number = {number: index for index, number in enumerate(numbers)} if unique else {}
    return [
        (path, by_stem.get(_bare(path), by_number.get(number)))
        for path, number in known
        if number is not None or _bare(path) in by_stem
    ]


def regions(folder: Path) -> tuple[int, ...]:
    """Colours of the regions that the definition file of FBMS-59 names, the background's first.

    They are gray values, or 65536 r + 256 g + b. Nothing where there is no such file. A colour that
    it does not name is background, as in the evaluation tool of the data set (cats04 has some).
    """
    lines = _definition(folder)
    for at, line in enumerate(lines):
        if line.lower().startswith("total number of regions") and at + 1 < len(lines):
            told = lines[at + 1 :]
            count = int(told[0]) if told[0].isdigit() else 0
            return tuple(int(each) for each in told[1:] if each.isdigit())[:count]
    return ()


def _definition(folder: Path) -> list[str]:
    """Lines of the definition file; none where there is none."""
    paths = sorted(folder.glob("*.dat"))
    if not paths:
        return []
    return [line.strip() for line in paths[0].read_text(errors="replace").splitlines()]


def _listed(folder: Path, stems: Sequence[str]) -> list[tuple[Path, int | None]]:
    """The masks that ``*Def.dat`` lists, as FBMS-59 has it: a line of words, a line of value."""
    lines = _definition(folder)
    values = list(pairwise(lines))
    numbers = [value for words, value in values if words.lower().startswith("frame number")]
    names = [value for words, value in values if words.lower().startswith("file name")]
    inputs = [value for words, value in values if words.lower().startswith("input file name")]
    if not numbers or len(numbers) != len(names) or not all(n.isdigit() for n in numbers):
        return []
    found: list[tuple[Path, int | None]] = []
    for place, name in enumerate(names):
        path = next(
            (each for each in (folder / name, *folder.glob(f"{Path(name).stem}.*")) if _is(each)),
            None,
        )
        if path is None:
            raise InputError(
                f"The definition file in {folder} lists the mask {name}, but it is not there. Put "
                "it back, or take the sequence out."
            )
        source = Path(inputs[place]).stem if len(inputs) == len(names) else ""
        index = stems.index(source) if source in stems else int(numbers[place])
        found.append((path, index if not stems or index < len(stems) else None))
    return found


def _is(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in MASKS


def _bare(path: Path) -> str:
    return path.stem.removesuffix("_gt")


def frame_files(source: Path) -> list[str]:
    """File names of the frames of a folder, in the order in which they are read; none of a video.

    Entry i is that of frame i.
    """
    if not source.is_dir():
        return []
    names = [
        path.name
        for path in source.iterdir()
        if path.suffix.lower() in PICTURES and path.name[0] != "."
    ]
    return sorted(names, key=natural_key)


def frame_stems(source: Path) -> list[str]:
    """The same without their suffixes."""
    return [Path(name).stem for name in frame_files(source)]


def gap_notes(clip: Clip, n: int) -> list[str]:
    """A sentence on the gaps in the numbers of the first ``n`` frames of a folder; else none.

    What a gap is says ``stseg.numbering.told_gaps``.
    """
    gaps = told_gaps(frame_files(clip.source)[:n])
    if not gaps:
        return []
    return [
        f"The numbers of {clip.name}'s frames have a gap between {gaps}: the motion across a gap "
        "is treated as that of one step."
    ]


def frame_names(clip: Clip, n: int) -> list[str]:
    """A name of its own for each of ``n`` frames: that of its picture, else its number (00000)."""
    stems = frame_stems(clip.source)
    return stems if len(set(stems)) == len(stems) == n else [f"{index:05d}" for index in range(n)]
