"""The long work behind the buttons, in steps that the page can show. No Gradio in here."""

from __future__ import annotations

import json
import math
import shutil
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, replace
from pathlib import Path

from stseg.errors import Cancelled, Stop
from stseg.export import command_line, export_all
from stseg.files import write_atomically
from stseg.flow import ESTIMATORS
from stseg.flow.cache import FlowCache
from stseg.formats import EXTRAS
from stseg.pipeline import SegmentationRun, load_network
from stseg.records import Clip, Segmentation, Settings
from stseg.render import jpeg, shrink
from stseg.settings_file import write_settings
from stseg.spool import Spool
from stseg.ui.pace import expected_frames, in_words
from stseg.ui.private import told_path, told_settings
from stseg.ui.shown import Choice, Footage, Shown, shown_of

LONGEST_SIDE = 854
"""Pictures on the page are no larger than this."""

SOON = 4.0
"""Seconds for which nobody needs to be told how many more there are."""

INTERVAL = 1.0
"""Seconds between two steps, so that the page can keep up."""

DRAWING = 2.0
"""Seconds between two steps of a growing result with pictures, which take time from the work."""

TO_WRITE = "for their files, press Write files in the tab Downloads"
"""What a visitor can do who stopped a run or its files."""

EVERY = tuple(EXTRAS)
"""Names of all extra files: the page offers them all."""

KEPT = 4
"""Choices of labels of one run whose files stay."""

Written = Mapping[str, Path]
"""Files of one choice of labels, by name."""

Wanted = Callable[[], Choice]
"""Asked which labels are looked at now."""


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
    wanted: Wanted | None = None,
    extras: Collection[str] = EVERY,
) -> Iterator[Step]:
    """Segment a clip and write its files, a step every second.

    A stop ends it quietly: the last step shows the frames that were done.

    Args:
        clip: what to segment.
        settings: how.
        folder: where the files go.
        known: footage of an earlier run; flow is not computed again where it serves.
        stop: asked all the time.
        cache: where computed flow is kept; None keeps nothing.
        wanted: asked which labels to show now; then the run makes every K that the model has, in
            the same pass. None makes that of the settings alone.
        extras: which extra files to write, by their names in ``stseg.formats.EXTRAS``.

    Raises:
        InputError: the clip or the settings are unusable.
    """
    begun = time.perf_counter()
    if known is not None and not known.serves(clip, settings):
        known = None
    total = len(known.pictures) if known else expected_frames(clip, settings.max_frames)
    doing = "Segmenting with known flow" if known else f"{told_flow(settings)} and segmenting"
    yield Step(f"{doing}: loading the model …", 0, total)
    network = load_network(settings.model)
    also = network.settings.ks if wanted else ()
    flow = known.flow if known else None
    run = SegmentationRun(clip, settings, network, flow, stop, cache, also)
    pictures = known.pictures if known else Spool()
    last, drawn, done = -math.inf, -math.inf, 0  # the clock may have begun a moment ago
    latest: Shown | None = None
    started = time.perf_counter()
    try:
        for frame in run.frames():
            if known is None:
                pictures.append(jpeg(shrink(frame.image, LONGEST_SIDE)))
            done = frame.index + 1
            if total is not None and done > total:
                total = None  # the header of the file was wrong
            seconds = time.perf_counter()
            if seconds - last >= INTERVAL:
                text = f"{doing}: frame {done}"
                if total:
                    text += f" of {total}{told_left(seconds - started, done, total)}"
                growing = None
                if seconds - drawn >= DRAWING:
                    latest, drawn = _shown(run, pictures, wanted, latest), seconds
                    growing = replace(latest, growing=True)
                yield Step(text, done, total, growing)
                last = time.perf_counter()
    except Cancelled:
        partial = _shown(run, pictures, wanted, latest) if done > 1 else None
        kept = f" The {done} frames done so far are shown; {TO_WRITE}." if partial else ""
        yield Step(f"Stopped.{kept}", done, total, partial, finished=True)
        return
    footage = known or Footage(clip, settings, run.flow, pictures)
    shown = replace(_shown(run, pictures, wanted, latest), footage=footage)
    work = time.perf_counter() - begun
    notes = "".join(f" {note}" for note in run.notes)
    yield Step("Segmented. Writing videos and labels …", 0, done, shown)
    for step in write_files(shown, folder, stop, wanted, extras):
        now = step.shown
        if now is not None and now.files:
            line = f"{clip.name}: {done} frames in {in_words(work)}, {told_choice(now.choice)}."
            yield replace(step, text=line + notes)
        else:
            yield step


def told_left(seconds: float, done: int, total: int) -> str:
    """How long frames to come will take, as the end of a sentence; nothing where nobody waits long.

    Args:
        seconds: that the frames so far took.
        done: their number.
        total: number of all.
    """
    left = seconds * (total - done) / done
    return f", about {in_words(left)} left" if seconds >= SOON and left >= SOON else ""


def command_of(result: Segmentation) -> str:
    """The command that makes a result again, which tells of no folder of this machine."""
    told = told_settings(result.settings)
    return command_line(result.clip, told, f"out/{result.clip.name}", told_path)


def told_flow(settings: Settings) -> str:
    """What is being done for the flow of a clip, as a visitor reads it."""
    return "Estimating flow" if settings.flow in ESTIMATORS else "Reading your flow"


def _shown(
    run: SegmentationRun, pictures: Spool, wanted: Wanted | None, known: Shown | None
) -> Shown:
    """What the run has made so far, nothing merged; ``known`` is what it had made before."""
    others = {k: run.result(k) for k in run.ks}
    k = wanted().k if wanted else run.settings.k
    return shown_of(others, k if k in others else run.settings.k, pictures, known)


def write_files(
    shown: Shown,
    folder: Path,
    stop: Stop,
    wanted: Wanted | None = None,
    extras: Collection[str] = EVERY,
) -> Iterator[Step]:
    """Write the files of the labels that are looked at; when the eye moves on, of the next ones.

    The last step shows the result with its files; after a stop, without.

    Args:
        shown: what to write; of what is written already the last few stay.
        folder: each choice of labels gets a folder in it.
        stop: asked all the time.
        wanted: asked which labels are looked at; None takes those of ``shown``.
        extras: as ``segment_clip`` takes them.

    Raises:
        Cancelled: the folder around ``folder`` is gone.
    """
    if not folder.parent.is_dir():
        # The visitor left: writing would make their folder anew, and nobody removes it.
        raise Cancelled("The files have nobody left to be written for.")
    while not shown.files:
        choice = shown.choice
        merged = "" if choice.merge is None else f"-merged-{choice.merge:g}"
        place = folder / f"k{choice.k}{merged}"
        writing = _write(shown, place, _moved(stop, shown, wanted), extras)
        try:
            files = yield from writing
        except Cancelled:
            if stop():
                there = f"The {len(shown)} frames done" if shown.broken_off else "All frames"
                text = f"Stopped while writing the files. {there} are shown; {TO_WRITE}."
                yield Step(text, len(shown), len(shown), shown, finished=True)
                return
            shown = shown.chosen(_looked_at(shown, wanted)) or shown
        else:
            shown = replace(shown, written=_kept({**shown.written, choice: files}, folder))
    text = f"{shown.result.clip.name}: files of {told_choice(shown.choice)} are written."
    yield Step(text, len(shown), len(shown), shown, finished=True)


def _kept(written: Mapping[Choice, Written], folder: Path) -> dict[Choice, Written]:
    """The last few choices of labels whose files are in ``folder``, and all that lie elsewhere.

    The files of the others go: a threshold that is dragged about would leave them by the dozen.
    They go one writing later, when the page knows by then that they are none of the result's.
    """
    places = {choice: next(iter(files.values())).parent for choice, files in written.items()}
    own = [choice for choice, place in places.items() if place.parent == folder]
    for each in folder.iterdir():
        if each not in places.values():
            shutil.rmtree(each, ignore_errors=True)
    return {choice: files for choice, files in written.items() if choice not in own[:-KEPT]}


def told_choice(choice: Choice) -> str:
    """Which labels these are, in words."""
    merged = "" if choice.merge is None else f", merged at {choice.merge:.2f}".replace("-", "−")
    return f"K = {choice.k}{merged}"


def _looked_at(shown: Shown, wanted: Wanted | None) -> Choice:
    """The labels that are wanted; those of ``shown`` where its run did not make that K."""
    choice = wanted() if wanted else shown.choice
    return choice if choice.k in shown.others else shown.choice


def _moved(stop: Stop, shown: Shown, wanted: Wanted | None) -> Stop:
    return lambda: stop() or _looked_at(shown, wanted) != shown.choice


def _write(
    shown: Shown, folder: Path, stop: Stop, extras: Collection[str]
) -> Generator[Step, None, dict[str, Path]]:
    """``export_all`` in a thread of its own, since it does not pause to tell how far it is."""
    result, left = shown.record, threading.Event()
    done, total = 0, len(result)

    def report(count: int, of: int) -> None:
        nonlocal done
        done = count

    def stopped() -> bool:
        return left.is_set() or stop()

    def write() -> list[Path]:
        return export_all(result, folder, report, stopped, tuple(extras), shown.motion)

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
    told = told_settings(result.settings)
    if told != result.settings:
        summary["settings"] |= {"flow": told.flow, "model": told.model}
        if "settings" in extras:
            write_settings(told, folder / EXTRAS["settings"].file)
    summary["command"] = command_of(result)
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
