"""Data set folders in their published layouts → clips with their ground truth.

Known layouts, told apart by their folders:

- DAVIS2016: ``JPEGImages/480p/NAME/*.jpg`` with ``Annotations/480p/NAME/*.png``; MP4 files in
  ``videos/NAME.mp4`` stand for the frames where those are not there.
- SegTrackV2: ``JPEGImages/NAME`` with ``GroundTruth/NAME``, whose masks may lie in one folder an
  object.
- FBMS-59: ``NAME/*.jpg`` with ``NAME/GroundTruth``, also below ``Trainingset`` and ``Testset``.
- Frames and masks: ``frames/NAME`` with ``masks/NAME``.
- Plain: video files and folders of frames; a folder of PNG masks beside ``NAME.mp4``, called
  ``NAME``, is its ground truth.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from stseg.errors import InputError
from stseg.files import natural_key
from stseg.records import Clip
from stseg.video import PICTURES, probe

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi", ".gif", ".mpg", ".mpeg", ".ogv", ".wmv"}
)

Source = tuple[Path, Path | None]
"""Where the frames are, and the folder of the ground truth."""


def find_clips(root: Path) -> list[Clip]:
    """All clips of a data set folder, by name; files that are no clips are left out.

    A clip that cannot be read is named in a warning.

    Args:
        root: the folder of a data set in one of the layouts above, or of plain videos.

    Raises:
        InputError: the folder is not there, or holds no clip at all.
    """
    if not root.is_dir():
        raise InputError(f"There is no folder {root}. Give the folder of a data set or of videos.")
    clips = []
    for source, truth in _sources(root):
        try:
            clip = probe(source)
        except InputError as error:
            logger.warning("%s It is left out.", error)
            continue
        clips.append(
            Clip(clip.source, source.stem, clip.size, clip.fps, clip.frames, _present(truth))
        )
    if not clips:
        raise InputError(
            f"{root} holds no clip: neither DAVIS2016, SegTrackV2 or FBMS-59 in their own layouts, "
            "nor video files or folders of frames. Give another folder."
        )
    return sorted(clips, key=lambda clip: natural_key(clip.name))


def _sources(root: Path) -> Iterator[Source]:
    davis, segtrack = root / "Annotations" / "480p", root / "GroundTruth"
    if davis.is_dir():
        yield from _davis(root, davis)
    elif segtrack.is_dir() and (root / "JPEGImages").is_dir():
        for folder in _folders(root / "JPEGImages"):
            yield folder, segtrack / folder.name
    elif (root / "frames").is_dir() and (root / "masks").is_dir():
        for source in (*_folders(root / "frames"), *_videos(root / "frames")):
            yield source, root / "masks" / source.stem
    else:
        parts = [root / name for name in ("Trainingset", "Testset") if (root / name).is_dir()]
        for part in parts or [root]:
            yield from _plain(part)


def _davis(root: Path, annotations: Path) -> Iterator[Source]:
    frames, videos = root / "JPEGImages" / "480p", root / "videos"
    for folder in _folders(annotations):
        video = videos / f"{folder.name}.mp4"
        images = frames / folder.name
        # A few frames alone (a sample) do not stand for a sequence that is there as a video.
        complete = images.is_dir() and len(_images(images)) >= len(_images(folder))
        if complete or not video.is_file():
            if images.is_dir():
                yield images, folder
        else:
            yield video, folder
    annotated = {folder.name for folder in _folders(annotations)}
    for video in _videos(videos):
        if video.stem not in annotated:
            yield video, None


def _plain(root: Path) -> Iterator[Source]:
    videos = _videos(root)
    truths = {video.stem for video in videos}
    for video in videos:
        yield video, root / video.stem
    for folder in _folders(root):
        if folder.name not in truths and _images(folder):
            yield folder, folder / "GroundTruth"


def _present(truth: Path | None) -> Path | None:
    return truth if truth is not None and truth.is_dir() else None


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
