"""Flow that somebody brings, read field by field and checked at the door.

What comes from a visitor may be made to hurt: sizes are checked before anything is unpacked, no
more than one field is in memory, and nothing is written to the disk.
"""

from __future__ import annotations

import io
import logging
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from stseg.errors import InputError
from stseg.files import natural_key
from stseg.flow.files import (
    Size,
    Told,
    check_direction,
    check_finite,
    check_range,
    decode_flo,
    decode_kitti,
    kitti_picture,
    warn_filled,
)
from stseg.numbering import told_gaps

MAX_BYTES = 8 * 2**30
"""Unpacked bytes of all fields of an archive."""

MAX_FIELD = 2**29 + 2**10
"""Unpacked bytes of one field: two float32 for each of 2^26 sites."""

logger = logging.getLogger(__name__)

Decoder = Callable[[bytes, Path, Told], np.ndarray]

DECODERS: dict[str, Decoder] = {".flo": decode_flo, ".png": decode_kitti}
UNREADABLE = (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class BroughtFlow:
    """Flow in files, not read yet.

    Attributes:
        size: (H, W) of the frame whose pixels the vectors are in.
        count: number of fields, n - 1 for n frames.
        fields: opens the files and gives the fields (2, h, w) in order; raises ``InputError`` at
            the first that is unusable.
    """

    size: Size
    count: int
    fields: Callable[[], Iterator[np.ndarray]]


def open_flow(path: Path) -> BroughtFlow:
    """An ``.npz``, a folder of ``.flo`` or KITTI ``.png`` fields, or a ``.zip`` of such a folder.

    Args:
        path: an archive is known by what is in it, not by its name. A folder that has no fields but
            one ``.npz``, as ``flow --out FOLDER`` writes it, stands for that. Where a field marks
            a few vectors as unknown they are filled in, and one warning tells it (see
            ``stseg.flow.files.UNKNOWN_MOST``).

    Raises:
        InputError: nothing usable is there, or it unpacks to more than a clip has.
    """
    if path.is_dir():
        return _folder(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [each for each in archive.infolist() if not each.is_dir()]
    except UNREADABLE as error:
        raise InputError(
            f"{path} is neither a flow file (.npz with an array 'flow') nor an archive of .flo or "
            f"KITTI .png fields ({error})."
        ) from error
    if any(member.filename == "flow.npy" for member in members):
        return _npz(path)
    return _archive(path, members)


def _folder(folder: Path) -> BroughtFlow:
    names = [each.name for each in folder.iterdir() if not each.name.startswith(".")]
    files = sorted(name for name in names if name.lower().endswith(".npz"))
    if files and not any(name.lower().endswith(tuple(DECODERS)) for name in names):
        if len(files) > 1:
            raise InputError(
                f"{folder} has flow of {len(files)} clips. Give the file of this one, for instance "
                f"{folder / files[0]}."
            )
        return open_flow(folder / files[0])

    def read(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except OSError as error:
            raise InputError(f"{folder / name} cannot be read: {error.strerror}.") from error

    return _fields(folder, *_one_kind(names, folder, "Give a folder of flow fields.", read), read)


def _archive(path: Path, members: list[zipfile.ZipInfo]) -> BroughtFlow:
    known = {}
    for member in members:
        place = PurePosixPath(member.filename.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts:
            raise InputError(
                f"{path} has a file {member.filename!r} that points out of it. Pack the fields "
                "alone."
            )
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in place.parts)
        if place.suffix.lower() not in DECODERS or hidden:
            continue
        if member.flag_bits & 1:
            raise InputError(f"{path} is encrypted. Pack it without a password.")
        if member.file_size > MAX_FIELD:
            raise InputError(
                f"{member.filename} in {path} unpacks to {member.file_size >> 20} MiB, more than "
                "a field can have."
            )
        known[member.filename] = member
    total = sum(member.file_size for member in known.values())
    if total > MAX_BYTES:
        raise InputError(
            f"{path} unpacks to {total >> 20} MiB, more than the {MAX_BYTES >> 20} MiB that are "
            "taken. Give smaller fields or a shorter clip."
        )
    advice = "Give an archive of flow fields, or an .npz file with an array 'flow'."

    def read(name: str) -> bytes:
        try:
            with zipfile.ZipFile(path) as archive, archive.open(name) as file:
                data = file.read(known[name].file_size + 1)
        except (*UNREADABLE, NotImplementedError, RuntimeError) as error:
            raise InputError(f"{name} in {path} cannot be unpacked ({error}).") from error
        if len(data) != known[name].file_size:
            raise InputError(f"{name} in {path} has another size than it announces.")
        return data

    return _fields(path, *_one_kind(list(known), path, advice, read), read)


def _one_kind(
    names: list[str], where: Path, advice: str, read: Callable[[str], bytes]
) -> tuple[list[str], Decoder]:
    """The names of the fields, in order, and what decodes them.

    Raises:
        InputError: there is none, or there are fields of both kinds.
    """
    kinds = {
        suffix: sorted(found, key=lambda name: natural_key(name[: -len(suffix)]))
        for suffix in DECODERS
        if (found := [name for name in names if name.lower().endswith(suffix)])
    }
    if not kinds:
        raise InputError(f"{where} has neither .flo nor .png files. {advice}")
    suffix, *others = kinds  # beside .flo files may lie pictures of them
    if any(_is_kitti(read(kinds[other][0]), where) for other in others):
        raise InputError(
            f"{where} has fields of both kinds, .flo and KITTI .png, and nothing says which are "
            "meant. Take those of one kind away."
        )
    return kinds[suffix], DECODERS[suffix]


def _untold(path: Path, share: float) -> None:
    """Where a field is only looked at: whoever reads it is told."""


def _is_kitti(data: bytes, where: Path) -> bool:
    """Whether it is a field, however many of its vectors are known."""
    try:
        kitti_picture(data, where)
    except InputError:
        return False
    return True


def _fields(
    where: Path,
    names: list[str],
    decode: Decoder,
    read: Callable[[str], bytes],
) -> BroughtFlow:
    first = decode(read(names[0]), where / names[0], _untold).shape

    def fields() -> Iterator[np.ndarray]:
        filled: list[Path] = []

        def once(path: Path, share: float) -> None:
            if not filled:  # one warning is enough for a clip
                warn_filled(path, share)
            filled.append(path)

        if gaps := told_gaps([PurePosixPath(name).name for name in names]):
            logger.warning(
                "The numbers of the fields in %s have a gap between %s; they are read as if not.",
                where,
                gaps,
            )
        for name in names:
            field = decode(read(name), where / name, once)
            if field.shape != first:
                raise InputError(
                    f"{where / name} is {field.shape[2]}x{field.shape[1]}, but {names[0]} is "
                    f"{first[2]}x{first[1]}. All fields must have one size."
                )
            yield field

    return BroughtFlow((first[1], first[2]), len(names), fields)


def _npz(path: Path) -> BroughtFlow:
    def fail(error: Exception | str) -> InputError:
        return InputError(
            f"{path} is not a flow file with an array 'flow' ({error}). Compute it again with "
            "`python -m stseg flow`."
        )

    try:
        with zipfile.ZipFile(path) as archive:
            with archive.open("flow.npy") as member:
                shape, dtype = _header(member)
            size: Size = (shape[2], shape[3]) if len(shape) == 4 else (0, 0)
            if "size.npy" in archive.namelist():
                with archive.open("size.npy") as member:
                    told = np.load(_small(member), allow_pickle=False)
                if told.shape != (2,):
                    raise ValueError(f"its size has the shape {told.shape}")
                if told.dtype.kind not in "fiu" or not np.isfinite(told).all():
                    raise ValueError("its size is no number")
                size = int(told[0]), int(told[1])
            leads_back = False
            if "backward.npy" in archive.namelist():
                with archive.open("backward.npy") as member:
                    leads_back = bool(np.all(np.load(_small(member), allow_pickle=False)))
            announced = archive.getinfo("flow.npy").file_size
    except (*UNREADABLE, NotImplementedError, RuntimeError) as error:
        raise fail(error) from error
    if len(shape) != 4 or shape[1] != 2 or not shape[0] or not shape[2] * shape[3]:
        raise InputError(f"{path} holds flow of shape {shape}, but (n - 1, 2, h, w) is expected.")
    check_direction(leads_back, False, path)
    one = 2 * shape[2] * shape[3] * dtype.itemsize
    if announced < shape[0] * one:
        raise fail("it is cut off")
    if one > MAX_FIELD or announced > MAX_BYTES:
        raise InputError(
            f"{path} unpacks to {announced >> 20} MiB, more than the {MAX_BYTES >> 20} MiB that "
            "are taken. Give smaller fields or a shorter clip."
        )

    def fields() -> Iterator[np.ndarray]:
        try:
            with zipfile.ZipFile(path) as archive, archive.open("flow.npy") as member:
                _header(member)
                for index in range(shape[0]):
                    data = member.read(one)
                    if len(data) != one:
                        raise ValueError("it is cut off")
                    field = np.frombuffer(data, dtype).reshape(1, *shape[1:])
                    check_finite(field, path, index)
                    check_range(field, path)
                    yield field[0].astype(np.float32)
        except InputError:
            raise
        except (*UNREADABLE, NotImplementedError, RuntimeError) as error:
            raise fail(error) from error

    return BroughtFlow(size, shape[0], fields)


def _header(member: Any) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of the array that an opened member of an archive starts to give."""
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(member)
    if fortran or dtype.kind != "f":
        raise ValueError(f"its numbers are {dtype}{' by columns' if fortran else ''}")
    return tuple(int(side) for side in shape), dtype


def _small(member: Any) -> io.BytesIO:
    """The beginning of an opened member: as much as a size or a flag can need."""
    return io.BytesIO(member.read(2**12))
