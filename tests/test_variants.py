"""The published settings: what each differs in, and how a model is found by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stseg import variants
from stseg.errors import InputError
from stseg.motion import MODELS
from stseg.network import NetworkSettings
from stseg.records import K_RANGE
from stseg.variants import ALL_K, VARIANTS, available_variants, model_path

FULL = VARIANTS["full"].settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of checkpoints in place of the shipped one; it is empty."""
    monkeypatch.setattr(variants, "SHIPPED", tmp_path)
    return tmp_path


def test_names_are_those_of_the_table() -> None:
    assert list(VARIANTS) == ["full", "no-lc", "spatial", "frame", "motion-lc", "several"]
    assert all(variant.name == name for name, variant in VARIANTS.items())
    assert all(variant.title and variant.source for variant in VARIANTS.values())


def test_the_full_variant_is_the_papers() -> None:
    assert FULL.network == NetworkSettings("paper", 3, 32, ALL_K)
    assert FULL.motion_model == "quadratic-time"
    assert (FULL.losses.beta, FULL.losses.eta) == (1.0, 0.01)
    assert (FULL.instants, FULL.taus) == (3, (1,))
    assert FULL.stages[-1].size == (128, 224)


def test_each_variant_changes_what_it_is_named_for() -> None:
    no_lc, spatial, frame = (VARIANTS[name].settings for name in ("no-lc", "spatial", "frame"))
    assert no_lc == replace(FULL, losses=replace(FULL.losses, beta=0.0))
    assert spatial == replace(FULL, motion_model="quadratic")
    assert (frame.network.architecture, frame.instants) == ("predecessor", 1)
    assert (frame.motion_model, frame.losses.beta) == ("quadratic", 0.0)
    along = VARIANTS["motion-lc"].settings
    losses = replace(FULL.losses, along_motion=True)
    assert along == replace(FULL, losses=losses, stages=along.stages)
    assert not FULL.losses.along_motion  # eq. 4 as it is
    several = VARIANTS["several"].settings
    assert several.network == replace(FULL.network, relative=True)
    assert several.losses == losses
    assert several.augment == replace(FULL.augment, objects=12)
    assert (FULL.network.relative, FULL.augment.objects, FULL.spread) == (False, 0, 1.0)


def test_every_k_has_a_head_and_k_4_comes_first() -> None:
    assert ALL_K[0] == 4
    assert sorted(ALL_K) == list(range(K_RANGE[0], K_RANGE[1] + 1))
    for variant in VARIANTS.values():
        assert variant.settings.network.ks == ALL_K
        assert variant.settings.motion_model in MODELS


def test_only_variants_whose_file_is_there_are_available(folder: Path) -> None:
    assert available_variants() == []
    (folder / "no-lc.safetensors").touch()
    (folder / "other.safetensors").touch()
    assert [variant.name for variant in available_variants()] == ["no-lc"]


def test_a_name_means_the_shipped_file(folder: Path) -> None:
    (folder / "full.safetensors").touch()
    assert model_path("full") == folder / "full.safetensors"


def test_a_path_means_that_file(folder: Path) -> None:
    own = folder / "own.safetensors"
    own.touch()
    assert model_path(str(own)) == own


def test_a_variant_without_its_file_gets_a_sentence(folder: Path) -> None:
    with pytest.raises(InputError) as error:
        model_path("no-lc")
    assert str(error.value) == (
        f"The checkpoint of model 'no-lc' is not in {folder}. Train it with "
        "`python -m stseg train --variant no-lc`, or choose another model."
    )


def test_neither_name_nor_file_gets_a_sentence_with_what_there_is(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no model 'best': .* ship \(none\)"):
        model_path("best")
    (folder / "full.safetensors").touch()
    (folder / "frame.safetensors").touch()
    with pytest.raises(InputError, match=r"ship \(full, frame\)"):
        model_path("best")
    with pytest.raises(InputError, match="neither a file nor one of the models"):
        model_path(str(folder))
    with pytest.raises(InputError, match="no model ''"):
        model_path("")
