"""Frames out as H.264 that every browser plays."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    VideoReformatter,
)
from av.video.stream import VideoStream
from jaxtyping import UInt8

from stseg.errors import InputError
from stseg.video import FPS_RANGE, THREADS


class VideoWriter:
    """Frames into an MP4 that a browser plays: H.264, yuv420p, BT.709, index at the front.

    The file appears under its name only when it is complete: until ``close`` it is
    ``.<name>.part`` in the same folder, and leaving the ``with`` block by an exception removes it.
    Odd sizes are padded by repeating the last row or column, since yuv420p halves both sides.

    Args:
        path: the file to make; one that is there is replaced.
        fps: frames per second, 0.01 to 999.
        crf: quality of x264, 0 (lossless) to 51; 20 is hard to tell from the source.

    Raises:
        InputError: when the file cannot be written there.
        ValueError: when ``fps`` is out of its range.
    """

    def __init__(self, path: str | Path, fps: float, crf: int = 20) -> None:
        if not FPS_RANGE[0] <= fps <= FPS_RANGE[1]:
            raise ValueError(f"fps is {fps}, but it is from {FPS_RANGE[0]} to {FPS_RANGE[1]}.")
        self._path = Path(path)
        self._part = self._path.with_name(f".{self._path.name}.part")
        self._rate = Fraction(fps).limit_denominator(1001)
        self._crf = crf
        self._size: tuple[int, ...] = ()
        self._count = 0
        self._open = True
        self._reformatter = VideoReformatter()
        if self._path.is_dir():
            raise InputError(f"{str(path)!r} is a folder. Give the name of a file in it.")
        try:
            self._part.open("wb").close()  # FFmpeg itself would only say so at the first frame
        except OSError as error:
            raise self._unwritable(error) from error
        self._container = av.open(
            f"file:{self._part}", "w", format="mp4", options={"movflags": "+faststart"}
        )

    def write(self, frame: UInt8[np.ndarray, "H W 3"]) -> None:
        """Append one frame.

        Args:
            frame: (H, W, 3) RGB, uint8, of the size of the first one.

        Raises:
            ValueError: when the size differs from the first, or the writer is closed.
            InputError: when the disk does not take it.
        """
        if not self._open:
            raise ValueError("This video is closed: no frame can be added.")
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"A frame is (H, W, 3) uint8, but got {frame.shape} {frame.dtype}.")
        padded = cv2.copyMakeBorder(
            frame, 0, frame.shape[0] % 2, 0, frame.shape[1] % 2, cv2.BORDER_REPLICATE
        )
        if not self._size:
            self._size = frame.shape
            self._stream = self._add_stream(padded.shape[0], padded.shape[1])
        if frame.shape != self._size:
            raise ValueError(f"A frame is {frame.shape}, but the first one was {self._size}.")
        picture = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(padded, np.uint8), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=THREADS,
        )
        picture.pts = self._count
        picture.time_base = 1 / self._rate
        self._mux(picture)
        self._count += 1

    def close(self) -> None:
        """Finish the file and give it its name. Closing twice is harmless.

        Raises:
            ValueError: when no frame was written; nothing is left then.
            InputError: when the disk does not take the end of the file; nothing is left then.
        """
        if not self._open:
            return
        try:
            if not self._count:
                raise ValueError("A video needs at least one frame, but none was written.")
            self._mux(None)
            try:
                self._container.close()
                os.replace(self._part, self._path)
            except (av.FFmpegError, OSError) as error:
                raise self._unwritable(error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Give up: remove what was written. Harmless after ``close``."""
        if self._open:
            self._open = False
            with suppress(av.FFmpegError):  # a full disk fails again here, and was told already
                self._container.close()
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _add_stream(self, height: int, width: int) -> VideoStream:
        stream = self._container.add_stream("libx264", rate=self._rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # Short groups of pictures: a slider that jumps about in the page stays quick.
        stream.options = {"crf": str(self._crf), "preset": "veryfast", "g": "30"}
        stream.codec_context.thread_count = THREADS
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
        stream.codec_context.color_trc = ColorTrc.BT709
        stream.codec_context.color_primaries = ColorPrimaries.BT709
        return stream

    def _mux(self, picture: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(picture))
        except av.FFmpegError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> InputError:
        why = getattr(error, "strerror", None) or error
        return InputError(
            f"The video {str(self._path)!r} cannot be written ({why}). "
            "Choose another folder, or free some space."
        )
