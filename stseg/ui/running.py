"""Handlers of the long work that all tabs look at: segmenting, and writing files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr

from stseg.errors import Cancelled, InputError, Stop
from stseg.flow.cache import FlowCache
from stseg.ui import markup
from stseg.ui.controls import SETTINGS
from stseg.ui.desk import Desk, same
from stseg.ui.jobs import awaited
from stseg.ui.pace import Pace
from stseg.ui.session import SEGMENT, WRITE, Session
from stseg.ui.shown import Choice, Shown
from stseg.ui.work import Step, segment_clip, write_files

UNWRITTEN = "The files are not written. Press Write files in Downloads to try again."

UNMERGED = "Labels are no longer merged: tick Use merged labels again for those of this run."

WAITING = "Waiting for the machine, which is at other work …"


class Running:
    """Each method answers one event of the page."""

    def __init__(self, desk: Desk, pace: Pace) -> None:
        self._desk = desk
        self._pace = pace

    def announce(self, request: gr.Request, *values: Any) -> str:
        """Segment was pressed: what ran before ends, and an answer is there at once.

        Settings that make no sense end nothing: where work goes on, all that happens is the
        sentence. What only a run finds out ends what ran before it.
        """
        session = self._desk.session(request)
        with session.turning:  # a tile that was clicked just before
            self._desk.told(request, values)
            if session.clip is None:
                raise InputError("No clip is chosen. Choose one on the left, or upload one.")
            if session.busy:
                session.own.settings(session.clip, values[:SETTINGS])
            merged = session.choice.merge is not None
            session.begin(SEGMENT, UNMERGED if merged else "")
            # Which segments are alike is known at the end of a run.
            session.choice = Choice(int(values[0]))
        return markup.status(WAITING, busy=True)

    def segment(self, request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
        """The long work, in steps; the page follows the newest frame until the slider moves.

        It takes the settings as they were when it was asked for.
        """
        session = self._desk.session(request)
        ticket, clip = session.claim(SEGMENT), session.clip
        if ticket is None or clip is None:
            return
        try:
            with awaited(session, ticket):
                # K may have moved while this waited in the queue.
                values = (float(session.choice.k), *values[1:SETTINGS])
                settings = session.own.settings(clip, values, own=session.model)
                known = session.footage
                if known is None or known.clip.source != clip.source:
                    session.frame = 0  # same clip: stay where the eye is
                folder = session.own.new_folder()
                # What a visitor brings leaves nothing behind; flow of the others' clips is kept.
                cache = None if clip in session.own.uploads else FlowCache()

                def work(stop: Stop) -> Iterator[Step]:
                    return segment_clip(
                        clip, settings, folder, known, stop, cache, lambda: session.choice
                    )

                with self._steps(session, ticket, SEGMENT, work) as steps:
                    yield from self._follow(session, ticket, steps, folder)
                yield from self._write_missing(session, ticket)
        except Cancelled:
            if session.current(ticket):
                yield self._ended(session, markup.status("Stopped before it began."))
        finally:
            if session.current(ticket):
                session.keep_choice()
            session.end(ticket)

    def ask_files(self, request: gr.Request) -> Any:
        """Write files was pressed: those of what is shown are announced; other work goes on."""
        session = self._desk.session(request)
        if session.begin_files():
            return markup.status("The files are being written …", busy=True)
        if session.busy:
            raise InputError("Work goes on. Press Write files when it has ended.")
        return gr.skip()

    def write(self, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """Other work came to its end: write the files of what is shown, if they were announced.

        Of a run that was ended by that work the page learns now how far it came.
        """
        session = self._desk.session(request)
        ticket = session.claim(WRITE)
        if ticket is None:
            shown = session.shown
            if session.unfilled and not session.busy and shown is not None:
                session.unfilled, badge = False, self._desk.badge(session)
                scene = self._desk.scene.shown(session, gr.skip(), badge, move=False, anew=False)
                if session.shown is shown and not session.busy:  # while this was drawn, too
                    yield scene
            return
        try:
            with awaited(session, ticket):
                session.following = False
                if (yield from self._write_shown(session, ticket)):
                    yield from self._write_missing(session, ticket)
                elif session.current(ticket):
                    yield self._ended(session, markup.status(UNWRITTEN))
        finally:
            session.end(ticket)

    def _write_missing(self, session: Session, ticket: int) -> Iterator[tuple[Any, ...]]:
        """The end of work, once labels that were chosen up to it have their files, too."""
        wanted = True
        while wanted and not session.end_when_written(ticket):
            wanted = yield from self._write_shown(session, ticket)

    def _write_shown(self, session: Session, ticket: int) -> Generator[tuple[Any, ...], None, bool]:
        """The files of what is shown; whether anybody still waits for files."""
        shown, folder = session.shown, session.folder
        if shown is None:
            return False

        def work(stop: Stop) -> Iterator[Step]:
            return write_files(shown, folder, stop, lambda: session.choice)

        try:
            with self._steps(session, ticket, WRITE, work) as steps:
                yield from self._follow(session, ticket, steps, folder)
        except Cancelled:  # before it began: what is shown needs no word
            return False
        return True

    def _steps(
        self, session: Session, ticket: int, kind: str, work: Callable[[Stop], Iterator[Step]]
    ) -> closing[Generator[Step, None, None]]:
        """The steps of long work; the machine is free again at the end, whatever ends it."""
        machine = self._desk.sessions.machine
        return closing(machine.steps(kind, work, lambda: session.stopped(ticket)))

    def _follow(
        self, session: Session, ticket: int, steps: Iterator[Step], folder: Path
    ) -> Iterator[tuple[Any, ...]]:
        """Show the steps of long work, whose files go to ``folder``, until nobody waits for them.

        Until the first result the files of the one before are still on the page.
        """
        rest = session.frame
        for step in steps:
            if not session.current(ticket):
                return
            said = "" if _merged_again(session) else session.said
            text = f"{said} {step.text}".lstrip() if step.finished else step.text
            line = markup.status(text, step.done, step.total, busy=not step.finished)
            if step.shown is None:
                unchanged = line, *self._desk.scene.unchanged()[1:]
                yield self._ended(session, line) if step.finished else unchanged
                continue
            before, place = session.shown, session.folder
            shown = session.show(step.shown, folder, ticket)
            if shown is None:
                return
            anew = folder != place or shown.choice != _choice(before)
            # What is known is not drawn again: the visitor may look elsewhere by now.
            draw = not same(shown, before)
            settled = step.finished or not shown.growing
            if settled:
                session.unfilled = False
            if step.finished and shown.footage is not None:
                self._pace.learn(shown.result)
            if step.finished and (shown.footage is not None or shown.files):
                session.own.keep_only(folder)
            move = session.following
            if move:
                session.frame = rest if settled else len(shown) - 1
                session.following = not settled
            # Frames to come count while they come: after Stop the slider must not reach them.
            total = len(shown) if settled else max(step.total or 0, len(shown))
            session.to_come = total - len(shown)
            badge = self._desk.badge(session)
            scene = self._desk.scene.shown(session, line, badge, move, total, anew, draw)
            if not session.current(ticket):  # they turned to another clip while this was drawn
                return
            yield scene

    def _ended(self, session: Session, line: str) -> tuple[Any, ...]:
        """The page where work ended without a result; of a run before it no more frames come."""
        if session.shown is None or not session.shown.broken_off:
            return line, *self._desk.scene.unchanged()[1:]
        session.unfilled = False
        badge = self._desk.badge(session)
        return self._desk.scene.shown(session, line, badge, move=False, draw=False)

    def failed(self, sentence: str) -> tuple[Any, ...]:
        """What the page shows when the long work came to an end that nobody wanted."""
        return markup.status(f"Not segmented. {sentence}"), *self._desk.scene.unchanged()[1:]

    def stop(self, request: gr.Request) -> Any:
        """Stop: the work itself ends and says so; what had not begun is said to be off here."""
        session = self._desk.session(request)
        if session.stop():
            session.keep_choice()
            return markup.status("Stopped before it began.")
        return gr.skip()


def _merged_again(session: Session) -> bool:
    """Whether it was said that labels are not merged, and they are to be, after all."""
    return session.said == UNMERGED and session.choice.merge is not None


def _choice(shown: Shown | None) -> Choice | None:
    return shown.choice if shown else None
