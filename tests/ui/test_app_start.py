"""The app answers soon after it was started: in processor time, as in ``test_start.py``.

The clock also counts how long the disk takes: 6 s and 31 s were seen with 6 s and 8 s of work.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from app_process import end, start


@pytest.mark.alone
def test_the_app_answers_after_fifteen_seconds_of_work(tmp_path: Path) -> None:
    seconds = []
    for attempt in ("first", "second"):  # the first may have to compile what pip installed
        folder = tmp_path / attempt
        folder.mkdir()
        process, served = start([], folder)
        seconds.append(served.seconds)
        assert end(process) == 0
    assert min(seconds) < 15
