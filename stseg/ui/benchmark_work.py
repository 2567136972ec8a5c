"""Scoring a data set in steps that the page can show. No Gradio in here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stseg.claims import WorkFolder
from stseg.errors import Cancelled, InputError, heed
from stseg.evaluation import Failure, SequenceScore, Task, evaluate_task
from stseg.flow.cache import FlowCache
from stseg.flow.weights import cache_folder
from stseg.known_flow import flow_folder
from stseg.layouts import DataSet, Entry
from stseg.records import Settings
from stseg.scoring import report
from stseg.ui.offered import ALL, splits
from stseg.ui.private import told_sentence, told_settings

CACHED = "cached"
INTERVAL = 0.5


@dataclass(frozen=True)
class Scores:
    """What is known of a data set so far.

    Attributes:
        data_set: the data set.
        entries: the sequences that are scored.
        absent: names of the split that are not on the disk.
        settings: how they are segmented.
        outcomes: results so far.
        doing: name of the sequence that is worked on, and its frames done.
        stopped: whether it was stopped before its end.
    """

    data_set: DataSet
    entries: Sequence[Entry]
    absent: Sequence[str]
    settings: Settings
    outcomes: Sequence[SequenceScore | Failure] = ()
    doing: tuple[str, int] = ("", 0)
    stopped: bool = False

    @property
    def scores(self) -> list[SequenceScore]:
        """The sequences that were scored."""
        return [each for each in self.outcomes if isinstance(each, SequenceScore)]

    def to_json(self) -> dict[str, Any]:
        """The report that ``python -m stseg evaluate --json`` writes, and what it lacks so far."""
        told = told_settings(self.settings)
        about = {"dataset": self.data_set.kind, "model": told.model, "flow": told.flow}
        failed = {each.name: each.reason for each in self.outcomes if isinstance(each, Failure)}
        result = report(self.scores, told, about, self.data_set.protocol)
        known = {each.name for each in self.outcomes}
        left = [entry.name for entry in self.entries if entry.name not in known]
        return {**result, "absent": list(self.absent), "failed": failed, "unscored": left}


@dataclass(frozen=True)
class Scoring:
    """What is to be scored, and how.

    Attributes:
        begun: nothing is known yet.
        settings: how to segment, where the flow has to be computed.
        flows: folder of the flow that lies beside the data; None computes it.
    """

    begun: Scores
    settings: Settings
    flows: Path | None


@dataclass
class _Desk:
    """What the thread that works and the one that tells share."""

    outcomes: list[SequenceScore | Failure] = field(default_factory=list)
    doing: tuple[str, int] = ("", 0)


def scoring_of(
    data_set: DataSet, split: str, names: Sequence[str], settings: Settings, cached: bool
) -> Scoring:
    """Find what is asked for.

    Args:
        data_set: one of those offered.
        split: a list of it, or "all".
        names: only these; none takes all of the split.
        settings: how to segment; the whole of every video is read, and where they leave the choice
            there is a triplet at every frame, as in what was published and in ``stseg evaluate``.
        cached: whether to take the flow that lies beside the data.

    Raises:
        InputError: there is no such list or sequence, or no cached flow.
    """
    root = data_set.root
    if split not in splits(data_set):  # a list is a file: no other one is opened
        raise InputError(f"There is no split {split!r}. Choose {', '.join(splits(data_set))}.")
    try:
        entries, absent = data_set.choose(None if split == ALL else split, list(names) or None)
        flows = flow_folder(root, [each.name for each in entries]) if cached else None
    except InputError as error:
        raise InputError(_without_place(str(error), root)) from error
    settings = replace(settings, max_frames=None, stride=settings.stride or 1)
    told = replace(settings, flow=CACHED) if cached else settings
    return Scoring(Scores(data_set, entries, absent, told), settings, flows)


def scores_of(
    scoring: Scoring, stop: Callable[[], bool], pictures: bool = True
) -> Iterator[Scores]:
    """Score sequences, a step every half second; what was scored before is taken as it is.

    A stop ends it quietly: the last step has what there is.

    Args:
        scoring: what is scored, and how.
        stop: asked all the time.
        pictures: whether to make pictures of the best and worst frames.

    Raises:
        InputError: there is no such model, or what goes wrong with all sequences alike.
    """
    begun = scoring.begun
    entries, root = begun.entries, begun.data_set.root
    desk, left = _Desk(), threading.Event()

    def told(name: str, frames: int) -> None:
        desk.doing = (name, frames)

    task = Task(
        scoring.settings,
        begun.data_set.protocol,
        scoring.flows,
        work=WorkFolder(cache_folder() / "scores"),
        cache=FlowCache(),
        pictures=pictures,
        stop=lambda: left.is_set() or stop(),
        report=told,
    )

    def work() -> None:
        for outcome in evaluate_task(entries, task):
            if isinstance(outcome, Failure):
                reason = told_sentence(_without_place(outcome.reason, root))
                outcome = replace(outcome, reason=reason)
            desk.outcomes.append(outcome)
            heed(task.stop, "benchmark")

    def now(stopped: bool = False) -> Scores:
        order = [entry.name for entry in entries]
        outcomes = sorted(desk.outcomes, key=lambda each: order.index(each.name))
        return replace(begun, outcomes=outcomes, doing=desk.doing, stopped=stopped)

    with ThreadPoolExecutor(1, "stseg-benchmark") as executor:
        working = executor.submit(work)
        try:
            while not working.done():
                wait_for([working], INTERVAL)
                yield now()
            try:
                working.result()
            except Cancelled:
                yield now(stopped=True)
                return
            yield now()
        finally:
            left.set()  # the visitor left, or all is done


def _without_place(sentence: str, root: Path) -> str:
    """A sentence without where the data lies on the server."""
    return sentence.replace(f"{root}/", "").replace(str(root), root.name)
