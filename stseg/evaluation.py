"""Scores of a model on the sequences of a data set: segment, score, keep (Sec. 4.2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from stseg.claims import WorkFolder, in_turn
from stseg.errors import InputError, Stop, heed
from stseg.flow.cache import FlowCache
from stseg.known_flow import cached_flow, flow_of
from stseg.layouts import Entry, open_clip
from stseg.mask_files import masks_of, write_masks
from stseg.network import SegmentationNetwork
from stseg.pipeline import SegmentationRun, load_network
from stseg.records import Clip, Settings
from stseg.result_keys import clip_key, model_key, result_key
from stseg.scoring import SequenceScore, check_truth, from_record, report, score
from stseg.verdict import extremes
from stseg.volume import FlowFields

VERSION = 10
"""Part of the key of kept scores: raise it when the same data would score otherwise."""

WAIT = 0.5
"""Seconds between two looks at what another process is doing."""

__all__ = [
    "Failure",
    "SequenceScore",
    "Task",
    "cached_flow",
    "evaluate",
    "evaluate_task",
    "report",
    "score",
]


@dataclass(frozen=True)
class Failure:
    """A sequence that could not be scored.

    Attributes:
        name: of the sequence.
        reason: a sentence that names what is wrong.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Task:
    """How to score sequences.

    Attributes:
        settings: how to segment; ``settings.subsequence`` is that of linkage and selection.
        protocol: in ``stseg.scoring.PROTOCOLS``.
        flows: folder of cached flow (see ``flow_of``); None computes it with ``settings.flow``.
        masks: folder to write label and foreground pictures to; None writes none.
        work: where results are kept and shared; None keeps none.
        cache: where computed flow is kept; None keeps none.
        fresh: score anew what was kept.
        pictures: whether to make pictures of the best and the worst frame.
        stop: asked between steps; True raises ``Cancelled``.
        report: told the name of the sequence and the frames done.
    """

    settings: Settings
    protocol: str = "davis"
    flows: Path | None = None
    masks: Path | None = None
    work: WorkFolder | None = None
    cache: FlowCache | None = None
    fresh: bool = False
    pictures: bool = False
    stop: Stop | None = None
    report: Callable[[str, int], None] | None = None


def evaluate(
    clips: Sequence[Clip],
    settings: Settings,
    network: SegmentationNetwork,
    flows: Path | None = None,
    protocol: str = "davis",
) -> Iterator[SequenceScore]:
    """Segment and score clips, one after the other; nothing is kept.

    Args:
        clips: with ground truth.
        settings: how to segment; ``settings.subsequence`` is that of linkage and selection.
        network: the model.
        flows: folder of cached flow; None computes it with ``settings.flow``.
        protocol: in ``stseg.scoring.PROTOCOLS``.

    Raises:
        InputError: a clip without ground truth, or without a flow file.
    """
    for clip in clips:
        yield _scored(clip, Task(settings, protocol, flows), network)


def evaluate_task(entries: Sequence[Entry], task: Task) -> Iterator[SequenceScore | Failure]:
    """Segment and score sequences, keeping each result, sharing the work with other processes.

    What is kept for the same model, settings, flow and data is taken as it is. What another
    process is at is left to it, and waited for at the end: should that process end without a
    result, it is scored here. Results come in the order in which they are ready. Data that is
    wrong is a ``Failure``, and the others go on.

    Raises:
        InputError: the model cannot be loaded, or the masks cannot be written.
        Cancelled: ``task.stop`` said so; what was scored is kept.
    """
    network: SegmentationNetwork | None = None

    def model() -> SegmentationNetwork:
        nonlocal network
        network = network or load_network(task.settings.model)
        return network

    key = model_key(task.settings.model)  # a mistake here is not one of each sequence

    def attempt(entry: Entry, again: bool) -> SequenceScore | Failure | None:
        # What others have made while we waited is new.
        return _outcome(entry, replace(task, fresh=task.fresh and not again), model, key)

    outcomes: Iterator[SequenceScore | Failure] = in_turn(
        entries, attempt, partial(pause, task.stop)
    )
    yield from outcomes


def pause(stop: Stop | None) -> None:
    """Wait for other processes. Raises Cancelled when ``stop`` says so."""
    heed(stop, "evaluation")
    time.sleep(WAIT)


def _outcome(
    entry: Entry, task: Task, model: Callable[[], SegmentationNetwork], weights: str
) -> SequenceScore | Failure | None:
    """The result of a sequence; None where another process is at it."""
    try:
        clip = open_clip(entry)
        if task.work is None:
            return _scored(clip, task, model())
        content = clip_key(clip, task.flows, task.settings)
        key = result_key(f"scores {VERSION}", content, weights, task.settings, task.protocol)
        kept = task.work.fill(
            {clip.name: key},
            key,
            lambda _: {clip.name: _scored(clip, task, model(), key).record()},
            task.fresh,
            lambda record: _suits(record, task, clip, key),
        )
        return None if kept is None else from_record(kept[clip.name])
    except InputError as error:
        return Failure(entry.name, str(error))


def _suits(kept: Mapping[str, Any], task: Task, clip: Clip, key: str) -> bool:
    """Whether kept scores need no new masks or pictures."""
    if task.pictures and not kept["pictures"]:
        return False
    return task.masks is None or masks_of(task.masks / clip.name) == key


def length_of(clip: Clip, settings: Settings, flow: FlowFields | None = None) -> int | None:
    """Number of frames that a run segments; None where only reading a video file can tell.

    What such a file announces may be wrong, and no mask is missing or left over because of that.

    Args:
        clip: what is segmented.
        settings: how.
        flow: flow of the clip, where it is there already.
    """
    if flow is not None:
        return len(flow.forward) + 1
    most = settings.max_frames or clip.frames
    return min(clip.frames, most) if clip.source.is_dir() else None


def _scored(clip: Clip, task: Task, network: SegmentationNetwork, key: str = "") -> SequenceScore:
    begun = time.perf_counter()
    known = None if task.flows is None else cached_flow(flow_of(task.flows, clip.name), clip)
    # A mistake in the ground truth costs no computation.
    check_truth(clip, task.protocol, length_of(clip, task.settings, known))
    run = SegmentationRun(
        clip, task.settings, network, known, stop=task.stop, cache=task.cache, latents=False
    )
    for frame in run.frames():
        if task.report is not None:
            task.report(clip.name, frame.index + 1)
    segmentation = run.result()
    try:
        result = score(segmentation, task.settings.subsequence, task.protocol, task.stop)
        if task.pictures:
            length = task.settings.subsequence
            result = replace(result, pictures=extremes(segmentation, result, length))
        if task.masks is not None:
            folder, length = task.masks / clip.name, task.settings.subsequence
            write_masks(segmentation, result.chosen, length, folder, key)
    finally:
        segmentation.close()
    return replace(result, seconds=time.perf_counter() - begun)
