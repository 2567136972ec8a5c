"""How long a clip will take, learned from the clips before it."""

from __future__ import annotations

import threading

from stseg.flow import ESTIMATORS
from stseg.flow.dis import MAX_SIDE
from stseg.records import Clip, Segmentation, Settings

_SIDES = {"dis": MAX_SIDE, "dis-plain": MAX_SIDE}
_SIDE = 1024
"""Flow is computed on frames of at most this side: by estimator, and of all others."""

# Until something has been measured here: seconds a megapixel on two cores of a small server.
_FLOW = {"dis": 0.7, "dis-plain": 0.5}
_SLOW_FLOW = 10.0

SMALLEST = 0.05
"""Megapixels below which a frame takes no less time, and tells nothing of that of a larger one."""


class Pace:
    """Seconds a frame of each stage, from what was measured last; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flow: dict[str, float] = {}  # a megapixel, by estimator
        self._network = 0.15  # a triplet

    def learn(self, result: Segmentation) -> None:
        """Take over what a run measured."""
        if len(result) < 2:
            return
        flow, network = result.seconds.get("flow", 0.0), result.seconds.get("network", 0.0)
        with self._lock:
            megapixels = _megapixels(result.clip, result.settings)
            if flow > 0 and result.settings.flow in ESTIMATORS and megapixels > SMALLEST:
                work = len(result) * megapixels * _passes(result.settings)
                self._flow[result.settings.flow] = flow / work
            if network > 0:
                self._network = network / (len(result) * _triplets(result.settings))

    def seconds(self, clip: Clip, settings: Settings, flow_known: bool) -> float | None:
        """Seconds that ``clip`` will take, or None where its length is not known."""
        frames = expected_frames(clip, settings.max_frames)
        if frames is None:
            return None
        with self._lock:
            a_frame = self._network * _triplets(settings)
            # Flow that was brought is only read.
            if not flow_known and settings.flow in ESTIMATORS:
                flow = self._flow.get(settings.flow, _FLOW.get(settings.flow, _SLOW_FLOW))
                a_frame += flow * _megapixels(clip, settings) * _passes(settings)
        return frames * a_frame


def expected_frames(clip: Clip, max_frames: int | None) -> int | None:
    """Number of frames that will be read, as far as the header of the file is right."""
    frames = clip.frames or None
    if max_frames is not None:
        frames = min(frames, max_frames) if frames else max_frames
    return frames


def in_words(seconds: float) -> str:
    """A duration as a person says it."""
    if seconds < 1.5:
        return "a second"
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{round(seconds / 60)} min"


def _megapixels(clip: Clip, settings: Settings) -> float:
    ratio = min(1.0, _SIDES.get(settings.flow, _SIDE) / max(clip.size))
    return max(SMALLEST, clip.size[0] * clip.size[1] * ratio**2 / 1e6)


def _triplets(settings: Settings) -> float:
    """Triplets a frame."""
    return len(settings.taus) / settings.step


def _passes(settings: Settings) -> int:
    return 2 if any(tau < 0 for tau in settings.taus) else 1
