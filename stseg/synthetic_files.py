"""Rendered clips as files: video, labels and flow."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from stseg.errors import InputError
from stseg.records import grid_for
from stseg.synthetic import PALETTE, SHIPPED, RenderedClip, render
from stseg.video_writer import VideoWriter

_FLOW_STEP = 1 / 32  # pixels; vectors in files are rounded to it, so that they compress
_CRF = 20
_COLOURS = [value for colour in PALETTE for value in colour]


def write_clip(clip: RenderedClip, folder: Path, name: str) -> Path:
    """Write a rendered clip and its ground truth in place of what had these names.

    ``name.mp4`` holds the frames, ``name/00000.png`` ... the labels as palette indices, and
    ``name.npz`` is a flow cache: ``flow`` (n - 1, 2, h, w) float16 reduced to the network's grid,
    in source pixels rounded to 1/32, and ``size`` (H, W). Each appears complete or not at all.

    Args:
        clip: what to write.
        folder: where; it is made if need be.
        name: of the three, without a suffix.

    Returns:
        The path of the video.

    Raises:
        InputError: when the folder cannot be written, holds other files of that name, or the name
            is not one of a file.
    """
    check_place(folder, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".rendering-") as temporary:
            stage = Path(temporary)
            _write_labels(clip, stage / name)
            _write_flow(clip, stage / f"{name}.npz")
            with VideoWriter(stage / f"{name}.mp4", clip.settings.fps, crf=_CRF) as writer:
                for frame in clip.frames:
                    writer.write(frame)
            if (folder / name).exists():  # a folder that is not empty cannot be replaced
                os.replace(folder / name, stage / f".{name}")
            for part in (name, f"{name}.npz", f"{name}.mp4"):
                os.replace(stage / part, folder / part)
    except OSError as error:
        raise InputError(
            f"The clip cannot be written to {folder} ({error.strerror}). Choose another folder."
        ) from error
    return folder / f"{name}.mp4"


def check_place(folder: Path, name: str) -> None:
    """Check that a clip can be written without harm to files that are not of a rendered clip.

    Raises:
        InputError: there are such files of that name, or it is not one of a file.
    """
    if name in ("", ".", "..") or Path(name).name != name:
        raise InputError(f"{name!r} cannot name a clip. Choose a name without slashes.")
    labels = folder / name
    ours = (labels, folder / f"{name}.npz", folder / f"{name}.mp4")
    there = [path for path in ours if path.exists()]
    if there and not _rendered(labels):
        raise InputError(
            f"{there[0]} is not of a rendered clip, and would be replaced. Choose another folder."
        )


def _rendered(labels: Path) -> bool:
    """Whether a folder holds nothing but labels as they are written here, in our few colours."""
    try:
        for path in labels.iterdir():
            with Image.open(path) as image:
                if not re.fullmatch(r"\d{5,}\.png", path.name) or image.getpalette() != _COLOURS:
                    return False
    except OSError:
        return False
    return True


def _write_labels(clip: RenderedClip, folder: Path) -> None:
    folder.mkdir()
    for t, labels in enumerate(clip.labels):
        image = Image.fromarray(labels)
        image.putpalette(_COLOURS)
        image.save(folder / f"{t:05d}.png", optimize=True)


def _write_flow(clip: RenderedClip, path: Path) -> None:
    rows, columns = grid_for(clip.settings.size)
    small = np.empty((len(clip.flow), 2, rows, columns), np.float16)
    for t, field in enumerate(clip.flow):
        for channel, plane in enumerate(field):
            plane = cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_AREA)
            small[t, channel] = _FLOW_STEP * np.rint(plane / _FLOW_STEP)
    np.savez_compressed(path, flow=small, size=np.array(clip.settings.size))


def write_shipped(folder: Path) -> None:
    """Render the clips of ``SHIPPED`` into ``folder`` (``assets/clips`` in the project).

    Raises:
        InputError: when the folder cannot be written.
    """
    for name, _ in SHIPPED:
        check_place(folder, name)
    for name, settings in SHIPPED:
        write_clip(render(settings), folder, name)
