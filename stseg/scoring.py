"""Scores of one segmentation against its ground truth: the protocol of Sec. 4.2, as DAVIS measures.

Two protocols, named in ``PROTOCOLS``:

- ``davis`` (DAVIS2016): every frame is annotated, the first and the last are left out, the mean of
  the frames is that of the sequence, and the mean of the sequences is that of the data set.
- ``frames`` (SegTrackV2, FBMS-59, folders): the annotated frames count, whichever they are, and
  the mean is taken over all frames of all sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from stseg.annotations import gap_notes
from stseg.errors import InputError, heed
from stseg.foreground import moving_labels
from stseg.metrics import contour_accuracy, region_similarity, statistics
from stseg.multiobject import joint_counts, objects_iou
from stseg.records import Clip, Segmentation, Settings
from stseg.selection import label_counts, oracle_foreground, subsequences
from stseg.stability import (
    carried_counts,
    flicker,
    identity_switches,
    joined,
    long_term,
)
from stseg.truth import VOID, GroundTruth, ground_truth, oddities, present_codes, uniform

PROTOCOLS = ("davis", "frames")


@dataclass(frozen=True)
class SequenceScore:
    """Scores of one sequence.

    Attributes:
        name: of the sequence.
        j: region similarity of each scored frame.
        f: contour accuracy of each scored frame.
        chosen: the labels that make up the foreground, for each sub-sequence.
        frames: numbers of the scored frames.
        figures: other scores by name, as ``to_json`` tells them; None where one has no meaning.
        notes: what is unusual about the data but no mistake, in sentences.
        seconds: how long the sequence took.
        pictures: of its best and its worst frame, where they were asked for: base64 of a JPEG.
    """

    name: str
    j: Sequence[float]
    f: Sequence[float]
    chosen: Sequence[tuple[int, ...]]
    frames: Sequence[int] = ()
    figures: Mapping[str, float | None] = field(default_factory=dict)
    notes: Sequence[str] = ()
    seconds: float = 0.0
    pictures: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Means, recall and decay as fractions of 1, and what they were taken from.

        ``flicker``, ``switches`` (rate) and ``J_once`` (J with one choice for the whole video) are
        those of ``stseg.stability``; ``J_unsupervised`` is J of a foreground chosen without ground
        truth (``stseg.foreground``); ``objects_iou`` that of ``stseg.multiobject``, None where the
        ground truth does not tell several objects apart.
        """
        j, f = (statistics(np.array(values, np.float64)) for values in (self.j, self.f))
        return {
            "J": j.mean,
            "F": f.mean,
            "frames": len(self.j),
            "J_recall": j.recall,
            "J_decay": j.decay,
            "F_recall": f.recall,
            "F_decay": f.decay,
            **self.figures,
            "seconds": round(self.seconds, 2),
            "notes": list(self.notes),
            "foreground": [list(labels) for labels in self.chosen],
            "per_frame": {"frame": list(self.frames), "J": list(self.j), "F": list(self.f)},
        }

    def record(self) -> dict[str, Any]:
        """All of it as JSON values; ``from_record`` restores it."""
        return asdict(self)


def from_record(record: Mapping[str, Any]) -> SequenceScore:
    """The scores that ``SequenceScore.record`` told."""
    return SequenceScore(**{**record, "chosen": [tuple(each) for each in record["chosen"]]})


def score(
    segmentation: Segmentation,
    subsequence: int,
    protocol: str = "davis",
    stop: Callable[[], bool] | None = None,
) -> SequenceScore:
    """J, F and the other scores of a segmentation against the ground truth of its clip.

    The labels that make up the foreground are chosen once per sub-sequence, with the ground truth
    of its frames. A sub-sequence without any takes the labels that best continue the foreground
    beside it; they are only for pictures. Void sites count for nothing.

    Args:
        segmentation: what to score; it is not closed.
        subsequence: frames for which the foreground is chosen at once; 0 for the whole video.
        protocol: in ``PROTOCOLS``: which frames count.
        stop: asked between frames.

    Raises:
        InputError: the clip has no ground truth, or a mask is missing, unreadable, of another size
            or of no frame.
        Cancelled: ``stop`` said so.
    """
    clip, n, k = segmentation.clip, len(segmentation), segmentation.k
    truth = ground_truth(clip)
    scored = scored_frames(truth, clip.name, n, protocol)
    whole = joined(segmentation)
    objects = _objects(truth, scored)
    j: dict[int, float] = {}
    f: dict[int, float] = {}
    linked_counts, joints, chosen, guessed, empty, void = [], [], [], [], [], []
    for part in subsequences(n, subsequence):
        frames = [index for index in scored if index in part]
        # A part may be the whole video: two bytes a pixel are kept of it until the choice is made.
        segments = {index: segmentation.segments(index) for index in frames}
        insides, known, counts, joint = {}, {}, [], []
        for index in frames:
            codes, labels = truth.codes(index), segmentation.assignment[index][segments[index]]
            insides[index], known[index] = codes > 0, codes != VOID
            counts.append(label_counts(labels, insides[index], k, ~known[index]))
            if objects:
                joint.append(joint_counts(labels, codes, k, objects))
        joints.append(joint)
        foreground = oracle_foreground(np.sum(counts, axis=0)) if frames else None
        chosen.append(foreground)
        guess = moving_labels(segmentation, part) if frames else ()
        for index in frames:
            heed(stop, "evaluation")
            labels, inside = segmentation.assignment[index][segments[index]], insides[index]
            # Void sites are background on both sides, as in the tool of DAVIS2017.
            mask = np.isin(labels, foreground or ()) & known[index]
            j[index] = region_similarity(mask, inside)
            f[index] = contour_accuracy(mask, inside)
            guessed.append(region_similarity(np.isin(labels, guess) & known[index], inside))
            linked = whole.assignment[index][segments[index]]
            linked_counts.append(label_counts(linked, inside, k, ~known[index]))
            if not inside.any():
                empty.append(index)
            if not known[index].all():
                void.append(index)
    notes = [*gap_notes(clip, n), *oddities(truth)]
    if empty:
        verb, more = ("is", "") if len(empty) == 1 else ("are", " …")
        notes.append(
            f"{len(empty)} of the masks {verb} empty (frame {empty[0]}{more}), which is valid."
        )
    if void:
        verb, more = ("has", "") if len(void) == 1 else ("have", " …")
        notes.append(
            f"{len(void)} of the masks {verb} void sites (frame {void[0]}{more}): 255 among "
            "numbered objects counts neither as an object nor as background."
        )
    carried = list(carried_counts(segmentation))
    once = long_term(np.stack(linked_counts), scored, n, subsequence).whole
    return SequenceScore(
        clip.name,
        list(j.values()),
        list(f.values()),
        _continued(segmentation, subsequence, chosen),
        scored,
        {
            "objects_iou": objects_iou(joints),
            "flicker": _number(flicker(carried)),
            "switches": _number(identity_switches(carried).rate),
            "J_once": once,
            "J_unsupervised": float(np.mean(guessed)),
        },
        notes,
    )


def check_truth(clip: Clip, protocol: str, n: int | None) -> None:
    """Raise what ``score`` would, as far as it can be told before a clip is segmented.

    Args:
        clip: that is to be scored.
        protocol: in ``PROTOCOLS``.
        n: its number of frames; None where it is not known yet.

    Raises:
        InputError: see ``score``.
    """
    truth = ground_truth(clip)
    if n is not None and n > 1:  # who segments it refuses a single frame, in better words
        scored_frames(truth, clip.name, n, protocol)
    if not truth.files:
        raise InputError(
            f"{clip.name} has no ground truth: no mask belongs to a frame of it. Add masks, or "
            "leave it out."
        )
    truth.check_sizes()


def scored_frames(truth: GroundTruth, name: str, n: int, protocol: str) -> list[int]:
    """Numbers of the frames that count.

    Args:
        truth: masks of the clip.
        name: of the clip.
        n: its number of frames.
        protocol: in ``PROTOCOLS``.

    Raises:
        InputError: there is no such protocol, a mask belongs to no frame, no frame counts, or the
            protocol asks for a mask that is missing.
    """
    if protocol not in PROTOCOLS:
        raise InputError(
            f"There is no protocol {protocol!r}. Choose one of {', '.join(PROTOCOLS)}."
        )
    _check_numbers(truth, name, n)
    if not truth.files:
        raise InputError(
            f"{name} has no ground truth inside the video that can be read. Masks are PNG, BMP, "
            "PGM, PPM or TIFF files that are named as their frames."
        )
    inner = [index for index in truth.files if protocol == "frames" or 0 < index < n - 1]
    if not inner:
        raise InputError(f"{name} has no ground truth inside the video. Leave it out.")
    if protocol == "davis":
        absent = [index for index in range(1, n - 1) if index not in truth.files]
        if absent:
            raise InputError(
                f"{name} has no mask of frame {absent[0]} ({len(absent)} of {n - 2} are missing). "
                "Put the masks back: this protocol scores every frame."
            )
    return inner


def _check_numbers(truth: GroundTruth, name: str, n: int) -> None:
    """Raise InputError where a mask belongs to no frame."""
    beyond = [index for index in truth.files if index >= n]
    if not truth.stray and list(truth.files) == list(range(1, n + 1)):
        # Without the last one they would be scored, each against the frame after its own.
        raise InputError(
            f"The masks of {name} are numbered from 1 to {n}, but the frames of a video count from "
            f"0. Number them from 0 to {n - 1}: {truth.files[1][0]} is that of frame 0, and so on."
        )
    stray = [*truth.stray, *(truth.files[index][0] for index in beyond)]
    if stray:
        more = f" (and {len(stray) - 1} more)" if len(stray) > 1 else ""
        has = f"{n} frame{'' if n == 1 else 's'}"
        has += ", counted from 0" if beyond else ""
        advice = "Put the missing frames back, or take the masks out."
        if truth.files and 0 not in truth.files:  # perhaps all of them are one too high
            advice += " Frame 0 has no mask: if the masks count from 1, name them as the frames."
        raise InputError(
            f"The mask {stray[0]}{more} belongs to no frame of {name}, which has {has}. {advice}"
        )


def _objects(truth: GroundTruth, scored: Sequence[int]) -> list[int]:
    """Codes of the objects, where the masks tell several apart."""
    if not uniform(truth):
        return []
    found: set[int] = set()
    for index in scored:
        found |= set(present_codes(truth.codes(index)))
    found -= {0, VOID}
    return sorted(found) if len(found) > 1 else []


def _continued(
    segmentation: Segmentation, subsequence: int, chosen: Sequence[tuple[int, ...] | None]
) -> list[tuple[int, ...]]:
    """The choices, those that nothing decides filled in from their neighbours."""
    parts = list(subsequences(len(segmentation), subsequence))
    filled = list(chosen)
    forward = [(at, at - 1, parts[at][0], -1) for at in range(1, len(parts))]
    backward = [(at, at + 1, parts[at][-1], 1) for at in reversed(range(len(parts) - 1))]
    for at, beside, frame, step in (*forward, *backward):
        known = filled[beside]
        if filled[at] is None and known is not None:
            mask = np.isin(segmentation.labels(frame + step), known)
            counts = label_counts(segmentation.labels(frame), mask, segmentation.k)
            filled[at] = oracle_foreground(counts) or known  # it may be out of sight just there
    return [each or () for each in filled]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def report(
    scores: Sequence[SequenceScore],
    settings: Settings,
    about: Mapping[str, Any],
    protocol: str = "davis",
) -> dict[str, Any]:
    """All scores as JSON values, scores as fractions of 1.

    ``mean`` is over the sequences; with the protocol ``frames`` J of every kind, F and their recall
    are over all frames of all sequences. A score that some sequences do not have is averaged over
    the others.

    Args:
        scores: of the sequences.
        settings: how they were segmented.
        about: what else to tell, before the scores.
        protocol: in ``PROTOCOLS``.
    """
    sequences = {each.name: each.to_json() for each in scores}
    mean: dict[str, float] = {}
    for key in next(iter(sequences.values()), {}):
        values = [each[key] for each in sequences.values() if each[key] is not None]
        if values and key not in ("frames", "seconds") and isinstance(values[0], float):
            mean[key] = float(np.mean(values))
    if protocol == "frames" and scores:
        for letter, lists in (("J", [s.j for s in scores]), ("F", [s.f for s in scores])):
            pooled = statistics(np.concatenate([np.array(each, np.float64) for each in lists]))
            mean |= {letter: pooled.mean, f"{letter}_recall": pooled.recall}
        lengths = [len(each.j) for each in scores]
        for key in ("J_once", "J_unsupervised"):  # each is a mean over the frames already
            if key in mean:
                values = [each[key] for each in sequences.values()]
                mean[key] = float(np.average(values, weights=lengths))
    return {
        **about,
        "protocol": protocol,
        "settings": settings.to_json(),
        "mean": dict(sorted(mean.items())),
        "scored": {"sequences": len(scores), "frames": sum(len(each.j) for each in scores)},
        "sequences": sequences,
    }
