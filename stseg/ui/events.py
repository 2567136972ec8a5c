"""Handlers of what a visitor chooses: a clip, a file of their own, labels, settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from stseg.errors import InputError
from stseg.records import Clip
from stseg.ui import markup
from stseg.ui.clips import Catalogue, thumbnail_uri
from stseg.ui.controls import FLOW, MODEL, OWN_FLOW, OWN_MODEL, SETTINGS, settings_on_page
from stseg.ui.desk import Desk
from stseg.ui.example import Example
from stseg.ui.fit_work import Fitted
from stseg.ui.player import slider_update
from stseg.ui.session import Session
from stseg.ui.shown import Choice, Shown
from stseg.ui.work import told_choice

EXAMPLE_WAIT = 120.0

REST = "Choose a clip, then press Segment."


class Events:
    """Each method answers one event; what it returns is laid out in ``stseg.ui.scene.Scene``."""

    def __init__(self, desk: Desk, catalogue: Catalogue, example: Example) -> None:
        self._desk = desk
        self._catalogue = catalogue
        self._example = example

    def arrive(self, request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
        """A first visit: the clips at once, then the finished example. Gives gallery and scene."""
        session, scene = self._desk.told(request, values), self._desk.scene
        session.clip = session.clip or self._example.clip
        if not self._example.ready(0.1):
            waiting = markup.status("The example is being segmented …", busy=True)
            yield scene.gallery(session), waiting, self._desk.badge(session), *self._unmoved()
            self._example.ready(EXAMPLE_WAIT)
        example = self._arrived(session)
        early = not self._example.thumbnails_ready(0)
        yield scene.gallery(session), *example
        if early and self._example.thumbnails_ready(EXAMPLE_WAIT):
            yield scene.gallery(session), *scene.unchanged()

    def _arrived(self, session: Session) -> tuple[Any, ...]:
        """The scene with the example, unless the visitor has begun something by now."""
        if session.busy or session.shown is not None or session.clip != self._example.clip:
            return self._desk.scene.unchanged()
        shown = self._example.shown()
        if shown is None:
            return markup.status(REST), self._desk.badge(session), *self._unmoved()
        session.shown = shown = shown.chosen(session.choice) or shown
        text = f"An example, finished: {shown.result.clip.name}, K = {shown.result.k}. {REST}"
        return self._desk.scene.shown(session, markup.status(text), self._desk.badge(session))

    def settle(self, request: gr.Request) -> Any:
        """The slider once more: on a slow machine Gradio 6.31 loses what comes while it is mounted.

        It stayed off then, with all pictures there (gradio-app/gradio#12904 tells of such a loss).
        """
        session = self._desk.session(request)
        if session.shown is None or session.busy:
            return gr.skip()  # whatever goes on fills it
        return slider_update(len(session.shown), None)  # it may have been moved by now

    def leave(self, request: gr.Request) -> None:
        """The page was closed."""
        self._desk.sessions.close(request.session_hash or "")

    def pick(self, event: gr.EventData, request: gr.Request, *values: Any) -> tuple[Any, ...]:
        """A tile of the gallery: show its clip; what is there of the chosen one stays."""
        session = self._desk.told(request, values)
        clip = self._catalogue.find(str(event._data["key"]), session.own.uploads)
        chosen = session.clip is not None and clip.source == session.clip.source
        if chosen and (session.busy or session.shown is not None):
            return self._desk.scene.gallery(session), *self._desk.scene.unchanged()
        return self._turn_to(session, clip)

    def upload(self, request: gr.Request, path: str, *values: Any) -> tuple[Any, ...]:
        """A file of the visitor's own: check it at the door and show its first picture."""
        session = self._desk.told(request, values)
        with _refusal(session):
            clip = session.own.take_video(Path(path))
        session.keep_video(clip, thumbnail_uri(clip))
        return self._turn_to(session, clip)

    def bring_flow(self, request: gr.Request, path: str, *values: Any) -> tuple[str, str, str]:
        """Flow of the visitor's own: it must belong to the chosen clip, and is chosen at once."""
        session = self._desk.session(request)
        with _refusal(session):
            if session.clip is None:
                raise InputError("No clip is chosen. Choose the clip of this flow first.")
            # Flow of a run that read its first frames alone is taken where so many are to be read.
            frames = settings_on_page(*values[:SETTINGS]).max_frames
            session.own.flow = session.take_flow(Path(path), session.clip, frames)
        name, clip = session.own.flow.path.name, session.own.flow.clip
        line = markup.status(f"The flow {name} of {clip.name} is taken. Press Segment.")
        self._accepted(session)
        # Where flow of one's own was chosen before, no control changes: the badge is filled here.
        chosen = _with(values, FLOW, OWN_FLOW)
        if not session.busy:
            with suppress(InputError):  # of another control, which the badge tells
                session.stale = self._desk.stale(session, session.clip, chosen)  # the line says it
        return OWN_FLOW, line, self.estimate(request, *chosen)

    def bring_model(self, request: gr.Request, path: str, *values: Any) -> tuple[str, str, str]:
        """A model of the visitor's own: it is checked at the door, and chosen at once."""
        session = self._desk.session(request)
        with _refusal(session):
            kept, ks = session.take_model(Path(path))
        given = ", ".join(str(k) for k in sorted(ks))
        line = markup.status(f"The model {kept.name} is taken: K = {given}. Press Segment.")
        self._accepted(session)
        chosen = _with(values, MODEL, OWN_MODEL)
        badge = self.estimate(request, *chosen)
        if session.clip is not None and not session.busy:
            with suppress(InputError):  # of another control, which the badge tells
                session.stale = self._desk.stale(session, session.clip, chosen)  # the line says it
        return OWN_MODEL, line, badge

    @staticmethod
    def _accepted(session: Session) -> None:
        """The status is about what was taken, no more about what was refused before."""
        session.refused = session.refused and session.busy

    def use_fitted(
        self, request: gr.Request, fitted: Fitted | None, *values: Any
    ) -> tuple[str, str]:
        """A fitted model is to segment the clip: it is chosen on the left first."""
        session = self._desk.session(request)
        if fitted is None:
            raise InputError("Nothing is fitted yet. Press Fit first.")
        chosen = _with(values, MODEL, OWN_MODEL)
        session.own.settings(session.clip, chosen, own=fitted.path)
        session.own.model = fitted.path  # another one may have been uploaded since
        return OWN_MODEL, self.estimate(request, *chosen)

    def choose_k(self, request: gr.Request, *values: Any) -> tuple[Any, ...]:
        """K was moved: a K that the run made is shown at once, and its files are announced."""
        session = self._desk.told(request, values)
        choice = replace(session.choice, k=int(values[0]))
        return self._choose(session, choice, f"K = {choice.k}, from the same run")

    def use_merged(
        self, request: gr.Request, use: bool, threshold: float, *values: Any
    ) -> tuple[Any, ...]:
        """The box in the tab Similarity, or its threshold: all tabs and files take these labels."""
        session = self._desk.told(request, values)
        if session.shown is None or not session.shown.affinity.known:
            line = "No result with latent representations is shown. Segment a clip first."
            return self._desk.scene.refilled(
                session, markup.status(line), self._desk.badge(session)
            )
        merges = use and threshold < 1
        choice = replace(session.choice, merge=float(threshold) if merges else None)
        if use and not merges and choice == session.choice and not session.busy:
            line = "At a threshold of 1 nothing is merged. Move it down until labels fuse."
            return markup.status(line), self._desk.badge(session), *self._unmoved()
        text = f"{told_choice(choice)}: all tabs show these labels"
        return self._choose(session, choice, text)

    def _choose(self, session: Session, choice: Choice, text: str) -> tuple[Any, ...]:
        """Show other labels of the run that is known, at once, and announce their files."""
        shown = session.choose(choice)
        if shown is None:
            return gr.skip(), self._desk.badge(session), *self._unmoved()
        line: Any = gr.skip()  # whatever goes on tells of itself
        text = f"{text}{_part(shown)}."
        if session.writing_announced:
            line = markup.status(f"{text} Their files are being written …", busy=True)
        elif not session.busy:
            line, session.refused, session.stale = markup.status(text), False, ""
        total = len(shown) + (session.to_come if shown.growing else 0)
        return self._desk.scene.shown(
            session, line, self._desk.badge(session), move=False, total=total
        )

    def refused(self, sentence: str) -> tuple[Any, ...]:
        """An upload was not taken: gallery and scene, of which the status says why."""
        line = markup.status(f"Not taken. {sentence}")
        return gr.skip(), line, *self._desk.scene.unchanged()[1:]

    def refused_part(self, sentence: str) -> tuple[Any, ...]:
        """The same for what only fills a control, the status and the badge."""
        return self.refused(sentence)[:3]

    def estimate(self, request: gr.Request, *values: Any) -> str:
        """A setting was changed: how long the clip will take now."""
        session = self._desk.session(request)
        session.controls = values
        return self._desk.badge(session)

    def settled(self, request: gr.Request) -> tuple[Any, ...]:
        """Work has ended, or a clip was chosen: the badge, and what the tabs offer of it."""
        session = self._desk.session(request)
        views, archived = self._desk.scene.views, session.archived
        offered = (value for view in views for value in view.offered(archived))
        return self._desk.badge(session), *offered

    def retune(self, request: gr.Request, *values: Any) -> tuple[Any, str]:
        """The same for the page: the badge, and before it a status that is true again."""
        session, badge = self._desk.session(request), self.estimate(request, *values)
        if session.busy or session.clip is None:
            return gr.skip(), badge
        try:
            stale = self._desk.stale(session, session.clip, values)
        except InputError:  # there is still something wrong
            return gr.skip(), badge
        if stale == session.stale and not session.refused:
            return gr.skip(), badge
        session.refused, session.stale = False, stale
        told = f"{stale}: press Segment. What is shown was made before that." if stale else ""
        return markup.status(told or _at_rest(session.clip, session.shown)), badge

    def introduce(self, request: gr.Request) -> str:
        """The page was opened: the key under which its player may ask for frames."""
        return self._desk.session(request).key

    def _turn_to(self, session: Session, clip: Clip) -> tuple[Any, ...]:
        """Show another clip: the gallery and the scene, whatever the other settings say."""
        with session.turning:
            return self._turned_to(session, clip)

    def _turned_to(self, session: Session, clip: Clip) -> tuple[Any, ...]:
        choice = Choice(int(session.controls[0]))
        known = self._known(session, clip)
        # A clip that cannot be read changes nothing, so it is read first.
        board = "" if known else self._desk.scene.first_picture(clip)
        shown = known and (known.chosen(choice) or known)
        before, ended = session.turn(clip, shown, choice)
        if before is not None:
            self._keep(session, before)
        gallery, badge = self._desk.scene.gallery(session), self._desk.badge(session)
        mistake = _mistake(session, clip)
        ended = " ".join(each for each in (ended, mistake) if each)
        line = markup.status(f"{_at_rest(clip, shown)} {ended}".rstrip())
        if shown is None:
            session.refused = bool(mistake)
            return gallery, *self._desk.scene.preview(session, line, badge, board)
        session.begin_writing(ended)
        session.refused = bool(mistake)
        return gallery, *self._desk.scene.shown(session, line, badge)

    def _known(self, session: Session, clip: Clip) -> Shown | None:
        """A result of this clip that need not be computed."""
        kept = (session.shown, session.earlier.of(clip), self._example.shown())
        there = [each for each in kept if each and each.result.clip.source == clip.source]
        return min(there, key=lambda each: each.broken_off, default=None)  # a whole one, if any

    def _keep(self, session: Session, before: Shown) -> None:
        """Keep a result for when its clip is looked at again; the example is kept anyway."""
        example = self._example.shown()
        if example is None:
            session.earlier.keep(before)
        elif before.others is not example.others:
            session.earlier.keep(before, example.spools)  # which all visitors read

    def _unmoved(self) -> tuple[Any, ...]:
        """The scene left as it is, after a status and a badge."""
        return self._desk.scene.unchanged()[2:]


@contextmanager
def _refusal(session: Session) -> Iterator[None]:
    """Around what may refuse an upload: the status is about that until a control moves."""
    try:
        yield
    except Exception:
        session.refused = not session.busy
        raise


def _with(values: Sequence[Any], place: int, name: str) -> list[Any]:
    """What the controls say once one of them says something else."""
    return [name if index == place else value for index, value in enumerate(values)]


def _at_rest(clip: Clip, shown: Shown | None) -> str:
    """What the status says of the chosen clip while nothing goes on."""
    if shown is None:
        return f"{clip.name} is chosen. Press Segment."
    return f"{clip.name}, segmented with K = {shown.result.k}{_part(shown)}."


def _mistake(session: Session, clip: Clip) -> str:
    """What is wrong with the settings on the left for this clip, or nothing."""
    try:
        session.own.settings(clip, session.controls)
    except InputError as error:
        return str(error)
    return ""


def _part(shown: Shown) -> str:
    """What to say of a result of which only the first frames are there."""
    return f"; the run was stopped after {len(shown)} frames" if shown.broken_off else ""
