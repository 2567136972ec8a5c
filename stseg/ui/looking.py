"""Handlers that draw what is known: another frame, another tab, another option of it."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr

from stseg.ui.desk import Desk, same
from stseg.ui.session import Session

logger = logging.getLogger(__name__)

MOST_FRAMES = 10**9
"""No clip is longer; a larger number is no frame."""


class Looking:
    """Each method answers one event of the page; nothing is computed that takes long."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def look_at(self, told: Any) -> dict[str, str] | None:
        """The visitor moved the frame: the new pictures, by the name of their component.

        None where ``look`` has to say what is wrong.

        Args:
            told: the visitor's key and the number of the frame.
        """
        match told:
            case [str(key), (int() | float()) as frame] if 0 <= frame <= MOST_FRAMES:
                session = self._desk.sessions.with_key(key)
            case _:
                return None
        if session is None:
            return None
        try:
            drawn = self._moved(session, frame)
        except Exception:  # the script asks ``look`` then, which tells it
            logger.exception("A frame could not be drawn")
            return None
        names = (each.elem_id for view in self._desk.scene.views for each in view.pictures)
        return {
            name: html
            for name, html in zip(names, drawn, strict=True)
            if name is not None and isinstance(html, str)
        }

    def look(self, request: gr.Request, frame: int | float) -> Any:
        """The same as an event, which can tell what is wrong."""
        return self._only(self._moved(self._desk.session(request), frame))

    def _moved(self, session: Session, frame: int | float) -> tuple[Any, ...]:
        """Another frame, which the visitor chose: they run along with the work no more."""
        session.following, session.frame = False, round(frame)
        return self._drawn(session)

    def redraw(self, request: gr.Request, *looks: Any) -> Any:
        """η, the tab or an option was moved: draw what the open tab shows, from what is known."""
        session = self._desk.session(request)
        session.looks = looks[1:]  # the frame is where the session has it, also while it follows
        return self._only(self._drawn(session))

    def _drawn(self, session: Session) -> tuple[Any, ...]:
        """Pictures of the open tab; those of the others are left as they are."""
        scene = self._desk.scene
        for _ in range(2):
            shown, frame, looks = session.shown, session.frame, session.looks
            values = () if shown is None else scene.pictures(session, shown, all_tabs=False)
            if session.frame == frame and session.looks is looks:
                break  # else the visitor moved on meanwhile, and this may arrive last
        # Whoever replaced it meanwhile drew what they put there, or blanked it.
        if not values or not same(session.shown, shown):
            values = scene.skip(sum(len(view.pictures) for view in scene.views))
        return values

    @staticmethod
    def _only(values: tuple[Any, ...]) -> Any:
        """What Gradio takes: a tuple where there are several."""
        return values[0] if len(values) == 1 else values
