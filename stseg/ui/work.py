"""The long work behind the buttons, in steps that the page can show. No Gradio in here."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field, replace
from pathlib import Path

from stseg.charts import area_timeline
from stseg.errors import Cancelled
from stseg.export import command_line, export_all
from stseg.files import write_atomically
from stseg.flow import ESTIMATORS
from stseg.flow.cache import FlowCache
from stseg.pipeline import SegmentationRun
from stseg.records import Clip, Segmentation, Settings
from stseg.render import flow_scale, jpeg, shrink
from stseg.spool import Spool
from stseg.ui.markup import drawing
from stseg.ui.pace import expected_frames, in_words
from stseg.ui.private import told_path
from stseg.volume import FlowFields

LONGEST_SIDE = 854
"""Pictures on the page are no larger than this."""

INTERVAL = 0.5
"""Seconds between two steps, so that the page can keep up."""

Stop = Callable[[], bool]


@dataclass(frozen=True)
class Footage:
    """What is known of a clip whatever K and the model are: its flow and its frames.

    Attributes:
        clip: the clip.
        settings: those that it was read with; only the estimator, the number of frames and the
            direction of τ matter.
        flow: its flow.
        pictures: its frames as JPEG, for the page.
    """

    clip: Clip
    settings: Settings
    flow: FlowFields
    pictures: Spool

    def serves(self, clip: Clip, settings: Settings) -> bool:
        """Whether a run with ``settings`` needs nothing more."""
        backward = any(tau < 0 for tau in settings.taus)
        return (
            self.clip.source == clip.source
            and self.settings.flow == settings.flow
            and self.settings.max_frames == settings.max_frames
            and (len(self.flow.backward) > 0 or not backward)
        )


@dataclass(frozen=True)
class Shown:
    """A result as the tabs take it.

    Attributes:
        result: the record.
        pictures: its frames as JPEG, at most ``LONGEST_SIDE`` large.
        scale: magnitude of flow in full colour.
        timeline: picture of the areas over the frames, as a data URI.
        files: what can be downloaded, by name; empty until it is written.
        footage: what the next run can start from; None for a run that was stopped.
    """

    result: Segmentation
    pictures: Spool
    scale: float
    timeline: str
    files: Mapping[str, Path] = field(default_factory=dict)
    footage: Footage | None = None

    def __len__(self) -> int:
        return len(self.result)


@dataclass(frozen=True)
class Step:
    """Where the work is.

    Attributes:
        text: the sentence that says so.
        done: frames done.
        total: their number, or None where nobody knows it.
        shown: a result to show now; None leaves what is shown.
        finished: whether this is the last step.
    """

    text: str
    done: int = 0
    total: int | None = None
    shown: Shown | None = None
    finished: bool = False


def segment_clip(
    clip: Clip,
    settings: Settings,
    folder: Path,
    known: Footage | None,
    stop: Stop,
    cache: FlowCache | None = None,
) -> Iterator[Step]:
    """Segment a clip and write its files, a step every half second.

    A stop ends it quietly: the last step shows the frames that were done.

    Args:
        clip: what to segment.
        settings: how.
        folder: where the files go.
        known: footage of an earlier run; flow is not computed again where it serves.
        stop: asked all the time.
        cache: where computed flow is kept; None keeps nothing.

    Raises:
        InputError: the clip or the settings are unusable.
    """
    begun = time.perf_counter()
    if known is not None and not known.serves(clip, settings):
        known = None
    total = len(known.pictures) if known else expected_frames(clip, settings.max_frames)
    doing = "Segmenting with known flow" if known else "Estimating flow and segmenting"
    yield Step(f"{doing}: loading the model …", 0, total)
    flow = known.flow if known else None
    run = SegmentationRun(clip, settings, flow=flow, stop=stop, cache=cache)
    pictures = known.pictures if known else Spool()
    last, done = 0.0, 0
    try:
        for frame in run.frames():
            if known is None:
                pictures.append(jpeg(shrink(frame.image, LONGEST_SIDE)))
            done = frame.index + 1
            if time.perf_counter() - last >= INTERVAL:
                text = f"{doing}: frame {done}" + (f" of {total}" if total else "")
                yield Step(text, done, total, _shown(run, pictures))
                last = time.perf_counter()
    except Cancelled:
        partial = _shown(run, pictures) if done > 1 else None
        kept = f" The {done} frames done so far are shown." if partial else ""
        yield Step(f"Stopped.{kept}", done, total, partial, finished=True)
        return
    shown = replace(
        _shown(run, pictures), footage=known or Footage(clip, settings, run.flow, pictures)
    )
    work = time.perf_counter() - begun
    yield Step("Segmented. Writing videos and labels …", 0, done, shown)
    try:
        files = yield from _write_files(shown.result, folder, stop)
    except Cancelled:
        text = "Stopped while writing the files. All frames are shown."
        yield Step(text, done, done, shown, finished=True)
        return
    text = f"{clip.name}: {done} frames in {in_words(work)}, K = {settings.k}."
    yield Step(text, done, done, replace(shown, files=files), finished=True)


def _shown(run: SegmentationRun, pictures: Spool) -> Shown:
    result = run.result()
    return Shown(result, pictures, flow_scale(result), drawing(area_timeline(result.areas())))


def _write_files(
    result: Segmentation, folder: Path, stop: Stop
) -> Generator[Step, None, dict[str, Path]]:
    """``export_all`` in a thread of its own, since it does not pause to tell how far it is."""
    done, total, left = 0, len(result), threading.Event()

    def report(count: int, of: int) -> None:
        nonlocal done
        done = count

    def write() -> list[Path]:
        return export_all(result, folder, report, lambda: left.is_set() or stop())

    with ThreadPoolExecutor(1, "stseg-export") as executor:
        writing = executor.submit(write)
        try:
            while not writing.done():
                try:
                    writing.result(timeout=INTERVAL)
                except NotYet:
                    yield Step(f"Writing videos and labels: frame {done} of {total}", done, total)
            paths = writing.result()
        finally:
            left.set()  # the visitor left, or all is written
    labels, *others = paths
    summary = json.loads(others[-1].read_text(encoding="utf-8"))
    summary["clip"]["source"] = told_path(result.clip.source)
    if result.settings.flow not in ESTIMATORS:
        summary["settings"]["flow"] = told_path(Path(result.settings.flow))
    summary["command"] = command_line(result.clip, result.settings, told=told_path)
    write_atomically(others[-1], json.dumps(summary, indent=2, ensure_ascii=False).encode())
    archive = shutil.make_archive(str(folder / "labels-png"), "zip", folder, labels.name)
    return {"labels-png.zip": Path(archive), **{path.name: path for path in others}}
