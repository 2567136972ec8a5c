"""What the page remembers of a visitor, and how it forgets."""

from __future__ import annotations

import json
import logging
import time
import weakref
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import gradio as gr
import numpy as np
import pytest

from stseg.errors import InputError
from stseg.export import command_line
from stseg.flow import write_flow_file
from stseg.limits import Limits
from stseg.pipeline import segment
from stseg.records import Clip, Segmentation, Settings
from stseg.ui import work
from stseg.ui.guard import UNEXPECTED, guarded
from stseg.ui.pace import Pace, in_words
from stseg.ui.private import told_path, told_sentence
from stseg.ui.sessions import TIME_TO_LIVE, Sessions
from stseg.ui.shown import Choice
from stseg.ui.work import segment_clip, write_files


@pytest.fixture
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sessions]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sessions = Sessions()
    yield sessions
    sessions.close_all()
    assert not list(tmp_path.glob("stseg-*"))


def test_each_visitor_has_their_own(sessions: Sessions, clip: Clip) -> None:
    one, other = sessions.of("one"), sessions.of("other")
    assert sessions.of("one") is one
    one.own.uploads[clip] = ""
    assert not other.own.uploads
    assert one.own.private != other.own.private
    sessions.close("one")
    assert not one.own.private.exists()
    assert not one.own.served.exists()
    assert other.own.private.exists()


def test_a_late_request_does_not_bring_a_visitor_back(sessions: Sessions) -> None:
    """One that was under way when they left would make a session that nobody closes."""
    sessions.of("one")
    sessions.close("one")
    with pytest.raises(InputError, match="Load the page again"):
        sessions.of("one")
    assert len(sessions) == 0
    sessions.close("")  # a client without a name is never gone
    assert sessions.of("") is sessions.of("")


def test_what_hangs_in_cycles_goes_with_the_visitor(sessions: Sessions) -> None:
    class Large:
        def __init__(self) -> None:
            self.me = self

    gone = weakref.ref(Large())
    sessions.of("one")
    sessions.close("one")
    assert gone() is None


def test_upload_leaves_the_served_folder(sessions: Sessions, tmp_path: Path) -> None:
    upload = tmp_path / "mine.mp4"
    upload.write_bytes(b"x")
    session = sessions.of("one")
    taken = session.own.take_upload(upload)
    assert not upload.exists()
    assert taken.name == "mine.mp4"
    assert session.own.private in taken.parents


def test_the_app_takes_no_file_of_its_own_for_an_upload(sessions: Sessions, tmp_path: Path) -> None:
    session = sessions.of("one")
    theirs = sessions.of("other").own.served / "result.mp4"
    theirs.write_bytes(b"x")
    link = tmp_path / "link.mp4"
    link.symlink_to(theirs)
    for path in (theirs, link, sessions.served / "x" / ".." / theirs.relative_to(sessions.served)):
        with pytest.raises(InputError, match="was not uploaded"):
            session.own.take_upload(path)
    assert theirs.exists()


def test_what_is_refused_does_not_stay(sessions: Sessions, clip: Clip, tmp_path: Path) -> None:
    session = sessions.of("one")
    for name, take in (
        ("bad.mp4", session.own.take_video),
        ("bad.npz", lambda path: session.take_flow(path, clip)),
    ):
        (tmp_path / name).write_bytes(b"neither video nor flow")
        with pytest.raises(InputError, match=rf"'?{name}'? is n"):
            take(tmp_path / name)
        assert not [path for path in session.own.private.rglob("*") if path.is_file()]
    (tmp_path / "good.mp4").write_bytes(clip.source.read_bytes())
    taken = session.own.take_video(tmp_path / "good.mp4")
    assert taken.frames == clip.frames
    assert taken.limits == sessions.door.limits
    assert session.own.private in taken.source.parents


def test_visitors_without_a_sign_of_life_are_forgotten(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stseg.ui.sessions.SWEEP", 0.01)
    session = sessions.of("one")
    session.seen -= TIME_TO_LIVE + 1
    sessions.sweep_regularly()
    deadline = time.monotonic() + 20
    while session.own.served.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not len(sessions)
    assert not session.own.private.exists()
    assert not session.own.served.exists()
    with pytest.raises(InputError, match="Load the page again"):
        sessions.of("one")  # the page was open all the time: it must not be dead without a word


def test_work_is_a_sign_of_life(sessions: Sessions) -> None:
    session = sessions.of("one")
    session.begin()
    ticket = session.claim()
    assert ticket is not None
    session.seen -= TIME_TO_LIVE + 1
    sessions.of("two")  # whoever comes makes the others be looked at
    session.end(ticket)
    sessions.of("three")  # nor is it gone as soon as the work ends
    assert len(sessions) == 3
    assert session.own.served.exists()
    session.begin()  # and what was only announced, by a page that is gone, is none
    session.seen -= TIME_TO_LIVE + 1
    sessions.of("four")
    assert len(sessions) == 3
    assert not session.own.served.exists()


def test_names_can_be_gone_through_while_one_comes(sessions: Sessions, tmp_path: Path) -> None:
    session = sessions.of("one")
    (tmp_path / "first.mp4").write_bytes(b"")
    (tmp_path / "second.mp4").write_bytes(b"")
    session.own.take_upload(tmp_path / "first.mp4")
    going = iter(session.own.names)
    next(going)
    session.own.take_upload(tmp_path / "second.mp4")
    list(going)
    assert sessions.names() == {"first", "first.mp4", "second", "second.mp4"}


def test_names_of_those_who_left_do_not_pile_up(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stseg.ui.sessions.REMEMBERED", 3)
    few = Sessions()
    few.of("").seen -= TIME_TO_LIVE + 1
    for name in "abcde":
        few.of(name).seen -= TIME_TO_LIVE + 1
    few.close("x")
    few.close("x")
    few.of("last")
    assert len(few) == 1
    for name in "dex":
        with pytest.raises(InputError, match="Load the page again"):
            few.of(name)
    for name in ("", "a"):  # without a name, and too long ago
        few.of(name)
    few.close_all()


def test_tickets(sessions: Sessions) -> None:
    session = sessions.of("one")
    assert session.claim() is None  # nothing was announced
    session.begin()
    first = session.claim()
    assert first is not None
    assert session.claim() is None  # taken already
    assert not session.stopped(first)
    session.begin()  # Segment was pressed again
    assert session.stopped(first)
    assert session.stop()  # it had not begun
    assert session.claim() is None
    session.begin()
    last = session.claim()
    assert last is not None
    assert not session.stop()
    assert session.stopped(last)


def test_work_is_taken_by_whom_it_was_announced_for(sessions: Sessions) -> None:
    session = sessions.of("one")
    session.begin("write")  # K was moved, while the machine was busy with others
    session.begin("segment")  # and then Segment was pressed
    assert session.claim("write") is None
    ticket = session.claim("segment")
    assert ticket is not None
    assert session.busy
    session.end(ticket)
    assert not session.busy


def test_files_of_jobs_outlive_those_of_results(sessions: Sessions) -> None:
    session = sessions.of("one")
    job, old, new = session.own.new_job_folder(), session.own.new_folder(), session.own.new_folder()
    for folder in (old, new):
        folder.mkdir()
    session.own.keep_only(new)
    assert job.is_dir()
    assert new.is_dir()
    assert not old.exists()


def test_a_job_may_keep_its_latest_files_alone(sessions: Sessions) -> None:
    own = sessions.of("one").own
    others = own.new_job_folder(), own.new_job_folder("fit")
    old, new = own.new_job_folder("compare"), own.new_job_folder("compare")
    assert not old.exists()
    assert new.is_dir()
    assert all(each.is_dir() for each in others)


def test_no_sentence_tells_where_files_are_kept(sessions: Sessions) -> None:
    own = sessions.of("one").own
    kept = own.new_private_folder() / "my clip.mp4"
    written = own.new_job_folder() / "camel-fitted.safetensors"
    text = f"{written} cannot be written: no space left. '{kept}' is read-only. See /tmp/a/b."
    assert told_sentence(text) == (
        "camel-fitted.safetensors cannot be written: no space left. 'my clip.mp4' is read-only. "
        "See /tmp/a/b."
    )

    def fail() -> None:
        raise InputError(text)

    with pytest.raises(gr.Error, match=r"^.camel-fitted\.safetensors cannot be written"):
        guarded(fail)()


def test_another_k_needs_no_new_run(clip: Clip, tiny_model: Path, tmp_path: Path) -> None:
    settings = Settings(k=2, model=str(tiny_model), device="cpu")
    looked_at = Choice(2)
    steps = segment_clip(clip, settings, tmp_path, None, lambda: False, wanted=lambda: looked_at)
    seen = []
    for step in steps:
        if step.shown is not None:
            seen.append(step.shown.result.k)
            np.testing.assert_array_equal(step.shown.areas, step.shown.result.areas())
        if step.text.startswith("Segmented"):
            looked_at = Choice(3)  # K is moved while the files are written
        shown = step.shown or None
    assert shown is not None
    assert seen[0] == 2
    assert seen[-1] == shown.result.k == 3
    assert set(shown.written) == {Choice(3)}
    assert (tmp_path / "k3" / "grid.mp4").exists()
    other = shown.chosen(Choice(4))
    assert other is not None
    assert other.result.k == 4
    assert not other.files
    assert shown.chosen(Choice(7)) is None  # the model has no such head
    written = list(write_files(other, tmp_path, lambda: False))[-1].shown
    assert written is not None
    assert set(written.written) == {Choice(3), Choice(4)}
    again = written.chosen(Choice(3))
    assert again is not None
    assert again.files["grid.mp4"] == shown.files["grid.mp4"]
    assert segment(clip, Settings(k=3, model=str(tiny_model), device="cpu")).labels(
        4
    ) == pytest.approx(shown.result.labels(4))


def test_only_the_last_choices_keep_their_files(
    clip: Clip, tiny_model: Path, tmp_path: Path
) -> None:
    """Of the run; those of the example, which is all visitors', lie elsewhere and stay."""
    settings = Settings(k=2, model=str(tiny_model), device="cpu", max_frames=3)
    example, own = tmp_path / "example", tmp_path / "own"
    steps = segment_clip(clip, settings, example, None, lambda: False, wanted=lambda: Choice(2))
    shown = [step.shown for step in steps][-1]
    assert shown is not None
    for choice in (Choice(3), Choice(3, 0.5), Choice(4), Choice(4, 0.5), Choice(2, 0.5)):
        other = shown.chosen(choice)
        assert other is not None
        before, shown = shown, list(write_files(other, own, lambda: False))[-1].shown
        assert shown is not None
        # Until the page has the new result it may offer the files of the one before.
        known = [path for files in before.written.values() for path in files.values()]
        assert all(path.exists() for path in known)
    assert [each.k for each in shown.written] == [2, 3, 4, 4, 2]
    assert Choice(3) not in shown.written
    assert all(path.exists() for files in shown.written.values() for path in files.values())
    again = shown.chosen(Choice(3))
    assert again is not None
    assert not again.files  # so they are written again
    assert list(write_files(again, own, lambda: False))[-1].shown is not None
    assert sorted(place.name for place in own.iterdir()) == [
        "k2-merged-0.5",
        "k3",
        "k3-merged-0.5",  # goes with the next one
        "k4",
        "k4-merged-0.5",
    ]


@pytest.mark.parametrize(("drawing", "drawn"), [(0.0, 9), (3600.0, 1)])
def test_a_growing_result_is_drawn_less_often_than_told(
    drawing: float,
    drawn: int,
    clip: Clip,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work, "INTERVAL", 0.0)
    monkeypatch.setattr(work, "DRAWING", drawing)
    settings = Settings(k=2, model=str(tiny_model), device="cpu")
    # Not to its end: with no interval at all, writing would tell how far it is without a pause.
    with closing(segment_clip(clip, settings, tmp_path, None, lambda: False)) as steps:
        working = takewhile(lambda step: "Writing" not in step.text, steps)
        growing = [step for step in working if ": frame" in step.text]
    assert [step.done for step in growing] == list(range(1, 10))
    assert sum(step.shown is not None for step in growing) == drawn
    assert growing[0].shown is not None  # the first picture waits for nothing


def test_the_oldest_clip_makes_room_unless_it_is_shown(
    sessions: Sessions, clip: Clip, tmp_path: Path
) -> None:
    few = Sessions(limits=Limits(clips=2))
    session = few.of("one")

    def bring(name: str, choose: bool = True) -> Clip:
        copy = tmp_path / f"{name}.mp4"
        copy.write_bytes(clip.source.read_bytes())
        taken = session.own.take_video(copy)
        session.keep_video(taken, "")
        session.clip = taken if choose else session.clip
        return taken

    first, second, third = (bring(name) for name in "abc")
    assert list(session.own.uploads) == [second, third]
    assert not first.source.exists()
    session.clip = second  # chosen: it stays
    fourth = bring("d", choose=False)
    assert list(session.own.uploads) == [second, fourth]
    assert not third.source.exists()
    assert second.source.exists()
    few.close_all()


def test_the_oldest_flow_makes_room(sessions: Sessions, clip: Clip, tmp_path: Path) -> None:
    few = Sessions(limits=Limits(clips=1))
    session = few.of("one")
    for name in ("a", "b"):
        flow = np.zeros((clip.frames - 1, 2, 128, 224), np.float32)
        write_flow_file(tmp_path / f"{name}.npz", flow, clip.size)
        before, session.own.flow = (
            session.own.flow,
            session.take_flow(tmp_path / f"{name}.npz", clip),
        )
    assert before is not None
    assert session.own.flow is not None
    assert session.own.flow.path.exists()
    assert not before.path.parent.exists()
    few.close_all()


def test_files_of_an_upload_do_not_tell_its_place(
    sessions: Sessions, clip: Clip, tiny_model: Path, tmp_path: Path
) -> None:
    session = sessions.of("one")
    copy = tmp_path / "mine.mp4"
    copy.write_bytes(clip.source.read_bytes())
    mine = Clip(session.own.take_upload(copy), "mine", clip.size, clip.fps, clip.frames)
    settings = Settings(k=2, model=str(tiny_model), device="cpu")
    steps = list(segment_clip(mine, settings, session.own.new_folder(), None, lambda: False))
    shown = steps[-1].shown
    assert steps[-1].finished
    assert shown is not None
    assert len(shown) == len(shown.pictures) == clip.frames
    summary = json.loads(shown.files["summary.json"].read_text())
    assert summary["clip"]["source"] == "mine.mp4"
    assert "segment mine.mp4 --out out/mine --k 2" in command_line(
        mine, settings, "out/mine", told_path
    )

    place = session.own.new_folder()
    again = list(segment_clip(mine, settings, place, shown.footage, lambda: False))[-1].shown
    assert again is not None
    assert again.result.seconds["flow"] == 0
    assert (again.result.labels(3) == shown.result.labels(3)).all()


def test_stop_keeps_what_there_is(clip: Clip, tiny_model: Path, tmp_path: Path) -> None:
    settings = Settings(k=2, model=str(tiny_model), device="cpu")
    asked = iter([False] * 9)
    steps = list(segment_clip(clip, settings, tmp_path / "out", None, lambda: next(asked, True)))
    assert steps[-1].finished
    assert steps[-1].text.startswith("Stopped")
    assert not (tmp_path / "out").exists()


def test_guard(caplog: pytest.LogCaptureFixture) -> None:
    def unusable() -> None:
        raise InputError("This is <no> video.")

    def broken() -> None:
        raise ZeroDivisionError("secret")

    def steps() -> Iterator[str]:
        yield "one"
        raise InputError("Not 'this'.")

    with pytest.raises(gr.Error) as error:
        guarded(unusable)()
    assert error.value.message == "This is &lt;no&gt; video."
    with caplog.at_level(logging.ERROR), pytest.raises(gr.Error) as error:
        guarded(broken)()
    assert error.value.message == UNEXPECTED
    assert "ZeroDivisionError" in caplog.text
    seen = []
    with pytest.raises(gr.Error):
        for value in guarded(steps, lambda sentence: (sentence,))():
            seen.append(value)
    assert seen == ["one", ("Not 'this'.",)]


def test_the_end_of_a_generator_leaves_the_page_as_it_is() -> None:
    closed = []

    def steps(count: int) -> Iterator[int]:
        try:
            yield from range(count)
        finally:
            closed.append(count)

    handler = guarded(steps, None, lambda: ("unchanged",))
    assert list(handler(0)) == [("unchanged",)]
    assert list(handler(2)) == [0, 1, ("unchanged",)]
    left = handler(3)
    assert next(left) == 0
    left.close()
    assert closed == [0, 2, 3]


def test_a_tiny_clip_tells_nothing_of_the_pace_of_large_ones(
    results: dict[int, Segmentation],
) -> None:
    pace, large = Pace(), Clip(Path("x.mp4"), "x", (480, 854), 24.0, 47)
    before = pace.seconds(large, Settings(), flow_known=False)
    tiny = replace(results[3], seconds={"flow": 5.0})  # what a frame costs, whatever its size
    assert tiny.clip.size[0] * tiny.clip.size[1] < 10_000
    pace.learn(tiny)
    assert pace.seconds(large, Settings(), flow_known=False) == before
    pace.learn(replace(tiny, clip=large))
    after = pace.seconds(large, Settings(), flow_known=False)
    known = pace.seconds(large, Settings(), flow_known=True)
    assert after is not None
    assert known is not None
    assert after - known == pytest.approx(5.0 * 47 / len(tiny))
    tinier = replace(tiny.clip, size=(18, 32))
    assert pace.seconds(tinier, Settings(), False) == pace.seconds(tiny.clip, Settings(), False)


def test_pace(clip: Clip) -> None:
    pace = Pace()
    known = pace.seconds(clip, Settings(stride=1), flow_known=True)
    fresh = pace.seconds(clip, Settings(taus=(1, -1)), flow_known=False)
    assert known is not None
    assert fresh is not None
    assert fresh > known
    halved = pace.seconds(clip, Settings(stride=2), flow_known=True)
    assert halved == pytest.approx(known / 2)
    assert pace.seconds(clip, Settings(), flow_known=True) == halved
    large, larger = (Clip(clip.source, "x", (9 * n, 16 * n), 25.0, 50) for n in (60, 120))
    # DIS reduces both to the same size.
    assert pace.seconds(large, Settings(), False) == pace.seconds(larger, Settings(), False)
    unknown = Clip(clip.source, "x", clip.size, clip.fps, 0)
    assert pace.seconds(unknown, Settings(), flow_known=False) is None
    assert [in_words(value) for value in (0.2, 20.0, 200.0)] == ["a second", "20 s", "3 min"]
