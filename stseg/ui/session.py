"""What the page remembers of each visitor, on the server and only while they are here."""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Collection, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from stseg import memory
from stseg.comparison import Compared, comparable, differences
from stseg.errors import InputError
from stseg.limits import Limits
from stseg.naming import Naming
from stseg.records import Clip, Segmentation, Settings
from stseg.scratch import Scratch
from stseg.ui.earlier import Earlier
from stseg.ui.machine import Machine
from stseg.ui.private import private_folder
from stseg.ui.shown import Choice, Shown
from stseg.uploads import Door

logger = logging.getLogger(__name__)

TIME_TO_LIVE = 12 * 3600.0
"""Seconds without a sign of a visitor after which their clips go, where no closing was seen."""

SWEEP = 600.0
"""Seconds from one look for such visitors to the next."""

REMEMBERED = 10_000
"""Names of visitors who left that are known: a request of theirs that was still under way must not
make them a new session, which nobody would close."""

SEGMENT, WRITE = "segment", "write"
"""Kinds of work; that of a tab is the job itself."""

_JOB = "job-"

T = TypeVar("T")


@dataclass(frozen=True)
class OwnFlow:
    """Flow that a visitor brought.

    Attributes:
        path: where it is kept; no sentence may tell it.
        clip: the one clip that it belongs to.
    """

    path: Path
    clip: Clip


class Session:
    """One visitor: their uploads, the clip they chose, what they look at, their running work.

    ``private`` holds uploads and is not served. ``served`` holds the files of the latest result
    for playing and downloading; its name cannot be guessed. Both go with the session.

    Attributes:
        clip: the clip that Segment will take.
        shown: the result on the page.
        earlier: results of the clips before.
        compared: variants of the chosen clip in the tab Compare, the first as reference.
        naming: of their labels as in what is shown.
        own_flow: the flow that the visitor brought last, or None.
        names: of files that the visitor brought; no log tells them.
        uploads: clips that the visitor brought, with their thumbnails.
        controls: what the left column says (``read_settings``), as an event told last.
        looks: η in percent, the open tab and the options of the tabs (``Scene``), the same way:
            long work is drawn as the page stands now, not as it stood when it began.
        frame: the frame they look at.
        choice: the labels they look at: K, and above which similarity segments are fused.
        folder: where the files of the shown run go.
        key: by which the page's own script is known (``Sessions.with_key``); nobody can guess it.
        to_come: frames that the running work will still add to what is shown.
        following: whether the page runs along with the work; False once they moved the slider.
        refused: whether the status says that a setting made no sense.
        stale: what the status says to have changed since the shown result, or nothing.
        said: what the work before the writing of files said at last: it stays, with what that says.
    """

    def __init__(self, scratch: Path, served: Path, door: Door) -> None:
        self.clip: Clip | None = None
        self.shown: Shown | None = None
        self.earlier = Earlier()
        self.compared: tuple[Compared, ...] = ()
        self.naming = Naming()
        self.uploads: dict[Clip, str] = {}
        self.names: set[str] = set()
        self.own_flow: OwnFlow | None = None
        self._flows: list[Path] = []
        self.controls: Sequence[Any] = ()
        self.looks: Sequence[Any] = ()
        self.following = True
        self.refused = False
        self.stale = ""
        self.said = ""
        self.frame = 0
        self.to_come = 0
        self.choice = Choice(Settings().k)
        self.seen = time.monotonic()
        self.key = secrets.token_urlsafe(24)
        self.private = private_folder(scratch)
        self._all_served = served
        self._door = door
        self.served = served / secrets.token_urlsafe(24)
        self.served.mkdir(parents=True)
        self.folder = self.new_folder()
        self._lock = threading.RLock()
        self._ticket = 0
        self._kind: object = None
        self._called = ""
        self._lasting = False
        self._claimed = True
        self._working = False
        self._stopped = threading.Event()

    def begin(
        self, kind: object = None, said: str = "", called: str = "", lasting: bool = False
    ) -> None:
        """Announce work: what runs for this visitor ends.

        Args:
            kind: which handler is to take it; one that was queued for other work must not.
            said: see the attribute.
            called: what it is, for a sentence; see ``Job``.
            lasting: whether it goes on when another clip is chosen.
        """
        with self._lock:
            self._settle()
            self._kind, self._called, self._lasting = kind, called, lasting
            self.said, self.refused, self.stale = said, False, ""
            self._ticket += 1
            self._claimed = self._working = False
            self._stopped.clear()
            self.following = True

    def begin_writing(self, said: str = "") -> bool:
        """Announce the files of what is shown, where they are missing and nothing else goes on."""
        with self._lock:
            if self.busy or self.shown is None or not self.shown.unwritten:
                return False
            self.begin(WRITE, said)
            return True

    def begin_files(self) -> bool:
        """Announce the files of what is shown, for somebody asks: those of a stopped run, too."""
        with self._lock:
            if self.busy or self.shown is None or self.shown.files:
                return False
            self.begin(WRITE)
            return True

    def choose(self, choice: Choice) -> Shown | None:
        """Look at other labels: what is shown now, or None where that is what was shown before.

        Their files are announced where nothing goes on; work that does will write them.
        """
        with self._lock:
            self.choice = choice
            shown = self.shown.chosen(choice) if self.shown else None
            if shown is None or shown is self.shown:
                return None
            self.shown = shown
            self.begin_writing()
            return shown

    @property
    def writing_announced(self) -> bool:
        """Whether files are announced, and the work that writes them has not begun."""
        return self._kind == WRITE and not self._claimed

    def claim(self, kind: object = None) -> int | None:
        """The ticket of the work announced last.

        None when it was stopped or taken already, or is of another kind.
        """
        with self._lock:
            if self._kind != kind or self._claimed or self._stopped.is_set():
                return None
            self._claimed = self._working = True
            return self._ticket

    def end(self, ticket: int) -> None:
        """The work with this ticket has come to its end."""
        with self._lock:
            if ticket == self._ticket:
                self._settle()
                self._working = False

    def end_when_written(self, ticket: int) -> bool:
        """End the work with this ticket, unless files of what is shown are missing now.

        Labels may be chosen while the last files are being announced: whoever chose them saw that
        work goes on, and relies on it.
        """
        with self._lock:
            wanted = not self.stopped(ticket) and self.shown is not None and self.shown.unwritten
            if not wanted:
                self.end(ticket)
            return not wanted

    @property
    def busy(self) -> bool:
        """Whether work is announced or goes on that the page waits for."""
        return self._working or not self._claimed

    def stop(self) -> bool:
        """Stop the work of this visitor; True when it had not even begun."""
        with self._lock:
            waiting = not self._claimed
            self._claimed = True
            self._stopped.set()
            return waiting

    def drop(self) -> None:
        """Turn to something else: what runs ends, and shows nothing any more."""
        with self._lock:
            self._settle()
            self._ticket += 1
            self._claimed = True
            self._working = False

    def turn(self, clip: Clip, shown: Shown | None, choice: Choice) -> tuple[Shown | None, str]:
        """Turn to a clip: what runs ends, unless it has nothing to do with one.

        Args:
            clip: that Segment will take.
            shown: a result of it that is known.
            choice: the labels to look at.

        Returns:
            what was shown of another clip, and a sentence on what becomes of the work, or nothing.
        """
        with self._lock:
            self.refused, self.stale = False, ""
            running = self._called if self.busy else ""
            told = f"{running[:1].upper()}{running[1:]}"
            if self.busy and self._lasting:
                told = f"{told} goes on; other work ends it."
            else:
                self.drop()
                told = f"{told} was stopped." if told else ""
            before = self.shown
            if before is not None and before.result.clip.source == clip.source:
                before = None
            else:
                self.folder = self.new_folder()
            self.clip, self.shown, self.choice = clip, shown, choice
            self.frame, self.compared = 0, ()
            self._settle()
            return before, told

    def show(self, shown: Shown, folder: Path, ticket: int | None = None) -> Shown | None:
        """Put a result on the page, with the labels that are looked at; its files go to ``folder``.

        Variants of a run with other settings do not stay: their titles tell what differs from it.
        Those that waited for a first result get what differs from it into their titles.

        Args:
            shown: the result.
            folder: where its files go.
            ticket: of the work that made it; None where nobody could have turned away meanwhile.

        Returns:
            what is shown now, or None where the page does not wait for that work any more.
        """
        with self._lock:
            if ticket is not None and not self.current(ticket):
                return None
            shown = shown.chosen(self.choice) or shown
            before, settings = self.shown, shown.result.settings
            if before is None:
                self.compared = tuple(_titled(each, settings) for each in self.compared)
            elif not comparable(before.result.settings, settings):
                self.compared = ()
            self.shown, self.folder = shown, folder
            return shown

    def _settle(self) -> None:
        """No more frames come to what is shown: the run that made it ends."""
        if self.shown is not None and self.shown.growing:
            self.shown = replace(self.shown, growing=False)

    def keep_choice(self) -> None:
        """What was to show other labels did not: those that are shown stay the chosen ones.

        A K that the shown run did not make stays chosen for the next one.
        """
        if self.shown is not None and self.choice.k == self.shown.choice.k:
            self.choice = self.shown.choice

    def current(self, ticket: int) -> bool:
        """Whether the page still waits for the work with this ticket."""
        return ticket == self._ticket

    def stopped(self, ticket: int) -> bool:
        """Whether the work with this ticket is to end."""
        return self._stopped.is_set() or ticket != self._ticket

    def take_upload(self, path: Path) -> Path:
        """Move an upload to where nothing is served from, under its own name.

        Raises:
            InputError: it is no file, or one that the app itself serves. Gradio takes the path of
                such a file for an upload, and moving it would take it from somebody else.
        """
        if path.is_symlink() or path.resolve().is_relative_to(self._all_served.resolve()):
            raise InputError("This file was not uploaded. Upload it from your own machine.")
        self.names |= {path.name, path.stem}
        folder = Path(tempfile.mkdtemp(dir=self.private))
        return Path(shutil.move(path, folder / path.name))

    def drop_upload(self, path: Path) -> None:
        """Remove an upload that nobody took; what was none is left alone."""
        with suppress(InputError):
            shutil.rmtree(self.take_upload(path).parent, ignore_errors=True)

    def take_video(self, path: Path) -> Clip:
        """Take an uploaded video; it does not stay when it is refused.

        Raises:
            InputError: it is no video, or beyond a limit.
        """
        taken = self.take_upload(path)
        try:
            return self._door.video(taken)
        except InputError:
            shutil.rmtree(taken.parent, ignore_errors=True)
            raise

    def keep_upload(self, clip: Clip, thumbnail: str) -> None:
        """Keep a clip of the visitor's; beyond the limit the oldest that is not on the page goes.

        Args:
            clip: as ``take_video`` gave it.
            thumbnail: of the clip, as a data URI.
        """
        self.uploads[clip] = thumbnail
        used = {clip, self.clip, *(result.clip for result in self._results())}
        for old in self._surplus(self.uploads, used):
            del self.uploads[old]
            self.earlier.forget(old)
            shutil.rmtree(old.source.parent, ignore_errors=True)

    def take_flow(self, path: Path, clip: Clip, max_frames: int | None = None) -> OwnFlow:
        """Take uploaded flow of ``clip``: what stays is a file of our own with the same vectors.

        It may be that of the first ``max_frames`` frames alone. As with clips, what is one too many
        goes.

        Raises:
            InputError: it is unusable, of another clip, or beyond a limit.
        """
        taken = self.take_upload(path)
        kept = self.new_private_folder() / taken.name
        try:
            self._door.flow(taken, clip, kept, max_frames)
        finally:
            shutil.rmtree(taken.parent, ignore_errors=True)
        self._flows.append(kept)
        used = {kept, *(Path(result.settings.flow) for result in self._results())}
        for old in self._surplus(self._flows, used):
            self._flows.remove(old)
            shutil.rmtree(old.parent, ignore_errors=True)
        return OwnFlow(kept, clip)

    def flow_for(self, clip: Clip | None) -> Path:
        """The flow that the visitor brought for ``clip``.

        Raises:
            InputError: they brought none, or that of another clip.
        """
        own = self.own_flow
        if own is None:
            raise InputError(
                "No flow is uploaded. Upload an .npz or a .zip, or choose an estimator."
            )
        if clip is None or clip.source != own.clip.source:
            raise InputError(
                f"The flow {own.path.name} belongs to {own.clip.name}. Choose that clip, upload "
                "the flow of this one, or choose an estimator."
            )
        return own.path

    def _results(self) -> list[Segmentation]:
        """What the page shows."""
        shown = [self.shown.result] if self.shown else []
        return [*shown, *(each.result for each in self.compared)]

    def _surplus(self, kept: Collection[T], used: Container[object]) -> list[T]:
        """The oldest of what is kept that are too many and not used."""
        unused = [each for each in kept if each not in used]
        return unused[: max(0, len(kept) - self._door.limits.clips)]

    def new_folder(self) -> Path:
        """Where the files of one result can be served from; it is not made yet."""
        return self.served / f"result-{secrets.token_urlsafe(8)}"

    def new_private_folder(self) -> Path:
        """An empty folder that is not served."""
        return Path(tempfile.mkdtemp(dir=self.private))

    def new_job_folder(self) -> Path:
        """An empty folder that is served, for what a job offers; it stays until the visit ends.

        Those of an endpoint's calls stay for as many calls as clips of a visitor do.
        """
        folder = self.served / f"{_JOB}{secrets.token_urlsafe(8)}"
        folder.mkdir()
        return folder

    def keep_only(self, folder: Path) -> None:
        """Remove the files of all results but the one in ``folder``; those of jobs stay."""
        for old in self.served.iterdir():
            if old != folder and not old.name.startswith(_JOB):
                shutil.rmtree(old, ignore_errors=True)

    def close(self) -> None:
        """Stop the work and remove everything of this visitor."""
        self.stop()
        self.drop()
        # No spool is closed by hand: a picture may be in the making; the last reference does it.
        self.shown = self.clip = None
        self.earlier = Earlier()
        self.compared = ()
        self.uploads = {}
        for folder in (self.private, self.served):
            shutil.rmtree(folder, ignore_errors=True)


def _titled(variant: Compared, settings: Settings) -> Compared:
    """``variant`` with what it has otherwise than ``settings`` in its title."""
    told = differences(variant.result.settings, settings)
    return replace(variant, title=", ".join([variant.title, *told]))


class Sessions:
    """All visitors, by the name that Gradio gives each page that is open.

    Args:
        offered: data sets that visitors may score, title → folder.
        limits: of what visitors upload; None takes the usual ones.
        scratch: where everything is kept; it closes with the sessions. None makes one.

    Attributes:
        offered: as given.
        door: where uploads come in.
        served: folder whose files are served.
        machine: where the long work of all of them runs, one piece at a time.
    """

    def __init__(
        self,
        offered: Mapping[str, Path] | None = None,
        limits: Limits | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        self.offered = dict(offered or {})
        self.door = Door(limits or Limits())
        self._scratch = scratch or Scratch()
        self.served = self._scratch.path / "served"
        self.served.mkdir()
        self._ended = threading.Event()
        self.machine = Machine()
        self._open: dict[str, Session] = {}
        self._left: deque[str] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()

    def of(self, name: str) -> Session:
        """The session of this name; a new one for a new visitor.

        Raises:
            InputError: the visitor left, and what was theirs is gone.
        """
        with self._lock:
            session = self._open.get(name)
            if session is None:
                if name in self._left:
                    raise InputError("The connection to this page was lost. Load the page again.")
                self._close_idle()
                session = self._open[name] = Session(self._scratch.path, self.served, self.door)
            session.seen = time.monotonic()
            return session

    def with_key(self, key: str) -> Session | None:
        """The visitor whose key it is; None where there is none, or they left."""
        if not key.isascii():
            return None
        with self._lock:
            for session in self._open.values():
                if secrets.compare_digest(session.key.encode(), key.encode()):
                    session.seen = time.monotonic()
                    return session
        return None

    def close(self, name: str) -> None:
        """The visitor left."""
        with self._lock:
            session = self._open.pop(name, None)
            self._remember(name)
        if session is not None:
            session.close()
            memory.give_back()

    def close_all(self) -> None:
        """The app ends."""
        self._ended.set()
        for name in list(self._open):
            self.close(name)
        self._scratch.close()

    def sweep_regularly(self) -> None:
        """From now on, visitors without a sign of life are looked for every ten minutes."""
        threading.Thread(target=self._sweep, name="stseg-sweep", daemon=True).start()

    def names(self) -> set[str]:
        """Names of the files that visitors brought, for as long as they are here."""
        return {name for session in list(self._open.values()) for name in session.names}

    def __len__(self) -> int:
        return len(self._open)

    def _sweep(self) -> None:
        while not self._ended.wait(SWEEP):
            with self._lock:
                self._close_idle()

    def _close_idle(self) -> None:
        now = time.monotonic()
        for name, session in list(self._open.items()):
            if now - session.seen > TIME_TO_LIVE:
                logger.info("A session without a sign of life is closed.")
                del self._open[name]
                self._remember(name)  # the page may still be open somewhere
                session.close()

    def _remember(self, name: str) -> None:
        """That this visitor left; a client without a name is never gone."""
        if name and name not in self._left:
            self._left.append(name)
