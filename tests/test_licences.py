"""The list of licences is in step with what is installed and pinned."""

from __future__ import annotations

import re

import pytest

from benchmarks import licences


def test_the_list_is_in_step_with_the_requirements() -> None:
    assert licences.direct() in licences.TARGET.read_text(encoding="utf-8"), (
        "run `python -m benchmarks.licences`"
    )


def test_everything_that_ships_is_pinned() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (licences.ROOT / name).read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line and not line.startswith(("#", "-r "))]
        assert len(licences.pinned(text)) == len(lines) > 0


def test_an_old_version_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    told = licences.TARGET.read_text(encoding="utf-8")
    assert licences.direct() not in re.sub(r"(\| gradio \|) [^|]*", r"\1 1.0.0 ", told)
