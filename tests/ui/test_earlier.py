"""Coming back to a clip shows its result as it was, from the disk, within a bound."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from unseen_page import REQUEST, Page, finished, stopped

from stseg.records import Clip
from stseg.spool import Spool
from stseg.ui.earlier import Earlier
from stseg.ui.shown import Choice, Shown


@pytest.fixture
def shown(clip: Clip, tiny_model: Path, tmp_path: Path) -> Shown:
    return finished(clip, tiny_model, tmp_path / "files")


@pytest.fixture
def page(shown: Shown) -> Iterator[Page]:
    page = Page(shown)
    yield page
    page.sessions.close_all()


def of_clip(shown: Shown, name: str) -> Shown:
    """The same result as that of another clip."""
    clip = replace(shown.result.clip, source=Path(name))
    return replace(shown, result=replace(shown.result, clip=clip))


def upload(page: Page, clip: Clip, path: Path) -> tuple[Any, ...]:
    path.write_bytes(clip.source.read_bytes())
    return page.events.upload(REQUEST, str(path), *page.values)


def back_to(page: Page, clip: Clip) -> tuple[Any, ...]:
    """A click on the tile of an upload."""
    event = gr.EventData(None, {"key": f"own-{clip.source.parent.name}"})
    return page.events.pick(event, REQUEST, *page.values)


def in_memory(shown: Shown) -> int:
    assert shown.footage is not None
    spools = [shown.pictures, shown.result.flow, shown.footage.flow.forward]
    spools += [each.masks for each in shown.others.values()]
    return sum(part.nbytes for each in spools for part in each._held if hasattr(part, "nbytes"))


def test_an_upload_is_as_it_was(page: Page, clip: Clip, tmp_path: Path) -> None:
    upload(page, clip, tmp_path / "mine.mp4")
    session = page.session
    mine = session.clip
    assert mine is not None
    page.running.announce(REQUEST, *page.values)
    assert list(page.running.segment(REQUEST, *page.values))
    first = session.shown
    assert first is not None
    assert first.result.clip.source == mine.source
    upload(page, clip, tmp_path / "other.mp4")
    assert session.shown is None
    page.values[0] = 3.0
    _, line, badge, *_ = back_to(page, mine)
    assert session.clip == mine
    assert "mine, segmented with K = 3" in line
    assert "its flow is known" in badge
    again = session.shown
    assert again is not None
    assert again.choice == Choice(3)
    assert again.footage is first.footage
    for index in range(len(first)):
        labels = again.others[4].labels(index)
        np.testing.assert_array_equal(labels, first.result.labels(index))
    assert session.writing_announced  # its files were not kept
    assert not again.files
    assert list(page.running.write(REQUEST))
    assert session.shown is not None
    assert all(path.exists() for path in session.shown.files.values())


def test_only_the_clips_before_are_on_the_disk(
    page: Page, shown: Shown, clip: Clip, tmp_path: Path
) -> None:
    assert in_memory(shown) > 10_000
    upload(page, clip, tmp_path / "other.mp4")
    assert page.session.earlier.of(clip) is not None
    assert in_memory(shown) == 0


def test_a_clip_that_goes_takes_its_result_along(page: Page, clip: Clip, tmp_path: Path) -> None:
    session = page.session
    upload(page, clip, tmp_path / "0.mp4")
    mine = session.clip
    assert mine is not None
    session.shown = replace(page.session.earlier.of(clip), written={})  # type: ignore[type-var]
    session.shown = replace(session.shown, result=replace(session.shown.result, clip=mine))
    for number in range(1, 15):
        upload(page, clip, tmp_path / f"{number}.mp4")
    assert mine not in session.own.uploads
    assert session.earlier.of(mine) is None


def test_what_a_stop_left_is_there_again(clip: Clip, tiny_model: Path, tmp_path: Path) -> None:
    page = Page(stopped(clip, tiny_model, tmp_path, frames=2))
    session, left = page.session, page.session.shown
    assert left is not None
    upload(page, clip, tmp_path / "other.mp4")
    kept = session.earlier.of(clip)
    assert kept is not None
    assert kept.broken_off
    page.sessions.close_all()


def test_a_run_that_goes_on_while_one_turns_is_not_kept(
    page: Page, shown: Shown, clip: Clip, tmp_path: Path
) -> None:
    page.session.shown = replace(shown, footage=None, growing=True)
    upload(page, clip, tmp_path / "other.mp4")
    assert page.session.earlier.of(clip) is None


def test_the_example_stays_where_it_is(
    page: Page, shown: Shown, clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page.events._example, "shown", lambda: shown)
    upload(page, clip, tmp_path / "other.mp4")
    assert page.session.earlier.of(clip) is None
    assert in_memory(shown) > 10_000


def test_frames_and_flow_of_the_example_stay_when_a_run_of_ones_own_is_kept(
    page: Page, shown: Shown, clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = replace(shown, others=dict(shown.others))  # with another model, say
    page.session.shown = own
    monkeypatch.setattr(page.events._example, "shown", lambda: shown)
    upload(page, clip, tmp_path / "other.mp4")
    kept = page.session.earlier.of(clip)
    assert kept is not None
    assert kept.others is own.others
    assert in_memory(shown) > 10_000
    # Once the visitor is back, what they made goes before the example.
    event = gr.EventData(None, {"key": "0-0"})
    monkeypatch.setattr(page.catalogue, "find", lambda key, uploads: clip)
    page.events.pick(event, REQUEST, *page.values)
    assert page.session.shown is not None
    assert page.session.shown.others is own.others


def test_a_run_that_was_broken_off_does_not_replace_a_whole_one(shown: Shown) -> None:
    kept = Earlier()
    kept.keep(shown)
    kept.keep(replace(shown, footage=None))
    kept.keep(replace(shown, growing=True))
    whole = kept.of(shown.result.clip)
    assert whole is not None
    assert whole.footage is shown.footage
    assert not whole.growing


def test_there_are_only_so_many(shown: Shown) -> None:
    kept = Earlier(results=2)
    for name in "abc":
        kept.keep(of_clip(shown, name))
    there = [kept.of(of_clip(shown, name).result.clip) is not None for name in "abc"]
    assert there == [False, True, True]


def test_work_that_nobody_waits_for_shows_nothing(page: Page, shown: Shown, clip: Clip) -> None:
    session = page.session
    session.begin()
    ticket = session.claim()
    assert ticket is not None
    other = replace(clip, source=Path("other.mp4"), name="other")
    assert session.turn(other, None, Choice(4)) == (shown, "")
    assert session.show(shown, session.folder, ticket) is None
    assert session.shown is None
    assert session.clip == other


def test_the_oldest_make_room(shown: Shown) -> None:
    kept = Earlier(frames=2 * len(shown))
    for name in "abca":
        kept.keep(of_clip(shown, name))
    assert [kept.of(of_clip(shown, name).result.clip) is not None for name in "abc"] == [
        True,
        False,
        True,
    ]
    longer = Earlier(frames=len(shown) - 1)
    longer.keep(shown)
    assert longer.of(shown.result.clip) is None


def test_one_that_is_too_long_leaves_the_others(shown: Shown) -> None:
    kept = Earlier(frames=len(shown))
    kept.keep(of_clip(shown, "a"))
    result = shown.result
    twice = np.tile(result.assignment, (2, 1))
    long = replace(
        shown, result=replace(result, assignment=twice, latents=np.zeros((0, 0, 0), np.float32))
    )
    kept.keep(of_clip(long, "b"))
    assert kept.of(of_clip(shown, "a").result.clip) is not None


def test_a_full_disk_keeps_nothing(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Spool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Spool, "leave_memory", full)
    kept = Earlier()
    kept.keep(shown)
    assert kept.of(shown.result.clip) is None
