"""Video → ``Segmentation``, frame by frame and in bounded memory."""

from __future__ import annotations

import platform
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from stseg.checkpoint import load_checkpoint
from stseg.device import choose_device
from stseg.errors import Cancelled, InputError
from stseg.flow import ESTIMATORS, FlowSettings, estimator, flow_pairs, own_flow
from stseg.flow.cache import FlowCache, content_key
from stseg.network import SegmentationNetwork
from stseg.records import (
    Clip,
    Segmentation,
    SegmentedFrame,
    Settings,
    dequantise,
    grid_for,
    quantise,
)
from stseg.spool import Spool
from stseg.timeline import FramePrediction, Timeline
from stseg.variants import model_path
from stseg.video import read_frames
from stseg.volume import FlowFields

FLOW_VERSION = (1,)
"""Part of the key of cached flow: raise it when an estimator gives other numbers."""


def load_network(model: str) -> SegmentationNetwork:
    """The network of a variant or of a checkpoint file, in evaluation mode on the CPU.

    Raises:
        InputError: there is no such model, or its file is unusable.
    """
    return load_checkpoint(model_path(model)).network


class SegmentationRun:
    """One run of the pipeline over one clip.

    Iterate over ``frames()`` to work; ``result()`` gives the record of the frames yielded so far.
    Only a window of 2 max|τ| + 8 frames is in memory; flow and masks go to spools, which leave
    memory for the disk beyond 64 MiB each.

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

    Raises:
        InputError: the model or the device is not there, or the model has no head for K.
    """

    def __init__(
        self,
        clip: Clip,
        settings: Settings,
        network: SegmentationNetwork | None = None,
        flow: FlowFields | None = None,
        stop: Callable[[], bool] | None = None,
        cache: FlowCache | None = None,
    ) -> None:
        self.clip = clip
        self.settings = settings
        self._device = choose_device(settings.device)
        network = network or load_network(settings.model)
        if settings.k not in network.settings.ks:
            raise InputError(
                f"Model {settings.model!r} gives K = {', '.join(map(str, network.settings.ks))} "
                f"segments, not {settings.k}. Choose one of these, or another model."
            )
        self._network = network.to(self._device.torch).eval()
        self._known_flow = flow is not None
        self.flow = flow or FlowFields()
        self._stop = stop or (lambda: False)
        self._grid = grid_for(clip.size)
        self._masks = Spool()
        self._assignments: list[np.ndarray] = []
        self._frames = 0
        self._seconds = {"flow": 0.0, "network": 0.0}
        self._backward = any(tau < 0 for tau in settings.taus)
        self._cache = cache
        if self._known_flow:
            self._check_backward()

    def frames(self) -> Iterator[SegmentedFrame]:
        """Yield every frame of the clip with its masks and labels, in order.

        Raises:
            InputError: the clip has fewer than two frames.
            Cancelled: ``stop`` said so.
        """
        settings = self.settings
        if not self._known_flow:
            stored = self._stored_flow()
            if stored is not None:
                self.flow = stored
                self._check_backward()
        timeline = Timeline(
            self.flow,
            self._predict,
            settings.k,
            settings.taus,
            settings.linkage,
            self.clip.size,
            settings.subsequence,
        )
        images: deque[np.ndarray] = deque()
        for image in self._read():
            if image is not None:
                images.append(image)
            self._frames += 1
            for index, prediction in timeline.advance(self._frames, ended=False):
                yield self._keep(index, prediction, images)
        if self._frames < 2:
            raise InputError(
                f"{self.clip.name} has {self._frames or 'no'} frame"
                f"{'' if self._frames == 1 else 's'}, but motion needs at least two. "
                "Give a longer video."
            )
        for index, prediction in timeline.advance(self._frames, ended=True):
            yield self._keep(index, prediction, images)

    def result(self) -> Segmentation:
        """The record of the frames yielded so far."""
        made_with = {
            "stseg": _own_version(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "device": self._device.name,
        }
        done = len(self._masks)
        return Segmentation(
            clip=replace(self.clip, frames=done),
            settings=self.settings,
            flow=self.flow.forward,
            masks=self._masks,
            assignment=np.array(self._assignments, np.uint8).reshape(done, self.settings.k),
            seconds={name: round(value, 3) for name, value in self._seconds.items()},
            made_with=made_with,
        )

    def _check(self) -> None:
        """Raise ``Cancelled`` if the run is to stop."""
        if self._stop():
            raise Cancelled("The run was stopped.")

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
        using = estimator(self._flow_settings())
        start = time.perf_counter()
        # Forward flow is always kept: pictures and figures need it even where only negative τ are
        # asked for.
        for image, forward, backward in flow_pairs(images, using, self._grid, self._backward):
            self._check()
            if forward.size:
                self.flow.forward.append(forward.astype(np.float16))
            if backward is not None:
                self.flow.backward.append(backward.astype(np.float16))
            self._seconds["flow"] += time.perf_counter() - start
            yield image
            start = time.perf_counter()
        if self._cache is not None:
            self._cache.store(self._cache_key(), self.flow)

    def _stored_flow(self) -> FlowFields | None:
        """Flow that somebody brings or that the cache has; None where it is to be computed."""
        if self.settings.flow not in ESTIMATORS and Path(self.settings.flow).exists():
            return own_flow(Path(self.settings.flow), self.clip, self.settings.max_frames)
        if self._cache is not None and self.settings.flow in ESTIMATORS:
            return self._cache.load(self._cache_key(), self._backward)
        return None

    def _flow_settings(self) -> FlowSettings:
        settings = self.settings
        return FlowSettings(settings.flow, settings.weights, settings.iterations, settings.device)

    def _cache_key(self) -> str:
        settings = self.settings
        words: list[object] = [settings.flow, self._grid, settings.max_frames, *FLOW_VERSION]
        if settings.flow != "dis":
            words += [settings.weights, settings.iterations, self._device.torch.type]
        return content_key(self.clip.source, words)

    def _check_backward(self) -> None:
        if self._backward and not len(self.flow.backward):
            raise InputError(
                "A negative τ needs backward flow, which this flow does not have. Choose a "
                "positive τ, or compute the flow again."
            )

    def _keep(
        self, index: int, prediction: FramePrediction, images: deque[np.ndarray]
    ) -> SegmentedFrame:
        kept = quantise(prediction.masks)  # what is yielded is what the record will say
        self._masks.append(kept)
        self._assignments.append(prediction.assignment)
        image = images.popleft() if images else np.zeros((0, 0, 3), np.uint8)
        flow = self.flow.forward[min(index, len(self.flow.forward) - 1)].astype(np.float32)
        return SegmentedFrame(index, image, flow, dequantise(kept), prediction.assignment)

    def _predict(self, volumes: list[np.ndarray]) -> np.ndarray:
        """Soft masks (b, k, t, h, w) of volumes (2, t, h, w)."""
        self._check()
        start = time.perf_counter()
        batch = torch.from_numpy(np.stack(volumes)).to(self._device.torch)
        with torch.inference_mode(), self._device.autocast():
            masks: np.ndarray = self._network(batch, self.settings.k).float().cpu().numpy()
        self._seconds["network"] += time.perf_counter() - start
        return masks


def _own_version() -> str:
    try:
        return version("stseg")
    except PackageNotFoundError:
        return "source"


def segment(
    clip: Clip,
    settings: Settings,
    network: SegmentationNetwork | None = None,
    stop: Callable[[], bool] | None = None,
) -> Segmentation:
    """Segment a whole clip: ``SegmentationRun`` from end to end. See there."""
    run = SegmentationRun(clip, settings, network, stop=stop)
    for _ in run.frames():
        pass
    return run.result()
