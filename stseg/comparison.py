"""Several results of one clip, told apart by figures and by colours that agree (Table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from stseg.errors import InputError, Stop
from stseg.flow import ESTIMATORS
from stseg.measures import Measures, at_eta, measure
from stseg.naming import matching
from stseg.records import Segmentation, Settings, label_map
from stseg.render import colour_labels
from stseg.variants import VARIANTS

MOST = 4
"""Variants that fit side by side."""

PALE = 188
"""What black becomes where labels agree (``difference_picture``); white stays nearly white."""


@dataclass(frozen=True)
class Compared:
    """One of several results of the same clip.

    Attributes:
        title: what it is called.
        result: the record.
        measures: its figures.
        renamed: entry a is the label of the first variant that its label a stands for, see
            ``stseg.naming.matching``; the identity for the first variant itself.
        brought: whether it came from elsewhere than the tab Compare: a fitted model.
    """

    title: str
    result: Segmentation
    measures: Measures
    renamed: UInt8[np.ndarray, " k"]
    brought: bool = False

    def labels(self, index: int, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
        """Linked labels of frame ``index`` at ``size`` (H, W), in the names of the first variant.

        A result with fewer frames repeats its last one.
        """
        index = min(index, len(self.result) - 1)
        own = label_map(self.result.soft_masks(index), size)
        return self.renamed[self.result.assignment[index][own]]

    def to_json(self) -> dict[str, Any]:
        """Title, figures of the clip and of its frames, and settings."""
        return {
            "title": self.title,
            **self.measures.to_json(),
            "per_frame": self.measures.over_frames.to_json(),
            "settings": self.result.settings.to_json(),
        }


def compare(
    title: str,
    result: Segmentation,
    first: Segmentation | None = None,
    stop: Stop | None = None,
    brought: bool = False,
) -> Compared:
    """Measure a result and name its labels as ``first`` does (None: as they are).

    L_c is that at the η of ``first``: the columns of a table are compared.

    Raises:
        Cancelled: ``stop`` said so.
    """
    own = np.arange(result.k, dtype=np.uint8)
    renamed = own if first is None or first is result else matching(first, result)
    eta = (first or result).settings.eta
    return Compared(title, result, measure(result, stop, eta), renamed, brought)


def with_variant(known: Sequence[Compared], variant: Compared) -> tuple[Compared, ...]:
    """``known`` and one more: in the place of one with its title, or at the end.

    Beyond ``MOST`` the oldest but the first makes room. Labels are named as by the first one, and
    L_c is that at its η.
    """
    if known and known[0].title == variant.title:
        variant = replace(variant, renamed=np.arange(variant.result.k, dtype=np.uint8))
        return (variant, *(_named_by(variant, each) for each in known[1:]))
    if known:
        variant = _named_by(known[0], variant)
    titles = [each.title for each in known]
    if variant.title in titles:
        place = titles.index(variant.title)
        return (*known[:place], variant, *known[place + 1 :])
    room = [known[0], *known[2:]] if len(known) >= MOST else known
    return (*room, variant)


def _named_by(first: Compared, variant: Compared) -> Compared:
    """``variant`` with labels in the names of ``first``, and L_c at the η of ``first``."""
    return replace(
        variant,
        renamed=matching(first.result, variant.result),
        measures=at_eta(variant.measures, variant.result, first.measures.eta),
    )


def beside(
    variants: Sequence[Compared], settings: Settings, before: Settings | None
) -> tuple[Compared, ...]:
    """The variants that stay when a result with ``settings`` comes to stand beside them.

    Those of a run with other settings do not: their titles tell what differs from that run. Those
    that waited for a first result get what differs from it into their titles.

    Args:
        variants: that are there.
        settings: of the result.
        before: of the result that they were beside so far; None where there was none.
    """
    if before is not None:
        return tuple(variants) if comparable(before, settings) else ()
    return tuple(
        replace(each, title=", ".join([each.title, *differences(each.result.settings, settings)]))
        for each in variants
    )


def comparable(one: Settings, other: Settings) -> bool:
    """Whether variants of a run with ``one`` belong beside those of a run with ``other``.

    Model, K and threshold are named by every title, and η is that of the table; the rest is only
    named where a variant has something else than its run.
    """
    return replace(other, model=one.model, k=one.k, merge=one.merge, eta=one.eta) == one


def plan(
    base: Settings,
    models: Sequence[str],
    ks: Sequence[int] = (),
    taus: Sequence[int] = (),
    flows: Sequence[str] = (),
    refinement: bool = False,
) -> dict[str, Settings]:
    """Settings of the variants by title: one for each model, then the base with one thing changed.

    Args:
        base: what all have in common.
        models: names of models; ``full`` and ``no-lc`` are with and without L_c (Table 1).
        ks: other numbers of segments.
        taus: other temporal steps, alone.
        flows: other flow estimators.
        refinement: also the base refined by the flow, or not, where it is.

    Raises:
        InputError: fewer than two, or more than ``MOST``.
    """
    chosen = [replace(base, model=model) for model in models]
    chosen += [replace(base, k=k) for k in ks]
    for tau in taus:
        fits = base.stride is None or abs(tau) == 1
        chosen.append(replace(base, taus=(tau,), stride=base.stride if fits else 1))
    chosen += [replace(base, flow=flow) for flow in flows]
    chosen += [replace(base, refine=not base.refine)] if refinement else []
    planned: dict[str, Settings] = {}
    for each in dict.fromkeys(chosen):
        title = title_of(each, base)
        alike = sum(title_of(other, base) == title for other in planned.values())
        planned[f"{title} ({alike + 1})" if alike else title] = each
    if len(planned) < 2:
        raise InputError("A comparison needs at least two variants. Choose one more.")
    if len(planned) > MOST:
        raise InputError(
            f"{len(planned)} variants are chosen, but {MOST} fit side by side. Leave some out."
        )
    return planned


def title_of(settings: Settings, base: Settings | None = None) -> str:
    """What a variant is called: its model, its K, and what ``base`` has otherwise."""
    known = VARIANTS.get(settings.model)
    parts = [known.title if known else Path(settings.model).stem, f"K = {settings.k}"]
    if base is None:
        parts.append(told_taus(settings))
    parts += differences(settings, base or replace(settings, stride=None))
    return ", ".join([*parts, *told_merge(settings)])


def differences(settings: Settings, base: Settings) -> list[str]:
    """What ``base`` has otherwise, beside what every title names (``comparable``)."""
    parts = []
    if settings.taus != base.taus:
        parts.append(told_taus(settings))
    if settings.flow != base.flow:
        parts.append(ESTIMATORS[settings.flow].title if settings.flow in ESTIMATORS else "own flow")
    if settings.stride != base.stride and settings.step != base.step:
        parts.append(f"stride {settings.step}")
    if settings.refine != base.refine:
        parts.append("refined" if settings.refine else "not refined")
    if settings.linkage != base.linkage:
        parts.append(f"linkage {settings.linkage}")
    if settings.subsequence != base.subsequence:
        parts.append(f"sub-sequence {settings.subsequence or 'whole'}")
    if settings.max_frames != base.max_frames:
        parts.append(f"{settings.max_frames or 'all'} frames")
    return parts


def told_merge(settings: Settings) -> list[str]:
    """That segments are merged, as titles tell it; nothing where they are not."""
    return [] if settings.merge is None else [f"merged at {settings.merge:.2f}".replace("-", "−")]


def told_taus(settings: Settings) -> str:
    """The temporal steps, as titles tell them."""
    return f"τ = {', '.join(f'{tau:+d}' for tau in settings.taus)}"


def difference_picture(
    image: UInt8[np.ndarray, "H W 3"],
    labels: UInt8[np.ndarray, "H W"],
    differs: Bool[np.ndarray, "H W"],
) -> UInt8[np.ndarray, "H W 3"]:
    """The frame in pale gray, with the labels in full colour where they differ from another's.

    Not told by a colour of its own: all colours are those of labels. Label 0 is gray, too, but far
    darker than the palest black.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) // 4 + np.uint8(PALE)
    pale = cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)
    return np.where(differs[..., None], colour_labels(labels), pale).astype(np.uint8)
