"""What all handlers of the page stand on: who asks, and what the page says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from stseg.errors import InputError
from stseg.records import Clip
from stseg.ui.controls import SETTINGS
from stseg.ui.scene import Scene
from stseg.ui.session import Session
from stseg.ui.sessions import Sessions
from stseg.ui.shown import Shown


class Desk:
    """The visitors and the scene of their pages.

    What an event tells (``values``) are the values of the controls (``settings_on_page``), then
    ``looks``: the frame, and what ``Session.looks`` keeps.

    Attributes:
        sessions: all visitors.
        scene: what a page shows.
    """

    def __init__(self, sessions: Sessions, scene: Scene) -> None:
        self.sessions = sessions
        self.scene = scene

    def session(self, request: gr.Request) -> Session:
        """The visitor who asks."""
        return self.sessions.of(request.session_hash or "")

    def told(self, request: gr.Request, values: Sequence[Any]) -> Session:
        """The visitor, who stands where ``values`` say."""
        session = self.session(request)
        session.controls, session.looks = values[:SETTINGS], values[SETTINGS + 1 :]
        return session

    def badge(self, session: Session) -> str:
        """The badge of what the left column says now."""
        if session.clip is None:
            return self.scene.badge_text("")
        try:
            settings = session.own.settings(session.clip, session.controls)
            return self.scene.badge(session, session.clip, settings)
        except InputError as error:
            return self.scene.badge_text(str(error))

    def stale(self, session: Session, clip: Clip, values: Sequence[Any]) -> str:
        """What of the controls the shown result does not have. Raises InputError as they do."""
        return self.scene.changed(session, session.own.settings(clip, values[:SETTINGS]))


def same(one: Shown | None, other: Shown | None) -> bool:
    """Whether both have the same labels to draw; their files may be new."""
    return (one and one.result) is (other and other.result)
