"""Ground-truth masks of a clip, frame by frame, in the modes and layouts in which they come.

``stseg.annotations`` says which file belongs to which frame. Where the masks lie in folders called
1, 2, … (SegTrackV2), each folder is one object. Masks of numbered objects may have void sites, of
which nobody says what they are (255 in PASCAL VOC and in DAVIS2017 without supervision).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image, UnidentifiedImageError

from stseg.annotations import frame_stems, numbered, regions
from stseg.errors import InputError
from stseg.records import Clip

logger = logging.getLogger(__name__)

_numbering = threading.Lock()

WHITE = 0xFFFFFF
LOOKED_AT = 48
"""Masks of a clip, evenly spread, that are read to number its objects or to look for void sites."""

SOFT = 32
"""A mask of one channel with more gray values than this is one object with blurred borders."""

VOID = -1
"""Code of the sites that count for nothing, neither for a score nor against it."""

VOID_VALUE = 255
LARGEST_INDEX = 31
"""``VOID_VALUE`` is void in masks whose other values are indices of objects, from 0 to this.

Beside larger values it is one gray of several: objects drawn in gray are far apart (128 and 255, or
85, 170 and 255).
"""

FBMS_FOLDER = "GroundTruth"
"""Folder of a sequence in which FBMS-59 keeps its masks, whose background is white."""


@dataclass(frozen=True)
class GroundTruth:
    """The masks of one clip.

    Attributes:
        size: (H, W) of the clip.
        files: the mask files of each annotated frame.
        objects: number of the object that a mask file is all about; a file that is not in here
            tells its objects itself. It is that of the folder, since an object may lack frames.
        background: code of the background in colour masks: black, or white (PPM of FBMS-59).
        stray: mask files that belong to no frame.
        regions: codes that are told to be objects (``stseg.annotations.regions``); all others are
            background then. Nothing where nobody tells.
    """

    size: tuple[int, int]
    files: Mapping[int, tuple[Path, ...]]
    objects: Mapping[Path, int] = field(default_factory=dict)
    background: int = 0
    stray: Sequence[Path] = field(default=())
    regions: Sequence[int] = field(default=())

    def codes(self, index: int) -> Int32[np.ndarray, "H W"]:
        """What each site of frame ``index`` belongs to: 0 for the background, else an object.

        Objects are palette indices, gray values or 24-bit colours, or the places of their folders
        among those of the clip, from 1. Void sites are ``VOID``.

        Raises:
            InputError: a file is not a picture, or not of the size of the clip.
        """
        files = self.files[index]
        if files[0] not in self.objects:
            return self._read(files[0])
        joint = np.zeros(self.size, np.int32)
        for path in files:
            codes = self._read(path)
            joint[codes > 0] = self.objects[path]
            joint[(codes == VOID) & (joint == 0)] = VOID
        return joint

    def check_sizes(self) -> None:
        """Look at the headers of all masks, which is quick, before anything else is done.

        Raises:
            InputError: a file is not a picture, or not of the size of the clip.
        """
        for path in (path for paths in self.files.values() for path in paths):
            with _opened(path) as picture:
                size = picture.height, picture.width
            self._check_size(path, size)

    def _check_size(self, path: Path, size: tuple[int, ...]) -> None:
        if size != self.size:
            raise InputError(
                f"The mask {path} is {size[1]}x{size[0]}, but its video is "
                f"{self.size[1]}x{self.size[0]}. Give masks of the size of the video."
            )

    def _read(self, path: Path) -> Int32[np.ndarray, "H W"]:
        codes = read_codes(path)
        self._check_size(path, codes.shape)
        if self.regions:
            return np.where(np.isin(codes, self.regions), codes + 1, 0)
        if self.background:
            # Black may be an object where the background is not black.
            return np.where(codes == self.background, 0, codes + 1)
        if self._void and _may_be_void(present_codes(codes)):
            return np.where(codes == VOID_VALUE, VOID, codes)
        return codes

    @cached_property
    def _void(self) -> bool:
        """Whether 255 is void in the masks of the clip: in half of those that have it, at least.

        Asked of the clip, for a mask in which nothing else is left does not say so itself, and a
        stray value in one of them must not change all.
        """
        said = []
        for path in (path for index in _spread(self.files) for path in self.files[index]):
            with suppress(InputError):  # told when its frame is looked at
                present = present_codes(read_codes(path))
                if VOID_VALUE in present:
                    said.append(_has_void(present))
        return any(said) and 2 * sum(said) >= len(said)


def _has_void(present: Sequence[int]) -> bool:
    """Whether a mask of these codes is one of numbered objects that has void sites."""
    return _may_be_void(present) and any(0 < code <= LARGEST_INDEX for code in present)


def _may_be_void(present: Sequence[int]) -> bool:
    """Whether there is nothing but indices and ``VOID_VALUE``."""
    return VOID_VALUE in present and all(
        0 <= code <= LARGEST_INDEX or code == VOID_VALUE for code in present
    )


def _spread(files: Mapping[int, object]) -> list[int]:
    """At most ``LOOKED_AT`` frames of these, evenly spread."""
    indices = list(files)
    return indices[:: -(-len(indices) // LOOKED_AT) or 1]


def ground_truth(clip: Clip) -> GroundTruth:
    """The masks of a clip; none where it has no folder of them.

    Raises:
        InputError: a list of annotated frames names a file that is not there.
    """
    if clip.truth is None:
        return GroundTruth(clip.size, {})
    folders = sorted(
        (each for each in clip.truth.iterdir() if each.is_dir() and each.name.isdigit()),
        key=lambda each: int(each.name),
    )
    stems = frame_stems(clip.source)
    files: dict[int, list[Path]] = {}
    objects: dict[Path, int] = {}
    stray: list[Path] = []
    for number, folder in enumerate(folders or [clip.truth], 1):
        for path, index in numbered(folder, stems):
            if index is None:
                stray.append(path)
                continue
            same = files.setdefault(index, [])
            same.append(path)
            if folders:
                objects[path] = number
            elif len(same) > 1:  # several files of one frame beside one another
                objects |= {each: place for place, each in enumerate(same, 1)}
    kept = {index: tuple(files[index]) for index in sorted(files)}
    _, *told = regions(clip.truth) or (0,)
    fbms = clip.truth.name == FBMS_FOLDER
    background = _background(kept.values()) if fbms and not told else 0
    return GroundTruth(clip.size, kept, objects, background, tuple(stray), tuple(told))


def _background(files: Iterable[tuple[Path, ...]]) -> int:
    """White where PPM masks have white in them (FBMS-59), else black."""
    for paths in files:
        if paths[0].suffix.lower() != ".ppm":
            return 0
        if (read_codes(paths[0]) == WHITE).any():
            return WHITE
    return 0


def read_codes(path: Path) -> Int32[np.ndarray, "H W"]:
    """Labels of a mask file: palette index, gray value, or 24-bit colour where it has colours.

    Alpha is ignored. Gray values beyond ``SOFT`` different ones are a blurred mask: half is the
    border.

    Raises:
        InputError: the file is not a whole picture.
    """
    with _opened(path) as picture:
        if picture.mode not in ("RGB", "RGBA"):
            return _from_gray(picture)
        colours = np.asarray(picture.convert("RGB"), np.int32)
    red, green, blue = colours[..., 0], colours[..., 1], colours[..., 2]
    if path.suffix.lower() != ".ppm" and (red == green).all() and (green == blue).all():
        return _hard(red)
    return red << 16 | green << 8 | blue


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture of a mask file; whatever Pillow finds wrong with it names the file."""
    try:
        with Image.open(path) as picture:
            yield picture
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
        UnidentifiedImageError,
    ) as error:
        raise InputError(f"The mask {path} is not a readable picture ({error}).") from error


def _from_gray(picture: Image.Image) -> Int32[np.ndarray, "H W"]:
    if picture.mode in ("P", "1"):
        return np.asarray(picture).astype(np.int32)
    if picture.mode.startswith("I"):
        return np.asarray(picture.convert("I"), np.int32)
    gray = picture if picture.mode == "L" else picture.convert("L")
    return _hard(np.asarray(gray).astype(np.int32))


def _hard(gray: Int32[np.ndarray, "H W"]) -> Int32[np.ndarray, "H W"]:
    values = np.bincount(gray.ravel(), minlength=256)
    return (gray >= 128) * np.int32(255) if np.count_nonzero(values) > SOFT else gray


def present_codes(codes: Int32[np.ndarray, "H W"]) -> list[int]:
    """Codes that occur, in order."""
    if codes.min() >= 0 and codes.max() < 256:  # most masks, and faster
        return np.flatnonzero(np.bincount(codes.ravel())).tolist()
    return np.unique(codes).tolist()


@lru_cache(maxsize=64)
def _numbered_truth(clip: Clip) -> tuple[GroundTruth, dict[int, int]]:
    """The masks of a clip, and a number for each object in them, from 1.

    Of a long clip only some masks are read: objects that none of them has are numbered when they
    are met.
    """
    truth = ground_truth(clip)
    codes: set[int] = set()
    for index in _spread(truth.files):
        with suppress(InputError):  # told when its frame is looked at
            codes |= set(present_codes(truth.codes(index)))
    return truth, {code: number for number, code in enumerate(sorted(codes - {0, VOID}), 1)}


def annotated(clip: Clip) -> list[int]:
    """The frames of which ``truth_at`` has a mask, in order; none where they cannot be told."""
    try:
        return list(_numbered_truth(clip)[0].files)
    except InputError:
        return []


def truth_at(clip: Clip, index: int, size: tuple[int, int]) -> UInt8[np.ndarray, "h w"] | None:
    """Objects of frame ``index`` for a picture of ``size`` (h, w); None without a usable mask.

    0 is the background, and so are void sites. Palette indices, gray values and colours are told by
    their rank among those of the whole clip, so that an object has one number in all frames.
    """
    try:
        truth, numbers = _numbered_truth(clip)
        if index not in truth.files:
            return None
        codes = truth.codes(index)
    except InputError as error:  # a picture less is no reason to fail; scores do name it
        logger.warning("%s", error)
        return None
    resized: np.ndarray = cv2.resize(codes, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    present = present_codes(resized)
    with _numbering:  # several visitors may look at one clip
        told = [numbers.setdefault(code, len(numbers) + 1) if code > 0 else 0 for code in present]
    wrapped = np.array([(number - 1) % 255 + 1 if number else 0 for number in told], np.uint8)
    return wrapped[np.searchsorted(present, resized)]


def oddities(truth: GroundTruth) -> list[str]:
    """What is unusual about the masks but no mistake, in sentences that name a file each.

    Raises:
        InputError: a mask is not a picture.
    """
    modes, colours = _modes(truth)
    said = []
    usual = max(modes, key=lambda mode: len(modes[mode]), default="")
    for mode, paths in sorted(modes.items()):
        if mode != usual:
            said.append(
                f"{_count(paths, 'is', 'are')} in mode {mode} among masks in mode {usual}: objects "
                "are grouped."
            )
    if colours:
        said.append(f"{_count(colours, 'has', 'have')} a palette whose first colour is not black.")
    for number in sorted(set(truth.objects.values())) if apart(truth) else []:
        without = sum(number not in map(truth.objects.get, truth.files[i]) for i in truth.files)
        if without:
            said.append(
                f"Object {number} has no mask in {without} of {len(truth.files)} annotated frames: "
                "it counts as background there."
            )
    return said


def apart(truth: GroundTruth) -> bool:
    """Whether each object has a folder of its own (SegTrackV2)."""
    return len({path.parent for path in truth.objects}) > 1


def uniform(truth: GroundTruth) -> bool:
    """Whether all masks are of one mode, so that a label means one object in all of them."""
    return len(_modes(truth)[0]) <= 1


def _modes(truth: GroundTruth) -> tuple[dict[str, list[Path]], list[Path]]:
    """Masks by their mode, and those whose palette does not begin with black."""
    modes: dict[str, list[Path]] = {}
    colours: list[Path] = []
    for path in (path for paths in truth.files.values() for path in paths):
        with _opened(path) as picture:
            modes.setdefault(picture.mode, []).append(path)
            palette = picture.getpalette() if picture.mode == "P" else None
        if palette and any(palette[:3]):
            colours.append(path)
    return modes, colours


def _count(paths: Sequence[Path], one: str, several: str) -> str:
    if len(paths) == 1:
        return f"1 mask ({paths[0].name}) {one}"
    return f"{len(paths)} masks ({paths[0].name} …) {several}"
