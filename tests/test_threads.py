"""How threads wait is settled before torch is there, and not against anybody's word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stseg.threads import SPINS, wait_briefly

ROOT = Path(__file__).resolve().parents[1]


def settled(monkeypatch: pytest.MonkeyPatch, said: dict[str, str]) -> dict[str, str | None]:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    wait_briefly()
    return {name: os.environ.get(name) for name in names}


def test_threads_sleep_soon_unless_somebody_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: dict[str, str | None] = {"GOMP_SPINCOUNT": None, "OMP_WAIT_POLICY": None}
    assert settled(monkeypatch, {}) == {**nothing, "GOMP_SPINCOUNT": SPINS}
    for said in ({"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}):
        assert settled(monkeypatch, said) == {**nothing, **said}


@pytest.mark.parametrize("door", ["stseg.cli", "app"])
def test_the_doors_settle_it_before_torch_is_imported(door: str) -> None:
    """A module that fails to be imported stands for torch: it tells what was settled until then."""
    code = f"""
import os, sys
from importlib.abc import MetaPathFinder

class Torch(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print("settled:", os.environ.get("GOMP_SPINCOUNT"))
            os._exit(0)

sys.meta_path.insert(0, Torch())
from {door} import main
main({["segment", "nothing.mp4", "--out", "nowhere"] if door == "stseg.cli" else []})
"""
    free = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=free,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"settled: {SPINS}\n"
