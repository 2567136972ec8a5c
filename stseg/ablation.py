"""Ablations: many settings measured on one clip.

Settings that share a model and its τ share one pass of the network over a clip, whatever their K,
linkage and sub-sequence: their timelines run in lockstep and take the same predictions. J then
follows from how many sites of each segment lie inside the ground truth, which is counted once a K.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64, UInt8

from stseg.device import choose_device
from stseg.errors import InputError, heed
from stseg.foreground import moving_labels, own_motion
from stseg.linkage import uses_similarity
from stseg.measures import consistency
from stseg.network import SegmentationNetwork
from stseg.prediction import Predictor
from stseg.records import Clip, Segmentation, Settings
from stseg.repeats import ClipLine, DistinctFrames
from stseg.scoring import scored_frames
from stseg.selection import label_counts, oracle_foreground, subsequences
from stseg.spool import Spool
from stseg.stability import (
    carried_counts,
    flicker,
    identity_switches,
    joined,
    long_term,
    region_similarities,
)
from stseg.timeline import Predict, Prediction, Timeline, Triplet
from stseg.truth import VOID, GroundTruth, ground_truth
from stseg.volume import FlowFields


@dataclass(frozen=True)
class Figures:
    """What was measured on one sequence, as fractions of 1.

    Attributes:
        j: region similarity, the foreground chosen with the ground truth once a sub-sequence.
        j_unsupervised: the same with a choice that sees no ground truth.
        j_once: the same with one choice, with the ground truth, for the whole video, on labels
            joined across the sub-sequences (``stseg.stability.joined``).
        flicker: see ``stseg.stability.flicker``; NaN where nothing could be compared.
        switches: rate of identity switches without ground truth, see there.
        consistency: L_c (eq. 4) of the soft masks by linked label, at the η of the settings; NaN
            where the clip has no two consecutive fields.
        frames: number of scored frames.
    """

    j: float
    j_unsupervised: float
    j_once: float
    flicker: float
    switches: float
    consistency: float
    frames: int

    def to_json(self) -> dict[str, float | int | None]:
        """The figures by the names of ``evaluate``; None for NaN, which JSON does not have."""
        told = {
            "J": self.j,
            "J_unsupervised": self.j_unsupervised,
            "J_once": self.j_once,
            "flicker": self.flicker,
            "switches": self.switches,
            "L_c": self.consistency,
            "frames": self.frames,
        }
        return {name: None if np.isnan(value) else value for name, value in told.items()}

    @classmethod
    def from_json(cls, told: Mapping[str, float | int | None]) -> Figures:
        """The figures that ``to_json`` told."""
        known = {key: float("nan") if each is None else each for key, each in told.items()}
        return cls(
            j=known["J"],
            j_unsupervised=known["J_unsupervised"],
            j_once=known["J_once"],
            flicker=known["flicker"],
            switches=known["switches"],
            consistency=known["L_c"],
            frames=int(known["frames"]),
        )


def pass_of(settings: Settings) -> Settings:
    """Settings that stand for all that share their flow and their pass of the network."""
    return Settings(
        model=settings.model,
        taus=settings.taus,
        stride=settings.step,
        refine=settings.refine,
        device=settings.device,
        flow=settings.flow,
        weights=settings.weights,
        iterations=settings.iterations,
        max_frames=settings.max_frames,
    )


def same_pass(wanted: Sequence[Settings]) -> list[list[Settings]]:
    """The settings, each once, in groups that one pass of the network serves."""
    groups: dict[Settings, list[Settings]] = {}
    for each in dict.fromkeys(wanted):
        groups.setdefault(pass_of(each), []).append(each)
    return list(groups.values())


def _masks_of(settings: Settings) -> tuple[int, int]:
    """What tells the masks of one pass apart: K, and their order where frames lie between triplets.

    A frame between two triplets has the segments in the order of the one of its own sub-sequence.
    """
    return settings.k, settings.subsequence if settings.step > 1 else 0


class _Shared:
    """Gives the same predictions to several timelines, once each, and forgets them then."""

    def __init__(self, predict: Predict, takers: int) -> None:
        self._predict = predict
        self._takers = takers
        self._made: dict[tuple[tuple[Triplet, ...], bool], tuple[Prediction, int]] = {}

    def __call__(self, triplets: Sequence[Triplet], backward: bool) -> Prediction:
        key = (tuple(triplets), backward)
        made, left = self._made.pop(key, (None, self._takers))
        prediction = made if made is not None else self._predict(triplets, backward)
        if left > 1:
            self._made[key] = prediction, left - 1
        return prediction


def segment_all(
    clip: Clip,
    wanted: Sequence[Settings],
    network: SegmentationNetwork,
    flow: FlowFields,
    stop: Callable[[], bool] | None = None,
) -> dict[Settings, Segmentation]:
    """Segment a clip in several ways with one pass of the network.

    The records share the flow, and those whose masks are the same share them: close them together.

    Args:
        clip: what to segment.
        wanted: settings of one group of ``same_pass``.
        network: that of the settings, in evaluation mode.
        flow: flow of the whole clip.
        stop: asked before every pass; True raises ``Cancelled``.

    Raises:
        InputError: the network has no head for a K, a negative τ has no flow, or the clip has
            fewer than two frames.
        Cancelled: ``stop`` said so.
    """
    first = wanted[0]
    ks = list(dict.fromkeys(each.k for each in wanted))
    for k in ks:
        if k not in network.settings.ks:
            raise InputError(f"Model {first.model!r} has no head for K = {k}. Leave this K out.")
    if any(tau < 0 for tau in first.taus) and not len(flow.backward):
        raise InputError("A negative τ needs backward flow, which is not there. Leave it out.")

    if not len(flow.forward):
        raise InputError(
            f"{clip.name} has a single frame, but motion needs at least two. Give a longer video."
        )

    def check() -> None:
        heed(stop, "ablation")

    device = choose_device(first.device)
    alike = any(uses_similarity(each.linkage) for each in wanted)
    distinct = DistinctFrames(flow)
    predictor = Predictor(
        network.to(device.torch).eval(), device, distinct, ks, check, alike, first.refine
    )
    shared = {k: _Shared(predictor.of(k), sum(each.k == k for each in wanted)) for k in ks}
    n = len(flow.forward) + 1
    lines = [_line(each, shared[each.k], clip, distinct).advance(n, ended=True) for each in wanted]
    masks = {_masks_of(each): Spool() for each in wanted}
    names: list[list[np.ndarray]] = [[] for _ in wanted]
    for told in zip(*lines, strict=True):
        kept: set[tuple[int, int]] = set()
        for settings, row, (_, frame) in zip(wanted, names, told, strict=True):
            row.append(frame.assignment)
            own = _masks_of(settings)
            if own not in kept:
                masks[own].append(frame.masks)
                kept.add(own)
    whole = replace(clip, frames=n)
    return {
        each: Segmentation(
            whole, each, flow.forward, masks[_masks_of(each)], np.array(row, np.uint8)
        )
        for each, row in zip(wanted, names, strict=True)
    }


def _line(settings: Settings, predict: Predict, clip: Clip, distinct: DistinctFrames) -> ClipLine:
    line = Timeline(
        distinct,
        predict,
        settings.k,
        settings.taus,
        settings.linkage,
        clip.size,
        settings.subsequence,
        settings.similarity_weight,
        settings.step,
        number=distinct.first,
    )
    return ClipLine(line, distinct, settings.subsequence)


def measure(
    clip: Clip,
    segmentations: Mapping[Settings, Segmentation],
    protocol: str = "davis",
) -> dict[Settings, Figures]:
    """Score what ``segment_all`` made of a clip.

    Args:
        clip: with ground truth.
        segmentations: by their settings.
        protocol: in ``stseg.scoring.PROTOCOLS``.

    Raises:
        InputError: there is no ground truth, or a mask is missing, unusable or of no frame.
    """
    truth = ground_truth(clip)
    counted: dict[tuple[int, int], Int64[np.ndarray, "m 2 k"]] = {}
    distances: list[np.ndarray] = []  # those of the flow, which all share
    found = {}
    for settings, segmentation in segmentations.items():
        n = len(segmentation)
        frames = scored_frames(truth, clip.name, n, protocol)
        same = _masks_of(settings)
        if same not in counted:
            counted[same] = _segment_counts(segmentation, truth, frames)
        if not distances:
            distances = [own_motion(segmentation.motion(t)) for t in range(n)]
        found[settings] = _figures(segmentation, counted[same], frames, distances)
    return found


def _segment_counts(
    segmentation: Segmentation, truth: GroundTruth, frames: Sequence[int]
) -> Int64[np.ndarray, "m 2 k"]:
    """Sites of each of the network's segments outside and inside the ground truth."""

    def counted(t: int) -> Int64[np.ndarray, "2 k"]:
        codes = truth.codes(t)
        return label_counts(segmentation.segments(t), codes > 0, segmentation.k, codes == VOID)

    return np.stack([counted(t) for t in frames])


def _linked(
    counts: Int64[np.ndarray, "m 2 k"], assignment: UInt8[np.ndarray, "m k"]
) -> Int64[np.ndarray, "m 2 k"]:
    """Counts by linked label."""
    linked = np.zeros_like(counts)
    for new, old, names in zip(linked, counts, assignment, strict=True):
        np.add.at(new.T, names, old.T)
    return linked


def _figures(
    segmentation: Segmentation,
    counts: Int64[np.ndarray, "m 2 k"],
    frames: Sequence[int],
    distances: Sequence[np.ndarray],
) -> Figures:
    n, length = len(segmentation), segmentation.settings.subsequence
    linked = _linked(counts, segmentation.assignment[list(frames)])
    with_truth: list[float] = []
    without: list[float] = []
    for part in subsequences(n, length):
        own = linked[[t in part for t in frames]]
        if len(own):
            with_truth += region_similarities(own, oracle_foreground(own.sum(axis=0)))
            without += region_similarities(own, moving_labels(segmentation, part, distances))
    whole = joined(segmentation)
    carried = list(carried_counts(segmentation))
    once = long_term(_linked(counts, whole.assignment[list(frames)]), frames, n).whole
    return Figures(
        float(np.mean(with_truth)),
        float(np.mean(without)),
        once,
        flicker(carried),
        identity_switches(carried).rate,
        consistency(segmentation),
        len(frames),
    )
