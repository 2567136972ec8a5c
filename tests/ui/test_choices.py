"""K and merged labels: what the page shows when they move, without a browser."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest
from unseen_page import REQUEST, Page

from stseg.comparison import compare
from stseg.errors import InputError
from stseg.similarity import merged as merged_result
from stseg.ui import motion
from stseg.ui.controls import OWN_FLOW, SETTINGS
from stseg.ui.jobs import announcement, handler
from stseg.ui.legend import hidden_labels
from stseg.ui.session import SEGMENT
from stseg.ui.shown import Choice
from stseg.ui.view import Context, Job, Moment, Progress


def test_another_k_fills_the_legend(page: Page) -> None:
    before = page.session.shown
    scene = page.events.choose_k(REQUEST, 2.0, *page.values[1:])
    assert "K = 2, from the same run" in scene[0]
    legend = page.filled(scene, "legend")
    assert [each["label"] for each in legend["entries"]] == [0, 1]
    assert legend["value"] == []
    assert page.session.shown is not before
    assert page.session.busy  # its files are announced


def test_merged_labels_are_shown_and_taken_back(page: Page) -> None:
    plain = page.session.shown
    assert plain is not None
    scene = page.events.use_merged(REQUEST, True, -1.0, *page.values)
    shown = page.session.shown
    assert shown is not None
    assert shown.choice == Choice(4, -1.0)
    assert len(np.unique(shown.result.assignment)) == 1
    assert shown.unmerged is plain.result
    assert shown.affinity is plain.affinity
    assert "K = 4, merged at −1.00" in scene[0]
    assert len(page.filled(scene, "legend")["entries"]) < 4
    assert page.filled(scene, "use-merged") is True
    assert "--merge -1.0" in page.filled(scene, "command")

    # Another K is merged at the same threshold; then everything is as it was.
    page.events.choose_k(REQUEST, 3.0, *page.values[1:])
    assert page.session.choice == Choice(3, -1.0)
    page.events.choose_k(REQUEST, 4.0, *page.values[1:])
    scene = page.events.use_merged(REQUEST, False, -1.0, *page.values)
    assert page.session.shown.choice == Choice(4)
    assert (page.session.shown.result.assignment == plain.result.assignment).all()
    assert page.filled(scene, "use-merged") is False


@pytest.mark.parametrize("again", [False, True])
def test_segment_tells_that_its_labels_are_not_merged(page: Page, again: bool) -> None:
    page.events.use_merged(REQUEST, True, -1.0, *page.values)
    page.running.announce(REQUEST, *page.values)
    assert page.session.choice == Choice(4)
    if again:
        page.session.choice = Choice(4, -1.0)  # ticked again while it ran
    lines = [scene[0] for scene in page.running.segment(REQUEST, *page.values[:SETTINGS])]
    last = [line for line in lines if isinstance(line, str)][-1]
    assert ("Labels are no longer merged" in last) is not again
    page.running.announce(REQUEST, *page.values[:SETTINGS], *page.values[SETTINGS:])
    assert ("Labels are no longer merged" in page.session.said) is again


def test_soft_masks_are_those_of_the_labels_that_there_are(page: Page) -> None:
    plain = page.filled(page.events.choose_k(REQUEST, 3.0, *page.values[1:]), "soft")
    assert plain["choices"] == [("0", 0), ("1", 1), ("2", 2)]
    assert plain["value"] == 1
    page.session.choice = Choice(3)
    fused = page.filled(page.events.use_merged(REQUEST, True, -1.0, *page.values), "soft")
    ((name, label),) = fused["choices"]
    assert name == "0 + 1 + 2"
    assert label == fused["value"] == 0
    # What was chosen before is on its way when the labels fuse.
    looks = page.values[SETTINGS:]
    looks[3 + 4] = 2  # after frame, η and tab, the fifth option of the first tab
    assert "Soft mask of segment 0 + 1 + 2" in page.looking.redraw(REQUEST, *looks)[0]


def test_merging_before_there_is_a_result_unticks_the_box(page: Page) -> None:
    page.session.shown = None
    scene = page.events.use_merged(REQUEST, True, 0.5, *page.values)
    assert "Segment a clip first" in scene[0]
    assert page.filled(scene, "use-merged") is False
    assert page.session.choice.merge is None


def test_only_labels_can_be_hidden() -> None:
    assert hidden_labels([1, 7]) == [1, 7]
    assert hidden_labels(["1", None, 8, -1, 2.5]) == []
    assert hidden_labels("x") == []


def test_what_is_final_is_drawn_once(page: Page) -> None:
    """Later steps leave slider and pictures alone: the visitor may look elsewhere by then."""
    page.session.begin(SEGMENT)
    page.session.frame = 3
    scenes = list(page.running.segment(REQUEST, *page.values))
    assert "9 frames in" in scenes[-1][0]
    pictures = slice(3, 3 + sum(page.fills))
    touched = [
        index
        for index, scene in enumerate(scenes)
        if "value" in scene[2] or any(each != gr.skip() for each in scene[pictures])
    ]
    assert touched
    assert scenes[touched[-1]][2]["value"] == 3  # back where the visitor was before
    assert touched[-1] < len(scenes) - 1
    assert "Writing" in scenes[touched[-1]][0]


def test_a_segment_that_shows_nothing_leaves_the_labels_that_were_chosen(page: Page) -> None:
    events, session = page.events, page.session
    events.use_merged(REQUEST, True, -1.0, *page.values)
    merged = session.choice
    assert merged == Choice(4, -1.0)

    page.running.announce(REQUEST, *page.values)  # stopped before it began
    assert session.choice == Choice(4)
    page.running.stop(REQUEST)
    assert session.choice == merged

    page.running.announce(REQUEST, *page.values)  # refused: no flow is uploaded
    refused = [*page.values]
    refused[3] = OWN_FLOW
    with pytest.raises(InputError, match="No flow is uploaded"):
        list(page.running.segment(REQUEST, *refused))
    assert session.choice == merged
    assert session.shown.choice == merged


@pytest.mark.parametrize("work", ["segment", "write"])
def test_labels_that_are_chosen_as_the_last_file_is_written_get_theirs(
    page: Page, work: str
) -> None:
    """Until the end is told the page still waits for that work, and nobody else writes them."""
    events, session = page.events, page.session
    if work == "segment":
        page.running.announce(REQUEST, *page.values)
        scenes = page.running.segment(REQUEST, *page.values)
    else:
        events.use_merged(REQUEST, True, 0.99, *page.values)
        scenes = page.running.write(REQUEST)
    last = next(scene for scene in scenes if "status idle" in scene[0])
    assert ("merged at 0.99 are written" in last[0]) == (work == "write")
    assert session.shown.files

    answer = events.use_merged(REQUEST, True, -1.0, *page.values)
    assert answer[0] == gr.skip()
    assert (
        list(page.running.write(REQUEST)) == []
    )  # the page asks at once, and nothing is announced
    rest = list(scenes)
    assert "merged at −1.00 are written" in rest[-1][0]
    assert session.shown.choice == session.choice == Choice(4, -1.0)
    assert session.shown.files["grid.mp4"].exists()
    assert not session.busy


def test_a_k_that_the_run_did_not_make_does_not_end_the_writing(page: Page) -> None:
    page.events.use_merged(REQUEST, True, 0.99, *page.values)
    page.events.choose_k(REQUEST, 7.0, *page.values[1:])
    last = list(page.running.write(REQUEST))[-1]
    assert "merged at 0.99 are written" in last[0]
    assert page.session.shown.files
    assert page.session.choice.k == 7  # for the next run


def test_at_one_nothing_is_merged(page: Page) -> None:
    answer = page.events.use_merged(REQUEST, True, 1.0, *page.values)
    assert page.session.shown.choice == page.session.choice == Choice(4)
    assert not page.session.writing_announced
    assert "nothing is merged. Move it down" in answer[0]
    page.events.use_merged(REQUEST, True, 0.5, *page.values)
    page.session.stop()
    answer = page.events.use_merged(REQUEST, True, 0.5, *page.values)  # let go where it was
    assert answer[0] == gr.skip()


def test_files_of_merged_labels_that_were_stopped_can_be_had(page: Page) -> None:
    scene = page.events.use_merged(REQUEST, True, -1.0, *page.values)
    assert "press Write files" in html.unescape(page.filled(scene, "download-state"))
    page.session.stop()  # before they were begun
    assert list(page.running.write(REQUEST)) == []
    assert not page.session.shown.files
    page.running.ask_files(REQUEST)
    last = list(page.running.write(REQUEST))[-1]
    assert "merged at −1.00 are written" in last[0]
    assert page.session.shown.choice == Choice(4, -1.0)
    assert page.session.shown.files["labels.npz"].exists()


def test_fused_segments_have_one_name_in_the_tab_motion(page: Page) -> None:
    page.events.use_merged(REQUEST, True, -1.0, *page.values)
    (board,) = motion._draw(Moment(page.session.shown, 1, 0.01), "speed")
    assert "0 + 1 + 2 + 3</th>" in board
    assert board.count('data-name="model-') == 1
    assert "not in this frame" not in board


def test_merged_labels_are_compared_with_those_before_merging(page: Page) -> None:
    session = page.session
    page.events.use_merged(REQUEST, True, -1.0, *page.values)
    fused = merged_result(session.shown.unmerged, -1.0)

    def work(context: Context) -> Iterator[Progress]:
        context.add_variant("Merged", fused)
        yield Progress("Done.")

    job = Job(start=print, run=work)
    announcement(page.sessions, job)(REQUEST)
    list(handler(page.sessions, job)(REQUEST, *page.values[:SETTINGS]))
    first, second = session.compared
    assert first.result is session.shown.unmerged
    assert "merged" not in first.title
    assert second.result is fused


def test_a_fit_that_waited_for_segment_says_what_it_differs_in(page: Page) -> None:
    session, shown = page.session, page.session.shown
    settings = replace(shown.result.settings, taus=(2,), max_frames=5)
    session.compared = (compare("Fitted", replace(shown.result, settings=settings)),)
    session.shown = None
    session.show(shown, session.folder)
    assert [each.title for each in session.compared] == ["Fitted, τ = +2, 5 frames"]
