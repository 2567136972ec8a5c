"""What the page knows of a clip: its footage, and a result with its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from stseg.charts import area_timeline
from stseg.foreground import Foreground
from stseg.records import Clip, Segmentation, Settings
from stseg.render import flow_scale
from stseg.segment_motion import SegmentMotion
from stseg.similarity import relabelled
from stseg.spool import Spool
from stseg.ui.affinity import Affinity
from stseg.ui.markup import drawing
from stseg.volume import FlowFields


@dataclass(frozen=True)
class Footage:
    """What is known of a clip whatever K and the model are: its flow and its frames.

    Attributes:
        clip: the clip.
        settings: those that it was read with; only the estimator, the number of frames and the
            direction of τ matter.
        flow: its flow.
        pictures: its frames as JPEG, for the page.
    """

    clip: Clip
    settings: Settings
    flow: FlowFields
    pictures: Spool

    def serves(self, clip: Clip, settings: Settings) -> bool:
        """Whether a run with ``settings`` needs nothing more."""
        backward = any(tau < 0 for tau in settings.taus)
        return (
            self.clip.source == clip.source
            and self.settings.flow == settings.flow
            and self.settings.max_frames == settings.max_frames
            and (len(self.flow.backward) > 0 or not backward)
        )


@dataclass(frozen=True)
class Choice:
    """Which of the labels that one run gives are looked at.

    Attributes:
        k: number of segments.
        merge: similarity above which segments are fused; None fuses none.
    """

    k: int
    merge: float | None = None


@dataclass(frozen=True)
class Shown:
    """A result as the tabs take it.

    Attributes:
        result: the record, merged where the visitor asked for it.
        pictures: its frames as JPEG.
        scale: magnitude of flow in full colour.
        areas: share of each frame that each label covers, (n, k).
        timeline: picture of the areas over the frames, as a data URI.
        motion: its motion models, fitted when a tab asks for them.
        foreground: which labels move by themselves, chosen when the tab Segments asks.
        affinity: similarities of its segments before any are merged, when a tab asks for them.
        others: the same run with every K that it made, nothing merged.
        growing: whether the run still goes on, so that more frames come.
        written: for each choice, what can be downloaded, by name.
        footage: what the next run can start from; None for a run that was stopped.
    """

    result: Segmentation
    pictures: Spool
    scale: float
    areas: Float32[np.ndarray, "n k"]
    timeline: str
    motion: SegmentMotion
    foreground: Foreground
    affinity: Affinity
    others: Mapping[int, Segmentation]
    growing: bool = False
    written: Mapping[Choice, Mapping[str, Path]] = field(default_factory=dict)
    footage: Footage | None = None

    def __len__(self) -> int:
        return len(self.result.assignment)  # masks may grow while somebody looks

    @property
    def choice(self) -> Choice:
        """Which labels these are."""
        return Choice(self.result.k, self.result.settings.merge)

    @property
    def unmerged(self) -> Segmentation:
        """The record with every segment by itself."""
        return self.others[self.result.k]

    @property
    def files(self) -> Mapping[str, Path]:
        """What can be downloaded of these labels, by name; empty until it is written."""
        return self.written.get(self.choice, {})

    @property
    def broken_off(self) -> bool:
        """Whether these are the first frames of a run that was stopped."""
        return self.footage is None and not self.growing

    @property
    def record(self) -> Segmentation:
        """The result as its files tell of it: of a run that was stopped, one of so many frames."""
        if not self.broken_off:
            return self.result
        settings = replace(self.result.settings, max_frames=max(len(self), 2))
        return replace(self.result, settings=settings)

    @property
    def unwritten(self) -> bool:
        """Whether these labels are those of a whole clip and have no files yet."""
        return self.footage is not None and not self.files

    @property
    def spools(self) -> tuple[Spool, ...]:
        """Frames, flow and the masks of every K."""
        known = self.footage
        flow = () if known is None else (known.flow.forward, known.flow.backward)
        masks = (each.masks for each in self.others.values())
        return self.pictures, self.result.flow, *flow, *masks

    def chosen(self, choice: Choice) -> Shown | None:
        """Other labels of the same run, or None where it did not make this K.

        Neither flow nor network run: areas and, where segments are merged, similarities are all
        that is computed.
        """
        if choice == self.choice:
            return self
        if choice.k not in self.others:
            return None
        own = self.others[choice.k]
        affinity = self.affinity if choice.k == self.result.k else Affinity(own)
        result = own
        if choice.merge is not None and affinity.known:
            result = relabelled(own, choice.merge, affinity.names(choice.merge))
        areas = result.areas()
        return replace(
            self,
            result=result,
            areas=areas,
            timeline=drawing(area_timeline(areas)),
            motion=SegmentMotion(result),
            foreground=Foreground(result),
            affinity=affinity,
        )


def shown_of(
    others: Mapping[int, Segmentation], k: int, pictures: Spool, known: Shown | None = None
) -> Shown:
    """A result for the page.

    Args:
        others: what a run made, by K.
        k: which of them is looked at.
        pictures: frames as JPEG.
        known: an earlier state of the same run, whose areas are taken as they are.
    """
    result = others[k]
    same = known is not None and known.choice == Choice(k)
    before = known.areas if known is not None and same else np.zeros((0, k), np.float32)
    areas = np.concatenate([before, result.areas(len(before))])
    return Shown(
        result,
        pictures,
        flow_scale(result),
        areas,
        drawing(area_timeline(areas)),
        SegmentMotion(result),
        Foreground(result),
        Affinity(result),
        others,
    )
