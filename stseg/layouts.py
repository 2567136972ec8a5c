"""Data set folders in their published layouts → clips with their ground truth.

Known layouts, told apart by their folders:

- ``davis16``: ``JPEGImages/480p/NAME/*.jpg`` with ``Annotations/480p/NAME/*.png``; MP4 files in
  ``videos/NAME.mp4`` stand for the frames where those are not there.
- ``segtrackv2``: ``JPEGImages/NAME`` with ``GroundTruth/NAME``, whose masks may lie in one folder
  an object (1, 2, …).
- ``fbms59``: ``NAME/*.jpg`` with ``NAME/GroundTruth``, also below ``Trainingset`` and ``Testset``,
  which are the splits ``train`` and ``test``.
- ``folder``: ``frames/NAME`` with ``masks/NAME``, or pictures in ``frames`` and ``masks``
  themselves; else video files and folders of frames, where a folder of masks beside ``NAME.mp4``,
  called ``NAME``, is its ground truth.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stseg.errors import InputError
from stseg.files import natural_key
from stseg.records import Clip
from stseg.splits import FBMS_PARTS, SEGTRACKV2, sequences_of
from stseg.video import PICTURES, probe

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi", ".gif", ".mpg", ".mpeg", ".ogv", ".wmv"}
)


@dataclass(frozen=True)
class Entry:
    """Where a sequence lies.

    Attributes:
        name: of the sequence.
        source: the video file, or the folder of frames.
        truth: the folder of the ground truth, which may not be there.
    """

    name: str
    source: Path
    truth: Path | None


@dataclass(frozen=True)
class DataSet:
    """A data set folder.

    Attributes:
        root: the folder.
        kind: name of its layout, in ``LAYOUTS``.
        sequences: what it holds, by name in natural order.
    """

    root: Path
    kind: str
    sequences: Sequence[Entry]

    @property
    def protocol(self) -> str:
        """How its scores are averaged: a name in ``stseg.scoring.PROTOCOLS``."""
        return "davis" if self.kind == "davis16" else "frames"

    def choose(
        self, split: str | None = None, names: Sequence[str] | None = None
    ) -> tuple[list[Entry], list[str]]:
        """The sequences that are asked for, and the names of those that are not on the disk.

        Args:
            split: name of a list (``stseg.splits``); None takes what has ground truth.
            names: only these.

        Raises:
            InputError: there is no such list, a name that is not in it, or nothing is left; or
                two sequences have a name that is asked for.
        """
        here = {each.name: each for each in self.sequences}
        if split is not None:
            wanted = self._split(split)
        elif names is not None:
            wanted = list(here)
        else:
            annotated = (each.name for each in self.sequences if _present(each.truth))
            wanted = list(dict.fromkeys(annotated))
        if names is not None:
            unknown = [name for name in names if name not in wanted]
            if unknown:
                place = self.root if split is None else f"The split {split}"
                raise InputError(
                    f"{place} has no sequence {', '.join(unknown)}. Choose some of "
                    f"{', '.join(wanted) or 'none'}."
                )
            wanted = list(dict.fromkeys(names))
        chosen = [self._only(here[name]) for name in wanted if name in here]
        if not chosen and not wanted and split is None:
            raise InputError(
                f"{self.root} has clips ({_some(here)}) but no masks of them. Put the masks of "
                f"each into {self._place_of_masks()}, or give another folder."
            )
        if not chosen:
            raise InputError(
                f"{self.root} has none of the sequences asked for ({', '.join(wanted) or 'none'}): "
                "none has frames and ground truth. Give another folder or split."
            )
        return chosen, [name for name in wanted if name not in here]

    def _place_of_masks(self) -> str:
        """Where the masks of a clip are looked for, in words."""
        if self.kind == "folder" and [each.name for each in self.sequences] == ["frames"]:
            return str(self.root / "masks")
        if self.kind == "folder" and not (self.root / "masks").is_dir():
            return (
                "a folder NAME beside NAME.mp4, NAME/GroundTruth in a folder NAME of frames, or "
                "masks/NAME beside frames/NAME"
            )
        return MASKS[self.kind]

    def _only(self, entry: Entry) -> Entry:
        """The entry, which no other one may share its name with: scores and masks go by name."""
        same = [each.source for each in self.sequences if each.name == entry.name]
        if len(same) > 1:
            places = " and ".join(str(each.relative_to(self.root)) for each in same)
            raise InputError(
                f"{self.root} has {len(same)} sequences of the name {entry.name}: {places}. Keep "
                "one of them there, or give them different names."
            )
        return entry

    def _split(self, split: str) -> list[str]:
        part = self.root / FBMS_PARTS.get(split, "")
        if self.kind == "fbms59" and split in FBMS_PARTS and part.is_dir():
            return [each.name for each in self.sequences if each.source.parent == part]
        listed = sequences_of(self.root, self.kind, split)
        if self.kind == "segtrackv2":
            # Beside the list of all sequences it has one for each, with the names of its frames.
            known = {*SEGTRACKV2["all"], *(each.name for each in self.sequences)}
            if split in known and known.isdisjoint(listed):
                return [split]
        return listed


def open_data_set(root: Path, kind: str = "auto") -> DataSet:
    """What a data set folder holds. No file is opened yet.

    Args:
        root: the folder.
        kind: its layout, a name of ``LAYOUTS``; "auto" tells it by the folders.

    Raises:
        InputError: there is no such folder or layout, or nothing in it.
    """
    if not root.is_dir():
        raise InputError(f"There is no folder {root}. Give the folder of a data set or of videos.")
    if kind != "auto" and kind not in LAYOUTS:
        raise InputError(f"There is no data set {kind!r}. Choose auto, {', '.join(LAYOUTS)}.")
    told = kind != "auto"
    kind = kind if told else _kind(root)
    found = sorted(LAYOUTS[kind](root), key=lambda each: natural_key(each.name))
    if not found and told and kind != "folder":
        raise InputError(
            f"{root} holds no clip of {kind}, with its masks in {MASKS[kind]}; nothing else was "
            "looked for. Leave --dataset out to look for all layouts, or give another folder."
        )
    if not found:
        raise InputError(_nothing(root))
    return DataSet(root, kind, found)


def _nothing(root: Path) -> str:
    """Why a folder holds no clip, as far as what is in it tells."""
    if _folders(root / "frames") or _videos(root / "frames"):
        return (
            f"{root} has frames/ but no masks/. Put the masks of frames/NAME into masks/NAME; or, "
            f"without masks, give {root / 'frames'}."
        )
    if (root / "JPEGImages").is_dir():
        return (
            f"{root} has JPEGImages but no masks: neither {MASKS['davis16']} (DAVIS2016) nor "
            f"{MASKS['segtrackv2']} (SegTrackV2). Put them there, or give another folder."
        )
    if _images(root):
        return (
            f"{root} is a clip itself, a folder of frames. Move the frames into {root / 'frames'} "
            f"and its masks into {root / 'masks'}; or, without masks, give the folder above it."
        )
    return (
        f"{root} holds no clip: neither DAVIS2016, SegTrackV2 or FBMS-59 in their own layouts, "
        "nor video files or folders of frames. Give another folder."
    )


def _some(names: Collection[str]) -> str:
    few = [*names][:3]
    return ", ".join(few) + (" …" if len(names) > len(few) else "")


def open_clip(sequence: Entry) -> Clip:
    """The clip of a sequence. Raises InputError where its frames cannot be read."""
    clip = probe(sequence.source)
    truth = sequence.truth if _present(sequence.truth) else None
    return Clip(clip.source, sequence.name, clip.size, clip.fps, clip.frames, truth)


def find_clips(root: Path) -> list[Clip]:
    """All clips of a data set folder, by name; files that are no clips are left out.

    A clip that cannot be read is named in a warning.

    Args:
        root: the folder of a data set in one of the layouts above, or of plain videos.

    Raises:
        InputError: the folder is not there, or holds no clip at all.
    """
    data_set = open_data_set(root)
    clips = []
    for sequence in data_set.sequences:
        try:
            clips.append(open_clip(sequence))
        except InputError as error:
            logger.warning("%s It is left out.", error)
    if not clips:
        raise InputError(f"{root} holds no clip that can be read. Give another folder.")
    return clips


def _kind(root: Path) -> str:
    if (root / "Annotations" / "480p").is_dir():
        return "davis16"
    if (root / "GroundTruth").is_dir() and (root / "JPEGImages").is_dir():
        return "segtrackv2"
    if any((root / part).is_dir() for part in FBMS_PARTS.values()):
        return "fbms59"
    folders = _folders(root)
    if any((folder / "GroundTruth").is_dir() for folder in folders) and not _videos(root):
        return "fbms59"
    return "folder"


def _davis(root: Path) -> Iterator[Entry]:
    frames, videos = root / "JPEGImages" / "480p", root / "videos"
    annotations = _folders(root / "Annotations" / "480p")
    for folder in annotations:
        video = videos / f"{folder.name}.mp4"
        images = frames / folder.name
        # A few frames alone (a sample) do not stand for a sequence that is there as a video.
        complete = images.is_dir() and len(_images(images)) >= len(_images(folder))
        if complete or not video.is_file():
            if images.is_dir():
                yield Entry(folder.name, images, folder)
        else:
            yield Entry(folder.name, video, folder)
    yield from _without_truth(videos, {folder.name for folder in annotations})


def _segtrack(root: Path) -> Iterator[Entry]:
    for folder in _folders(root / "JPEGImages"):
        yield Entry(folder.name, folder, root / "GroundTruth" / folder.name)


def _fbms(root: Path) -> Iterator[Entry]:
    parts = [root / name for name in dict.fromkeys(FBMS_PARTS.values()) if (root / name).is_dir()]
    for part in parts or [root]:
        for folder in _folders(part):
            if _images(folder):
                yield Entry(folder.name, folder, folder / "GroundTruth")


def _folder(root: Path) -> Iterator[Entry]:
    frames, masks = root / "frames", root / "masks"
    if frames.is_dir() and masks.is_dir():
        if _images(frames):
            yield Entry(root.resolve().name, frames, masks)
            return
        for folder in _folders(frames):
            yield Entry(folder.name, folder, masks / folder.name)  # dots and all: walk.1
        for video in _videos(frames):
            yield Entry(video.stem, video, masks / video.stem)
        return
    videos = _videos(root)
    for video in videos:
        yield Entry(video.stem, video, root / video.stem)
    names = {video.stem for video in videos}
    for folder in _folders(root):
        if folder.name not in names and _images(folder):
            yield Entry(folder.name, folder, folder / "GroundTruth")


def _without_truth(videos: Path, annotated: Collection[str]) -> Iterator[Entry]:
    for video in _videos(videos):
        if video.stem not in annotated:
            yield Entry(video.stem, video, None)


LAYOUTS = {"davis16": _davis, "segtrackv2": _segtrack, "fbms59": _fbms, "folder": _folder}

MASKS = {
    "davis16": "Annotations/480p/NAME",
    "segtrackv2": "GroundTruth/NAME",
    "fbms59": "NAME/GroundTruth",
    "folder": "masks/NAME",
}
"""Where the masks of a sequence are, by layout."""


def _present(truth: Path | None) -> bool:
    return truth is not None and truth.is_dir()


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def _videos(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)


def _images(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix.lower() in PICTURES]
