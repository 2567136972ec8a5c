"""What an ablation tries: the variants of Table 1, and sweeps over the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from stseg.errors import InputError
from stseg.records import LINKAGES, STRIDES, Settings
from stseg.variants import VARIANTS

PUBLISHED = {"full": 0.732, "spatial": 0.705, "no-lc": 0.331}
"""J on DAVIS2016 val in Table 1 of the paper (K = 4, by sub-sequences of 10 frames)."""

PUBLISHED_ON = "davis16"

SWEEPS: dict[str, tuple[object, ...]] = {
    "k": (2, 3, 4, 5, 6, 7, 8),
    "tau": ((1,), (2,), (3,), (1, 2)),
    "eta": (0.0, 0.005, 0.01, 0.02, 0.05, 0.1),
    "subsequence": (5, 10, 20, 40, 0),
    "linkage": LINKAGES,
    "stride": STRIDES,
    "refine": (False, True),
}
"""What each sweep tries; the rest of the settings stays as it is."""

ETA_NOTE = (
    "η is a part of the loss: it decides which sites L_c leaves out while a network is trained. "
    "Labels, and so J, do not depend on it at test time; what the sweep over η shows is L_c of the "
    "labels. For J over η train a network for each η, and give the checkpoints as variants."
)


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        part: "variants", or the name of a sweep.
        value: what this line tries, in words.
        settings: how to segment for it; None where its checkpoint is missing.
        published: J in the paper's Table 1, as a fraction of 1.
        base: whether these are the settings from which the sweeps start.
    """

    part: str
    value: str
    settings: Settings | None
    published: float | None = None
    base: bool = False


def as_published(settings: Settings) -> bool:
    """Whether these are the settings of Table 1, beside whose J another one makes sense."""
    told = settings.k, settings.taus, settings.subsequence, settings.linkage, settings.refine
    return told == (4, (1,), 10, "greedy", False)


def variant_rows(
    base: Settings, models: Sequence[str], present: Callable[[str], bool]
) -> list[Row]:
    """Table 1: one line a variant, or a checkpoint file; those that are missing say so.

    Args:
        base: settings of all lines but for the model.
        models: names of variants, or paths.
        present: whether a model can be loaded.
    """
    return [
        Row(
            "variants",
            VARIANTS[model].title if model in VARIANTS else model,
            replace(base, model=model) if present(model) else None,
            PUBLISHED.get(model) if as_published(base) else None,
            base=model == base.model,
        )
        for model in models
    ]


def sweep_rows(base: Settings, name: str, ks: Sequence[int]) -> list[Row]:
    """The lines of one sweep around ``base``.

    A K that the model has no head for is left out, and so is what does not fit the base (a τ of 2
    where only every second triplet is predicted).

    Raises:
        InputError: there is no such sweep.
    """
    if name not in SWEEPS:
        raise InputError(f"There is no sweep {name!r}. Choose some of {', '.join(SWEEPS)}.")
    field = "taus" if name == "tau" else name
    rows = []
    for value in SWEEPS[name]:
        if name == "k" and value not in ks:
            continue
        try:
            settings = Settings(**{**base.to_json(), "taus": base.taus, field: value})
        except InputError:
            continue
        rows.append(Row(name, _words(name, value), settings, base=settings == base))
    return rows


def _words(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(str(each) for each in value)
    if isinstance(value, float):
        return f"{100 * value:g} %"
    return "whole video" if name == "subsequence" and value == 0 else str(value)
