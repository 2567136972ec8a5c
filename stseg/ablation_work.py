"""An ablation over the sequences of a data set: kept, resumed, and shared by processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stseg.ablation import Figures, measure, pass_of, same_pass, segment_all
from stseg.claims import Record, WorkFolder, in_turn
from stseg.clip_flow import read_fields
from stseg.errors import InputError
from stseg.evaluation import Failure, length_of, pause
from stseg.flow.cache import FlowCache
from stseg.known_flow import cached_flow, flow_of
from stseg.layouts import Entry, open_clip
from stseg.network import SegmentationNetwork
from stseg.pipeline import load_network
from stseg.records import Clip, Settings
from stseg.result_keys import clip_key, model_key, result_key
from stseg.scoring import check_truth
from stseg.volume import FlowFields

VERSION = 8
"""Part of the key of kept figures: raise it when they would be others, or have other names."""


@dataclass(frozen=True)
class AblationTask:
    """How to measure.

    Attributes:
        protocol: in ``stseg.scoring.PROTOCOLS``.
        flows: folder of cached flow (see ``flow_of``); None computes it with the settings' flow.
        work: where results are kept and shared; None keeps none.
        cache: where computed flow is kept; None keeps none.
        fresh: measure anew what was kept.
        stop: asked between steps; True raises ``Cancelled``.
    """

    protocol: str = "davis"
    flows: Path | None = None
    work: WorkFolder | None = None
    cache: FlowCache | None = None
    fresh: bool = False
    stop: Callable[[], bool] | None = None


@dataclass(frozen=True)
class Measured:
    """What was measured on one sequence.

    Attributes:
        name: of the sequence.
        figures: by the settings.
    """

    name: str
    figures: Mapping[Settings, Figures]


def ablate(
    entries: Sequence[Entry], wanted: Sequence[Settings], task: AblationTask
) -> Iterator[Measured | Failure]:
    """Measure every setting on every sequence, in the order in which sequences are ready.

    A piece of work is what one pass of the network serves on one sequence
    (``stseg.ablation.same_pass``). Each figure is kept by itself, so that another sweep measures
    only what is new in it. Data that is wrong is a ``Failure``, and the others go on.

    Args:
        entries: the sequences.
        wanted: settings to measure.
        task: how.

    Raises:
        InputError: a model cannot be loaded.
        Cancelled: ``task.stop`` said so; what was measured is kept.
    """
    groups = same_pass(wanted)
    desk = _Desk(task, {group[0].model: model_key(group[0].model) for group in groups})
    found: dict[str, dict[Settings, Figures]] = {entry.name: {} for entry in entries}
    failed: set[str] = set()
    pieces = [(entry, group) for entry in entries for group in groups]

    def attempt(
        piece: tuple[Entry, list[Settings]], again: bool
    ) -> tuple[str, dict[Settings, Figures]] | Failure | None:
        entry, group = piece
        if entry.name in failed:
            return entry.name, {}
        try:
            figures = desk.figures(entry, group, task.fresh and not again)
        except InputError as error:
            return Failure(entry.name, str(error))
        return None if figures is None else (entry.name, figures)

    outcomes: Iterator[tuple[str, dict[Settings, Figures]] | Failure] = in_turn(
        pieces, attempt, partial(pause, task.stop)
    )
    try:
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                failed.add(outcome.name)
                yield outcome
                continue
            name, figures = outcome
            found[name] |= figures
            if figures and len(found[name]) == sum(len(group) for group in groups):
                yield Measured(name, found[name])
    finally:
        desk.close()


class _Desk:
    """What one process has open: its networks, and the flow of one clip."""

    def __init__(self, task: AblationTask, models: Mapping[str, str]) -> None:
        self._task = task
        self._models = models
        self._networks: dict[str, SegmentationNetwork] = {}
        self._flow: tuple[tuple[object, ...], FlowFields] | None = None

    def figures(
        self, entry: Entry, group: list[Settings], fresh: bool
    ) -> dict[Settings, Figures] | None:
        """Figures of one piece of work; None where another process is at it."""
        clip, task, first = open_clip(entry), self._task, group[0]
        if task.work is None:
            return self._measured(clip, group)
        content, weights = clip_key(clip, task.flows, first), self._models[first.model]
        keys = {
            each: result_key(f"figures {VERSION}", content, weights, each, task.protocol)
            for each in group
        }
        claim = result_key("pass", content, weights, pass_of(first), task.protocol)

        def make(missing: list[Settings]) -> dict[Settings, Record]:
            made = self._measured(clip, missing)
            return {each: figures.to_json() for each, figures in made.items()}

        kept = task.work.fill(keys, claim, make, fresh)
        if kept is None:
            return None
        return {each: Figures.from_json(record) for each, record in kept.items()}

    def _measured(self, clip: Clip, wanted: Sequence[Settings]) -> dict[Settings, Figures]:
        first, protocol = wanted[0], self._task.protocol
        # A mistake in the ground truth costs no computation, or none but the flow.
        check_truth(clip, protocol, length_of(clip, first))
        flow = self._flow_of(clip, first)
        check_truth(clip, protocol, length_of(clip, first, flow))
        model = first.model
        if model not in self._networks:
            self._networks[model] = load_network(model)
        made = segment_all(clip, wanted, self._networks[model], flow, self._task.stop)
        try:
            return measure(clip, made, protocol)
        finally:
            for each in made.values():
                each.masks.close()

    def _flow_of(self, clip: Clip, settings: Settings) -> FlowFields:
        how = settings.flow, settings.weights, settings.iterations, settings.max_frames
        wanted = clip.source, *how, settings.device
        if self._flow is None or self._flow[0] != wanted:
            self.close()
            self._flow = wanted, self._read(clip, settings)
        return self._flow[1]

    def _read(self, clip: Clip, settings: Settings) -> FlowFields:
        if self._task.flows is not None:
            return cached_flow(flow_of(self._task.flows, clip.name), clip)
        reading = read_fields(clip, settings, self._task.cache)
        while True:
            try:
                next(reading)
            except StopIteration as ended:
                flow: FlowFields = ended.value
                return flow

    def close(self) -> None:
        """Free the flow."""
        if self._flow is not None:
            self._flow[1].close()
            self._flow = None
