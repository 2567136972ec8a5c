"""STSeg: see what moves together in a video.

The public door: choose ``Settings``, ``segment`` a video into a ``Segmentation``. ``probe`` tells
before what the video is.

    segmentation = stseg.segment("video.mp4", stseg.Settings(k=4))
    labels = segmentation.labels(0)  # (H, W) uint8
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stseg.errors import Cancelled, InputError
    from stseg.pipeline import SegmentationRun, segment
    from stseg.records import Clip, Segmentation, Settings
    from stseg.video import probe

__version__ = "0.1.0"

__all__ = [
    "Cancelled",
    "Clip",
    "InputError",
    "Segmentation",
    "SegmentationRun",
    "Settings",
    "probe",
    "segment",
]

_HOMES = {
    "Cancelled": "stseg.errors",
    "Clip": "stseg.records",
    "InputError": "stseg.errors",
    "Segmentation": "stseg.records",
    "SegmentationRun": "stseg.pipeline",
    "Settings": "stseg.records",
    "probe": "stseg.video",
    "segment": "stseg.pipeline",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    # Torch is only imported by what needs it: the command line answers --help at once.
    if name not in _HOMES:
        raise AttributeError(f"module 'stseg' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
