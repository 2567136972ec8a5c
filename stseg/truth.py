"""Ground-truth masks of a clip, frame by frame."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, UnidentifiedImageError

from stseg.errors import InputError


def truth_files(folder: Path) -> dict[int, Path]:
    """The mask of each annotated frame, by frame number, as the file names say it (00012.png)."""
    files = {}
    for path in sorted(folder.glob("*.png")):
        found = re.search(r"(\d+)$", path.stem)
        if found:
            files[int(found[1])] = path
    return files


def read_labels(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Labels of a mask file: palette index or gray value; alpha is ignored.

    Raises:
        InputError: the file is not a picture.
    """
    try:
        with Image.open(path) as picture:
            gray = picture if picture.mode in ("P", "L") else picture.convert("L")
            return np.array(gray, dtype=np.uint8)
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"The mask {path} is not a readable picture ({error}).") from error


def read_foreground(path: Path, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Foreground of a mask file: every site whose label is not 0.

    Raises:
        InputError: the file is not a picture, or not of ``size`` (H, W).
    """
    labels = read_labels(path)
    if labels.shape != size:
        raise InputError(
            f"The mask {path} is {labels.shape[1]}x{labels.shape[0]}, but its video is "
            f"{size[1]}x{size[0]}. Give masks of the size of the video."
        )
    return labels > 0


def labels_at(folder: Path, index: int, size: tuple[int, int]) -> np.ndarray | None:
    """Labels of frame ``index`` resized to ``size`` (H, W); None where it has no mask."""
    path = truth_files(folder).get(index)
    if path is None:
        return None
    wh = (size[1], size[0])
    resized: np.ndarray = cv2.resize(read_labels(path), wh, interpolation=cv2.INTER_NEAREST)
    return resized
