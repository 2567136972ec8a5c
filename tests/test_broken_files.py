"""A short part of ``benchmarks.broken_files``: what is broken is refused or read, nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.broken_files import attempt, run
from benchmarks.mutations import KINDS, MUTATIONS, broken, good_files


def test_broken_files_are_refused_or_read(tmp_path: Path) -> None:
    done, grown = run(2 * len(KINDS), 1, tmp_path)
    assert [each.told for each in done if each.outcome == "failed"] == []
    assert {each.kind for each in done} == set(KINDS)
    assert sum(each.outcome == "refused" for each in done) >= 5
    assert grown.memory < 32 * 2**20
    assert grown.files <= 0


def test_the_same_seed_breaks_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    first, second = (
        good_files(np.random.default_rng(3), tmp_path / name) for name in ("one", "other")
    )
    assert first["png-folder"] == second["png-folder"]
    count = len(KINDS) * len(MUTATIONS)
    changed = 0
    for number in range(count):
        one = broken(first, number, np.random.default_rng(number))
        assert one == broken(first, number, np.random.default_rng(number))
        changed += one[2] != first[one[0]]
    assert changed > 0.8 * count  # a stretch of zeros may be zeros before
    assert broken(first, count, np.random.default_rng(0))[:2] == (KINDS[0], MUTATIONS[0].__name__)


def test_a_wrong_result_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = good_files(np.random.default_rng(0), tmp_path)
    path = tmp_path / "b.safetensors"
    path.write_bytes(good["safetensors"]["a.safetensors"])

    def broken_reader(path: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("stseg.checkpoint.load_checkpoint", broken_reader)
    with pytest.raises(ZeroDivisionError):
        attempt("safetensors", path)
