"""Scores of a model on annotated clips: the protocol of Sec. 4.2 with the measures of DAVIS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stseg.errors import InputError
from stseg.flow import read_flow_file
from stseg.metrics import contour_accuracy, region_similarity, statistics
from stseg.network import SegmentationNetwork
from stseg.pipeline import SegmentationRun
from stseg.records import Clip, Segmentation, Settings
from stseg.selection import label_counts, oracle_foreground, subsequences
from stseg.truth import read_foreground, truth_files
from stseg.volume import FlowFields


@dataclass(frozen=True)
class SequenceScore:
    """Scores of one sequence.

    Attributes:
        name: of the sequence.
        j: region similarity of each scored frame.
        f: contour accuracy of each scored frame.
        chosen: the labels that make up the foreground, for each sub-sequence.
    """

    name: str
    j: Sequence[float]
    f: Sequence[float]
    chosen: Sequence[tuple[int, ...]]

    def to_json(self) -> dict[str, Any]:
        """Means, recall and decay as fractions of 1."""
        j, f = (statistics(np.array(values)) for values in (self.j, self.f))
        return {
            "J": j.mean,
            "F": f.mean,
            "frames": len(self.j),
            "J_recall": j.recall,
            "J_decay": j.decay,
            "F_recall": f.recall,
            "F_decay": f.decay,
        }


def cached_flow(path: Path, clip: Clip) -> FlowFields:
    """Flow of a clip from a cache file.

    Raises:
        InputError: the file is unusable, or belongs to a video of another size.
    """
    flow, size = read_flow_file(path)
    if size != clip.size:
        raise InputError(
            f"{path} was computed on frames of {size[1]}x{size[0]}, but {clip.name} has "
            f"{clip.size[1]}x{clip.size[0]}. Compute the flow of this clip."
        )
    fields = FlowFields()
    for field in flow:
        fields.forward.append(field)
    return fields


def score(segmentation: Segmentation, subsequence: int) -> SequenceScore:
    """J and F of a segmentation against the ground truth of its clip.

    The labels that make up the foreground are chosen once per sub-sequence, with the ground truth
    of its frames; the first and the last frame of the video are left out (DAVIS protocol).

    Raises:
        InputError: the clip has no ground truth, or a mask of another size.
    """
    clip, n, k = segmentation.clip, len(segmentation), segmentation.k
    files = {} if clip.truth is None else truth_files(clip.truth)
    scored = [index for index in sorted(files) if 0 < index < n - 1]
    if not scored:
        raise InputError(f"{clip.name} has no ground truth inside the video. Leave it out.")
    j, f, chosen = [], [], []
    for part in subsequences(n, subsequence):
        frames = [index for index in scored if index in part]
        if not frames:
            continue
        labels = [segmentation.labels(index) for index in frames]
        truths = [read_foreground(files[index], clip.size) for index in frames]
        counts = [label_counts(*pair, k) for pair in zip(labels, truths, strict=True)]
        foreground = oracle_foreground(np.sum(counts, axis=0))
        chosen.append(foreground)
        for label, truth in zip(labels, truths, strict=True):
            mask = np.isin(label, foreground)
            j.append(region_similarity(mask, truth))
            f.append(contour_accuracy(mask, truth))
    return SequenceScore(clip.name, j, f, chosen)


def evaluate(
    clips: Sequence[Clip],
    settings: Settings,
    network: SegmentationNetwork,
    flows: Path | None = None,
) -> Iterator[SequenceScore]:
    """Segment and score the clips, one after the other.

    Args:
        clips: with ground truth.
        settings: how to segment; ``settings.subsequence`` is that of linkage and selection.
        network: the model.
        flows: folder of cached flow, ``NAME.npz``; None computes it with ``settings.flow``.

    Raises:
        InputError: a clip without ground truth, or without a flow file.
    """
    for clip in clips:
        known = None if flows is None else cached_flow(flows / f"{clip.name}.npz", clip)
        run = SegmentationRun(clip, settings, network, known)
        for _ in run.frames():
            pass
        segmentation = run.result()
        yield score(segmentation, settings.subsequence)
        segmentation.close()


def report(
    scores: Sequence[SequenceScore], settings: Settings, about: Mapping[str, str]
) -> dict[str, Any]:
    """All scores as JSON values: the mean of each sequence, then the mean of the sequences."""
    sequences = {each.name: each.to_json() for each in scores}
    keys = next(iter(sequences.values())).keys() - {"frames"} if sequences else ()
    mean = {key: float(np.mean([each[key] for each in sequences.values()])) for key in keys}
    return {
        **about,
        "settings": settings.to_json(),
        "mean": dict(sorted(mean.items())),
        "sequences": sequences,
    }
