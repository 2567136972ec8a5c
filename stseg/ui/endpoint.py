"""What an endpoint for programs is made of; the table of them is in ``stseg.ui.api``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from stseg.errors import InputError, Stop, heed
from stseg.records import Clip
from stseg.ui.controls import DEFAULTS
from stseg.ui.session import Session
from stseg.ui.sessions import Sessions


@dataclass(frozen=True)
class Endpoint:
    """One named endpoint.

    The labels of ``inputs`` are the names of the parameters that a client gives; their values are
    the defaults. ``call`` takes them in this order, and a ``gr.Request`` as its last parameter. Its
    docstring, typed as every other, is what the client reads as the description. It may be a
    generator: the last value counts. What it takes is what the client sent, of whatever kind: see
    ``stseg.ui.given``. Hence no ``gr.Number`` has a ``precision``, which would round 2.7 without
    a word and fail for text without a sentence.

    Attributes:
        call: the work. ``InputError`` becomes the sentence that the client gets.
        inputs: components, one a parameter.
        outputs: components of the results: ``gr.File`` (give a path below ``Call.folder``),
            ``gr.JSON``.
    """

    call: Callable[..., Any]
    inputs: Sequence[Component]
    outputs: Sequence[Component]


class Call:
    """One call of an endpoint by one client: its files and its stop.

    Used as a context: at its end the video goes, and the results stay. Of a client's calls as many
    results stay as clips of a visitor do; those of the oldest go.

    Args:
        sessions: all visitors.
        request: of the call.
    """

    def __init__(self, sessions: Sessions, request: gr.Request) -> None:
        self.session: Session = sessions.of(request.session_hash or "")
        self.session.begin()
        self._ticket = ticket = self.session.claim() or 0
        self.stop: Stop = sessions.machine.watched(lambda: self.session.stopped(ticket))
        self._video: Path | None = None
        try:
            self.folder = self.session.own.new_job_folder()
            """An empty folder whose files the client can fetch after the call."""
            self._forget(sessions.door.limits.clips)
        except BaseException:
            self.session.end(ticket)
            raise

    def __enter__(self) -> Call:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.session.end(self._ticket)
        if self._video is not None:
            shutil.rmtree(self._video.parent, ignore_errors=True)
        if kind is not None:
            shutil.rmtree(self.folder, ignore_errors=True)  # nobody is told of what is in it
        with suppress(OSError):  # it holds results, or went with the client
            self.folder.rmdir()

    def clip(self, video: str | None) -> Clip:
        """The uploaded video, moved to where it is not served; it stays until the call ends.

        Raises:
            InputError: there is none, it is no video, or it is beyond a limit.
        """
        if video is None:
            raise InputError("No video is given. Give a file, for instance handle_file(path).")
        clip = self.session.own.take_video(Path(video))
        self._video = clip.source
        return clip

    def check(self) -> None:
        """Raise ``Cancelled`` when the client left or called again."""
        heed(self.stop, "call")

    def _forget(self, kept: int) -> None:
        """Remove the results of this client's oldest calls; with this one, ``kept`` stay."""
        kind = self.folder.name.partition("-")[0]  # beside them a page has other folders
        others = [each for each in self.folder.parent.glob(f"{kind}-*") if each != self.folder]
        others.sort(key=lambda each: each.stat().st_mtime_ns)
        for old in others[: max(0, len(others) + 1 - kept)]:
            shutil.rmtree(old, ignore_errors=True)


def stride_input() -> Component:
    """The setting that came later: last of all parameters, so that earlier clients go on."""
    return gr.Number(0, label="stride")


def refine_input() -> Component:
    """The last setting of ``read_settings``; it came later still."""
    return gr.Checkbox(DEFAULTS.refine, label="refine")


def settings_inputs() -> tuple[Component, ...]:
    """Parameters that ``read_settings`` takes first, in its order, under the names of the API."""
    return (
        gr.Number(DEFAULTS.k, label="k"),
        gr.JSON(list(DEFAULTS.taus), label="tau"),
        gr.Number(100 * DEFAULTS.eta, label="eta"),
        gr.Textbox(DEFAULTS.flow, label="flow"),
        gr.Textbox(DEFAULTS.model, label="model"),
        gr.Textbox(DEFAULTS.linkage, label="linkage"),
        gr.Number(0, label="max_frames"),
        gr.Number(0, label="subsequence"),
    )
