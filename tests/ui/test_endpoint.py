"""What a call of an endpoint leaves behind: its results, for a while, and nothing of the upload."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from app_process import Served
from gradio_client import Client, handle_file

from stseg.errors import InputError
from stseg.limits import Limits
from stseg.records import Clip
from stseg.ui.api import forgetting
from stseg.ui.endpoint import Call, Endpoint
from stseg.ui.sessions import TIME_TO_LIVE, Sessions

REQUEST = gr.Request(session_hash="one")


@pytest.fixture
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sessions]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sessions = Sessions(limits=Limits(clips=2))
    yield sessions
    sessions.close_all()


@pytest.fixture
def video(clip: Clip, tmp_path: Path) -> Path:
    return Path(shutil.copy(clip.source, tmp_path / "mine.mp4"))


def test_the_video_goes_when_the_call_ends_and_its_results_stay(
    sessions: Sessions, video: Path
) -> None:
    with Call(sessions, REQUEST) as call:
        taken = call.clip(str(video))
        assert taken.source.exists()
        (call.folder / "result.txt").touch()
    assert not list(call.session.own.private.iterdir())
    assert (call.folder / "result.txt").exists()


def test_nothing_stays_of_a_call_that_fails(sessions: Sessions, video: Path) -> None:
    with pytest.raises(InputError, match="This goes wrong"), Call(sessions, REQUEST) as call:
        call.clip(str(video))
        (call.folder / "half.txt").touch()
        raise InputError("This goes wrong.")
    assert not list(call.session.own.private.iterdir())
    assert not call.folder.exists()


@pytest.mark.parametrize("refused", [True, False])
def test_nothing_stays_of_a_video_that_was_not_looked_at(
    refused: bool, sessions: Sessions, video: Path, tmp_path: Path
) -> None:
    def call(video_: object, request: gr.Request) -> None:
        if refused:
            raise InputError("K is 9.")

    def run() -> None:
        forgetting(Endpoint(call, (gr.File(label="video"),), ()), sessions)(str(video), REQUEST)

    if refused:
        with pytest.raises(InputError, match="K is 9"):
            run()
    else:
        run()
    assert not video.exists()
    assert not list(sessions.of("one").own.private.iterdir())


@pytest.mark.parametrize("fails", [False, True])
def test_a_client_that_comes_no_more_is_forgotten(fails: bool, sessions: Sessions) -> None:
    """A client has no page that is closed: time alone tells that they left."""
    with suppress(InputError), Call(sessions, REQUEST) as call:
        assert call.session.working
        if fails:
            raise InputError("This goes wrong.")
    call.session.seen -= TIME_TO_LIVE + 1
    sessions.of("two")
    assert len(sessions) == 1
    assert not call.session.own.served.exists()


def test_a_call_without_files_leaves_no_folder(sessions: Sessions) -> None:
    with Call(sessions, REQUEST) as call:
        assert call.folder.is_dir()
    assert not call.folder.exists()


def test_a_client_that_left_leaves_nothing(sessions: Sessions, video: Path) -> None:
    with Call(sessions, REQUEST) as call:
        call.clip(str(video))
        sessions.close("one")
    assert not call.folder.exists()
    assert not call.session.own.private.exists()


def test_the_latest_results_of_a_client_stay(sessions: Sessions) -> None:
    session = sessions.of("one")
    page = session.own.new_folder()
    page.mkdir()
    folders = []
    for _ in range(4):
        with Call(sessions, REQUEST) as call:
            (call.folder / "result.txt").touch()
        folders.append(call.folder)
    assert [folder.exists() for folder in folders] == [False, False, True, True]
    assert page.exists()


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("segment", {}),
        ("compare", {"models": ["full"], "other_k": [3]}),
        ("similarity", {}),
        ("fit", {"steps": 1}),
    ],
)
def test_no_endpoint_keeps_the_upload(
    served: Served, name: str, given: dict[str, Any], clip: Clip, tmp_path: Path
) -> None:
    client = Client(served.address, verbose=False, download_files=tmp_path, analytics_enabled=False)
    mine = Path(shutil.copy(clip.source, tmp_path / f"brought-for-{name}.mp4"))
    client.predict(video=handle_file(str(mine)), k=2, max_frames=4, api_name=f"/{name}", **given)
    assert not list(served.temporary.rglob(mine.name))  # while the client is still there
