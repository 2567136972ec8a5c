"""Settings in words, by the names that the page has for them. No Gradio in here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stseg.comparison import MOST, told_merge, told_taus
from stseg.flow import ESTIMATORS
from stseg.records import Settings
from stseg.variants import VARIANTS

LINKAGE_TITLES = {
    "one-to-one": "IoU, one-to-one",
    "greedy": "IoU, greedy (the paper)",
    "one-to-one+similarity": "IoU + similarity, one-to-one",
    "greedy+similarity": "IoU + similarity, greedy",
}

BETWEEN = " · "
"""Between two settings: titles have commas of their own."""

FLOWS = {"cached": "flow beside the data"}
"""Flow that no estimator gives and nobody uploaded; all other is of the visitor's own."""


def model_title(model: str) -> str:
    """What the page calls a model; a checkpoint has its own name."""
    return VARIANTS[model].title if model in VARIANTS else Path(model).stem


def no_room(gone: Sequence[str]) -> str:
    """What is said of variants that had to make room for others in the tab Compare, or nothing."""
    return f" No room was left for: {'; '.join(gone)}. At most {MOST} fit." if gone else ""


def told(settings: Settings) -> str:
    """What a result was made with: K, τ, model, flow, and what is not as it is at first."""
    segments = [f"K = {settings.k}", *told_merge(settings)]
    return BETWEEN.join(
        [*segments, told_taus(settings), model_title(settings.model), *_others(settings)]
    )


def told_common(settings: Settings) -> str:
    """The same without K and model: what the titles in the tab Compare leave out."""
    return BETWEEN.join([told_taus(settings), *_others(settings)])


def _others(settings: Settings) -> list[str]:
    flow = settings.flow
    known = ESTIMATORS[flow].title if flow in ESTIMATORS else FLOWS.get(flow, "own flow")
    parts = [known]
    if settings.step == 2:
        parts.append("triplets at every second frame")
    if settings.linkage != Settings().linkage:
        parts.append(LINKAGE_TITLES.get(settings.linkage, settings.linkage))
    if settings.subsequence:
        parts.append(f"sub-sequences of {settings.subsequence}")
    if settings.max_frames:
        parts.append(f"the first {settings.max_frames} frames")
    if settings.refine:
        parts.append("refined")
    return parts
