"""The figures of one result that need no labels, and J and F where there is ground truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stseg.errors import InputError, Stop, heed
from stseg.losses import consistency_loss, reconstruction_loss
from stseg.metrics import contour_accuracy, region_similarity
from stseg.motion import fit_motion, motion_model, moving
from stseg.records import Segmentation
from stseg.selection import label_counts, oracle_foreground, subsequences
from stseg.stability import carried_counts, flicker, linked_pairs
from stseg.truth import VOID, ground_truth

MOTION_MODEL = "quadratic-time"
"""Every variant is judged with the paper's motion model (eq. 2), whatever it was trained with."""

INSTANTS = 3
SAMPLES = 24
"""At most so many volumes of a clip are fitted, evenly spread over it."""


@dataclass(frozen=True)
class OverFrames:
    """Figures frame by frame: one value for each frame of a result, None where it has none.

    Attributes:
        flicker: share of the sites whose label changes from the frame before to this one, see
            ``stseg.stability.flicker``; none for the first frame of a sub-sequence.
        j: region similarity, a fraction, of the frames that are scored.
        f: contour accuracy, a fraction, of the same.
    """

    flicker: Sequence[float | None]
    j: Sequence[float | None]
    f: Sequence[float | None]

    def to_json(self) -> dict[str, list[float | None]]:
        """The figures under the names that the screen and the API use, as fractions."""
        return {"flicker": list(self.flicker), "J": list(self.j), "F": list(self.f)}


@dataclass(frozen=True)
class Measures:
    """How good a result is, without labels and, where there is ground truth, with it.

    Attributes:
        flicker: label flicker, see ``stseg.stability.flicker``.
        residual: mean L1 distance, in pixels a frame, between the flow and the motion model of the
            label that covers the site, over the frames that move at all; 0 where none does.
        reconstruction: L_r (eq. 3), mean over the volumes.
        consistency: L_c (eq. 4) at ``eta``, mean over the volumes; NaN for a single field.
        eta: fraction of sites that L_c leaves out; figures of two results only compare at one η.
        j: region similarity, a fraction; None without ground truth.
        f: contour accuracy, a fraction; None without ground truth.
        seconds: that the network took; flow is shared and not counted.
        over_frames: flicker, J and F frame by frame.
    """

    flicker: float
    residual: float
    reconstruction: float
    consistency: float
    eta: float
    j: float | None
    f: float | None
    seconds: float
    over_frames: OverFrames

    def to_json(self) -> dict[str, Any]:
        """The figures of the whole clip under the names that the screen and the API use.

        J and F are fractions; None for what the clip does not have.
        """
        told = {
            "flicker": self.flicker,
            "residual": self.residual,
            "L_r": self.reconstruction,
            "L_c": self.consistency,
            "J": self.j,
            "F": self.f,
            "seconds": self.seconds,
        }
        return {name: None if each is None or isnan(each) else each for name, each in told.items()}


def measure(result: Segmentation, stop: Stop | None = None, eta: float | None = None) -> Measures:
    """The figures of one result; some seconds for a hundred frames.

    L_r, L_c and the residual are means over at most ``SAMPLES`` volumes of consecutive frames
    (τ = 1, whatever the settings say), with the soft masks by linked label: what a switch of
    labels does to L_c is part of it. J and F follow Sec. 4.2 with the sub-sequence of the
    settings; a clip without usable ground truth has none.

    Args:
        result: of a whole clip or of what a stopped run made; a single frame has no flicker (NaN).
        stop: asked between steps.
        eta: of L_c; None takes that of the settings.

    Raises:
        Cancelled: ``stop`` said so.
    """
    stop = stop or (lambda: False)
    eta = result.settings.eta if eta is None else eta
    rows = []
    for volume in volumes(result):
        heed(stop, "measuring")
        rows.append(_losses(volume, eta))
    reconstruction, consistency, distance, moves = np.array(rows).T
    heed(stop, "measuring")
    carried = list(carried_counts(result))
    j, f = _scores(result, stop)
    return Measures(
        flicker=flicker(carried),
        residual=float(distance.sum() / max(moves.sum(), 1)),
        reconstruction=float(reconstruction.mean()),
        consistency=float(consistency.mean()),
        eta=eta,
        j=_mean(j),
        f=_mean(f),
        seconds=result.seconds.get("network", 0.0),
        over_frames=OverFrames(
            flicker=_placed(
                {
                    frame + 1: flicker([counts])
                    for frame, counts in zip(linked_pairs(result), carried, strict=True)
                },
                len(result),
            ),
            j=_placed(j, len(result)),
            f=_placed(f, len(result)),
        ),
    )


def at_eta(measures: Measures, result: Segmentation, eta: float) -> Measures:
    """The figures of ``result`` with its L_c at another η; everything else does not know η."""
    if measures.eta == eta:
        return measures
    return replace(measures, eta=eta, consistency=consistency(result, eta))


def consistency(result: Segmentation, eta: float | None = None) -> float:
    """L_c (eq. 4), mean over the same volumes; NaN for a single field, which changes nothing.

    ``eta`` is that of the settings where none is given.
    """
    eta = result.settings.eta if eta is None else eta
    return float(np.mean([_change(each, eta) for each in volumes(result)]))


@dataclass(frozen=True)
class Volume:
    """Some consecutive frames of a result, with its linked labels and soft masks."""

    masks: Float[Tensor, "1 k t h w"]
    flow: Float[Tensor, "1 2 t h w"]
    labels: Int64[Tensor, "1 1 t h w"]


def volumes(result: Segmentation) -> Iterator[Volume]:
    """The volumes that ``measure`` looks at."""
    fields = min(len(result.flow), len(result))  # flow of a stopped run is ahead of its masks
    t = min(INSTANTS, fields)
    starts = np.unique(np.linspace(0, fields - t, SAMPLES).round().astype(int))
    for start in starts:
        frames = [int(start) + each for each in range(t)]
        masks = np.stack([result.linked_masks(frame) for frame in frames], axis=1)
        flow = np.stack([result.motion(frame) for frame in frames], axis=1)
        labels = np.stack([result.labels_on_grid(frame) for frame in frames])
        yield Volume(
            torch.from_numpy(masks)[None],
            torch.from_numpy(flow)[None],
            torch.from_numpy(labels).long()[None, None],
        )


def _losses(volume: Volume, eta: float) -> tuple[float, float, float, float]:
    """L_r and L_c of one volume, and the sum of the residuals of how many frames that move."""
    masks, flow = volume.masks, volume.flow
    with torch.inference_mode():
        fitted = fit_motion(flow, masks, motion_model(MOTION_MODEL))
        each = fitted.residual(flow).gather(1, volume.labels).mean(dim=(0, 1, 3, 4))
        moves = moving(flow)[0]
        return (
            float(reconstruction_loss(masks, flow, fitted)),
            _change(volume, eta),
            float((each * moves).sum()),
            float(moves.sum()),
        )


def _change(volume: Volume, eta: float) -> float:
    """L_c of one volume."""
    if volume.flow.shape[2] < 2:
        return float("nan")
    return float(consistency_loss(volume.masks, volume.flow, eta))


def _scores(result: Segmentation, stop: Stop) -> tuple[dict[int, float], dict[int, float]]:
    """J and F of the annotated frames that the result has, by number (Sec. 4.2).

    As ``stseg.scoring.score``, but for a part of the clip, too: somebody may have read only its
    first frames. Where every frame is annotated the first and the last are left out (DAVIS).
    Nothing without ground truth, or with one that does not fit the clip.
    """
    clip, n = result.clip, len(result)
    j: dict[int, float] = {}
    f: dict[int, float] = {}
    try:
        truth = ground_truth(clip)
        frames = [index for index in sorted(truth.files) if index < n]
        if len(frames) == n:
            frames = frames[1:-1]
        for part in subsequences(n, result.settings.subsequence):
            codes = {index: truth.codes(index) for index in frames if index in part}
            labels = {index: result.labels(index) for index in codes}
            counts = [
                label_counts(labels[index], each > 0, result.k, each == VOID)
                for index, each in codes.items()
            ]
            chosen = oracle_foreground(np.sum(counts, axis=0)) if counts else ()
            for index, each in codes.items():
                heed(stop, "measuring")
                mask, expected = np.isin(labels[index], chosen) & (each != VOID), each > 0
                j[index] = region_similarity(mask, expected)
                f[index] = contour_accuracy(mask, expected)
    except InputError:
        return {}, {}
    return j, f


def _mean(values: Mapping[int, float]) -> float | None:
    return float(np.mean(list(values.values()))) if values else None


def _placed(values: Mapping[int, float], n: int) -> tuple[float | None, ...]:
    """The values by frame, None for a frame that has none or nothing to tell (NaN)."""
    there = {frame: value for frame, value in values.items() if not isnan(value)}
    return tuple(there.get(frame) for frame in range(n))
