"""Data sets that visitors may score: those that the server offers, and no other path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stseg.errors import InputError
from stseg.layouts import DataSet, open_data_set
from stseg.splits import DAVIS16, PLACES
from stseg.ui.clips import ASSETS

SHIPPED = "Rendered clips"
ALL = "all"


def offered(folders: Sequence[Path]) -> dict[str, Path]:
    """Title → folder: those of ``--data`` (or ``STSEG_DATA``), then the clips that ship.

    Folders without any sequence that has ground truth are left out.
    """
    named: dict[str, Path] = {}
    for folder in folders:
        title = folder.resolve().name
        named[title if title not in named else str(folder)] = folder
    if ASSETS.is_dir():
        named[SHIPPED] = ASSETS
    return {title: folder for title, folder in named.items() if _scorable(folder)}


def _scorable(folder: Path) -> bool:
    try:
        return bool(open_data_set(folder).choose()[0])
    except InputError:
        return False


def chosen(folders: Mapping[str, Path], title: str) -> DataSet:
    """The data set of that title.

    Raises:
        InputError: it is not one of those offered.
    """
    if title not in folders:
        raise InputError(
            f"There is no data set {title!r} here. Choose one of {', '.join(folders) or 'none'}; "
            "more are offered with `python app.py --data DIR`."
        )
    return open_data_set(folders[title])


def splits(data_set: DataSet) -> list[str]:
    """Lists of which at least one sequence is there; ``all`` comes first."""
    names = {
        path.stem
        for place in PLACES
        for path in (data_set.root / place.format("x")).parent.glob("*.txt")
    }
    if data_set.kind == "davis16":
        names |= DAVIS16.keys()
    if data_set.kind == "fbms59":
        names |= {"train", "test"}
    return [ALL, *(name for name in sorted(names) if _has(data_set, name))]


def _has(data_set: DataSet, split: str) -> bool:
    try:
        return bool(data_set.choose(split)[0])
    except InputError:
        return False
