"""What each segment of a result does: its fitted motion model, read out in plain terms (eq. 1-4).

The models are those of the loss: one space-time polynomial a segment and triplet (t - τ, t, t + τ),
fitted to the flow under the *linked* soft masks of the three instants. τ is the absolute value of
the first of ``Settings.taus``; time runs forwards here also where the network saw it backwards.
A triplet that would leave the clip is moved inwards, and its model is read at the time of the
frame (it is linear in time); in a clip that is shorter than a triplet τ is the largest that fits,
and one of two fields repeats its first or last. The last frame, which has no motion to a next one,
is read as the frame before it. A frame that is there twice, whose flow is zero, weighs nothing in
the loss: its motion and its residual are zero, whatever the frames beside it do.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor

from stseg.kinematics import MotionOverTime, centroids, read_out
from stseg.losses import reconstruction_loss
from stseg.motion import (
    MODELS,
    TIME_STEP,
    FitSettings,
    FittedMotion,
    MotionModel,
    fit_motion,
    moving,
)
from stseg.records import Segmentation
from stseg.render import occluded_sites
from stseg.volume import fitting_centres, triplet

MODEL = "quadratic-time"
"""The model of the paper's full method: quadratic in (x, y), linear in t (eq. 2)."""

FIT = FitSettings(stride=3)
"""Every third site is enough for a picture, and three times as fast as every second one."""

FEWEST_LINES = 5
"""Fewer rows or columns that are looked at do not determine a quadratic: it takes three, and the
border of a soft mask has little weight."""

SMALLEST = 1e-3
"""A label on a smaller share of the frame has no motion worth telling."""

BATCH = 8
KEPT = 4


@dataclass(frozen=True)
class FrameMotion:
    """Fitted motion of one frame, by linked label.

    Attributes:
        flow: flow of each label's model over the whole grid (u right, v down), in source pixels a
            frame; zero for a label that no segment has.
        residual: L1 distance of the measured flow to each model, in source pixels a frame.
        masks: linked soft masks of the frame.
        labels: linked labels of the frame.
    """

    flow: Float32[np.ndarray, "k 2 h w"]
    residual: Float32[np.ndarray, "k h w"]
    masks: Float32[np.ndarray, "k h w"]
    labels: UInt8[np.ndarray, "h w"]

    def composed(self) -> Float32[np.ndarray, "2 h w"]:
        """The flow as the segmentation explains it: every site moves as its own label does."""
        own = self.labels.astype(np.intp)[None, None]
        return np.take_along_axis(self.flow, own, axis=0)[0]

    def unexplained(self) -> Float32[np.ndarray, "h w"]:
        """What L_r (eq. 3) sums up: the residuals weighted by the masks, in pixels a frame."""
        return np.asarray((self.masks * self.residual).sum(axis=0), np.float32)


@dataclass(frozen=True)
class MaskChange:
    """L_c (eq. 4) between a frame and the next, site by site.

    Attributes:
        frame: the first of the two frames.
        change: mean over the k labels of the L1 change of the linked soft masks, at most 2 / k.
        visible: sites that η (eq. 5) leaves in the loss.
    """

    frame: int
    change: Float32[np.ndarray, "h w"]
    visible: Bool[np.ndarray, "h w"]

    @property
    def before(self) -> float:
        """Mean change over all sites: L_c at η = 0."""
        return float(self.change.mean())

    @property
    def after(self) -> float:
        """L_c under η: sites left out count as unchanged."""
        return float((self.change * self.visible).mean())


def mask_change(segmentation: Segmentation, index: int, eta: float) -> MaskChange:
    """The map behind L_c between frame ``index`` and the next one.

    Choice: the loss compares the instants of one triplet; here the linked masks of two frames of
    the result are compared, as the viewer sees them. The last frames, which have no later flow,
    show the last pair that has, as ``occluded_sites`` does. A single frame, as a run that has just
    begun gives it, has no change.

    Args:
        segmentation: the clip.
        index: number of the frame.
        eta: fraction of the sites that count as occluded, 0 to 1.
    """
    first = max(0, min(index, _fields(segmentation) - 2))
    second = min(first + 1, len(segmentation) - 1)
    masks = segmentation.linked_masks(first)
    change = np.abs(segmentation.linked_masks(second) - masks).mean(axis=0)
    return MaskChange(first, change, ~occluded_sites(segmentation, first, eta))


class SegmentMotion:
    """Motion models of a result, fitted when they are asked for and then kept.

    May be asked from several threads at once.

    Args:
        segmentation: the clip.
        model: name of a motion model.
    """

    def __init__(self, segmentation: Segmentation, model: str = MODEL) -> None:
        self._segmentation = segmentation
        self._model = MODELS[model]
        self._frames: OrderedDict[int, FrameMotion] = OrderedDict()
        self._parts: dict[int, MotionOverTime] = {}
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._whole = threading.Lock()
        self._told: Future[MotionOverTime] | None = None

    def at(self, index: int) -> FrameMotion:
        """Fitted motion of frame ``index``: its flow, its residual."""
        index = min(index, _fields(self._segmentation) - 1)
        with self._lock:
            if index not in self._frames:
                self._frames[index] = self._read(index)
                while len(self._frames) > KEPT:
                    self._frames.popitem(last=False)
            return self._frames[index]

    def over_time(self) -> MotionOverTime:
        """Parameters of every label at every frame; about 10 ms a frame, once."""
        with self._whole:
            return self._over_time

    def over_time_within(self, seconds: float) -> MotionOverTime | None:
        """``over_time``; None where it takes longer, and a thread goes on for who asks again.

        What goes wrong there is raised to whoever waits or asks next, and then tried anew.
        """
        with self._lock:
            if self._told is None:
                self._told = Future()
                reading = threading.Thread(
                    target=self._tell, args=(self._told,), name="stseg-parameters", daemon=True
                )
                reading.start()
            told = self._told
        try:
            return told.result(seconds)
        except NotYet:
            return None
        except Exception:
            with self._lock:
                self._told = None
            raise

    def _tell(self, told: Future[MotionOverTime]) -> None:
        try:
            told.set_result(self.over_time())
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            told.set_exception(error)

    def parts(self) -> Iterator[MotionOverTime]:
        """What ``over_time`` tells, a few frames at a time.

        Each part is computed once: whoever asks while another does takes what is there.
        """
        for first in range(0, _fields(self._segmentation), BATCH):
            with self._reading:
                if first not in self._parts:
                    self._parts[first] = self._part(first)
                part = self._parts[first]
            yield part

    @cached_property
    def _over_time(self) -> MotionOverTime:
        parts = list(self.parts())
        names = [each.name for each in fields(MotionOverTime)]
        columns = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
        return MotionOverTime(*columns)

    def _part(self, first: int) -> MotionOverTime:
        last = _fields(self._segmentation) - 1
        columns = self._parameters(range(first, min(first + BATCH, last + 1)))
        ends = first + BATCH > last
        frames = np.arange(first, len(self._segmentation) if ends else first + BATCH)
        told = np.minimum(frames, last) - first  # the last frame repeats
        return MotionOverTime(*(column[told] for column in columns))

    def _read(self, index: int) -> FrameMotion:
        volumes = self._volumes([index])
        fitted = _fitted(volumes, self._model)
        flow = (_flow_at(fitted, volumes.offset) * volumes.moves[:, None, None, None, None])[0]
        residual = (volumes.own_flow - flow).abs().sum(dim=1)
        labels = self._segmentation.labels_on_grid(index)
        return FrameMotion(flow.numpy(), residual.numpy(), volumes.own_masks[0].numpy(), labels)

    def _parameters(self, frames: Sequence[int]) -> tuple[np.ndarray, ...]:
        """The columns of ``MotionOverTime`` for these frames."""
        volumes = self._volumes(frames)
        fitted = _fitted(volumes, self._model)
        x, y = centroids(volumes.own_masks)
        time = (volumes.offset * TIME_STEP)[:, None].expand_as(x)
        read = read_out(self._model, fitted.parameters(), x, y, time)
        h, w = volumes.flow.shape[3:]
        height, width = self._segmentation.clip.size
        # x and y run from 0 to 1 between the centres of the outermost sites, and a site is W / w
        # (H / h) source pixels wide: this takes derivatives by x and y to those by source pixels.
        u_x, v_x = (part / ((w - 1) * width / w) for part in read[1])
        u_y, v_y = (part / ((h - 1) * height / h) for part in read[2])
        moves = volumes.moves
        flow = _flow_at(fitted, volumes.offset) * moves[:, None, None, None, None]
        residual = (volumes.own_flow[:, None] - flow).abs_().sum(dim=2)  # (b, k, h, w)
        labels = torch.zeros_like(residual).scatter_(1, volumes.own_labels[:, None], 1)
        sites = labels.sum(dim=(2, 3))
        still = ~moves[:, None]
        columns = (
            torch.stack(read[0], dim=-1).masked_fill(still[..., None], 0),
            (u_x + v_y).masked_fill(still, 0),
            (v_x - u_y).masked_fill(still, 0),
            torch.stack([u_x - v_y, u_y + v_x], dim=-1).masked_fill(still[..., None], 0),
            (residual * labels).sum(dim=(2, 3)) / sites.clamp_min(1),
        )
        gone = sites < max(1.0, SMALLEST * h * w)
        told = [
            column.float().masked_fill(gone[..., None] if column.ndim == 3 else gone, torch.nan)
            for column in columns
        ]
        loss = [
            reconstruction_loss(
                volumes.masks[i : i + 1],
                volumes.flow[i : i + 1],
                replace(fitted, coefficients=fitted.coefficients[i : i + 1]),
            )
            for i in range(len(frames))
        ]
        return (*(column.numpy() for column in told), torch.stack(loss).numpy())

    def _volumes(self, frames: Sequence[int]) -> _Volumes:
        last = _fields(self._segmentation) - 1
        tau = max(1, min(abs(self._segmentation.settings.taus[0]), last // 2))
        fits = fitting_centres(last + 1, tau)
        triplets, offsets = [], []
        for frame in frames:
            centre = min(max(frame, fits[0]), fits[-1]) if fits else frame
            offsets.append((frame - centre) / tau)
            triplets.append([min(max(each, 0), last) for each in triplet(centre, tau)])
        needed = {frame for three in (frames, *triplets) for frame in three}
        flow = {frame: self._segmentation.motion(frame) for frame in needed}
        masks = {frame: self._segmentation.linked_masks(frame) for frame in needed}
        return _Volumes(
            flow=torch.stack([_stack(flow, three) for three in triplets]).transpose(1, 2),
            masks=torch.stack([_stack(masks, three) for three in triplets]).transpose(1, 2),
            offset=torch.tensor(offsets, dtype=torch.float64),
            own_flow=_stack(flow, frames),
            own_masks=_stack(masks, frames),
            own_labels=torch.from_numpy(
                np.stack([self._segmentation.labels_on_grid(frame) for frame in frames])
            ).long(),
        )


@dataclass(frozen=True)
class _Volumes:
    """Some frames: the triplet of each, where in it the frame lies (-1 to 1), the frame itself."""

    flow: Float[Tensor, "b 2 3 h w"]
    masks: Float[Tensor, "b k 3 h w"]
    offset: Float[Tensor, " b"]
    own_flow: Float[Tensor, "b 2 h w"]
    own_masks: Float[Tensor, "b k h w"]
    own_labels: Int64[Tensor, "b h w"]

    @cached_property
    def moves(self) -> Bool[Tensor, " b"]:
        """Whether the frame moves at all beside its triplet."""
        return moving(torch.cat((self.own_flow.unsqueeze(2), self.flow), dim=2))[:, 0]


def _fields(segmentation: Segmentation) -> int:
    """Number of frames with flow; a run that goes on may have flow of frames that are to come."""
    return min(len(segmentation.flow), len(segmentation))


def _stack(arrays: dict[int, np.ndarray], frames: Sequence[int]) -> Tensor:
    return torch.from_numpy(np.stack([arrays[frame] for frame in frames]))


def _fitted(volumes: _Volumes, model: MotionModel) -> FittedMotion:
    """The models, at every site where those that ``FIT`` looks at do not determine one."""
    fitted = fit_motion(volumes.flow, volumes.masks, model, FIT)
    n, masks = FIT.stride, volumes.masks
    looked_at = masks[..., ::n, ::n]
    lines = torch.minimum(_lines(looked_at, 3), _lines(looked_at, 4))
    missed = (lines < FEWEST_LINES) & (masks.mean(dim=(2, 3, 4)) >= SMALLEST)
    volume, segment = missed.nonzero(as_tuple=True)
    if not len(volume):
        return fitted
    alone = masks[volume, segment].unsqueeze(1)
    every = fit_motion(volumes.flow[volume], alone, model, replace(FIT, stride=1))
    coefficients = fitted.coefficients.clone()
    coefficients[volume, segment] = every.coefficients[:, 0]
    return replace(fitted, coefficients=coefficients)


def _lines(masks: Float[Tensor, "b k t h w"], dim: int) -> Float[Tensor, "b k"]:
    """Over how many rows (dim 3) or columns (dim 4) a mask spreads: (Σ m)² / Σ m² of their sums."""
    other = 7 - dim
    sums = masks.sum(dim=(2, other))
    return sums.sum(dim=2).square() / sums.square().sum(dim=2).clamp_min(1e-12)


def _flow_at(fitted: FittedMotion, offset: Float[Tensor, " b"]) -> Float[Tensor, "b k 2 h w"]:
    """Flow of the models between the instants of the triplet: they are linear in time (eq. 2)."""
    flow = fitted.flow()
    now, later = flow[:, :, :, 1], flow[:, :, :, 2]
    return now + offset.to(flow)[:, None, None, None, None] * (later - now)
