"""Files of a ``Segmentation``: label pictures, arrays, videos and a summary."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from stseg.errors import Cancelled, InputError
from stseg.flow import ESTIMATORS
from stseg.records import Clip, Segmentation, Settings
from stseg.render import COLOURS, flow_scale, grid, overlay
from stseg.video import VideoWriter, read_frames

OUTPUTS = ("labels", "labels.npz", "overlay.mp4", "grid.mp4", "summary.json")
"""What ``export_all`` writes; the summary comes last."""


def export_all(
    segmentation: Segmentation,
    folder: Path,
    report: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[Path]:
    """Write labels (PNG and NPZ), both videos and the summary into ``folder``.

    Everything is made in a hidden folder beside its place and moved when all of it is whole; what
    an earlier run left under the same names is replaced. The frames are read from the clip again,
    one at a time.

    Args:
        segmentation: what to write.
        folder: where; it is made if it is not there.
        report: called with the frames done and their number.
        stop: asked before each frame; True raises ``Cancelled`` and leaves nothing behind.

    Returns:
        The paths, in the order of ``OUTPUTS``.

    Raises:
        InputError: the folder cannot be written, or holds a ``labels`` folder that is not ours.
        Cancelled: ``stop`` said so.
    """
    with _staging(folder) as staging:
        _write_frames(segmentation, staging, report or (lambda done, total: None), stop)
        text = json.dumps(summary(segmentation), indent=2, ensure_ascii=False)
        (staging / "summary.json").write_text(text + "\n", encoding="utf-8")
        for name in OUTPUTS:
            target = folder / name
            if target.is_dir():
                shutil.rmtree(target)
            (staging / name).replace(target)
    return [folder / name for name in OUTPUTS]


def check_folder(folder: Path) -> None:
    """Check at the door that results can be written to ``folder``; nothing is left there.

    Raises:
        InputError: the folder cannot be written, or holds a ``labels`` folder that is not ours.
    """
    with _staging(folder):
        pass


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A hidden folder inside ``folder`` that goes whatever happens."""
    made = not folder.exists()
    staging: Path | None = None
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _check_replaceable(folder / "labels")
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


def _check_replaceable(labels: Path) -> None:
    if not labels.exists():
        return
    foreign = [
        path.name for path in labels.iterdir() if not re.fullmatch(r"\d{5,}\.png", path.name)
    ]
    if foreign:
        raise InputError(
            f"{labels} holds files that are not label pictures ({foreign[0]}), and would be "
            "replaced. Choose another folder."
        )


def _write_frames(
    segmentation: Segmentation,
    folder: Path,
    report: Callable[[int, int], None],
    stop: Callable[[], bool] | None,
) -> None:
    clip, n = segmentation.clip, len(segmentation)
    scale, written = flow_scale(segmentation), 0
    (folder / "labels").mkdir()
    with ExitStack() as stack:
        arrays = stack.enter_context(_label_array(folder / "labels.npz", n, clip.size))
        over = stack.enter_context(VideoWriter(folder / "overlay.mp4", clip.fps))
        four = stack.enter_context(VideoWriter(folder / "grid.mp4", clip.fps))
        for index, image in enumerate(read_frames(clip, n)):
            if stop is not None and stop():
                raise Cancelled("The export was stopped.")
            segments = segmentation.segments(index)
            labels = segmentation.assignment[index][segments]
            write_label_png(folder / "labels" / f"{index:05d}.png", labels)
            arrays(labels)
            over.write(overlay(image, labels))
            four.write(grid(image, segmentation.motion(index), segments, labels, scale))
            report(index + 1, n)
            written = index + 1
    if written != n:
        raise InputError(
            f"{clip.source} gave {n} frames and then {written}: it changed while it was read. "
            "Segment it again."
        )


def write_label_png(path: Path, labels: UInt8[np.ndarray, "H W"]) -> None:
    """Write labels as an indexed PNG in the colours of the screen."""
    picture = Image.fromarray(labels)
    picture.putpalette([value for colour in COLOURS for value in colour])
    picture.save(path, compress_level=1)


@contextmanager
def _label_array(
    path: Path, n: int, size: tuple[int, int]
) -> Iterator[Callable[[np.ndarray], None]]:
    """An ``.npz`` with ``labels`` (n, H, W) uint8, written frame by frame."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (n, *size)}
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("labels.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)

        def add(labels: np.ndarray) -> None:
            member.write(labels.tobytes())

        yield add


def command_line(
    clip: Clip, settings: Settings, folder: str = "results", told: Callable[[Path], str] = str
) -> str:
    """The command that makes a result again and writes it to ``folder``.

    Args:
        clip: what was segmented.
        settings: how.
        folder: where the command writes.
        told: how a path is told, where it is not to be told as it is.
    """
    flow = settings.flow if settings.flow in ESTIMATORS else told(Path(settings.flow))
    words = [
        *("python", "-m", "stseg", "segment", told(clip.source), "--out", folder),
        *("--k", str(settings.k), "--tau", *map(str, settings.taus), "--eta", f"{settings.eta:g}"),
        *("--flow", flow, "--model", settings.model, "--linkage", settings.linkage),
        *("--device", settings.device),
    ]
    if settings.weights is not None:
        words += ["--weights", settings.weights]
    if flow.startswith("raft"):
        words += ["--iterations", str(settings.iterations)]
    if settings.subsequence:
        words += ["--subsequence", str(settings.subsequence)]
    if settings.max_frames is not None:
        words += ["--frames", str(settings.max_frames)]
    return shlex.join(words)


def summary(segmentation: Segmentation) -> dict[str, Any]:
    """Settings, versions, statistics of each segment and timings, as JSON values.

    ``segments`` has, for each label, its colour, mean share of the frame, number of frames in
    which it has a site, and mean motion (u right, v down, in pixels a frame).
    """
    clip, n, k = segmentation.clip, len(segmentation), segmentation.k
    areas = segmentation.areas()
    motion = np.zeros((k, 2))
    weight = np.zeros(k)
    for index in range(n - 1):
        labels = segmentation.labels_on_grid(index).ravel()
        weight += np.bincount(labels, minlength=k)
        for component, values in enumerate(segmentation.motion(index)):
            motion[:, component] += np.bincount(labels, weights=values.ravel(), minlength=k)
    motion /= np.maximum(weight, 1)[:, None]
    return {
        "clip": {
            "name": clip.name,
            "source": str(clip.source),
            "frames": n,
            "height": clip.size[0],
            "width": clip.size[1],
            "fps": clip.fps,
        },
        "settings": segmentation.settings.to_json(),
        "command": command_line(clip, segmentation.settings),
        "made_with": dict(segmentation.made_with),
        "seconds": dict(segmentation.seconds),
        "segments": [
            {
                "label": label,
                "colour": "#{:02x}{:02x}{:02x}".format(*COLOURS[label]),
                "mean_area": round(float(areas[:, label].mean()), 5),
                "frames": int((areas[:, label] > 0).sum()),
                "mean_motion": [round(float(value), 3) for value in motion[label]],
            }
            for label in range(k)
        ],
    }
