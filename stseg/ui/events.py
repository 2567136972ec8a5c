"""What happens when the visitor does something: each method answers one event of the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from stseg.errors import InputError
from stseg.flow import own_flow
from stseg.flow.cache import FlowCache
from stseg.records import Clip, Settings
from stseg.ui import markup
from stseg.ui.clips import Catalogue, thumbnail_uri
from stseg.ui.controls import OWN_FLOW, read_settings
from stseg.ui.example import Example
from stseg.ui.pace import Pace, in_words
from stseg.ui.player import slider_update
from stseg.ui.segments import preview
from stseg.ui.session import Session, Sessions
from stseg.ui.view import Moment, TabView
from stseg.ui.work import Shown, segment_clip
from stseg.video import probe, thumbnail

SETTINGS = 7
"""Number of values that ``read_settings`` takes; they come before what the eye chose."""

EXAMPLE_WAIT = 120.0
PREVIEW_HEIGHT = 480

REST = "Choose a clip, then press Segment."
WAITING = "Waiting for the machine: another clip is being segmented …"


class Events:
    """Handlers of the page. ``scene`` is status, badge, slider, all pictures, all details.

    ``looks`` are the frame, η in percent, the number of the open tab, and the options of the tabs.
    """

    def __init__(
        self,
        sessions: Sessions,
        catalogue: Catalogue,
        example: Example,
        pace: Pace,
        device: str,
    ) -> None:
        self.views: Sequence[TabView] = ()
        self._sessions = sessions
        self._catalogue = catalogue
        self._example = example
        self._pace = pace
        self._device = device

    def arrive(self, request: gr.Request, *looks: Any) -> Iterator[tuple[Any, ...]]:
        """A first visit: the clips at once, then the finished example."""
        session = self._session(request)
        session.clip = session.clip or self._example.clip
        rest = self._skip_scene()
        if not self._example.ready(0.1):
            waiting = markup.status("The example is being segmented …", busy=True)
            yield self._gallery(session), waiting, self._badge(session, Settings()), *rest[2:]
            self._example.ready(EXAMPLE_WAIT)
        shown = self._example.shown()
        if session.shown is None and session.clip == self._example.clip and shown is not None:
            session.shown = shown
            text = f"An example, finished: {shown.result.clip.name}, K = {shown.result.k}. {REST}"
            scene = self._scene(session, markup.status(text), Settings(), looks)
        else:
            scene = (markup.status(REST), self._badge(session, Settings()), *rest[2:])
        early = not self._example.thumbnails_ready(0)
        yield self._gallery(session), *scene
        if early and self._example.thumbnails_ready(EXAMPLE_WAIT):
            yield self._gallery(session), *rest

    def leave(self, request: gr.Request) -> None:
        """The page was closed."""
        self._sessions.close(request.session_hash or "")

    def pick(self, event: gr.EventData, request: gr.Request, *values: Any) -> tuple[Any, ...]:
        """A tile of the gallery: show its clip."""
        session = self._session(request)
        clip = self._catalogue.find(str(event._data["key"]), session.uploads)
        return self._turn_to(session, clip, values)

    def upload(self, request: gr.Request, path: str, *values: Any) -> tuple[Any, ...]:
        """A file of the visitor's own: check it at the door and show its first picture."""
        session = self._session(request)
        clip = probe(session.take_upload(Path(path)))
        session.uploads[clip] = thumbnail_uri(clip)
        return self._turn_to(session, clip, values)

    def bring_flow(self, request: gr.Request, path: str) -> tuple[str, str]:
        """Flow of the visitor's own: it must belong to the chosen clip, and is chosen at once."""
        session = self._session(request)
        if session.clip is None:
            raise InputError("No clip is chosen. Choose the clip of this flow first.")
        brought = session.take_upload(Path(path))
        try:
            own_flow(brought, session.clip)
        except InputError as error:
            raise InputError(str(error).replace(str(brought), brought.name)) from error
        session.own_flow = brought
        line = f"The flow {brought.name} of {session.clip.name} is taken. Press Segment."
        return OWN_FLOW, markup.status(line)

    def announce(self, request: gr.Request) -> str:
        """Segment was pressed: what ran before ends, and an answer is there at once."""
        session = self._session(request)
        if session.clip is None:
            raise InputError("No clip is chosen. Choose one on the left, or upload one.")
        session.begin()
        return markup.status(WAITING, busy=True)

    def segment(self, request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
        """The long work, in steps; the page follows the newest frame until the slider moves."""
        session = self._session(request)
        ticket, clip = session.claim(), session.clip
        if ticket is None or clip is None:
            return
        settings, looks = read_settings(*values[:SETTINGS]), values[SETTINGS:]
        if settings.flow == OWN_FLOW:
            if session.own_flow is None:
                raise InputError("No flow is uploaded. Upload an .npz, or choose an estimator.")
            settings = replace(settings, flow=str(session.own_flow))
        known, folder = session.shown.footage if session.shown else None, session.new_folder()
        same = known is not None and known.clip.source == clip.source
        rest = session.frame if same else 0  # another K of the same clip: stay where the eye is
        first = True
        # What a visitor brings leaves nothing behind; the flow of the others' clips is kept.
        cache = None if clip in session.uploads else FlowCache()
        for step in segment_clip(
            clip, settings, folder, known, lambda: session.stopped(ticket), cache
        ):
            if not session.current(ticket):
                return
            line = markup.status(step.text, step.done, step.total, busy=not step.finished)
            if step.shown is None:
                yield line, *self._skip_scene()[1:]
                continue
            session.shown = step.shown
            if step.finished:
                self._pace.learn(step.shown.result)
                session.keep_only(folder)
            if session.following:
                session.frame = rest if step.finished else len(step.shown) - 1
            total = max(step.total or 0, len(step.shown))
            whole = first or step.finished
            first = False
            yield self._scene(session, line, settings, looks, session.following, total, whole)

    def failed(self, sentence: str) -> tuple[Any, ...]:
        """What the page shows when the long work came to an end that nobody wanted."""
        return markup.status(f"Not segmented. {sentence}"), *self._skip_scene()[1:]

    def stop(self, request: gr.Request) -> Any:
        """Stop: the work itself ends and says so; what had not begun is said to be off here."""
        if self._session(request).stop():
            return markup.status("Stopped before it began.")
        return gr.skip()

    def estimate(self, request: gr.Request, *values: Any) -> str:
        """A setting was changed: how long the clip will take now."""
        session = self._session(request)
        try:
            return self._badge(session, read_settings(*values))
        except InputError as error:
            return self._badge_text(str(error))

    def look(self, request: gr.Request, *looks: Any) -> Any:
        """The frame, η or an option was moved: draw from what is known."""
        session = self._session(request)
        session.following, session.frame = False, int(looks[0])
        if session.shown is None:
            return self._skip(sum(len(view.pictures) for view in self.views))
        return self._one_or_all(self._pictures(session.shown, session.frame, looks, all_tabs=False))

    def _turn_to(self, session: Session, clip: Clip, values: Sequence[Any]) -> tuple[Any, ...]:
        session.drop()
        session.clip, session.frame = clip, 0
        settings, looks = read_settings(*values[:SETTINGS]), values[SETTINGS:]
        kept = [session.shown, self._example.shown()]
        shown = next(
            (each for each in kept if each and each.result.clip.source == clip.source), None
        )
        session.shown = shown
        if shown is not None:
            text = f"{clip.name}, segmented with K = {shown.result.settings.k}."
            return self._gallery(session), *self._scene(
                session, markup.status(text), settings, looks
            )
        board = preview(clip, thumbnail(clip, PREVIEW_HEIGHT))
        blank: list[Any] = [gr.skip() for view in self.views for _ in view.pictures]
        blank[0] = board
        return (
            self._gallery(session),
            markup.status(f"{clip.name} is chosen. Press Segment."),
            self._badge(session, settings),
            slider_update(0, 0),
            *blank,
            *(value for view in self.views for value in view.fill(None)),
        )

    def _scene(
        self,
        session: Session,
        line: str,
        settings: Settings,
        looks: Sequence[Any],
        move: bool = True,
        total: int = 0,
        details: bool = True,
    ) -> tuple[Any, ...]:
        """All of the scene for what the session shows; ``move`` takes the slider along."""
        shown = session.shown
        assert shown is not None
        frames = max(total, len(shown))
        filled = [
            value
            for view in self.views
            for value in (view.fill(shown) if details else self._skip(len(view.details)))
        ]
        return (
            line,
            self._badge(session, settings),
            slider_update(frames, session.frame if move else None),
            *self._pictures(shown, session.frame, looks, all_tabs=True),
            *filled,
        )

    def _pictures(
        self, shown: Shown, frame: int, looks: Sequence[Any], all_tabs: bool
    ) -> tuple[Any, ...]:
        """Pictures of the tabs; those of a tab that is not open are left as they are."""
        _, eta, opened, *options = looks
        moment = Moment(shown, min(max(frame, 0), len(shown) - 1), eta / 100)
        pictures: list[Any] = []
        for index, view in enumerate(self.views):
            own, options = options[: len(view.options)], options[len(view.options) :]
            if all_tabs or index == opened:
                pictures += view.draw(moment, *own)
            else:
                pictures += self._skip(len(view.pictures))
        return tuple(pictures)

    def _session(self, request: gr.Request) -> Session:
        return self._sessions.of(request.session_hash or "")

    def _gallery(self, session: Session) -> str:
        return self._catalogue.gallery(session.uploads, session.clip)

    def _badge(self, session: Session, settings: Settings) -> str:
        if session.clip is None:
            return self._badge_text("")
        footage = session.shown.footage if session.shown else None
        known = footage is not None and footage.serves(session.clip, settings)
        seconds = self._pace.seconds(session.clip, settings, known)
        if seconds is None:
            return self._badge_text(f"The length of {session.clip.name} is not known yet.")
        why = ", its flow is known" if known else ""
        return self._badge_text(f"{session.clip.name}: about {in_words(seconds)}{why}.")

    def _badge_text(self, text: str) -> str:
        return markup.badge(self._device, text)

    def _skip_scene(self) -> tuple[Any, ...]:
        count = sum(len(view.pictures) + len(view.details) for view in self.views)
        return self._skip(3 + count)

    def _skip(self, count: int) -> tuple[Any, ...]:
        return tuple(gr.skip() for _ in range(count))

    def _one_or_all(self, values: tuple[Any, ...]) -> Any:
        return values[0] if len(values) == 1 else values
