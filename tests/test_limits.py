"""Limits of what strangers bring."""

from __future__ import annotations

import pytest

from stseg.errors import InputError
from stseg.limits import Limits, read_limits


def test_the_hint_says_what_a_visitor_has_to_know() -> None:
    assert Limits().hint == "At most 512 MiB, 10 min, 3,000 frames and 4,096 pixels a side."
    assert ", 90 s, " in Limits(seconds=90).hint


def test_limits_are_read_from_words() -> None:
    assert read_limits([]) == Limits()
    assert read_limits(["frames=60", " side=8192"]) == Limits(frames=60, side=8192)
    for word in ("frames", "frames=", "frames=-1", "frames=x", "frames=²", "colour=3", "=4", ""):
        with pytest.raises(InputError, match=r"is no limit\. Write NAME=NUMBER with one of mega"):
            read_limits([word])
    with pytest.raises(InputError, match="frames must be 1 or more"):
        read_limits(["frames=0"])


@pytest.mark.parametrize(
    ("size", "frames", "seconds", "sentence"),
    [
        ((100, 4097), 1, 0.0, r"'a' are 4097 x 100 pixels, but a side has at most 4,096 here"),
        ((4097, 100), 1, 0.0, "100 x 4097 pixels"),
        ((9, 9), 3001, 0.0, r"'a' has more than 3,000 frames"),
        ((9, 9), 1, 36000.0, r"'a' lasts 36,000 s, but at most 600 s"),
    ],
)
def test_what_is_beyond_a_limit_is_named(
    size: tuple[int, int], frames: int, seconds: float, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        Limits().check_video(size, frames, seconds, "a")
    Limits().check_video((4096, 4096), 3000, 600.0, "a")


def test_bytes() -> None:
    Limits(megabytes=1).check_bytes(2**20, "a")
    with pytest.raises(InputError, match=r"'a' has 3 MiB, but at most 1 MiB are taken here"):
        Limits(megabytes=1).check_bytes(3 * 2**20, "a")
