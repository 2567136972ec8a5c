"""The options of ``app.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

_SPEC = spec_from_file_location("app", ROOT / "app.py")
assert _SPEC is not None
assert _SPEC.loader is not None
app = module_from_spec(_SPEC)
_SPEC.loader.exec_module(app)


def test_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    ran = subprocess.run(
        [sys.executable, "app.py", "--data", str(missing)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert ran.returncode == 2
    assert f"There is no folder {missing}" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(tmp_path.iterdir())


def test_data_folders_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STSEG_DATA", "a:b")
    assert app.parse([]).data == [Path("a"), Path("b")]
    assert app.parse(["--data", "c", "--data", "d"]).data == [Path("c"), Path("d")]
    monkeypatch.delenv("STSEG_DATA")
    assert app.parse([]).data == []


def test_limits_of_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STSEG_LIMITS", "frames=60,side=512")
    assert app.parse([]).limit == ["frames=60", "side=512"]
    assert app.parse(["--limit", "frames=9"]).limit == ["frames=9"]
    monkeypatch.delenv("STSEG_LIMITS")
    assert app.parse([]).limit == []


def test_unknown_option() -> None:
    with pytest.raises(SystemExit, match="2"):
        app.main(["--nonsense"])
