"""Files of a ``Segmentation``: label pictures, arrays, videos and a summary."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from stseg.errors import InputError, heed
from stseg.files import sweep
from stseg.formats import EXTRAS, Check, Source, streamed_array
from stseg.records import Segmentation
from stseg.render import flow_scale, grid, label_png, overlay
from stseg.segment_motion import SegmentMotion
from stseg.summary import command_line as command_line
from stseg.summary import summary as summary
from stseg.video import read_frames
from stseg.video_writer import VideoWriter

Image8 = UInt8[np.ndarray, "H W 3"]
Labels = UInt8[np.ndarray, "H W"]

SUMMARY = "summary.json"
OUTPUTS = ("labels", "labels.npz", "overlay.mp4", "grid.mp4", SUMMARY)
"""What ``export_all`` always writes; the summary comes last."""

MARK = ".stseg.json"
"""Names what is being replaced, for those who come after a process that was killed at it."""


def outputs(also: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of what ``export_all`` writes, the summary last.

    Raises:
        InputError: there is no such extra file.
    """
    for name in also:
        if name not in EXTRAS:
            raise InputError(f"There is no extra file {name!r}. Choose among {', '.join(EXTRAS)}.")
    extras = [EXTRAS[name].file for name in dict.fromkeys(also)]
    return (*OUTPUTS[:-1], *extras, OUTPUTS[-1])


def export_all(
    segmentation: Segmentation,
    folder: Path,
    report: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
    also: Sequence[str] = (),
    motion: SegmentMotion | None = None,
) -> list[Path]:
    """Write labels (PNG and NPZ), both videos and the summary into ``folder``.

    Everything is made in a hidden folder beside its place and moved when all of it is whole. The
    files of an earlier result in the folder go, also those that this one does not have: they would
    tell of other labels. Which these are its summary says; others are not touched. The frames are
    read from the clip again, one at a time. The grid video and the extra files are made beside the
    rest.

    Args:
        segmentation: what to write.
        folder: where; it is made if it is not there.
        report: called with the frames done and their number.
        stop: asked before each frame, by several threads; True raises ``Cancelled`` and leaves
            nothing behind.
        also: extra files, by their names in ``stseg.formats.EXTRAS``.
        motion: motion models of the segmentation, where somebody has them already.

    Returns:
        The paths, in the order of ``outputs(also)``.

    Raises:
        InputError: there is no such extra file, the folder cannot be written, or holds something
            in the place of ours that is not of an earlier result.
        Cancelled: ``stop`` said so.
    """
    names = outputs(also)
    source = Source(segmentation, motion or SegmentMotion(segmentation))
    ended = threading.Event()

    extras: list[Future[None]] = []

    def check() -> None:
        heed(lambda: ended.is_set() or (stop is not None and stop()), "export")
        for each in extras:
            if each.done():
                each.result()  # where one thing fails, nobody waits for the others

    with _staging(folder, names) as staging, ThreadPoolExecutor(1, "stseg-extras") as beside:
        try:
            for name in dict.fromkeys(also):
                file = staging / EXTRAS[name].file
                extras.append(beside.submit(EXTRAS[name].write, source, file, check))
            areas = _write_frames(
                segmentation, staging, report or (lambda done, total: None), check
            )
            for each in extras:
                each.result()
        finally:
            ended.set()
        extra = tuple(dict.fromkeys(also))
        told = {**summary(segmentation, str(folder), extra, areas), "files": list(names)}
        text = json.dumps(told, indent=2, ensure_ascii=False)
        (staging / SUMMARY).write_text(text + "\n", encoding="utf-8")
        replaced = _replaced(folder, names)
        (folder / MARK).write_text(json.dumps({"files": replaced}), encoding="utf-8")
        (folder / SUMMARY).unlink(missing_ok=True)  # where there is a summary, all is whole
        for name in replaced:
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
        for name in names:
            (staging / name).replace(folder / name)
        (folder / MARK).unlink()
    return [folder / name for name in names]


def check_folder(folder: Path, also: Sequence[str] = (), read: Sequence[Path] = ()) -> None:
    """Check at the door that results can be written to ``folder``; nothing is left there.

    Args:
        folder: where the results go.
        also: extra files, as ``export_all`` takes them.
        read: what the result is made from, which must not go with an earlier one.

    Raises:
        InputError: the folder cannot be written, holds something in the place of ours that is not
            ours, or what is read would be replaced.
    """
    names = outputs(also)
    replaced = {(folder / name).resolve() for name in _replaced(folder, names)}
    for path in read:
        if not replaced.isdisjoint((path.resolve(), *path.resolve().parents)):
            raise InputError(
                f"{path} would be replaced by the results in {folder}, which are made from it. "
                "Choose another folder."
            )
    with _staging(folder, names):
        pass


@contextmanager
def _staging(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """A hidden folder inside ``folder`` that goes whatever happens; ``names`` will be replaced."""
    made = not folder.exists()
    staging: Path | None = None
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            ours = _earlier(folder)
            for name in _replaced(folder, names):
                _check_replaceable(folder / name, name in ours)
            sweep(folder, ".stseg-*")
            staging = Path(tempfile.mkdtemp(prefix=".stseg-", dir=folder))
        except OSError as error:
            raise InputError(
                f"The folder {folder} cannot be written: {error.strerror}. Choose another folder."
            ) from error
        try:
            yield staging
        except OSError as error:
            raise InputError(
                f"Writing to {folder} failed: {error.strerror or error}. Free some space there, "
                "or choose another folder."
            ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        if made:
            with suppress(OSError):  # not empty: it holds results
                folder.rmdir()


def _earlier(folder: Path) -> list[str]:
    """Names of what an earlier result left in ``folder``, whole or killed while it was moved."""
    known = outputs(tuple(EXTRAS))
    found: set[str] = set()
    summary_ = _object(folder / SUMMARY, {"clip", "settings", "segments"})
    for told in (summary_, _object(folder / MARK)):
        # Those that older versions wrote do not say which files are theirs.
        names = [] if told is None else told.get("files", known)
        found.update(name for name in known if name in names)
    return [name for name in known if name in found]


def _object(path: Path, keys: Collection[str] = ()) -> dict[str, Any] | None:
    """What a JSON file holds; None where it is no object with these keys."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and told.keys() >= set(keys) else None


def _replaced(folder: Path, names: Sequence[str]) -> list[str]:
    """What goes where ``names`` are written: all of an earlier result, even what has no heir."""
    return list(dict.fromkeys((*_earlier(folder), *names)))


def _check_replaceable(path: Path, ours: bool) -> None:
    """Refuse to replace what we did not write: names alone say little.

    Raises:
        InputError: ``path`` is there, and is not ours.
    """
    if not path.exists():
        return
    if path.suffix or not path.is_dir():
        if not ours or path.is_dir():
            raise InputError(
                f"{path} is not of an earlier result, and would be replaced. Choose another folder."
            )
        return
    foreign = [
        each.name
        for each in sorted(path.iterdir())
        if not (ours and re.fullmatch(r"\d{5,}\.png", each.name))
    ]
    if foreign:
        raise InputError(
            f"{path} holds files that are not of an earlier result ({foreign[0]}), and would "
            "be replaced. Choose another folder."
        )


def _write_frames(
    segmentation: Segmentation,
    folder: Path,
    report: Callable[[int, int], None],
    check: Check,
) -> Float32[np.ndarray, "n k"]:
    """Write the label pictures and arrays and both videos; the areas of the labels in them."""
    clip, n = segmentation.clip, len(segmentation)
    areas = np.zeros((n, segmentation.k), np.float32)
    scale, written = flow_scale(segmentation), 0
    pictured: Future[None] | None = None
    (folder / "labels").mkdir()
    with ExitStack() as stack:
        arrays = stack.enter_context(
            streamed_array(folder / "labels.npz", "labels", (n, *clip.size))
        )
        over = stack.enter_context(VideoWriter(folder / "overlay.mp4", clip.fps))
        four = stack.enter_context(VideoWriter(folder / "grid.mp4", clip.fps))
        beside = stack.enter_context(ThreadPoolExecutor(1, "stseg-grid"))

        def picture(index: int, image: Image8, segments: Labels, labels: Labels) -> None:
            four.write(grid(image, segmentation.motion(index), segments, labels, scale))

        for index, image in enumerate(read_frames(clip, n)):
            check()
            segments = segmentation.segments(index)
            labels = segmentation.assignment[index][segments]
            write_label_png(folder / "labels" / f"{index:05d}.png", labels)
            arrays(labels)
            areas[index] = np.bincount(labels.ravel(), minlength=segmentation.k) / labels.size
            if pictured is not None:
                pictured.result()  # no more than one frame waits there
            pictured = beside.submit(picture, index, image, segments, labels)
            over.write(overlay(image, labels))
            report(index + 1, n)
            written = index + 1
        if pictured is not None:
            pictured.result()
    if written != n:
        raise InputError(
            f"{clip.source} gave {n} frames and then {written}: it changed while it was read. "
            "Segment it again."
        )
    return areas


def write_label_png(path: Path, labels: UInt8[np.ndarray, "H W"]) -> None:
    """Write labels as an indexed PNG in the colours of the screen."""
    path.write_bytes(label_png(labels))
