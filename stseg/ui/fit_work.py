"""The fit on a clip in steps that the page and the programs can follow. No Gradio in here."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from stseg.adaptation import (
    Adaptation,
    AdaptationProgress,
    AdaptationSettings,
)
from stseg.clip_flow import read_fields
from stseg.errors import Cancelled, Stop
from stseg.flow.cache import FlowCache
from stseg.pipeline import SegmentationRun
from stseg.records import Clip, Segmentation, Settings
from stseg.ui.pace import expected_frames
from stseg.ui.shown import Footage
from stseg.ui.told import model_title
from stseg.ui.work import INTERVAL, told_flow
from stseg.video import read_frames
from stseg.volume import FlowFields


@dataclass(frozen=True)
class FitStep:
    """Where the work is.

    Attributes:
        text: the sentence that says so.
        done: steps or frames done.
        total: their number, where it is known.
        told: everything that the fit told so far.
        first: soft masks of the watched frame before the fit.
        latest: the same by now.
        saved: the checkpoint, once it is written.
        flow: flow of the clip, once it is known.
        notes: what was done otherwise than asked, as sentences; ``text`` ends with them.
    """

    text: str
    done: int = 0
    total: int | None = None
    told: Sequence[AdaptationProgress] = ()
    first: np.ndarray | None = None
    latest: np.ndarray | None = None
    saved: Path | None = None
    flow: FlowFields | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Fitted:
    """A fitted model, as long as the visit lasts.

    Attributes:
        clip: what it was fitted to.
        path: its checkpoint.
        settings: how to segment the clip with it.
        title: what Compare calls it.
    """

    clip: Clip
    path: Path
    settings: Settings
    title: str


def fit_clip(
    clip: Clip,
    base: str,
    fit: AdaptationSettings,
    settings: Settings,
    path: Path,
    stop: Stop,
    known: Footage | None = None,
    cache: FlowCache | None = None,
    every: int = 10,
) -> Iterator[FitStep]:
    """Fit ``base`` to the clip and write the checkpoint to ``path``; a stop keeps what there is.

    Args:
        clip: what to fit to.
        base: name of the model to start from.
        fit: how to fit.
        settings: which flow, and how many frames.
        path: where the checkpoint goes; nothing is written if no step was done, or its folder went.
        stop: asked all the time.
        known: footage of an earlier run, whose flow is taken where it serves.
        cache: where flow is kept.
        every: steps between two pictures.

    Raises:
        InputError: clip, model or settings are unusable.
        Cancelled: stopped before the first step, or the folder of ``path`` is gone.
    """
    flow = yield from flow_of(clip, settings, known, cache, stop)
    yield FitStep("Loading the model …", 0, fit.steps, flow=flow)
    work = Adaptation(base, clip, flow, fit)
    step = FitStep("", 0, fit.steps, flow=flow)
    told: list[AdaptationProgress] = []
    last = -math.inf
    for progress in work.run(stop, watched(len(flow.forward) + 1), every):
        told.append(progress)
        if progress.masks is not None:
            first = progress.masks if step.first is None else step.first
            step = replace(step, first=first, latest=progress.masks)
        if progress.masks is None and time.perf_counter() - last < INTERVAL:
            continue
        text = f"Fitting {model_title(base)} to {clip.name}: step {progress.step} of {fit.steps}"
        step = replace(step, text=text, done=progress.step, told=tuple(told))
        yield step
        last = time.perf_counter()
    if not work.step:
        yield replace(step, text="Stopped before the first step: nothing was learnt.")
        return
    if not path.parent.is_dir():
        # The visitor left, and their folder went: saving would make it anew, and nobody removes it.
        raise Cancelled("The fit has nobody left to keep its model for.")
    work.save(path)
    seconds = told[-1].seconds if told else 0.0
    ended = "Fitted" if work.step == fit.steps else f"Stopped after {work.step} of"
    text = f"{ended} {fit.steps} steps on {clip.name} in {seconds:.0f} s{_learnt(told)}."
    text = " ".join([text, *work.notes])
    yield replace(step, text=text, done=work.step, told=tuple(told), saved=path, notes=work.notes)


def _learnt(told: Sequence[AdaptationProgress]) -> str:
    """L of the clip before the fit and when it was measured last."""
    losses = [(each.step, each.clip_losses["loss"]) for each in told if each.clip_losses]
    if len(losses) < 2:
        return ""
    (_, before), (step, after) = losses[0], losses[-1]
    return f": L of the clip {before:.4f} before, {after:.4f} after {step} steps"


def flow_of(
    clip: Clip, settings: Settings, known: Footage | None, cache: FlowCache | None, stop: Stop
) -> Generator[FitStep, None, FlowFields]:
    """Flow of the clip: known, kept, or computed now. Raises Cancelled on a stop."""
    if known is not None and known.serves(clip, settings):
        return known.flow
    total = min(clip.frames or 10**9, settings.max_frames or 10**9)
    expected = total if total < 10**9 else None
    reading = read_fields(clip, settings, cache, stop)
    last = -math.inf
    while True:
        try:
            done = next(reading)
        except StopIteration as ended:
            fields: FlowFields = ended.value
            return fields
        if time.perf_counter() - last >= INTERVAL:
            yield FitStep(f"{told_flow(settings)}: frame {done}", done, expected)
            last = time.perf_counter()


def watched(frames: int) -> int:
    """Which frame of a clip the fit shows: the one in the middle."""
    return max(0, (frames - 1) // 2)


def picture_of(clip: Clip, index: int) -> np.ndarray:
    """A frame of the clip."""
    return next(islice(read_frames(clip), index, None))


def segment_known(
    clip: Clip,
    settings: Settings,
    flow: FlowFields | None,
    stop: Stop,
    cache: FlowCache | None = None,
) -> Generator[FitStep, None, Segmentation]:
    """Segment a clip whose flow may be known. Raises Cancelled on a stop.

    Args:
        clip: what to segment.
        settings: how, and with which model.
        flow: of the clip, where it is known; that of a fit only leads forwards.
        stop: asked all the time.
        cache: where flow is kept.
    """
    if flow is not None and not len(flow.backward) and any(tau < 0 for tau in settings.taus):
        flow = None
    run = SegmentationRun(clip, settings, flow=flow, stop=stop, cache=cache)
    total, last = expected_frames(clip, settings.max_frames), -math.inf
    for frame in run.frames():
        if time.perf_counter() - last >= INTERVAL:
            yield FitStep(f"segmenting, frame {frame.index + 1}", frame.index + 1, total)
            last = time.perf_counter()
    return run.result()
