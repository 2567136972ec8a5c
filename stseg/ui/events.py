"""What happens when the visitor does something: each method answers one event of the page."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from stseg.errors import Cancelled, InputError, Stop
from stseg.flow.cache import FlowCache
from stseg.records import Clip
from stseg.ui import markup
from stseg.ui.clips import Catalogue, thumbnail_uri
from stseg.ui.controls import FLOW, OWN_FLOW, SETTINGS, settings_on_page
from stseg.ui.example import Example
from stseg.ui.jobs import own_settings
from stseg.ui.pace import Pace
from stseg.ui.player import slider_update
from stseg.ui.scene import Scene
from stseg.ui.session import SEGMENT, WRITE, Session, Sessions
from stseg.ui.shown import Choice, Shown
from stseg.ui.work import Step, segment_clip, told_choice, write_files

logger = logging.getLogger(__name__)

EXAMPLE_WAIT = 120.0

MOST_FRAMES = 10**9
"""No clip is longer; a larger number is no frame."""

REST = "Choose a clip, then press Segment."
WAITING = "Waiting for the machine: another clip is being segmented …"


class Events:
    """Handlers of the page; what they return is laid out in ``stseg.ui.scene.Scene``.

    ``values`` are those of the controls (``settings_on_page``), then ``looks``: the frame, and what
    ``Session.looks`` keeps.
    """

    def __init__(
        self,
        sessions: Sessions,
        catalogue: Catalogue,
        example: Example,
        pace: Pace,
        scene: Scene,
    ) -> None:
        self._sessions = sessions
        self._catalogue = catalogue
        self._example = example
        self._pace = pace
        self._scene = scene

    def arrive(self, request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
        """A first visit: the clips at once, then the finished example. Gives gallery and scene."""
        session, scene = self._told(request, values), self._scene
        session.clip = session.clip or self._example.clip
        if not self._example.ready(0.1):
            waiting = markup.status("The example is being segmented …", busy=True)
            yield scene.gallery(session), waiting, self._badge(session), *self._unmoved()
            self._example.ready(EXAMPLE_WAIT)
        example = self._arrived(session)
        early = not self._example.thumbnails_ready(0)
        yield scene.gallery(session), *example
        if early and self._example.thumbnails_ready(EXAMPLE_WAIT):
            yield scene.gallery(session), *scene.unchanged()

    def _arrived(self, session: Session) -> tuple[Any, ...]:
        """The scene with the example, unless the visitor has begun something by now."""
        if session.busy or session.shown is not None or session.clip != self._example.clip:
            return self._scene.unchanged()
        shown = self._example.shown()
        if shown is None:
            return markup.status(REST), self._badge(session), *self._unmoved()
        session.shown = shown = shown.chosen(session.choice) or shown
        text = f"An example, finished: {shown.result.clip.name}, K = {shown.result.k}. {REST}"
        return self._scene.shown(session, markup.status(text), self._badge(session))

    def settle(self, request: gr.Request) -> Any:
        """The slider once more: on a slow machine Gradio 6.31 loses what comes while it is mounted.

        It stayed off then, with all pictures there (gradio-app/gradio#12904 tells of such a loss).
        """
        session = self._session(request)
        if session.shown is None or session.busy:
            return gr.skip()  # whatever goes on fills it
        return slider_update(len(session.shown), None)  # it may have been moved by now

    def leave(self, request: gr.Request) -> None:
        """The page was closed."""
        self._sessions.close(request.session_hash or "")

    def pick(self, event: gr.EventData, request: gr.Request, *values: Any) -> tuple[Any, ...]:
        """A tile of the gallery: show its clip; what is there of the chosen one stays."""
        session = self._told(request, values)
        clip = self._catalogue.find(str(event._data["key"]), session.uploads)
        chosen = session.clip is not None and clip.source == session.clip.source
        if chosen and (session.busy or session.shown is not None):
            return self._scene.gallery(session), *self._scene.unchanged()
        return self._turn_to(session, clip)

    def upload(self, request: gr.Request, path: str, *values: Any) -> tuple[Any, ...]:
        """A file of the visitor's own: check it at the door and show its first picture."""
        session = self._told(request, values)
        clip = session.take_video(Path(path))
        session.keep_upload(clip, thumbnail_uri(clip))
        return self._turn_to(session, clip)

    def bring_flow(self, request: gr.Request, path: str, *values: Any) -> tuple[str, str, str]:
        """Flow of the visitor's own: it must belong to the chosen clip, and is chosen at once."""
        session = self._session(request)
        if session.clip is None:
            raise InputError("No clip is chosen. Choose the clip of this flow first.")
        # Flow of a run that read its first frames alone is taken where so many are to be read.
        frames = settings_on_page(*values[:SETTINGS]).max_frames
        session.own_flow = session.take_flow(Path(path), session.clip, frames)
        name, clip = session.own_flow.path.name, session.own_flow.clip
        line = markup.status(f"The flow {name} of {clip.name} is taken. Press Segment.")
        # Where flow of one's own was chosen before, no control changes: the badge is filled here.
        chosen = [OWN_FLOW if place == FLOW else value for place, value in enumerate(values)]
        if not session.busy:
            session.stale = self._stale(session, session.clip, chosen)  # which the line says
        return OWN_FLOW, line, self.estimate(request, *chosen)

    def announce(self, request: gr.Request, *values: Any) -> str:
        """Segment was pressed: what ran before ends, and an answer is there at once."""
        session = self._told(request, values)
        if session.clip is None:
            raise InputError("No clip is chosen. Choose one on the left, or upload one.")
        session.begin(SEGMENT)
        # Which segments are alike is known at the end of a run.
        session.choice = Choice(int(values[0]))
        return markup.status(WAITING, busy=True)

    def segment(self, request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
        """The long work, in steps; the page follows the newest frame until the slider moves.

        It takes the settings as they were when it was asked for.
        """
        session = self._session(request)
        ticket, clip = session.claim(SEGMENT), session.clip
        if ticket is None or clip is None:
            return
        try:
            # K may have moved while this waited in the queue.
            settings = own_settings(session, clip, float(session.choice.k), *values[1:SETTINGS])
            known = session.shown.footage if session.shown else None
            same = known is not None and known.clip.source == clip.source
            session.frame = session.frame if same else 0  # same clip: stay where the eye is
            folder = session.new_folder()
            # What a visitor brings leaves nothing behind; the flow of the others' clips is kept.
            cache = None if clip in session.uploads else FlowCache()

            def work(stop: Stop) -> Iterator[Step]:
                return segment_clip(
                    clip, settings, folder, known, stop, cache, lambda: session.choice
                )

            steps = self._sessions.machine.steps(SEGMENT, work, lambda: session.stopped(ticket))
            yield from self._follow(session, ticket, steps, folder)
            yield from self._write_missing(session, ticket)
        except Cancelled:
            yield self._ended(session, markup.status("Stopped before it began."))
        except InputError:
            session.refused = session.current(ticket)
            raise
        finally:
            if session.current(ticket):
                session.keep_choice()
            session.end(ticket)

    def ask_files(self, request: gr.Request) -> Any:
        """Write files was pressed: those of what is shown are announced; other work goes on."""
        session = self._session(request)
        if session.begin_files():
            return markup.status("The files are being written …", busy=True)
        if session.busy:
            raise InputError("Work goes on. Press Write files when it has ended.")
        return gr.skip()

    def write(self, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """Write the files of what is shown, if they were announced."""
        session = self._session(request)
        ticket = session.claim(WRITE)
        if ticket is None:
            return
        try:
            session.following = False
            yield from self._write_shown(session, ticket)
            yield from self._write_missing(session, ticket)
        except Cancelled:  # before it began: what is shown needs no word
            return
        finally:
            session.end(ticket)

    def _write_missing(self, session: Session, ticket: int) -> Iterator[tuple[Any, ...]]:
        """The end of work, once labels that were chosen up to it have their files, too."""
        while not session.end_when_written(ticket):
            yield from self._write_shown(session, ticket)

    def _write_shown(self, session: Session, ticket: int) -> Iterator[tuple[Any, ...]]:
        """The files of what is shown."""
        shown, folder = session.shown, session.folder
        if shown is None:
            return

        def work(stop: Stop) -> Iterator[Step]:
            return write_files(shown, folder, stop, lambda: session.choice)

        steps = self._sessions.machine.steps(WRITE, work, lambda: session.stopped(ticket))
        yield from self._follow(session, ticket, steps, folder)

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
            text = f"{session.said} {step.text}".lstrip() if step.finished else step.text
            line = markup.status(text, step.done, step.total, busy=not step.finished)
            if step.shown is None:
                unchanged = line, *self._scene.unchanged()[1:]
                yield self._ended(session, line) if step.finished else unchanged
                continue
            before, place = session.shown, session.folder
            shown = session.show(step.shown, folder, ticket)
            if shown is None:
                return
            anew = folder != place or shown.choice != _choice(before)
            # What is known is not drawn again: the visitor may look elsewhere by now.
            draw = not _same(shown, before)
            settled = step.finished or not shown.growing
            if step.finished and shown.footage is not None:
                self._pace.learn(shown.result)
            if step.finished and (shown.footage is not None or shown.files):
                session.keep_only(folder)
            move = session.following
            if move:
                session.frame = rest if settled else len(shown) - 1
                session.following = not settled
            # Frames to come count while they come: after Stop the slider must not reach them.
            total = len(shown) if settled else max(step.total or 0, len(shown))
            session.to_come = total - len(shown)
            badge = self._badge(session)
            scene = self._scene.shown(session, line, badge, move, total, anew, draw)
            if not session.current(ticket):  # they turned to another clip while this was drawn
                return
            yield scene

    def _ended(self, session: Session, line: str) -> tuple[Any, ...]:
        """The page where work ended without a result; of a run before it no more frames come."""
        if session.shown is None or not session.shown.broken_off:
            return line, *self._scene.unchanged()[1:]
        return self._scene.refilled(session, line, self._badge(session))

    def failed(self, sentence: str) -> tuple[Any, ...]:
        """What the page shows when the long work came to an end that nobody wanted."""
        return markup.status(f"Not segmented. {sentence}"), *self._scene.unchanged()[1:]

    def stop(self, request: gr.Request) -> Any:
        """Stop: the work itself ends and says so; what had not begun is said to be off here."""
        session = self._session(request)
        if session.stop():
            session.keep_choice()
            return markup.status("Stopped before it began.")
        return gr.skip()

    def choose_k(self, request: gr.Request, *values: Any) -> tuple[Any, ...]:
        """K was moved: a K that the run made is shown at once, and its files are announced."""
        session = self._told(request, values)
        choice = replace(session.choice, k=int(values[0]))
        return self._choose(session, choice, f"K = {choice.k}, from the same run.")

    def use_merged(
        self, request: gr.Request, use: bool, threshold: float, *values: Any
    ) -> tuple[Any, ...]:
        """The box in the tab Similarity, or its threshold: all tabs and files take these labels."""
        session = self._told(request, values)
        if session.shown is None or not session.shown.affinity.known:
            line = "No result with latent representations is shown. Segment a clip first."
            return self._scene.refilled(session, markup.status(line), self._badge(session))
        choice = replace(session.choice, merge=float(threshold) if use else None)
        text = f"{told_choice(choice)}: all tabs show these labels."
        return self._choose(session, choice, text)

    def _choose(self, session: Session, choice: Choice, text: str) -> tuple[Any, ...]:
        """Show other labels of the run that is known, at once, and announce their files."""
        shown = session.choose(choice)
        if shown is None:
            return gr.skip(), self._badge(session), *self._unmoved()
        line: Any = gr.skip()  # whatever goes on tells of itself
        if session.writing_announced:
            line = markup.status(f"{text} Their files are being written …", busy=True)
        elif not session.busy:
            line, session.refused, session.stale = markup.status(text), False, ""
        total = len(shown) + (session.to_come if shown.growing else 0)
        return self._scene.shown(session, line, self._badge(session), move=False, total=total)

    def estimate(self, request: gr.Request, *values: Any) -> str:
        """A setting was changed: how long the clip will take now."""
        session = self._session(request)
        session.controls = values
        return self._badge(session)

    def retune(self, request: gr.Request, *values: Any) -> tuple[Any, str]:
        """The same for the page: the badge, and before it a status that is true again."""
        session, badge = self._session(request), self.estimate(request, *values)
        if session.busy or session.clip is None:
            return gr.skip(), badge
        try:
            stale = self._stale(session, session.clip, values)
        except InputError:  # there is still something wrong
            return gr.skip(), badge
        if stale == session.stale and not session.refused:
            return gr.skip(), badge
        session.refused, session.stale = False, stale
        told = f"{stale}: press Segment. What is shown was made before that." if stale else ""
        return markup.status(told or _at_rest(session.clip, session.shown)), badge

    def _stale(self, session: Session, clip: Clip, values: Sequence[Any]) -> str:
        """What of the controls the shown result does not have. Raises InputError as they do."""
        return self._scene.changed(session, own_settings(session, clip, *values[:SETTINGS]))

    def introduce(self, request: gr.Request) -> str:
        """The page was opened: the key under which its player may ask for frames."""
        return self._session(request).key

    def look_at(self, told: Any) -> dict[str, str] | None:
        """The visitor moved the frame: the new pictures, by the name of their component.

        None where ``look`` has to say what is wrong.

        Args:
            told: the visitor's key and the number of the frame.
        """
        match told:
            case [str(key), (int() | float()) as frame] if 0 <= frame <= MOST_FRAMES:
                session = self._sessions.with_key(key)
            case _:
                return None
        if session is None:
            return None
        try:
            drawn = self._moved(session, frame)
        except Exception:
            logger.exception("A frame could not be drawn")
            return None
        names = (each.elem_id for view in self._scene.views for each in view.pictures)
        return {
            name: html
            for name, html in zip(names, drawn, strict=True)
            if name is not None and isinstance(html, str)
        }

    def look(self, request: gr.Request, frame: int | float) -> Any:
        """The same as an event, which can tell what is wrong."""
        return self._only(self._moved(self._session(request), frame))

    def _moved(self, session: Session, frame: int | float) -> tuple[Any, ...]:
        """Another frame, which the visitor chose: they run along with the work no more."""
        session.following, session.frame = False, round(frame)
        return self._drawn(session)

    def redraw(self, request: gr.Request, *looks: Any) -> Any:
        """η, the tab or an option was moved: draw what the open tab shows, from what is known."""
        session = self._session(request)
        session.looks = looks[1:]  # the frame is where the session has it, also while it follows
        return self._only(self._drawn(session))

    def _drawn(self, session: Session) -> tuple[Any, ...]:
        """Pictures of the open tab; those of the others are left as they are."""
        for _ in range(2):
            shown, frame, looks = session.shown, session.frame, session.looks
            values = () if shown is None else self._scene.pictures(session, shown, all_tabs=False)
            if session.frame == frame and session.looks is looks:
                break  # else the visitor moved on meanwhile, and this may arrive last
        # Whoever replaced it meanwhile drew what they put there, or blanked it.
        if not values or not _same(session.shown, shown):
            values = self._scene.skip(sum(len(view.pictures) for view in self._scene.views))
        return values

    @staticmethod
    def _only(values: tuple[Any, ...]) -> Any:
        """What Gradio takes: a tuple where there are several."""
        return values[0] if len(values) == 1 else values

    def _turn_to(self, session: Session, clip: Clip) -> tuple[Any, ...]:
        """Show another clip: the gallery and the scene, whatever the other settings say."""
        choice = Choice(int(session.controls[0]))
        known = self._known(session, clip)
        # A clip that cannot be read changes nothing, so it is read first.
        board = "" if known else self._scene.first_picture(clip)
        shown = known and (known.chosen(choice) or known)
        before, ended = session.turn(clip, shown, choice)
        if before is not None:
            self._keep(session, before)
        gallery, badge = self._scene.gallery(session), self._badge(session)
        line = markup.status(f"{_at_rest(clip, shown)} {ended}".rstrip())
        if shown is None:
            return gallery, *self._scene.preview(session, line, badge, board)
        session.begin_writing(ended)
        return gallery, *self._scene.shown(session, line, badge)

    def _known(self, session: Session, clip: Clip) -> Shown | None:
        """A result of this clip that need not be computed."""
        kept = (session.shown, session.earlier.of(clip), self._example.shown())
        return next(
            (each for each in kept if each and each.result.clip.source == clip.source), None
        )

    def _keep(self, session: Session, before: Shown) -> None:
        """Keep a result for when its clip is looked at again; the example is kept anyway."""
        example = self._example.shown()
        if example is None:
            session.earlier.keep(before)
        elif before.others is not example.others:
            session.earlier.keep(before, example.spools)  # which all visitors read

    def _unmoved(self) -> tuple[Any, ...]:
        return self._scene.unchanged()[2:]

    def _badge(self, session: Session) -> str:
        """The badge of what the left column says now."""
        try:
            return self._scene.badge(session, settings_on_page(*session.controls))
        except InputError as error:
            return self._scene.badge_text(str(error))

    def _told(self, request: gr.Request, values: Sequence[Any]) -> Session:
        """The visitor, who stands where ``values`` say."""
        session = self._session(request)
        session.controls, session.looks = values[:SETTINGS], values[SETTINGS + 1 :]
        return session

    def _session(self, request: gr.Request) -> Session:
        return self._sessions.of(request.session_hash or "")


def _at_rest(clip: Clip, shown: Shown | None) -> str:
    """What the status says of the chosen clip while nothing goes on."""
    if shown is None:
        return f"{clip.name} is chosen. Press Segment."
    return f"{clip.name}, segmented with K = {shown.result.k}."


def _choice(shown: Shown | None) -> Choice | None:
    return shown.choice if shown else None


def _same(one: Shown | None, other: Shown | None) -> bool:
    """Whether both have the same labels to draw; their files may be new."""
    return (one and one.result) is (other and other.result)
