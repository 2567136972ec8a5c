"""The frozen records that travel through the house. NumPy only: no torch, no screen."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from stseg.errors import InputError
from stseg.latents import join
from stseg.limits import Limits
from stseg.masks import dequantise as dequantise
from stseg.masks import gathered, largest
from stseg.masks import label_map as label_map
from stseg.masks import quantise as quantise
from stseg.spool import Spool

LINKAGES = ("one-to-one", "greedy", "one-to-one+similarity", "greedy+similarity")
DEVICES = ("auto", "cpu", "cuda")

GRID = (128, 224)
"""Rows and columns of the network's grid for a landscape clip (Sec. 4.1 of the paper)."""

SHORT_NAMES = {"raft": "raft-sintel"}
"""Short names of flow estimators: RAFT without more is the paper's, with Sintel weights."""

K_RANGE = (2, 8)
STRIDES = (1, 2)
TAU_MAX = 8
SEED_MAX = 2**63 - 1
"""What PyTorch's generators take."""


def flow_name(name: str) -> str:
    """The flow estimator that a short name means; any other word stays what it is."""
    return SHORT_NAMES.get(name, name)


def grid_for(size: tuple[int, int]) -> tuple[int, int]:
    """The network's grid (h, w) for a clip of ``size`` (H, W): the paper's, turned for portrait."""
    return GRID if size[1] >= size[0] else (GRID[1], GRID[0])


@dataclass(frozen=True)
class Clip:
    """A video that can be read, as its header describes it.

    Attributes:
        source: the file or the folder of frames.
        name: what people call it.
        size: (H, W) in pixels, after the rotation flag.
        fps: frames per second (an average where the rate varies).
        frames: number of frames announced by the file; the true number is known once all are read.
        truth: folder of ground-truth masks, one file a frame, where there is one.
        limits: of a stranger's file, which is decoded in a process of its own within them
            (``stseg.bounded``); None decodes it here.
    """

    source: Path
    name: str
    size: tuple[int, int]
    fps: float
    frames: int
    truth: Path | None = None
    limits: Limits | None = None


@dataclass(frozen=True)
class Settings:
    """What a person chooses for one run of the pipeline.

    Attributes:
        k: number of segments, 2 to 8.
        taus: temporal steps τ of the triplets, in frames; negative ones look at the reversed clip.
            The first is the reference: the predictions of the others are aligned to it.
        eta: fraction of sites that count as occluded (eq. 5), 0 to 1. At test time it only
            concerns pictures and figures, never the labels.
        flow: name of a flow estimator in ``stseg.flow.ESTIMATORS`` (a short name is replaced by
            what it means), or the path of flow that somebody brings.
        weights: weight file of the estimator; None takes the fetched one.
        iterations: refinements of RAFT.
        model: name of a variant in ``stseg.variants`` or path of a checkpoint.
        linkage: how segments are linked over time (Sec. 3.4), by overlap alone or, with
            "+similarity", by that of χ, too (see ``stseg.linkage.Linker``).
        similarity_weight: weight ω of the similarity in these.
        merge: fuse the labels whose similarity over the whole clip, or over the sub-sequence, is
            above this, from -1 to 1 (see ``stseg.similarity.merge``); None fuses none.
        stride: frames from one triplet to the next: 1, as the paper has it, or 2, which halves the
            work of the network (see ``stseg.timeline.Timeline``); None is 2 where τ allows it.
            ``step`` is what it comes to.
        refine: whether the masks of each triplet are refined by its flow, which the paper does not
            do (see ``stseg.refinement``).
        device: "auto", "cpu" or "cuda".
        subsequence: link anew every so many frames, as scores do (Sec. 4.2); 0 links the whole
            video.
        max_frames: read no more than this many frames; None reads all.

    Whole numbers of NumPy, lists of τ and paths are taken as well, and kept in the plain type.

    Raises:
        InputError: when a value is of another type, or out of its range.
    """

    k: int = 4
    taus: tuple[int, ...] = (1,)
    eta: float = 0.01
    flow: str = "dis"
    weights: str | None = None
    iterations: int = 12
    model: str = "several"
    linkage: str = "one-to-one"
    device: str = "auto"
    subsequence: int = 0
    max_frames: int | None = None
    similarity_weight: float = 1.0
    merge: float | None = None
    stride: int | None = None
    refine: bool = False

    def __post_init__(self) -> None:
        for name in _TYPES:
            object.__setattr__(self, name, checked_setting(name, getattr(self, name)))
        object.__setattr__(self, "flow", flow_name(self.flow))
        if not K_RANGE[0] <= self.k <= K_RANGE[1]:
            raise InputError(
                f"K is {self.k}, but the number of segments is from {K_RANGE[0]} to {K_RANGE[1]}. "
                "Choose a K in this range."
            )
        if not self.taus:
            raise InputError("No τ is given. Choose at least one, for instance τ = 1.")
        for tau in self.taus:
            if tau == 0 or abs(tau) > TAU_MAX:
                raise InputError(
                    f"τ is {tau}, but the temporal step is from 1 to {TAU_MAX} or from "
                    f"-{TAU_MAX} to -1. Choose a τ in this range."
                )
        if len(set(self.taus)) != len(self.taus):
            raise InputError("A τ is given twice. Give every τ once.")
        if not 0 <= self.eta <= 1:
            raise InputError(f"η is {self.eta}, but it is a fraction from 0 to 1 (0.01 is 1 %).")
        if self.linkage not in LINKAGES:
            raise InputError(
                f"There is no linkage {self.linkage!r}. Choose one of {', '.join(LINKAGES)}."
            )
        if not 0 <= self.similarity_weight < float("inf"):
            raise InputError(
                f"The weight of similarity is {self.similarity_weight}, but it is a number of 0 or "
                "more. Choose for instance 1."
            )
        if self.merge is not None and not -1 <= self.merge <= 1:
            raise InputError(
                f"The merge threshold is {self.merge}, but a similarity is from -1 to 1. Choose "
                "for instance 0.8."
            )
        if self.stride is not None and self.stride not in STRIDES:
            raise InputError(
                f"The stride is {self.stride}, but triplets are taken at every frame (1) or at "
                "every second one (2). Choose one of these."
            )
        if self.step > 1 and not self._sees_between:
            raise InputError(
                "A stride of 2 is for one τ of 1 or -1: other triplets have nothing to say of the "
                "frames between. Choose a stride of 1 or another τ."
            )
        if self.device not in DEVICES:
            raise InputError(f"There is no device {self.device!r}. Choose auto, cpu or cuda.")
        if self.iterations < 1:
            raise InputError(f"RAFT needs at least 1 iteration, not {self.iterations}.")
        if self.subsequence < 0:
            raise InputError(
                f"A sub-sequence of {self.subsequence} frames makes no sense. Give its length, or "
                "0 for the whole video."
            )
        if 0 < self.subsequence < abs(self.taus[0]):
            raise InputError(
                f"In a sub-sequence of {self.subsequence} frames no two triplets of τ = "
                f"{self.taus[0]} follow each other, so that there is nothing to link. Give a "
                "longer one, or a smaller τ."
            )
        if self.max_frames is not None and self.max_frames < 2:
            raise InputError("At least 2 frames must be read: motion needs two of them.")

    @property
    def step(self) -> int:
        """Frames from one triplet to the next."""
        if self.stride is not None:
            return self.stride
        return 2 if self._sees_between else 1

    @property
    def _sees_between(self) -> bool:
        """Whether triplets at every second frame say something of all frames."""
        return [abs(tau) for tau in self.taus] == [1]

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values; ``stseg.settings_file`` restores them."""
        return {**asdict(self), "taus": list(self.taus)}


_TYPES = {each.name: str(each.type) for each in fields(Settings)}

_KINDS: Mapping[str, tuple[type, type | tuple[type, ...]]] = {
    "bool": (bool, (bool, np.bool_)),
    "int": (int, Integral),
    "float": (float, Real),
    "str": (str, (str, Path)),
}
"""The plain type of what is annotated so, and what may stand for it."""

_WANTED = {
    "bool": "True or False",
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "None": "None",
    "tuple[int, ...]": "whole numbers, as in [1, 2]",
}


def checked_setting(name: str, value: object) -> Any:
    """A value that somebody gives for a setting, in its plain type; its range is not looked at.

    Raises:
        InputError: there is no such setting, or it is of another type.
    """
    if name not in _TYPES:
        raise InputError(f"There is no setting {name!r}. Choose among {', '.join(sorted(_TYPES))}.")
    kinds = [_TYPES[name]] if name == "taus" else _TYPES[name].split(" | ")
    if name == "taus" and isinstance(value, list | tuple):
        if all(_may_be(each, "int") for each in value):
            return tuple(int(each) for each in value)
        value = list(value)
    for kind in kinds:
        if value is None and kind == "None":
            return None
        if kind in _KINDS and _may_be(value, kind):
            with suppress(OverflowError):  # a whole number may be beyond any other
                return _KINDS[kind][0](value)
    wanted = " or ".join(_WANTED[kind] for kind in kinds)
    raise InputError(f"The setting {name!r} cannot be {reprlib.repr(value)}. Give {wanted}.")


def _may_be(value: object, kind: str) -> bool:
    """Whether a value may stand for a field that is annotated so."""
    if kind != "bool" and isinstance(value, bool):  # True is a number, too, but none here
        return False
    return isinstance(value, _KINDS[kind][1])


@dataclass(frozen=True)
class SegmentedFrame:
    """One frame of a result, as the pipeline yields it.

    Attributes:
        index: number of the frame, from 0.
        image: the frame itself, RGB.
        flow: motion from this frame to the next on the network's grid, in source pixels
            (u right, v down); the last frame repeats the field before it.
        masks: soft masks in the order of the network, summing to 1 over k.
        assignment: ``assignment[j]`` is the linked label of the network's segment j.
    """

    index: int
    image: UInt8[np.ndarray, "H W 3"]
    flow: Float32[np.ndarray, "2 h w"]
    masks: Float32[np.ndarray, "k h w"]
    assignment: UInt8[np.ndarray, " k"]

    def segments(self, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
        """The network's own segments (not linked) at ``size`` (H, W)."""
        return label_map(self.masks, size)

    def labels(self, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
        """Linked labels at ``size`` (H, W)."""
        return self.assignment[self.segments(size)]


@dataclass(frozen=True)
class Segmentation:
    """A segmented clip: what the app, the exporters and the metrics take.

    Masks and flow stay on the network's grid (a clip of any length fits); labels are made at the
    source resolution on demand. Deep copies share the spools, which never change once made.

    Attributes:
        clip: what was segmented; ``clip.frames`` is the true number of frames n here.
        settings: how it was asked for.
        flow: n - 1 arrays (2, h, w) float16, in source pixels; more where the run goes on or was
            stopped, which reads ahead of the frames that it decides.
        masks: n arrays (k, h, w) uint8, 255 for certainty, in the order of the network.
        assignment: row i takes the network's segments of frame i to linked labels.
        seconds: duration of each stage of the pipeline.
        made_with: versions and the device, for the record.
        latents: χ of each of the network's segments at each frame (Sec. 3.4): the mean over its
            sites of the last-layer features, standardised per channel over the volume; zeros for a
            segment without a site on the network's grid. c is 0 where nobody computed them.
        fused: for each label at each frame the one that it became (``similarity.relabelled``); None
            where none was merged.

    Raises:
        ValueError: latents are not those of the frames and segments of ``assignment``.
    """

    clip: Clip
    settings: Settings
    flow: Spool
    masks: Spool
    assignment: UInt8[np.ndarray, "n k"]
    seconds: Mapping[str, float] = field(default_factory=dict)
    made_with: Mapping[str, str] = field(default_factory=dict)
    latents: Float32[np.ndarray, "_n _k c"] = field(
        default_factory=lambda: np.zeros((0, 0, 0), np.float32)
    )
    fused: UInt8[np.ndarray, "n k"] | None = None

    def __post_init__(self) -> None:
        if self.latents.shape[:2] != self.assignment.shape:
            if self.latents.size:
                raise ValueError(
                    f"Latents of shape {self.latents.shape} do not belong to assignments of shape "
                    f"{self.assignment.shape}."
                )
            none = np.zeros((*self.assignment.shape, 0), np.float32)
            object.__setattr__(self, "latents", none)

    def __len__(self) -> int:
        return len(self.assignment)  # the spool of a run that goes on may hold more masks

    @property
    def k(self) -> int:
        """Number of labels."""
        return self.settings.k

    @property
    def called(self) -> dict[int, str]:
        """The labels that there are, and what they are called: those that are fused are one.

        Where what is fused differs from one sub-sequence to the next, it has the name of the label
        that is left.
        """
        if self.fused is None:
            return {label: str(label) for label in range(self.k)}
        left = [int(label) for label in np.unique(self.fused)]
        if (self.fused != self.fused[:1]).any():
            return {label: str(label) for label in left}
        names = self.fused[0]
        return {
            label: " + ".join(str(each) for each in np.flatnonzero(names == label))
            for label in left
        }

    def soft_masks(self, index: int) -> Float32[np.ndarray, "k h w"]:
        """Soft masks of frame ``index`` in the order of the network."""
        return dequantise(self.masks[index])

    def segments(self, index: int) -> UInt8[np.ndarray, "H W"]:
        """The network's own segments of frame ``index`` (not linked) at the source resolution."""
        return label_map(self.soft_masks(index), self.clip.size)

    def labels(self, index: int) -> UInt8[np.ndarray, "H W"]:
        """Linked labels of frame ``index`` at the source resolution (Sec. 3.4)."""
        return self.assignment[index][self.segments(index)]

    def labels_on_grid(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Linked labels of frame ``index`` on the network's grid."""
        return self.assignment[index][largest(self.masks[index])]

    def linked_masks(self, index: int) -> Float32[np.ndarray, "k h w"]:
        """Soft masks of frame ``index`` by linked label; segments that share a label are summed."""
        return gathered(self.soft_masks(index), self.assignment[index])

    def linked_latents(self, index: int) -> Float32[np.ndarray, "k c"]:
        """χ by linked label at frame ``index``; zeros for a label without a site.

        Segments that share a label are averaged, each with the weight of its sites.
        """
        segments = largest(self.masks[index])
        areas = np.bincount(segments.ravel(), minlength=self.k)
        return join(self.latents[index], areas, self.assignment[index])

    def motion(self, index: int) -> Float32[np.ndarray, "2 h w"]:
        """Flow of frame ``index`` in source pixels; the last frame repeats the one before it."""
        return self.flow[min(index, len(self.flow) - 1)].astype(np.float32)

    def areas(self, first: int = 0) -> Float32[np.ndarray, "n k"]:
        """Fraction of the frame that each linked label covers, from frame ``first`` on."""
        areas = np.zeros((max(0, len(self) - first), self.k), np.float32)
        for row, index in enumerate(range(first, len(self))):
            labels = self.labels_on_grid(index)
            areas[row] = np.bincount(labels.ravel(), minlength=self.k) / labels.size
        return areas

    def close(self) -> None:
        """Free the memory and the temporary files of this result."""
        self.flow.close()
        self.masks.close()
