"""Values of any kind as programs give them: taken where they make sense, else told by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest
from layout import in_blocks

from stseg.errors import InputError
from stseg.records import Settings
from stseg.ui.api import ENDPOINTS
from stseg.ui.controls import read_settings, settings_on_page
from stseg.ui.endpoint import Endpoint
from stseg.ui.given import names, number, truth, whole, whole_or_none, wholes
from stseg.ui.guard import guarded
from stseg.ui.offered import SHIPPED, offered
from stseg.ui.sessions import Sessions

REQUEST = gr.Request(session_hash="one")


def test_names_of_sequences_as_clients_give_them() -> None:
    assert names("sequences", None) == []
    assert names("sequences", "bear camel") == ["bear", "camel"]
    assert names("sequences", ["bear"]) == ["bear"]
    with pytest.raises(InputError, match="list of names, for instance \\['bear', 'camel'\\]"):
        names("sequences", {"bear": 1}, "bear", "camel")


def test_numbers_as_clients_give_them() -> None:
    assert whole("k", 4.0, 4) == 4
    assert whole_or_none("stride", None, 0) is None
    assert whole_or_none("stride", 0, 0) is None
    assert wholes("other_k", 3, 3) == wholes("other_k", [3.0], 3) == [3]
    assert wholes("other_k", None, 3) == wholes("other_k", [], 3) == []
    assert number("eta", 1, 1.0) == 1.0
    assert truth("refine", True, False) is truth("refine", None, True) is True
    assert truth("refine", False, True) is truth("refine", None, False) is False
    with pytest.raises(InputError, match="refine is 1, but it is true or false, for instance "):
        truth("refine", 1, False)
    assert read_settings(4, 1, 1.0, "dis", None, "greedy", None, None, None) == Settings(
        linkage="greedy"
    )


@pytest.mark.parametrize("value", [None, "a", "3", [3], True, {}, float("nan"), 2.7])
def test_what_is_no_whole_number_is_refused_by_name(value: object) -> None:
    with pytest.raises(InputError, match=r"k is .*, but it is a whole number, for instance 4"):
        whole("k", value, 4)


@pytest.mark.parametrize("value", [99999999999999, float("inf"), 10**400])
def test_a_number_beyond_all_is_too_large(value: float) -> None:
    with pytest.raises(InputError, match=r"k is .*, which is too large. Give a whole number, for "):
        whole("k", value, 4)
    with pytest.raises(InputError, match=r"tau is .*, which is too small. Give a list of whole "):
        wholes("tau", [1, -value], 1)
    with pytest.raises(InputError, match=r"eta is .*, which is too large. Give a number, for "):
        number("eta", value, 1.0)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((2.5, 0), "Frames to read is 2.5, but it is a whole number"),
        ((0, 10**12), "Sub-sequence is 1000000000000, which is too large"),
    ],
)
def test_the_page_calls_its_controls_by_their_titles(
    given: tuple[float, float], sentence: str
) -> None:
    with pytest.raises(InputError, match=f"^{sentence}"):
        settings_on_page(4, [1], 1.0, "dis", None, "greedy", *given)


def test_a_long_mistake_is_told_in_short() -> None:
    with pytest.raises(InputError) as caught:
        number("eta", "x" * 10_000, 1.0)
    assert len(str(caught.value)) < 100


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Endpoint]]:
    sessions = Sessions(offered([]))
    yield {file.NAME: in_blocks(lambda file=file: file.build(sessions)) for file in ENDPOINTS}  # type: ignore[misc]
    sessions.close_all()


def call(endpoint: Endpoint, given: dict[str, Any]) -> Any:
    """As a client that gives no video: what is wrong before that is told first."""
    values = {str(each.label): getattr(each, "value", None) for each in endpoint.inputs} | given
    return guarded(endpoint.call)(*values.values(), REQUEST)


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("compare", {"models": "full", "other_k": 3, "other_tau": 2}, "No video is given"),
        ("compare", {"models": None, "other_k": [3, 2]}, "No video is given"),
        ("compare", {"models": ["full"], "other_k": ["3"]}, "other_k is .'3'., but it is a list"),
        ("compare", {"models": ["full"], "other_tau": 1.5}, "other_tau is 1.5, but"),
        ("compare", {"models": [None]}, "models is .None., but it is a list of names"),
        ("compare", {"other_flow": {"dis": 1}}, "other_flow is"),
        ("segment", {"tau": 1}, "No video is given"),
        ("segment", {"merge": None}, "No video is given"),
        ("segment", {"tau": ["a"]}, "tau is .'a'., but it is a list of whole numbers"),
        ("segment", {"tau": [1.7]}, "tau is .1.7., but"),
        ("segment", {"tau": None}, "No τ is given"),
        ("segment", {"eta": None}, "eta is None, but it is a number"),
        ("segment", {"k": None}, "k is None, but it is a whole number"),
        ("segment", {"k": "a"}, "k is 'a', but"),
        ("segment", {"merge": "a"}, "merge is 'a', but"),
        ("segment", {"also": "coco motion"}, "No video is given"),
        ("segment", {"also": 1}, "also is 1, but it is a list of names"),
        ("segment", {"also": ["x"]}, "There is no extra file 'x'. Choose among coco, soft"),
        ("segment", {"flow": None}, "There is no flow estimator None"),
        ("similarity", {"threshold": []}, "threshold is .., but it is a number"),
        ("fit", {"steps": 1.5}, "steps is 1.5, but"),
        ("fit", {"beta": None}, "beta is None, but"),
        ("fit", {"steps": 3000}, "3000 steps are too many"),
        ("evaluate", {"dataset": SHIPPED, "k": None}, "k is None, but"),
        ("evaluate", {"dataset": SHIPPED, "subsequence": "x"}, "subsequence is 'x', but"),
        ("evaluate", {"dataset": SHIPPED, "sequences": 5}, "sequences is 5, but it is a list"),
    ],
)
def test_a_mistake_is_the_callers_and_told_so(
    endpoints: dict[str, Endpoint], name: str, given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(gr.Error, match=sentence):
        call(endpoints[name], given)
