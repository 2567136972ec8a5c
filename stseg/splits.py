"""Which sequences of a data set a list names: its own lists, or the official ones of DAVIS2016."""

from __future__ import annotations

from pathlib import Path

from stseg.errors import InputError


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FBMS_PARTS = {"train": "Trainingset", "test": "Testset", "val": "Testset"}
"""Folders of FBMS-59 that are its lists."""

DAVIS16 = {
    "train": _names(
        "bear bmx-bumps boat breakdance-flare bus car-turn dance-jump dog-agility drift-turn "
        "elephant flamingo hike hockey horsejump-low kite-walk lucia mallard-fly mallard-water "
        "motocross-bumps motorbike paragliding rhino rollerblade scooter-gray soccerball stroller "
        "surf swing tennis train"
    ),
    "val": _names(
        "blackswan bmx-trees breakdance camel car-roundabout car-shadow cows dance-twirl dog "
        "drift-chicane drift-straight goat horsejump-high kite-surf libby motocross-jump "
        "paragliding-launch parkour scooter-black soapbox"
    ),
}
"""The official lists (Perazzi et al., CVPR 2016): 30 and 20 sequences."""

SEGTRACKV2 = {
    "all": _names(
        "bird_of_paradise birdfall bmx cheetah drift frog girl hummingbird monkey monkeydog "
        "parachute penguin soldier worm"
    ),
}
"""All 14 sequences (Li et al., ICCV 2013); it has no training part."""

FBMS59 = {
    "test": _names(
        "camel01 cars1 cars10 cars4 cars5 cats01 cats03 cats06 dogs01 dogs02 farm01 giraffes01 "
        "goats01 horses02 horses04 horses05 lion01 marple12 marple2 marple4 marple6 marple7 "
        "marple9 people03 people1 people2 rabbits02 rabbits03 rabbits04 tennis"
    ),
}
"""The 30 sequences of ``Testset`` (Ochs, Malik and Brox, TPAMI 2014)."""

PLACES = (
    "splits/{}.txt",
    "ImageSets/480p/{}.txt",
    "ImageSets/2016/{}.txt",
    "ImageSets/2017/{}.txt",
    "ImageSets/{}.txt",
)
"""Where data sets keep their lists: ours, DAVIS2016, DAVIS2017's package, SegTrackV2."""


def sequences_of(root: Path, data_set: str, split: str) -> list[str]:
    """Names of the sequences of a split, whether or not they are on the disk.

    A list in ``root`` comes first (``splits/SPLIT.txt``, then the folders of ``ImageSets``), then
    the official lists of DAVIS2016 that are built in.

    Raises:
        InputError: there is no list of that name, or it cannot be read.
    """
    for place in PLACES:
        path = root / place.format(split)
        if path.is_file():
            return read_list(path)
    if data_set == "davis16" and split in DAVIS16:
        return list(DAVIS16[split])
    own = {path.stem for place in PLACES for path in (root / place).parent.glob("*.txt")}
    parts = tuple(split for split, part in FBMS_PARTS.items() if (root / part).is_dir())
    built_in = {"davis16": tuple(DAVIS16), "fbms59": parts}
    known = sorted(own.union(built_in.get(data_set, ())))
    raise InputError(
        f"{root} has no list {split!r} in splits/ or ImageSets/. "
        + (f"Choose one of {', '.join(known)}." if known else "Leave out the split.")
    )


def read_list(path: Path) -> list[str]:
    """Names of the sequences in a list, each once.

    Lines are names, which may have spaces in them, names with a star before them (SegTrackV2), or
    pairs of paths of frame and mask (DAVIS2016).

    Raises:
        InputError: the file cannot be read, or is no text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # Windows marks UTF-8
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a text file that can be read ({error}). Give a list of sequences."
        ) from error
    return list(dict.fromkeys(name for line in lines if (name := _name(line.strip()))))


def _name(line: str) -> str:
    if line.startswith("*"):
        return line.split()[0].lstrip("*")
    if "/" not in line:
        return line
    parts = line.split()[0].strip("/").split("/")  # /JPEGImages/480p/bear/00000.jpg
    return parts[-2] if len(parts) > 1 else parts[0]
