"""The tab Motion without a browser: the parameters of a long clip keep nobody waiting."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from unseen_page import stopped

from stseg.kinematics import MotionOverTime
from stseg.records import Clip
from stseg.segment_motion import SegmentMotion
from stseg.ui import motion as tab
from stseg.ui.view import Moment


def test_the_parameters_of_a_long_clip_follow(
    clip: Clip, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = Moment(stopped(clip, tiny_model, tmp_path, frames=4), 1, 0.01)
    free, asked = threading.Event(), []
    read = SegmentMotion.over_time

    def slow(motion: SegmentMotion) -> MotionOverTime:
        asked.append(motion)
        if len(asked) == 1:
            raise RuntimeError("no memory")
        assert free.wait(60)
        return read(motion)

    monkeypatch.setattr(SegmentMotion, "over_time", slow)
    monkeypatch.setattr(tab, "LONG", 3)
    monkeypatch.setattr(tab, "WAIT", 0.2)
    with pytest.raises(RuntimeError, match="no memory"):  # told, and tried again
        tab._draw(moment, "speed")
    first, second = (tab._draw(moment, "speed")[0] for _ in range(2))
    for told in (first, second):
        assert "are being computed" in told
        assert 'data-name="measured"' in told  # what is known is there at once
    assert first != second  # or the page would not ask again
    assert len(asked) == 2
    free.set()
    deadline = time.monotonic() + 60
    while "data-again" in (told := tab._draw(moment, "speed")[0]):
        assert time.monotonic() < deadline
    assert 'class="numbers"' in told
    assert len(asked) == 2
