"""The app answers soon after it was started."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_process import end, start


@pytest.mark.alone
def test_the_app_answers_within_fifteen_seconds(tmp_path: Path) -> None:
    seconds = []
    for attempt in ("first", "second"):  # the first may have to compile what pip installed
        folder = tmp_path / attempt
        folder.mkdir()
        process, served = start([], folder)
        seconds.append(served.seconds)
        assert end(process) == 0
    assert min(seconds) < 15
