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
from stseg.formats import EXTRAS
from stseg.pipeline import SegmentationRun, load_network
from stseg.records import Clip, Segmentation, Settings
from stseg.render import flow_scale, jpeg, shrink
from stseg.segment_motion import SegmentMotion
from stseg.settings_file import write_settings
from stseg.spool import Spool
from stseg.ui.affinity import Affinity
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
        motion: its motion models, fitted when a tab asks for them.
        affinity: similarities of its segments, when a tab asks for them.
        growing: whether the run still goes on, so that more frames come.
        others: the same run with every K that it made, its own among them.
        written: for each K, what can be downloaded, by name.
        footage: what the next run can start from; None for a run that was stopped.
    """

    result: Segmentation
    pictures: Spool
    scale: float
    timeline: str
    motion: SegmentMotion
    affinity: Affinity
    growing: bool = False
    others: Mapping[int, Segmentation] = field(default_factory=dict)
    written: Mapping[int, Mapping[str, Path]] = field(default_factory=dict)
    footage: Footage | None = None

    def __len__(self) -> int:
        return len(self.result.assignment)  # masks may grow while somebody looks

    @property
    def files(self) -> Mapping[str, Path]:
        """What can be downloaded of the shown K, by name; empty until it is written."""
        return self.written.get(self.result.k, {})

    def with_k(self, k: int) -> Shown | None:
        """The same run with another K, or None where it did not make it.

        Nothing but areas is computed: neither flow nor network run.
        """
        if k == self.result.k:
            return self
        if k not in self.others:
            return None
        result = self.others[k]
        timeline = drawing(area_timeline(result.areas()))
        return replace(
            self,
            result=result,
            timeline=timeline,
            motion=SegmentMotion(result),
            affinity=Affinity(result),
        )


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
    wanted: Callable[[], int] | None = None,
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
        wanted: asked which K to show now; then the run makes every K that the model has, in the
            same pass. None makes that of the settings alone.

    Raises:
        InputError: the clip or the settings are unusable.
    """
    begun = time.perf_counter()
    if known is not None and not known.serves(clip, settings):
        known = None
    total = len(known.pictures) if known else expected_frames(clip, settings.max_frames)
    doing = "Segmenting with known flow" if known else "Estimating flow and segmenting"
    yield Step(f"{doing}: loading the model …", 0, total)
    network = load_network(settings.model)
    also = network.settings.ks if wanted else ()
    flow = known.flow if known else None
    run = SegmentationRun(clip, settings, network, flow, stop, cache, also)
    pictures = known.pictures if known else Spool()
    last, done = 0.0, 0
    try:
        for frame in run.frames():
            if known is None:
                pictures.append(jpeg(shrink(frame.image, LONGEST_SIDE)))
            done = frame.index + 1
            if total is not None and done > total:
                total = None  # the header of the file was wrong
            if time.perf_counter() - last >= INTERVAL:
                text = f"{doing}: frame {done}" + (f" of {total}" if total else "")
                yield Step(text, done, total, replace(_shown(run, pictures, wanted), growing=True))
                last = time.perf_counter()
    except Cancelled:
        partial = _shown(run, pictures, wanted) if done > 1 else None
        kept = f" The {done} frames done so far are shown." if partial else ""
        yield Step(f"Stopped.{kept}", done, total, partial, finished=True)
        return
    footage = known or Footage(clip, settings, run.flow, pictures)
    shown = replace(_shown(run, pictures, wanted), footage=footage)
    work = time.perf_counter() - begun
    yield Step("Segmented. Writing videos and labels …", 0, done, shown)
    for step in write_files(shown, folder, stop, wanted):
        now = step.shown
        if now is not None and now.files:
            text = f"{clip.name}: {done} frames in {in_words(work)}, K = {now.result.k}."
            yield replace(step, text=text)
        else:
            yield step


def _shown(run: SegmentationRun, pictures: Spool, wanted: Callable[[], int] | None) -> Shown:
    others = {k: run.result(k) for k in run.ks}
    result = others.get(wanted() if wanted else run.settings.k) or others[run.settings.k]
    return Shown(
        result,
        pictures,
        flow_scale(result),
        drawing(area_timeline(result.areas())),
        SegmentMotion(result),
        Affinity(result),
        others=others,
    )


def write_files(
    shown: Shown, folder: Path, stop: Stop, wanted: Callable[[], int] | None = None
) -> Iterator[Step]:
    """Write the files of the K that is looked at; where another one is, meanwhile, those of that.

    The last step shows the result with its files; after a stop, without.

    Args:
        shown: what to write; what is written already stays.
        folder: each K gets a folder in it.
        stop: asked all the time.
        wanted: asked which K is looked at; None takes that of ``shown``.
    """
    while not shown.files:
        k = shown.result.k
        writing = _write(shown.result, folder / f"k{k}", _moved(stop, k, wanted))
        try:
            files = yield from writing
        except Cancelled:
            now = shown.with_k(wanted()) if wanted else shown
            if stop() or now is None or now is shown:
                text = "Stopped while writing the files. All frames are shown."
                yield Step(text, len(shown), len(shown), shown, finished=True)
                return
            shown = now
        else:
            shown = replace(shown, written={**shown.written, k: files})
    text = f"{shown.result.clip.name}: files of K = {shown.result.k} are written."
    yield Step(text, len(shown), len(shown), shown, finished=True)


def _moved(stop: Stop, k: int, wanted: Callable[[], int] | None) -> Stop:
    return lambda: stop() or (wanted is not None and wanted() != k)


def _write(
    result: Segmentation, folder: Path, stop: Stop
) -> Generator[Step, None, dict[str, Path]]:
    """``export_all`` in a thread of its own, since it does not pause to tell how far it is."""
    done, total, left = 0, len(result), threading.Event()

    def report(count: int, of: int) -> None:
        nonlocal done
        done = count

    def write() -> list[Path]:
        return export_all(result, folder, report, lambda: left.is_set() or stop(), tuple(EXTRAS))

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
        told = told_path(Path(result.settings.flow))
        summary["settings"]["flow"] = told
        write_settings(replace(result.settings, flow=told), folder / EXTRAS["settings"].file)
    summary["command"] = command_line(result.clip, result.settings, told=told_path)
    write_atomically(others[-1], json.dumps(summary, indent=2, ensure_ascii=False).encode())
    files = {"labels-png.zip": _zipped(labels, "labels-png")}
    for path in others:
        if path.is_dir():
            path = _zipped(path, path.name)
        files[path.name] = path
    return files


def _zipped(folder: Path, name: str) -> Path:
    """The folder as one file beside it, with the folder itself inside."""
    return Path(shutil.make_archive(str(folder.parent / name), "zip", folder.parent, folder.name))
