"""Frames → optical flow. One file per estimator; the table is at the foot of this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float, Float16, Float32, UInt8

from stseg.device import choose_device
from stseg.errors import InputError
from stseg.flow.brought import open_flow
from stseg.flow.cache import FLOW_VERSION, content_key, weights_key
from stseg.flow.correction import WEIGHTS, Correction
from stseg.flow.dis import DIS
from stseg.flow.files import read_flow_file, write_flow_file, write_flow_folder
from stseg.flow.raft import Raft
from stseg.flow.weights import PUBLISHED, weights_path
from stseg.records import Clip, Settings, flow_name, grid_for
from stseg.video import read_frames
from stseg.volume import FlowFields

Check = Callable[[], None]
"""Called between the steps of long work; it raises to end it."""


@runtime_checkable
class Estimator(Protocol):
    """An optical flow estimator: work that concerns one frame alone is done once a frame."""

    def prepare(self, image: UInt8[np.ndarray, "H W 3"]) -> Any:
        """What ``between`` needs of one frame."""

    def between(self, first: Any, second: Any, size: tuple[int, int]) -> np.ndarray:
        """Motion (h, w, 2) from the first frame to the second, in pixels of a frame of ``size``."""


@dataclass(frozen=True)
class FlowSettings:
    """Which estimator computes the flow, and how.

    Attributes:
        name: in ``ESTIMATORS``; a short name is replaced by what it means.
        weights: weight file of RAFT; None takes the fetched one of that name.
        iterations: refinements of RAFT.
        device: "auto", "cpu" or "cuda", for RAFT.
        warm_start: RAFT starts each pair from the flow of the pair before it. See ``Raft``.
    """

    name: str = "dis"
    weights: str | None = None
    iterations: int = 12
    device: str = "auto"
    warm_start: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", flow_name(self.name))

    @classmethod
    def of(cls, settings: Settings) -> FlowSettings:
        """What the settings of a run say of its flow."""
        return cls(settings.flow, settings.weights, settings.iterations, settings.device)


@dataclass(frozen=True)
class EstimatorKind:
    """A line of the table of estimators.

    Attributes:
        title: what the screen calls it.
        make: a new estimator, given what it calls between the steps of long work.
        weights: name of the published weights that it needs, or None.
        origin: what decides its numbers, beside its name and the code: see ``flow_origin``.
    """

    title: str
    make: Callable[[FlowSettings, Check], Estimator]
    weights: str | None = None
    origin: Callable[[FlowSettings], tuple[object, ...]] = lambda settings: ()

    @property
    def ready(self) -> bool:
        """Whether the weights that it needs are in their place."""
        return self.weights is None or weights_path(self.weights).is_file()


def _go_on() -> None:
    """Nobody stops the work."""


def estimator(settings: FlowSettings, check: Check = _go_on) -> Estimator:
    """A new estimator.

    Args:
        settings: which one, and how.
        check: called while it works, several times a pair where a pair takes long; what it raises
            ends the work.

    Raises:
        InputError: there is none of that name, or its weights are not there or unusable.
    """
    if settings.name not in ESTIMATORS:
        raise InputError(
            f"There is no flow estimator {settings.name!r}. Choose one of "
            f"{', '.join(ESTIMATORS)}, or the path of your own flow."
        )
    return ESTIMATORS[settings.name].make(settings, check)


def flow_origin(settings: FlowSettings) -> tuple[object, ...]:
    """What decides the numbers of computed flow, for the keys under which it is kept.

    That is the code of the estimators (``FLOW_VERSION``) and the name, and of the one named the
    settings that it has, the content of its weights, and where and how precisely it is computed.
    """
    kind = ESTIMATORS.get(settings.name)
    return FLOW_VERSION, settings.name, () if kind is None else kind.origin(settings)


def check_options(name: str, options: Sequence[str]) -> None:
    """Refuse options that only RAFT has where the flow is not RAFT's: they would do nothing.

    Args:
        name: of the estimator, or the path of flow that is there already.
        options: those that were given, as the command line has them.

    Raises:
        InputError: there is such an option.
    """
    kind = ESTIMATORS.get(flow_name(name))
    if options and (kind is None or kind.weights is None):
        raise InputError(
            f"{options[0]} is for RAFT, but the flow is {name!r}. Choose raft, or leave it out."
        )


def available_estimators() -> list[str]:
    """Names of the estimators that can run here: those whose weights are in their place."""
    return [name for name, kind in ESTIMATORS.items() if kind.ready]


def to_grid(
    flow: Float32[np.ndarray, "h w 2"], grid: tuple[int, int]
) -> Float32[np.ndarray, "2 g h2"]:
    """Flow resized to a grid by area, or bilinear where it grows; vectors keep their unit."""
    grows = grid[0] > flow.shape[0] or grid[1] > flow.shape[1]
    way = cv2.INTER_LINEAR if grows else cv2.INTER_AREA  # which repeats sites where it enlarges
    resized = cv2.resize(flow, (grid[1], grid[0]), interpolation=way)
    return np.ascontiguousarray(resized.transpose(2, 0, 1))


def on_grid(
    field: Float[np.ndarray, "2 h w"], grid: tuple[int, int]
) -> Float16[np.ndarray, "2 g h2"]:
    """A field that was computed before, as triplets are made of it: see ``to_grid``."""
    if field.shape[1:] != grid:
        field = to_grid(np.ascontiguousarray(field.transpose(1, 2, 0), np.float32), grid)
    return field.astype(np.float16)


def flow_pairs(
    images: Iterator[UInt8[np.ndarray, "H W 3"]],
    using: Estimator,
    grid: tuple[int, int] | None,
    backward: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Frame by frame, the image, its motion to the next frame, and the motion back.

    Yields (image t, flow t → t + 1, flow t + 1 → t or None) as soon as frame t + 1 is there, and
    the last image with an empty array of shape (2, 0, 0): it has no next frame.

    Args:
        images: RGB frames.
        using: the estimator.
        grid: (h, w) to resize to; None keeps the estimator's own size.
        backward: whether to estimate the motion back as well.
    """

    def shaped(flow: np.ndarray) -> np.ndarray:
        return flow.transpose(2, 0, 1) if grid is None else to_grid(flow, grid)

    previous: tuple[np.ndarray, Any] | None = None
    for image in images:
        prepared = using.prepare(image)
        if previous is not None:
            before, features = previous
            size = (image.shape[0], image.shape[1])
            forward = shaped(using.between(features, prepared, size))
            back = shaped(using.between(prepared, features, size)) if backward else None
            yield before, forward, back
        previous = image, prepared
    if previous is not None:
        yield previous[0], np.zeros((2, 0, 0), np.float32), None


def clip_fields(
    clip: Clip, settings: FlowSettings, grid: tuple[int, int] | None, backward: bool = False
) -> Iterator[Float32[np.ndarray, "2 h w"]]:
    """Flow of a clip of n frames, field by field: n - 1 of them, in pixels of the source.

    Args:
        clip: the clip; no more than two of its frames are in memory.
        settings: of the estimator.
        grid: (h, w) to resize to; None gives fields of the size of the frames.
        backward: give the motion from frame i + 1 to frame i, and only that.

    Raises:
        InputError: unknown estimator, or fewer than two frames.
    """
    using = estimator(settings)
    size, before, fields = grid or clip.size, None, 0
    for image in read_frames(clip):
        now = using.prepare(image)
        if before is not None:
            first, second = (now, before) if backward else (before, now)
            yield to_grid(using.between(first, second, clip.size), size)
            fields += 1
        before = now
    if not fields:
        raise InputError(f"{clip.name} has fewer than two frames, so that nothing moves in it.")


def own_fields(
    path: Path, clip: Clip, max_frames: int | None = None, check: Check = _go_on
) -> Iterator[Float16[np.ndarray, "2 h w"]]:
    """Flow that somebody brings, field by field on the network's grid; it must belong to ``clip``.

    Args:
        path: an ``.npz``, or a folder or ``.zip`` of ``.flo`` or KITTI ``.png`` fields. No more
            than one field is in memory.
        clip: its frames are counted.
        max_frames: give the flow between no more than this many frames; it may be all that there
            is.
        check: called at each frame that is counted and before each field; what it raises ends the
            work. Counting decodes the whole clip, before the first field is given.

    Raises:
        InputError: unusable flow, or of another size or length than the video.
    """
    brought = open_flow(path)
    if brought.size != clip.size:
        size = brought.size
        raise InputError(
            f"{path} was computed on frames of {size[1]}x{size[0]}, but {clip.name} has "
            f"{clip.size[1]}x{clip.size[0]}. Compute the flow of this clip."
        )
    frames = 0
    for _ in read_frames(clip):
        check()
        frames += 1
    read = frames if max_frames is None else min(frames, max_frames)
    if brought.count not in (frames - 1, read - 1):
        count = f"{brought.count} field{'' if brought.count == 1 else 's'}"
        raise InputError(
            f"{path} has {count}, but {clip.name} has {frames} frames, which make "
            f"{frames - 1}. Give the flow of this clip."
        )
    grid = grid_for(clip.size)
    for field in islice(brought.fields(), None if max_frames is None else max_frames - 1):
        check()
        yield on_grid(field, grid)


def own_flow(
    path: Path, clip: Clip, max_frames: int | None = None, check: Check = _go_on
) -> FlowFields:
    """``own_fields`` all at once. See there."""
    fields = FlowFields()
    for field in own_fields(path, clip, max_frames, check):
        fields.forward.append(field)
    return fields


def _raft(settings: FlowSettings, check: Check) -> Estimator:
    path = Path(settings.weights) if settings.weights else weights_path(settings.name)
    if not path.is_file() and settings.weights:
        raise InputError(
            f"There is no file {path}. Give a weight file of {settings.name}, or leave out "
            "--weights to take the fetched one."
        )
    if not path.is_file():
        raise InputError(
            f"The weights of {settings.name} are not at {path}. Fetch them with "
            f"`python -m stseg weights {settings.name}`, or name a file with --weights."
        )
    device = choose_device(settings.device)
    raft = Raft(path, settings.iterations, device, settings.warm_start, check)
    if settings.name == "raft-small" and not raft.network.size.small:
        raise InputError(
            f"{path} has weights of RAFT large. Give those of RAFT small, or say raft."
        )
    return raft


def _raft_origin(settings: FlowSettings) -> tuple[object, ...]:
    device = choose_device(settings.device)
    given = weights_key(settings.weights), settings.iterations, settings.warm_start
    return *given, device.torch.type, device.bfloat16


def _correction_origin(settings: FlowSettings) -> tuple[object, ...]:
    return content_key(WEIGHTS, []), choose_device("cpu").bfloat16


ESTIMATORS: dict[str, EstimatorKind] = {
    "dis": EstimatorKind(
        "DIS (OpenCV), corrected",
        lambda settings, check: DIS(Correction()),
        origin=_correction_origin,
    ),
    "dis-plain": EstimatorKind("DIS (OpenCV)", lambda settings, check: DIS()),
    **{
        name: EstimatorKind(f"RAFT ({name.removeprefix('raft-')})", _raft, name, _raft_origin)
        for name in PUBLISHED
    },
}

__all__ = [
    "ESTIMATORS",
    "Estimator",
    "EstimatorKind",
    "FlowSettings",
    "available_estimators",
    "check_options",
    "clip_fields",
    "estimator",
    "flow_origin",
    "flow_pairs",
    "on_grid",
    "open_flow",
    "own_fields",
    "own_flow",
    "read_flow_file",
    "to_grid",
    "write_flow_file",
    "write_flow_folder",
]
