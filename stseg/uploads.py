"""The door for what strangers bring: checked and decoded in a bounded process, a few at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from stseg.bounded import first, prepare, stream
from stseg.errors import InputError
from stseg.flow import open_flow, own_fields, write_flow_file
from stseg.limits import Limits
from stseg.model_vetting import vetted_model
from stseg.records import Clip
from stseg.vetting import described


class Door:
    """Takes videos, flow and models of strangers within limits.

    Args:
        limits: of one file.
        at_once: files that are looked at at the same time; others wait.
    """

    def __init__(self, limits: Limits, at_once: int = 2) -> None:
        self.limits = limits
        self._turn = threading.BoundedSemaphore(at_once)

    def prepare(self) -> None:
        """Get ready before somebody waits."""
        prepare()

    def video(self, path: Path) -> Clip:
        """A video that somebody brings, as ``probe`` gives it; all of its packets are counted.

        Its frames are decoded in processes of their own, too, whenever they are read.

        Raises:
            InputError: it is no video, or beyond a limit.
        """
        self._check_file(path)
        with self._turn:
            told = first(described, path, self.limits, limits=self.limits, name=path.name)
        height, width = told["size"]
        return Clip(
            path,
            path.stem,
            (int(height), int(width)),
            float(told["fps"]),
            int(told["frames"]),
            limits=self.limits,
        )

    def flow(self, path: Path, clip: Clip, kept: Path, max_frames: int | None = None) -> None:
        """Flow that somebody brings for ``clip``, decoded once and written anew as an ``.npz``.

        Args:
            path: what they brought (see ``stseg.flow.own_fields``).
            clip: what it must belong to.
            kept: the file to write: what is read from now on.
            max_frames: it may be the flow of so many first frames alone.

        Raises:
            InputError: it is unusable, of another clip, or beyond a limit.
        """
        self._check_file(path)
        here = replace(clip, limits=None)  # that process is bounded, and has no other
        fields = stream(_fields, path, here, max_frames, limits=self.limits, name=path.name)
        with self._turn, closing(fields):
            try:
                write_flow_file(kept, fields, clip.size, step=0.0)
            except InputError as error:
                # Where the server keeps it is nobody's business.
                told = str(error).replace(str(path), path.name).replace(str(kept), path.name)
                raise InputError(told) from error

    def model(self, path: Path) -> tuple[int, ...]:
        """A checkpoint that somebody brings: the K that it gives (``vetted_model``).

        Raises:
            InputError: it is no checkpoint that serves, or beyond a limit.
        """
        _check_there(path)
        with self._turn:
            try:
                return vetted_model(path, self.limits)
            except InputError as error:
                raise InputError(str(error).replace(str(path), path.name)) from error

    def _check_file(self, path: Path) -> None:
        _check_there(path)
        self.limits.check_bytes(path.stat().st_size, path.name)


def _check_there(path: Path) -> None:
    if path.is_symlink() or not path.exists():
        raise InputError(f"{path.name!r} is not a file. Upload the file itself.")


def _fields(path: Path, clip: Clip, max_frames: int | None) -> Iterator[np.ndarray]:
    short = max_frames is not None and open_flow(path).count == max_frames - 1
    yield from own_fields(path, clip, max_frames if short else None)
