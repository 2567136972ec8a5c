"""Settings in words: by the names of the page, and nothing left out that was changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stseg.evaluation import Failure
from stseg.published import UNSURE
from stseg.records import Settings
from stseg.ui.benchmark_board import board_of
from stseg.ui.benchmark_work import Scores
from stseg.ui.offered import SHIPPED, chosen, offered
from stseg.ui.told import model_title, told, told_common


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"k": 7}, "K = 7"),
        ({"taus": (2, -1)}, "τ = +2, -1"),
        ({"model": "no-lc"}, "Space-time, without L_c"),
        ({"flow": "cached"}, "flow beside the data"),
        ({"flow": "x/mine.npz"}, "own flow"),
        ({"linkage": "greedy"}, "IoU, greedy (the paper)"),
        ({"subsequence": 10}, "sub-sequences of 10"),
        ({"max_frames": 5}, "the first 5 frames"),
        ({"stride": 2}, "triplets at every second frame"),
        ({"refine": True}, "refined"),
    ],
)
def test_what_was_changed_is_told(changed: dict[str, object], part: str) -> None:
    base = Settings(stride=1)
    assert told(base) == "K = 4 · τ = +1 · Several motions · DIS (OpenCV), corrected"
    other = replace(base, **changed)
    assert part in told(other).split(" · ")
    assert part not in told(base)
    named = {"k", "model"} & set(changed)
    assert (part in told_common(other)) == (not named)


def test_a_checkpoint_has_its_own_name() -> None:
    assert model_title("a/fitted.safetensors") == "fitted"
    assert model_title("several") == "Several motions"


def test_a_table_says_which_settings_it_is_of() -> None:
    data_set = chosen(offered([]), SHIPPED)
    settings = Settings(k=3, subsequence=10, stride=1, flow="cached", refine=True)
    entries = data_set.choose()[0]
    board = board_of(Scores(data_set, entries, [], settings, [Failure("orbit", "Empty.")]))
    line = "K = 3 · τ = +1 · Several motions · flow beside the data · sub-sequences of 10 · refined"
    assert 0 < board.index(line) < board.index("<table>")


def test_the_mark_of_an_unchecked_number_is_explained(tmp_path: Path) -> None:
    data_set = replace(chosen(offered([]), SHIPPED), kind="davis16")
    board = board_of(Scores(data_set, data_set.choose()[0], [], Settings(stride=1)))
    assert f"{UNSURE} marks a number from memory" in board
