"""The settings that ship, by name: what each changes in the training, and where it is from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from stseg.augment import AugmentSettings
from stseg.errors import InputError
from stseg.losses import LossSettings
from stseg.network import NetworkSettings
from stseg.tensor_files import SHIPPED
from stseg.train_settings import Stage, TrainSettings

ALL_K = (4, 2, 3, 5, 6, 7, 8)
"""Heads of the shipped models; the first one is validated."""


@dataclass(frozen=True)
class Variant:
    """A named training setting.

    Attributes:
        name: its name, and that of its checkpoint file.
        title: what the screen calls it.
        source: section or table of the paper, or whose it is.
        settings: how it is trained.
    """

    name: str
    title: str
    source: str
    settings: TrainSettings

    @property
    def path(self) -> Path:
        """Where its checkpoint ships."""
        return SHIPPED / f"{self.name}.safetensors"


_FULL = TrainSettings(network=NetworkSettings(ks=ALL_K), augment=AugmentSettings(zoom=2.0))
_FRAME = replace(
    _FULL,
    network=NetworkSettings(architecture="predecessor", ks=ALL_K),
    motion_model="quadratic",
    losses=LossSettings(beta=0.0),
    instants=1,
)
_MOTION_LC = replace(
    _FULL,
    losses=LossSettings(along_motion=True),
    stages=(  # tight masks first, then masks that agree over time
        Stage((32, 56), 1500, 5e-4, beta=0.0),
        Stage((64, 112), 1500, 5e-4, beta=0.0),
        Stage((64, 112), 800, 4e-4),
        Stage((64, 112), 550, 3e-4),
    ),
)

_SEVERAL = replace(
    _FULL,
    network=NetworkSettings(ks=ALL_K, relative=True),
    losses=LossSettings(along_motion=True),
    augment=AugmentSettings(objects=12, zoom=2.0),
    spread=10.0,
    stages=(
        Stage((32, 56), 4000, 1e-3),
        Stage((64, 112), 1100, 5e-4),
        Stage((128, 224), 260, 3e-4),
    ),
)

VARIANTS: dict[str, Variant] = {
    each.name: each
    for each in (
        Variant("full", "Space-time, with L_c", "Sec. 3, Table 1", _FULL),
        Variant(
            "no-lc",
            "Space-time, without L_c",
            "Table 1",
            replace(_FULL, losses=LossSettings(beta=0.0)),
        ),
        Variant(
            "spatial",
            "Spatial motion model",
            "Table 1",
            replace(_FULL, motion_model="quadratic"),
        ),
        Variant("frame", "Frame by frame", "EM, Meunier et al., TPAMI 2022", _FRAME),
        Variant("motion-lc", "Along the motion", "ours, after eq. 4", _MOTION_LC),
        Variant("several", "Several motions", "ours", _SEVERAL),
    )
}


def variant(name: str) -> Variant:
    """The variant of that name. Raises InputError when there is none."""
    if name not in VARIANTS:
        raise InputError(f"There is no variant {name!r}. Choose one of {', '.join(VARIANTS)}.")
    return VARIANTS[name]


def available_variants() -> list[Variant]:
    """The variants whose checkpoint is there."""
    return [each for each in VARIANTS.values() if each.path.is_file()]


def model_path(name_or_path: str) -> Path:
    """The checkpoint that ``name_or_path`` means: a variant's name, or a path.

    Raises:
        InputError: neither a variant with a checkpoint nor an existing file.
    """
    known = VARIANTS.get(name_or_path)
    if known is not None:
        if known.path.is_file():
            return known.path
        raise InputError(
            f"The checkpoint of model {known.name!r} is not in {SHIPPED}. Train it with "
            f"`python -m stseg train --variant {known.name}`, or choose another model."
        )
    path = Path(name_or_path)
    if path.is_file():
        return path
    present = ", ".join(each.name for each in available_variants()) or "none"
    raise InputError(
        f"There is no model {name_or_path!r}: it is neither a file nor one of the models that "
        f"ship ({present})."
    )
