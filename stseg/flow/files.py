"""Optical flow in files: ``.npz``, Middlebury ``.flo`` and KITTI 16-bit PNG, read and written."""

from __future__ import annotations

import logging
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt16
from scipy.ndimage import distance_transform_edt

from stseg.errors import InputError
from stseg.files import sweep, write_atomically, written_atomically
from stseg.spool import Spool

logger = logging.getLogger(__name__)

STEP = 1 / 32
"""Vectors of a ``.npz`` are rounded to this fraction of a pixel, far below any error of them,
unless the writer asks for another one (0 keeps every bit).
"""

FLO_MAGIC = 202021.25
FLO_UNKNOWN = 1e9
UNKNOWN_MOST = 0.1
"""Fields of which a larger share is marked as unknown are refused; else it is filled in."""

KITTI_ZERO, KITTI_STEP = 2**15, 64.0
MAX_VECTORS = 2**26
"""Pixels of the largest picture that is decoded: a small PNG can announce a huge one."""

HIDDEN = ".stseg-flow-"
"""Beginning of the names of folders in the making."""

Size = tuple[int, int]

Told = Callable[[Path, float], None]
"""Told of which file what share of the vectors was filled in."""


def warn_filled(path: Path, share: float) -> None:
    """Tell in a warning that unknown vectors, a share of all of the file, were filled in."""
    logger.warning(
        "%s marks %.2g %% of its vectors as unknown. Here and in fields like it, unknown vectors "
        "take the value of the nearest known one.",
        path,
        100 * share,
    )


def read_flow_file(path: Path, backward: bool = False) -> tuple[np.ndarray, Size]:
    """Flow of a sequence from an ``.npz``: float16 fields (n - 1, 2, h, w), and the size (H, W).

    The file has ``flow`` (n - 1, 2, h, w) in pixels of a frame of ``size`` (H, W); without
    ``size`` the frame is as large as the flow. ``backward`` tells, where it is there, that fields
    lead from each frame to the one before.

    Args:
        path: the file.
        backward: the direction that is asked for.

    Raises:
        InputError: the file is missing, truncated, of another layout, of the other direction, or
            not finite.
    """
    try:
        # np.load leaves a damaged file open when it opens it itself.
        with path.open("rb") as file:
            data = np.load(file)
            flow = np.asarray(data["flow"])
            size = data["size"] if "size" in data else np.array(flow.shape[2:])
            leads_back = "backward" in data and bool(np.all(data["backward"]))
    except (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path} is not a flow file with an array 'flow' ({error}). Compute it again with "
            "`python -m stseg flow`."
        ) from error
    if flow.dtype.kind not in "fiu" or size.dtype.kind not in "fiu" or not np.isfinite(size).all():
        raise InputError(f"{path} holds no numbers where flow is expected. Compute it again.")
    if flow.ndim != 4 or flow.shape[1] != 2 or size.shape != (2,) or not len(flow):
        raise InputError(
            f"{path} holds flow of shape {flow.shape}, but (n - 1, 2, h, w) is expected."
        )
    check_direction(leads_back, backward, path)
    check_finite(flow, path)
    check_range(flow, path)
    return flow.astype(np.float16), (int(size[0]), int(size[1]))


def write_flow_file(
    path: Path,
    flow: Iterable[np.ndarray],
    size: Size,
    step: float = STEP,
    backward: bool = False,
) -> None:
    """Write flow as ``.npz``, atomically: float16 in steps of 1/32 px, and the size (H, W).

    Args:
        path: the file.
        flow: fields (2, h, w) in order, or an array (m, 2, h, w) of them. No more than one of them
            needs to be in memory: a spool keeps them until their number is known.
        size: (H, W) of the frame whose pixels the vectors are in.
        step: fraction of a pixel that vectors are rounded to; 0 leaves them as float16 has them.
        backward: the fields lead from each frame to the one before: the file says so.

    Raises:
        InputError: the file cannot be written, there is no field, or a vector is not finite.
    """
    spool = Spool()
    try:
        for index, field in enumerate(flow):
            check_finite(field[None], path, index)
            check_range(field, path)
            spool.append((np.rint(field / step) * step if step else field).astype("<f2"))
        if not len(spool):
            raise InputError(f"There is no flow for {path}: motion needs at least two frames.")
        header = {
            "descr": "<f2",
            "fortran_order": False,
            "shape": (len(spool), *spool[0].shape),
        }
        with (
            written_atomically(path) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            with archive.open("flow.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                for field in spool:
                    member.write(field.tobytes())
            with archive.open("size.npy", "w") as member:
                np.lib.format.write_array(member, np.array(size))
            if backward:
                with archive.open("backward.npy", "w") as member:
                    np.lib.format.write_array(member, np.array(True))
    finally:
        spool.close()


def read_flo(path: Path) -> Float32[np.ndarray, "2 h w"]:
    """One Middlebury ``.flo`` field. Unknown vectors (beyond 1e9) take the nearest known one.

    Raises:
        InputError: wrong magic number, truncated, more than ``UNKNOWN_MOST`` of the vectors are
            unknown, or one is not finite.
    """
    return decode_flo(_bytes(path), path)


def decode_flo(data: bytes, path: Path, told: Told = warn_filled) -> Float32[np.ndarray, "2 h w"]:
    """The same from the bytes of a file; ``path`` is what errors call it.

    Raises:
        InputError: as ``read_flo``.
    """
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != np.float32(FLO_MAGIC):
        raise InputError(f"{path} is not a .flo file: its first number is not {FLO_MAGIC}.")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", 2, offset=4))
    if width < 1 or height < 1 or len(data) != 12 + 8 * width * height:
        raise InputError(
            f"{path} announces {width}x{height} vectors, but has {len(data) - 12} bytes of them "
            f"instead of {8 * width * height}. The file is damaged; write it again."
        )
    flow = np.frombuffer(data, "<f4", 2 * width * height, offset=12)
    field = np.ascontiguousarray(flow.reshape(height, width, 2).transpose(2, 0, 1))
    unknown = (np.abs(field) > FLO_UNKNOWN) & np.isfinite(field)
    field = _filled(field, ~unknown.any(axis=0), path, told)
    check_finite(field[None], path)
    check_range(field, path)
    return field


def _filled(
    field: Float32[np.ndarray, "2 h w"], known: Bool[np.ndarray, "h w"], path: Path, told: Told
) -> Float32[np.ndarray, "2 h w"]:
    """The field with the vector of the nearest known site where none is known.

    Raises:
        InputError: more than ``UNKNOWN_MOST`` of the sites are not known.
    """
    if known.all():
        return field
    share = float((~known).mean())
    if share > UNKNOWN_MOST:
        raise InputError(
            f"{path} has vectors that are marked as unknown, {100 * share:.0f} % of them. Give "
            "dense flow."
        )
    told(path, share)
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled: Float32[np.ndarray, "2 h w"] = field[:, *nearest]
    return filled


def write_flo(path: Path, flow: Float32[np.ndarray, "2 h w"]) -> None:
    """Write one field as Middlebury ``.flo``, atomically.

    Raises:
        InputError: a vector is not finite.
    """
    check_finite(flow[None], path)
    _, height, width = flow.shape
    header = np.float32(FLO_MAGIC).tobytes() + np.array([width, height], "<i4").tobytes()
    write_atomically(path, header + flow.transpose(1, 2, 0).astype("<f4").tobytes())


def decode_kitti(data: bytes, path: Path, told: Told = warn_filled) -> Float32[np.ndarray, "2 h w"]:
    """One KITTI field: 16-bit PNG, u and v in 1/64 px around 2^15, and whether they are valid.

    Vectors that are not valid take the nearest valid one. ``path`` is what errors call the file.

    Raises:
        InputError: not a 16-bit colour PNG, or more than ``UNKNOWN_MOST`` of the vectors are not
            valid.
    """
    picture = kitti_picture(data, path)
    valid = picture[..., 0] > 0  # OpenCV has blue first: valid, v, u
    uv = (picture[..., :0:-1].astype(np.float32) - KITTI_ZERO) / KITTI_STEP
    return _filled(np.ascontiguousarray(uv.transpose(2, 0, 1)), valid, path, told)


def kitti_picture(data: bytes, path: Path) -> UInt16[np.ndarray, "h w 3"]:
    """Valid, v and u as a KITTI file has them. Raises InputError where it is another picture."""
    sides = np.frombuffer(data, ">u4", 2, offset=16) if len(data) >= 24 else np.zeros(2)
    if data[:4] != b"\x89PNG" or not 0 < int(sides[0]) * int(sides[1]) <= MAX_VECTORS:
        raise InputError(
            f"{path} is not a KITTI flow file: it is no PNG of at most {MAX_VECTORS} pixels."
        )
    picture: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.dtype != np.uint16 or picture.shape[2:] != (3,):
        raise InputError(f"{path} is not a KITTI flow file: it is no 16-bit PNG of three channels.")
    return picture


def write_kitti(path: Path, flow: Float32[np.ndarray, "2 h w"]) -> None:
    """Write one field as KITTI 16-bit PNG, atomically: every site valid, in steps of 1/64 px.

    Raises:
        InputError: a vector is longer than the format can say (511 px), or not finite.
    """
    check_finite(flow[None], path)
    stored = np.rint(flow * KITTI_STEP + KITTI_ZERO)
    if stored.min() < 0 or stored.max() > 2**16 - 1:
        raise InputError(f"The flow for {path} has vectors beyond 511 px, KITTI's limit. Use .flo.")
    valid = np.ones(flow.shape[1:])
    picture = np.stack([valid, stored[1], stored[0]], axis=-1).astype(np.uint16)
    _, encoded = cv2.imencode(".png", picture)
    write_atomically(path, encoded.tobytes())


def _is_flo(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == np.float32(FLO_MAGIC).tobytes()


def _is_kitti(path: Path) -> bool:
    """Whether it is as ``write_kitti`` writes it: frames and masks are PNG files, too."""
    try:
        return bool((kitti_picture(_bytes(path), path)[..., 0] == 1).all())
    except InputError:
        return False


@dataclass(frozen=True)
class FolderFormat:
    """A format of which each file holds one field.

    Attributes:
        suffix: of the files.
        write: writes a field.
        ours: whether a file of that suffix is one that ``write`` may have written.
    """

    suffix: str
    write: Callable[[Path, np.ndarray], None]
    ours: Callable[[Path], bool]


FOLDERS = {
    "flo": FolderFormat(".flo", write_flo, _is_flo),
    "kitti": FolderFormat(".png", write_kitti, _is_kitti),
}


def fields_there(folder: Path, kind: str) -> list[Path]:
    """Numbered fields of an earlier run in ``folder``, which ``write_flow_folder`` replaces.

    Raises:
        InputError: a file has the name of a field, but is none: it would be lost.
    """
    form = FOLDERS[kind]
    name = rf"\d{{5,}}{re.escape(form.suffix)}"
    try:
        there = [each for each in sorted(folder.glob("*")) if re.fullmatch(name, each.name)]
        foreign = next((each for each in there if not form.ours(each)), None)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read: {error.strerror or error}. Choose another folder."
        ) from error
    if foreign is not None:
        raise InputError(
            f"{foreign} is not flow of an earlier run, and would be replaced. Choose another "
            "folder."
        )
    return there


def _others_there(folder: Path, kind: str) -> list[Path]:
    """Numbered fields of the other formats; what only has the name of one is left alone."""
    return [
        each
        for name, form in FOLDERS.items()
        if name != kind
        for each in sorted(folder.glob(f"*{form.suffix}"))
        if re.fullmatch(r"\d{5,}", each.stem) and form.ours(each)
    ]


def write_flow_folder(folder: Path, fields: Iterable[np.ndarray], kind: str) -> None:
    """Write fields (2, h, w) as ``00000.flo`` (kind "flo") or ``00000.png`` ("kitti") and so on.

    They are made in a hidden folder and moved when all are there. Numbered fields of an earlier
    run in ``folder`` go, those of the other format, too: they would be taken for fields of this
    clip.

    Raises:
        InputError: the folder cannot be written, it holds other files of these names, or the
            format cannot say a vector.
    """
    form = FOLDERS[kind]
    fields_there(folder, kind)  # a mistake costs no computation
    made_now = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder, f"{HIDDEN}*")
        with tempfile.TemporaryDirectory(prefix=HIDDEN, dir=folder) as staging:
            made = []
            for index, field in enumerate(fields):
                made.append(Path(staging) / f"{index:05d}{form.suffix}")
                form.write(made[-1], field)
            for old in (*fields_there(folder, kind), *_others_there(folder, kind)):
                old.unlink()
            for path in made:
                path.replace(folder / path.name)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror or error}. Choose another folder."
        ) from error
    finally:
        if made_now:
            with suppress(OSError):  # not empty: it holds fields
                folder.rmdir()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def check_direction(leads_back: bool, backward: bool, path: Path) -> None:
    """Raise InputError for flow that leads the other way than is expected."""
    if leads_back != backward:
        raise InputError(
            f"{path} holds {'backward' if leads_back else 'forward'} flow, but "
            f"{'backward' if backward else 'forward'} flow is expected. Compute it again "
            f"{'with' if backward else 'without'} --backward."
        )


def check_finite(flow: np.ndarray, path: Path, first: int = 0) -> None:
    """Check fields (m, 2, h, w), of which the first has the number ``first`` in the file.

    Raises:
        InputError: a number is not finite; the sentence names it.
    """
    finite = np.isfinite(flow)
    if not finite.all():
        field, _, row, column = (int(each) for each in np.argwhere(~finite)[0])
        field += first
        raise InputError(
            f"{path} has a vector that is not finite: field {field}, row {row}, column {column}. "
            "Compute the flow again."
        )


def check_range(flow: np.ndarray, path: Path) -> None:
    """Raise ``InputError`` where a vector is too long for float16."""
    if np.abs(flow).max(initial=0) > np.finfo(np.float16).max:
        raise InputError(f"{path} has vectors that are too long (65504 px). Compute it again.")
