"""Frames in from a video file or a folder of pictures.

A stranger's file (a clip with limits) is decoded in a process of its own: see ``stseg.bounded``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.reformatter import (
    ColorPrimaries,
    ColorTrc,
    VideoReformatter,
)
from av.video.stream import VideoStream
from jaxtyping import UInt8
from PIL import Image

from stseg.bounded import first, stream
from stseg.errors import InputError
from stseg.files import natural_key
from stseg.limits import Limits
from stseg.records import Clip

ORIENTATION = 0x0112
TURNED = (5, 6, 7, 8)
"""Values of this EXIF tag with which rows are columns."""

logger = logging.getLogger(__name__)

DisplayMatrix = tuple[int, int, int, int]
Picture = UInt8[np.ndarray, "H W 3"]

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
SIDE_RANGE = (16, 16384)
FPS_RANGE = (0.01, 999.0)
FILE_FPS = 25.0
FOLDER_FPS = 24.0
THREADS = 2
SEEK_FRAMES = 250

# Only formats that carry their own data: a playlist (hls, concat, dash) uploaded as a video would
# make FFmpeg open other files or the network on its behalf. Sound is here to be named as sound.
FORMATS = (
    "mov,mp4,matroska,webm,avi,gif,apng,mpeg,mpegts,mpegvideo,m4v,flv,asf,ogg,h264,hevc,av1,obu,"
    "ivf,yuv4mpegpipe,mjpeg,mxf,nut,dv,rm,mp3,wav,flac,aac"
)
HDR_CURVES = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
TRY = "Try MP4, MOV, WebM, AVI or GIF."


def probe(path: str | Path) -> Clip:
    """Check a video file or a folder of frames at the door, reading as little of it as possible.

    Only the first frame is decoded; of the other pictures of a folder only the header is read.
    ``Clip.fps`` is the average rate of a file (25 where it has none) and 24 for a folder.
    ``Clip.frames`` is what the file announces, else its duration times its rate, else 0.

    Args:
        path: a video file (MP4, MOV, WebM, AVI, MKV, GIF, ...) or a folder of pictures.

    Returns:
        The clip, its size (H, W) in pixels, after the rotation flag; pixels count as square.

    Raises:
        InputError: when there is nothing to read, the frames are of an unusable size, or two
            pictures of a folder differ only in their suffix.
    """
    path = Path(path)
    if path.is_dir():
        return _probe_folder(path)
    if not path.exists():
        raise InputError(f"There is no file or folder {str(path)!r}. Check its name and its place.")
    if not path.is_file():
        raise InputError(f"{str(path)!r} is not a file that can be read as a video. {TRY}")
    return _probe_file(path)


def read_frames(clip: Clip, max_frames: int | None = None) -> Iterator[Picture]:
    """The frames of ``clip`` in the order of presentation, one at a time, in constant memory.

    Every frame is decoded once, whatever its time stamp: n frames in the file are n frames here.
    Alpha is dropped; HDR (PQ, HLG) is brought to BT.709 by swscale, which shows 203 cd/m2 of PQ as
    white. A frame whose size differs from ``clip.size`` is resized. When a file breaks off, the
    frames before are given and the log gets a warning.

    Args:
        clip: what ``probe`` returned.
        max_frames: stop after this many frames; None reads all.

    Yields:
        (H, W, 3) RGB, uint8, C-contiguous, the caller's own.

    Raises:
        InputError: when not even one frame can be read.
    """
    frames = _decoded(clip) if clip.limits is None else _decoded_apart(clip, clip.limits)
    with closing(frames):  # islice alone would leave the file open after max_frames
        yield from islice(frames, max_frames)


def extent(path: Path) -> tuple[int, float]:
    """Number of frames and duration in seconds, from every packet and not from the header alone.

    Nothing is decoded. Packets that an edit list cuts off give no frame. Of a folder, the number of
    pictures; it has no duration.

    Raises:
        InputError: it is not a video.
    """
    if path.is_dir():
        return len(_pictures(path)), 0.0
    count, end = 0, 0.0
    with _opened(path) as (container, stream), suppress(av.FFmpegError):
        base, start = stream.time_base, stream.start_time or 0
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                count += 1
            if packet.pts is not None and base is not None:
                end = max(end, float((packet.pts - start + (packet.duration or 0)) * base))
        end = max(end, (container.duration or 0) / av.time_base)
    return count, end


def thumbnail(clip: Clip, height: int = 96) -> UInt8[np.ndarray, "h w 3"]:
    """A small picture of the middle of ``clip``, or of its start where that is not found quickly.

    Args:
        clip: what ``probe`` returned.
        height: h of the picture in pixels; w follows from the clip.

    Returns:
        (h, w, 3) RGB, uint8.

    Raises:
        InputError: when no frame can be read.
    """
    if clip.limits is None:
        picture = _middle_frame(clip)
    else:
        picture = first(_thumbnail_source, clip, limits=clip.limits, name=clip.source.name)
    width = max(1, round(height * clip.size[1] / clip.size[0]))
    return _fit(picture, (height, width))


class _ToRgb:
    """Decoded frames to RGB pictures of one size; keeps swscale's tables between frames."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._reformatter = VideoReformatter()
        self._rotation: int | None = None
        self._matrix: DisplayMatrix | None = None

    def __call__(self, frame: av.VideoFrame) -> Picture:
        # A frame whose side data was looked at refers to itself, and keeps its buffer until Python
        # searches for cycles: the first one tells how all stand, unless one is turned otherwise.
        if frame.rotation != self._rotation:
            self._rotation, self._matrix = frame.rotation, _display_matrix(frame)
        hdr = frame.color_trc in HDR_CURVES
        rgb = self._reformatter.reformat(
            frame,
            format="rgb24",
            dst_color_trc=ColorTrc.BT709 if hdr else None,
            dst_color_primaries=ColorPrimaries.BT709 if hdr else None,
            threads=THREADS,
        )
        # A copy: the array would otherwise be a window on a buffer the decoder may still need.
        return _fit(
            np.array(_upright(rgb.to_ndarray(), self._matrix), np.uint8, order="C"), self._size
        )


def _display_matrix(frame: av.VideoFrame) -> DisplayMatrix | None:
    """The (a, b, c, d) that takes (x, y) to (a x + c y, b x + d y) for display; None as it is.

    It is read itself because ``frame.rotation`` gives -180 for a mirrored picture.
    """
    notes: Any = frame.side_data  # PyAV's own annotation of it is too narrow
    matrix = notes.get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return None
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
    return a, b, c, d


def _upright(picture: np.ndarray, matrix: DisplayMatrix | None) -> np.ndarray:
    """A view of ``picture`` (h, w, c) turned and mirrored as the file asks players to do.

    Portrait phones write b = 1, c = -1 (a clockwise turn).
    """
    if matrix is None:
        return picture
    a, b, c, d = matrix
    right, down = a, d
    if abs(b) > abs(a):
        picture, right, down = picture.transpose(1, 0, 2), c, b
    return picture[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


def _fit(picture: Picture, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    if picture.shape[:2] == size:
        return picture
    resized = cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def _check_size(size: tuple[int, int], name: str) -> None:
    low, high = SIDE_RANGE
    if not (low <= min(size) and max(size) <= high):
        raise InputError(
            f"The frames of {name!r} are {size[1]} x {size[0]} pixels, but a side is from {low} to "
            f"{high} pixels. Scale the video to a size in this range."
        )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first moving picture (the cover of a song is none)."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise InputError(
            f"The file {path.name!r} cannot be opened ({error.strerror}). Check its permissions."
        ) from error
    # FFmpeg gets this one file, opened, and no protocol that could open another one for it.
    options = {
        "format_whitelist": FORMATS,
        "protocol_whitelist": "fd",
        "fd": str(descriptor),
    }
    try:
        container = av.open("fd:", options=options)
    except (av.FFmpegError, UnicodeDecodeError) as error:  # the latter for tags in no known code
        raise InputError(_why_unreadable(path)) from error
    finally:
        os.close(descriptor)  # FFmpeg has a copy
    with container:
        for stream in container.streams.video:
            if stream.disposition & Disposition.attached_pic:
                continue
            if not stream.codec_context:
                raise InputError(f"The video codec of {path.name!r} is not known here. {TRY}")
            stream.thread_type = "AUTO"
            stream.thread_count = THREADS
            stream.codec_context.options = {"max_pixels": str(SIDE_RANGE[1] ** 2)}
            yield container, stream
            return
        raise InputError(f"This file has no video stream. {TRY}")


def _why_unreadable(path: Path) -> str:
    with path.open("rb") as file:
        looks_like_mp4 = file.read(8)[4:] == b"ftyp"
    if looks_like_mp4:
        return (
            f"The file {path.name!r} is damaged: it starts as an MP4 but its index is missing, "
            "as when a copy or a recording was cut short. Copy or record it again."
        )
    return f"The file {path.name!r} is not a video, whatever its name says. {TRY}"


def _no_frame(name: str) -> InputError:
    return InputError(f"No frame of {name!r} can be decoded: it is empty or damaged. {TRY}")


def _check_memory(error: av.FFmpegError) -> None:
    """Raise ``MemoryError`` where the file is not to blame: it may be whole."""
    if isinstance(error, MemoryError):
        raise MemoryError(str(error)) from error


def _probe_file(path: Path) -> Clip:
    with _opened(path) as (container, stream):
        if max(stream.width, stream.height) > SIDE_RANGE[1]:  # before memory is asked for it
            _check_size((stream.height, stream.width), path.name)
        try:
            frame = next(container.decode(stream), None)
        except av.FFmpegError as error:
            _check_memory(error)
            raise _no_frame(path.name) from error
        if frame is None:
            raise _no_frame(path.name)
        rate = float(stream.average_rate or 0)
        fps = rate if FPS_RANGE[0] <= rate <= FPS_RANGE[1] else FILE_FPS
        seconds = (container.duration or 0) / av.time_base
        frames = _announced(container, stream) or round(seconds * fps)
    outline = np.empty((frame.height, frame.width, 0), np.uint8)
    outline = _upright(outline, _display_matrix(frame))
    size = (outline.shape[0], outline.shape[1])
    _check_size(size, path.name)
    return Clip(path, path.stem, size, fps, max(frames, 0))


def _announced(container: InputContainer, stream: VideoStream) -> int:
    """Number of frames that the header promises; 0 where it does not say.

    An MP4 that was trimmed without encoding it anew still has, and counts, what was cut off; its
    index, which is whole from the start, marks that or leaves it out.
    """
    if "mp4" not in container.format.name.split(","):
        return stream.frames
    shown = sum(not entry.is_discard for entry in stream.index_entries)
    return min(stream.frames, shown)


def _decoded(clip: Clip) -> Generator[Picture, None, None]:
    return _folder_frames(clip) if clip.source.is_dir() else _file_frames(clip)


def _decoded_apart(clip: Clip, limits: Limits) -> Generator[Picture, None, None]:
    """The same, in a process of its own; a file with more frames than it said ends at the limit."""
    frames = stream(_decoded, clip, limits=limits, name=clip.source.name)
    with closing(frames):
        for count, frame in enumerate(frames, 1):
            limits.check_video(clip.size, count, 0.0, clip.source.name)
            yield frame


def _file_frames(clip: Clip) -> Generator[Picture, None, None]:
    to_rgb, count, broken = _ToRgb(clip.size), 0, False
    with _opened(clip.source) as (container, stream):
        announced = _announced(container, stream)
        try:
            for frame in container.decode(stream):
                yield to_rgb(frame)
                count += 1
        except av.FFmpegError as error:
            _check_memory(error)
            broken = True
    if not count:
        raise _no_frame(clip.source.name)
    if broken or count < announced:
        logger.warning(
            "The file %r breaks off: %d frames could be read%s.",
            clip.source.name,
            count,
            f" of {announced} announced" if announced else "",
        )


def _thumbnail_source(clip: Clip) -> Iterator[Picture]:
    yield _middle_frame(clip)


def _middle_frame(clip: Clip) -> Picture:
    """The frame at half the duration, or the first one where the file cannot be searched."""
    if clip.source.is_dir():
        paths = _pictures(clip.source)
        return _load(paths[len(paths) // 2])
    with _opened(clip.source) as (container, stream), suppress(av.FFmpegError):
        if container.duration:
            middle = (container.start_time or 0) + container.duration // 2
            container.seek(middle)  # lands on the key frame before
            found = None
            for found in islice(container.decode(stream), SEEK_FRAMES):
                if found.time is None or found.time * av.time_base >= middle:
                    break
            if found is not None:
                return _ToRgb(clip.size)(found)
    with closing(_decoded(clip)) as frames:
        return next(frames)


def _pictures(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order (frame9 before frame10), hidden files left out."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES]
    paths = sorted(
        (path for path in paths if not path.name.startswith(".")),
        key=lambda path: natural_key(path.name),
    )
    if not paths:
        raise InputError(
            f"The folder {_name(folder)!r} holds no frames. Put PNG, JPEG, BMP, PPM, PGM, TIFF or "
            "WebP pictures in it, or give a video file."
        )
    return paths


def _name(folder: Path) -> str:
    """What a sentence calls a folder: ``.`` has no name of its own."""
    return folder.resolve().name or str(folder)


def _load(path: Path) -> Picture:
    with suppress(OSError, cv2.error):  # OpenCV raises for what is larger than it dares to open
        data = path.read_bytes()
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if picture is not None and not _cut_off(data):
            return np.ascontiguousarray(picture, np.uint8)
    raise InputError(f"The picture {path.name!r} cannot be read. Remove it or make it again.")


def _cut_off(data: bytes) -> bool:
    """Whether this is a JPEG without its end, of which OpenCV fills what is missing with gray.

    The end comes after the last scan: a preview in the header has an end of its own.
    """
    if not data.startswith(b"\xff\xd8"):
        return False
    end = data.rfind(b"\xff\xd9")
    return end < 0 or data.rfind(b"\xff\xda") > end


def _header_size(path: Path) -> tuple[int, int]:
    """(H, W) by the header of a picture, as OpenCV turns it; decoded where that does not tell."""
    unknown = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
    with suppress(*unknown), Image.open(path) as header:
        if header.getexif().get(ORIENTATION) not in TURNED:
            return header.height, header.width
        if header.format in ("JPEG", "MPO", "PNG"):
            return header.width, header.height
        # Not every version of OpenCV turns the others.
    height, width, _ = _load(path).shape
    return height, width


def _probe_folder(folder: Path) -> Clip:
    paths = _pictures(folder)
    _check_once(paths, _name(folder))
    first = _header_size(paths[0])
    _check_size(first, _name(folder))
    for path in paths[1:]:
        size = _header_size(path)
        if size != first:
            raise InputError(
                f"The picture {path.name!r} is {size[1]} x {size[0]} pixels, but the first frame, "
                f"{paths[0].name!r}, is {first[1]} x {first[0]}. Make all frames the same size."
            )
    height, width, _ = _load(paths[0]).shape
    return Clip(folder, folder.resolve().name, (height, width), FOLDER_FPS, len(paths))


def _check_once(paths: Sequence[Path], name: str) -> None:
    """Raise InputError where a frame is there in two formats: it would be read twice."""
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(path.stem, path)
        if other is not path:
            raise InputError(
                f"The folder {name!r} has {other.name!r} and {path.name!r}: one frame in two "
                "formats, or two frames of one name. Keep one of them there."
            )


def _folder_frames(clip: Clip) -> Generator[Picture, None, None]:
    paths = _pictures(clip.source)
    for count, path in enumerate(paths):
        try:
            picture = _load(path)
        except InputError as error:
            if not count:
                raise
            logger.warning("%s Only the %d frames before it are used.", error, count)
            return
        yield _fit(picture, clip.size)
