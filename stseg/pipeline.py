"""Video → ``Segmentation``, frame by frame and in bounded memory."""

from __future__ import annotations

import platform
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from stseg import __version__
from stseg.annotations import gap_notes
from stseg.checkpoint import load_checkpoint
from stseg.device import choose_device
from stseg.errors import InputError, heed
from stseg.flow import (
    ESTIMATORS,
    FlowSettings,
    estimator,
    flow_origin,
    flow_pairs,
    own_flow,
)
from stseg.flow.cache import FlowCache, content_key
from stseg.linkage import uses_similarity
from stseg.memory import give_back
from stseg.network import SegmentationNetwork
from stseg.prediction import Predictor
from stseg.records import Clip, Segmentation, SegmentedFrame, Settings, dequantise, grid_for
from stseg.repeats import ClipLine, DistinctFrames
from stseg.rows import Rows
from stseg.similarity import merged
from stseg.spool import DEFAULT_MEMORY, Spool
from stseg.timeline import FramePrediction, Timeline
from stseg.variants import model_path
from stseg.video import probe, read_frames
from stseg.volume import FlowFields, fitting_centres

_GIVE_BACK_EVERY = 100
"""Frames: what lies free between arrays in use would grow with the clip."""


def load_network(model: str) -> SegmentationNetwork:
    """The network of a variant or of a checkpoint file, in evaluation mode on the CPU.

    Raises:
        InputError: there is no such model, or its file is unusable.
    """
    return load_checkpoint(model_path(model)).network


def flow_key(clip: Clip, settings: Settings) -> str:
    """Under which key a ``FlowCache`` keeps the flow of this clip with these settings."""
    origin = flow_origin(FlowSettings.of(settings))
    return content_key(clip.source, [origin, grid_for(clip.size), settings.max_frames])


class SegmentationRun:
    """One run of the pipeline over one clip.

    Iterate over ``frames()`` to work; ``result()`` gives the record of the frames yielded so far.
    Only a window of 2 max|τ| + 8 frames is in memory, 12 with a stride of 2; flow and masks go to
    spools, which leave memory for the disk beyond 16 MiB each (the masks of all K together).
    Frames that repeat the one before take its masks, and do not count for τ and the window (see
    ``stseg.repeats``).

    Which triplet a frame takes its masks from, also at the ends of the video, is said in
    ``stseg.timeline.Timeline``. Every frame gets labels.

    Args:
        clip: what to segment.
        settings: how.
        network: the network to use; None loads ``settings.model``.
        flow: flow of the clip as an earlier run left it; then neither frames nor flow are
            computed, and the yielded frames carry no image.
        cache: where computed flow is kept and looked up; None computes it.
        stop: asked between steps; when it says True the run raises ``Cancelled``.
        also: other K to segment into in the same pass; the trunk of the network runs once for all.
        latents: whether χ is wanted in the record; a linkage that looks at it has it anyway.

    Raises:
        InputError: the model or the device is not there, the model has no head for K, or a τ is
            negative and ``flow`` has no backward flow.
    """

    def __init__(
        self,
        clip: Clip,
        settings: Settings,
        network: SegmentationNetwork | None = None,
        flow: FlowFields | None = None,
        stop: Callable[[], bool] | None = None,
        cache: FlowCache | None = None,
        also: Sequence[int] = (),
        latents: bool = True,
    ) -> None:
        self.clip = clip
        self.settings = settings
        self._device = choose_device(settings.device)
        network = network or load_network(settings.model)
        self.ks = tuple(dict.fromkeys((settings.k, *also)))
        """K of this run: that of the settings, then the others."""
        for k in self.ks:
            if k not in network.settings.ks:
                raise InputError(
                    f"Model {settings.model!r} gives K = "
                    f"{', '.join(map(str, network.settings.ks))} segments, not {k}. Choose one of "
                    "these, or another model."
                )
        self._network = network.to(self._device.torch).eval()
        self._known_flow = flow is not None
        self.flow = flow or FlowFields()
        self._stop = stop or (lambda: False)
        self._grid = grid_for(clip.size)
        self._kept = {k: _Kept.of(k, DEFAULT_MEMORY // len(self.ks)) for k in self.ks}
        self._frames = 0
        self._flow_seconds = 0.0
        self._predictor: Predictor | None = None
        self._distinct: DistinctFrames | None = None
        self._backward = any(tau < 0 for tau in settings.taus)
        self._cache = cache
        self._key = ""
        looked_at = uses_similarity(settings.linkage) or settings.merge is not None
        self._latents = latents or looked_at
        if self._known_flow:
            self._check_backward()

    def frames(self) -> Iterator[SegmentedFrame]:
        """Yield every frame of the clip with its masks and labels for ``settings.k``, in order.

        Raises:
            InputError: the clip has fewer than two frames, or a τ is negative and the flow that was
                brought has no backward flow.
            Cancelled: ``stop`` said so.
        """
        settings = self.settings
        if not self._known_flow:
            stored = self._stored_flow()
            if stored is not None:
                self.flow = stored
                self._check_backward()
        distinct = self._distinct = DistinctFrames(self.flow)
        predictor = self._predictor = Predictor(
            self._network,
            self._device,
            distinct,
            self.ks,
            self._check,
            self._latents,
            settings.refine,
        )
        lines = [
            ClipLine(
                Timeline(
                    distinct,
                    predictor.of(k),
                    k,
                    settings.taus,
                    settings.linkage,
                    self.clip.size,
                    settings.subsequence,
                    settings.similarity_weight,
                    settings.step,
                    predictor.batch,
                    distinct.first,
                ),
                distinct,
                settings.subsequence,
            )
            for k in self.ks
        ]

        def advance(ended: bool) -> Iterator[tuple[tuple[int, FramePrediction], ...]]:
            return zip(*(line.advance(self._frames, ended) for line in lines), strict=True)

        images: deque[np.ndarray] = deque()
        for image in self._read():
            if image is not None:
                images.append(image)
            self._frames += 1
            if self._frames % _GIVE_BACK_EVERY == 0:
                give_back()
            for predictions in advance(ended=False):
                yield self._keep(predictions, images)
        if self._frames < 2:
            raise InputError(
                f"{self.clip.name} has {self._frames or 'no'} frame"
                f"{'' if self._frames == 1 else 's'}, but motion needs at least two. "
                "Give a longer video."
            )
        for predictions in advance(ended=True):
            yield self._keep(predictions, images)

    def result(self, k: int | None = None) -> Segmentation:
        """The record of the frames yielded so far.

        Where ``settings.merge`` is given, the labels that move alike over these frames are fused;
        they were not in the frames as they were yielded. The records of all K share the flow of
        the clip, which closes with any of them.

        Args:
            k: which K of the run; None is that of the settings.

        Raises:
            InputError: the run did not make this K.
        """
        k = self.settings.k if k is None else k
        if k not in self._kept:
            made = ", ".join(map(str, sorted(self.ks)))
            raise InputError(f"This run made K = {made}, not {k}. Choose one of these.")
        kept = self._kept[k]
        # Whoever reads while another thread works sees whole frames only.
        done = min(len(each.masks) for each in self._kept.values())
        record = Segmentation(
            clip=replace(self.clip, frames=done),
            settings=self.settings if k == self.settings.k else replace(self.settings, k=k),
            flow=self.flow.forward,
            masks=kept.masks,
            assignment=kept.assignments.first(done),
            seconds={
                "flow": round(self._flow_seconds, 3),
                "network": round(self._predictor.seconds, 3) if self._predictor else 0.0,
            },
            made_with={
                "stseg": _own_version(),
                "torch": torch.__version__,
                "python": platform.python_version(),
                "device": self._device.name,
            },
            latents=kept.latents.first(done),
        )
        merge = self.settings.merge
        return record if merge is None or not done else merged(record, merge)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the clip or the memory of this machine made different, as sentences."""
        said = list(self._predictor.notes) if self._predictor else []
        repeated = self._distinct.repeated if self._distinct else 0
        if repeated:
            repeat = "frame repeats" if repeated == 1 else "frames repeat"
            said.append(f"{repeated} {repeat} the one before and have its masks.")
        said += gap_notes(self.clip, self._frames)
        return (*said, *_without_triplet(self.settings.taus, self._frames - repeated))

    def _check(self) -> None:
        """Raise ``Cancelled`` if the run is to stop."""
        heed(self._stop, "run")

    def _read(self) -> Iterator[np.ndarray | None]:
        """Images of the clip, with the flow up to each in ``self.flow``; None for known flow."""
        if self._known_flow:
            fields = self.flow.backward if self._backward else self.flow.forward
            for _ in range(len(fields) + 1):
                self._check()
                yield None
            return
        images = read_frames(self.clip, self.settings.max_frames)
        if len(self.flow.forward):  # brought, or from the cache
            for image in images:
                self._check()
                yield image
            return
        using = estimator(FlowSettings.of(self.settings), self._check)
        start = time.perf_counter()
        # Forward flow is always kept: pictures and figures need it even where only negative τ are
        # asked for.
        for image, forward, backward in flow_pairs(images, using, self._grid, self._backward):
            self._check()
            if forward.size:
                self.flow.forward.append(forward.astype(np.float16))
            if backward is not None:
                self.flow.backward.append(backward.astype(np.float16))
            self._flow_seconds += time.perf_counter() - start
            yield image
            start = time.perf_counter()
        if self._cache is not None and self._key == self._cache_key():
            self._cache.store(self._key, self.flow)  # else the file changed while it was read

    def _stored_flow(self) -> FlowFields | None:
        """Flow that somebody brings or that the cache has; None where it is to be computed."""
        if self.settings.flow not in ESTIMATORS and Path(self.settings.flow).exists():
            path = Path(self.settings.flow)
            return own_flow(path, self.clip, self.settings.max_frames, self._check)
        if self._cache is not None and self.settings.flow in ESTIMATORS:
            self._key = self._cache_key()
            return self._cache.load(self._key, self._backward)
        return None

    def _cache_key(self) -> str:
        return flow_key(self.clip, self.settings)

    def _check_backward(self) -> None:
        if self._backward and not len(self.flow.backward):
            raise InputError(
                "A negative τ needs backward flow, which this flow does not have. Choose a "
                "positive τ, or an estimator, which computes both."
            )

    def _keep(
        self, predictions: Sequence[tuple[int, FramePrediction]], images: deque[np.ndarray]
    ) -> SegmentedFrame:
        """Keep what each K says of one frame; the frame of ``settings.k``."""
        for kept, (_, prediction) in zip(self._kept.values(), predictions, strict=True):
            kept.latents.append(prediction.latents)
            kept.assignments.append(prediction.assignment)
            kept.masks.append(prediction.masks)
        index, own = predictions[0]
        image = images.popleft() if images else np.zeros((0, 0, 3), np.uint8)
        flow = self.flow.forward[min(index, len(self.flow.forward) - 1)].astype(np.float32)
        return SegmentedFrame(index, image, flow, dequantise(own.masks), own.assignment)


@dataclass(frozen=True)
class _Kept:
    """What a run has made for one K, frame by frame."""

    masks: Spool
    assignments: Rows
    latents: Rows

    @classmethod
    def of(cls, k: int, memory: int) -> _Kept:
        """Nothing yet, and so many bytes for the masks."""
        latents = np.zeros((0, k, 0), np.float32)
        return cls(Spool(memory), Rows(np.zeros((0, k), np.uint8)), Rows(latents))


def _without_triplet(taus: Sequence[int], frames: int) -> Iterator[str]:
    """Sentences on the τ of which no triplet fits into so many frames, beside the reference's."""
    reference, *others = taus
    fits = fitting_centres(frames - 1, reference)
    if not fits:
        yield (
            f"No triplet of τ = {reference:+d} fits into {frames} frames: the flow at its ends is "
            "repeated."
        )
    for tau in others:
        if not set(fits).intersection(fitting_centres(frames - 1, tau)):
            yield (
                f"No triplet of τ = {tau:+d} fits into {frames} frames beside one of τ = "
                f"{reference:+d}: it has no part in the mean."
            )


def _own_version() -> str:
    try:
        return version("stseg")
    except PackageNotFoundError:
        return f"{__version__} from source"


def segment(
    clip: Clip | str | Path,
    settings: Settings | None = None,
    network: SegmentationNetwork | None = None,
    stop: Callable[[], bool] | None = None,
) -> Segmentation:
    """Segment a whole clip: ``SegmentationRun`` from end to end.

    Args:
        clip: a video file or a folder of frames, or what ``stseg.probe`` says of it.
        settings: how; None takes the usual ones, ``Settings()``.
        network: the model, where somebody has it; None loads that of the settings.
        stop: asked all the time; True ends the run.

    Raises:
        InputError: clip or settings are unusable; the sentence says what to do.
        Cancelled: ``stop`` said so.
    """
    clip = clip if isinstance(clip, Clip) else probe(clip)
    run = SegmentationRun(clip, settings or Settings(), network, stop=stop)
    for _ in run.frames():
        pass
    return run.result()
