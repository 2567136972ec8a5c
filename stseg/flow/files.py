"""Optical flow in files: ``.npz``, Middlebury ``.flo`` and KITTI 16-bit PNG, read and written."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32
from scipy.ndimage import distance_transform_edt

from stseg.errors import InputError
from stseg.files import natural_key, write_atomically

STEP = 1 / 32
"""Vectors of a ``.npz`` are rounded to this fraction of a pixel: far below any error of them."""

FLO_MAGIC = 202021.25
FLO_UNKNOWN = 1e9
KITTI_ZERO, KITTI_STEP = 2**15, 64.0

Size = tuple[int, int]


def read_flow_file(path: Path) -> tuple[np.ndarray, Size]:
    """Flow of a sequence from an ``.npz``: float16 fields (n - 1, 2, h, w), and the size (H, W).

    The file has ``flow`` (n - 1, 2, h, w) in pixels of a frame of ``size`` (H, W); without
    ``size`` the frame is as large as the flow.

    Raises:
        InputError: the file is missing, truncated, of another layout, or not finite.
    """
    try:
        # np.load leaves a damaged file open when it opens it itself.
        with path.open("rb") as file:
            data = np.load(file)
            flow = np.asarray(data["flow"])
            size = data["size"] if "size" in data else np.array(flow.shape[2:])
    except (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path} is not a flow file with an array 'flow' ({error}). Compute it again with "
            "`python -m stseg flow`."
        ) from error
    if flow.ndim != 4 or flow.shape[1] != 2 or size.shape != (2,) or not len(flow):
        raise InputError(
            f"{path} holds flow of shape {flow.shape}, but (n - 1, 2, h, w) is expected."
        )
    _check_finite(flow, path)
    _check_range(flow, path)
    return flow.astype(np.float16), (int(size[0]), int(size[1]))


def write_flow_file(path: Path, flow: Float32[np.ndarray, "m 2 h w"], size: Size) -> None:
    """Write flow as ``.npz``, atomically: float16 in steps of 1/32 px, and the size (H, W).

    Raises:
        InputError: the file cannot be written, or a vector is not finite.
    """
    _check_finite(flow, path)
    _check_range(flow, path)
    rounded = (np.rint(flow / STEP) * STEP).astype(np.float16)
    data = io.BytesIO()
    np.savez_compressed(data, flow=rounded, size=np.array(size))
    write_atomically(path, data.getvalue())


def read_flo(path: Path) -> Float32[np.ndarray, "2 h w"]:
    """One Middlebury ``.flo`` field.

    Raises:
        InputError: wrong magic number, truncated, or vectors that are not known or not finite.
    """
    data = _bytes(path)
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
    if (np.abs(field) > FLO_UNKNOWN).any():
        raise InputError(f"{path} has vectors that are marked as unknown. Give dense flow.")
    _check_finite(field[None], path)
    return field


def write_flo(path: Path, flow: Float32[np.ndarray, "2 h w"]) -> None:
    """Write one field as Middlebury ``.flo``, atomically."""
    _check_finite(flow[None], path)
    _, height, width = flow.shape
    header = np.float32(FLO_MAGIC).tobytes() + np.array([width, height], "<i4").tobytes()
    write_atomically(path, header + flow.transpose(1, 2, 0).astype("<f4").tobytes())


def read_kitti(path: Path) -> Float32[np.ndarray, "2 h w"]:
    """One KITTI field: 16-bit PNG, u and v in 1/64 px around 2^15, and whether they are valid.

    Sites that are not valid take the vector of the nearest valid one.

    Raises:
        InputError: not a 16-bit colour PNG, or without any valid site.
    """
    data = np.frombuffer(_bytes(path), np.uint8)
    picture: Any = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if picture is None or picture.dtype != np.uint16 or picture.shape[2:] != (3,):
        raise InputError(f"{path} is not a KITTI flow file: it is no 16-bit PNG of three channels.")
    valid = picture[..., 0] > 0  # OpenCV has blue first: valid, v, u
    if not valid.any():
        raise InputError(f"{path} has no valid vector. Give another file.")
    uv = (picture[..., :0:-1].astype(np.float32) - KITTI_ZERO) / KITTI_STEP
    if not valid.all():
        nearest = distance_transform_edt(~valid, return_distances=False, return_indices=True)
        uv = uv[tuple(nearest)]
    return np.ascontiguousarray(uv.transpose(2, 0, 1))


def write_kitti(path: Path, flow: Float32[np.ndarray, "2 h w"]) -> None:
    """Write one field as KITTI 16-bit PNG, atomically: every site valid, in steps of 1/64 px.

    Raises:
        InputError: a vector is longer than the format can say (511 px), or not finite.
    """
    _check_finite(flow[None], path)
    stored = np.rint(flow * KITTI_STEP + KITTI_ZERO)
    if stored.min() < 0 or stored.max() > 2**16 - 1:
        raise InputError(f"The flow for {path} has vectors beyond 511 px, KITTI's limit. Use .flo.")
    valid = np.ones(flow.shape[1:])
    picture = np.stack([valid, stored[1], stored[0]], axis=-1).astype(np.uint16)
    _, encoded = cv2.imencode(".png", picture)
    write_atomically(path, encoded.tobytes())


READERS = {".flo": read_flo, ".png": read_kitti}
WRITERS = {"flo": (".flo", write_flo), "kitti": (".png", write_kitti)}


def read_flow(path: Path) -> tuple[np.ndarray, Size]:
    """Flow that somebody brings: an ``.npz``, or a folder of ``.flo`` or KITTI ``.png`` fields.

    Returns:
        Fields (n - 1, 2, h, w), and the size (H, W) of the frame whose pixels they are in.

    Raises:
        InputError: nothing usable is there; the message names the file.
    """
    if not path.is_dir():
        return read_flow_file(path)
    for suffix, read in READERS.items():
        files = sorted(path.glob(f"*{suffix}"), key=lambda each: natural_key(each.stem))
        if files:
            fields = [read(each) for each in files]
            break
    else:
        raise InputError(f"{path} has neither .flo nor .png files. Give a folder of flow fields.")
    for each, field in zip(files, fields, strict=True):
        if field.shape != fields[0].shape:
            raise InputError(
                f"{each} is {field.shape[2]}x{field.shape[1]}, but {files[0].name} is "
                f"{fields[0].shape[2]}x{fields[0].shape[1]}. All fields must have one size."
            )
    return np.stack(fields), (fields[0].shape[1], fields[0].shape[2])


def write_flow_folder(folder: Path, fields: Iterable[np.ndarray], kind: str) -> None:
    """Write fields (2, h, w) as ``00000.flo`` (kind "flo") or ``00000.png`` ("kitti") and so on."""
    suffix, write = WRITERS[kind]
    for index, field in enumerate(fields):
        write(folder / f"{index:05d}{suffix}", field)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


def _check_finite(flow: np.ndarray, path: Path) -> None:
    finite = np.isfinite(flow)
    if not finite.all():
        field, _, row, column = (int(each) for each in np.argwhere(~finite)[0])
        raise InputError(
            f"{path} has a vector that is not finite: field {field}, row {row}, column {column}. "
            "Compute the flow again."
        )


def _check_range(flow: np.ndarray, path: Path) -> None:
    if np.abs(flow).max(initial=0) > np.finfo(np.float16).max:
        raise InputError(f"{path} has vectors that are too long (65504 px). Compute it again.")
