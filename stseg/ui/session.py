"""What the page remembers of each visitor, on the server and only while they are here."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stseg.comparison import Compared, beside
from stseg.naming import Naming
from stseg.records import Clip, Segmentation, Settings
from stseg.ui.belongings import Belongings, OwnFlow
from stseg.ui.earlier import Earlier
from stseg.ui.shown import Choice, Footage, Shown
from stseg.uploads import Door

SEGMENT, WRITE = "segment", "write"
"""Kinds of work; that of a tab is the job itself."""


class Session:
    """One visitor: what they brought, the clip they chose, what they look at, their running work.

    Args:
        scratch: folder of the app.
        served: the one in it whose files are served.
        door: where uploads come in.

    Attributes:
        own: what they brought, and their folders, which go with the session.
        clip: the clip that Segment will take.
        shown: the result on the page.
        earlier: results of the clips before.
        compared: variants of the chosen clip in the tab Compare, the first as reference.
        naming: of their labels as in what is shown.
        controls: what the left column says (``read_settings``), as an event told last.
        archived: whether the tab Compare has written an archive of just these variants.
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
        unfilled: whether a run was ended by other work, and the page does not say so yet.
        model: the visitor's own model as it was when the latest work was announced: a fit that this
            ends keeps another one.
        turning: held while the page turns to a clip: what is pressed meanwhile is about that one.
        said: what the work before the writing of files said at last: it stays, with what that says.
    """

    def __init__(self, scratch: Path, served: Path, door: Door) -> None:
        self.own = Belongings(scratch, served, door)
        self.clip: Clip | None = None
        self.shown: Shown | None = None
        self.earlier = Earlier()
        self._footage: Footage | None = None
        self._compared: tuple[Compared, ...] = ()
        self.archived = False
        self.naming = Naming()
        self.controls: Sequence[Any] = ()
        self.looks: Sequence[Any] = ()
        self.following = True
        self.refused = False
        self.stale = ""
        self.unfilled = False
        self.said = ""
        self.model: Path | None = None
        self.frame = 0
        self.to_come = 0
        self.choice = Choice(Settings().k)
        self.seen = time.monotonic()
        self.key = secrets.token_urlsafe(24)
        self.folder = self.own.new_folder()
        self.turning = threading.Lock()
        self._lock = threading.RLock()
        self._ticket = 0
        self._kind: object = None
        self._called = ""
        self._lasting = False
        self._claimed = True
        self._working = False
        self._stopped = threading.Event()

    @property
    def footage(self) -> Footage | None:
        """What is known of the clip from the latest run of it that came to its end.

        A run that goes on, or was stopped, takes its result from the page and not what it had read.
        """
        shown = self.shown
        return self._footage if shown is None or shown.footage is None else shown.footage

    @property
    def compared(self) -> tuple[Compared, ...]:
        """See above."""
        return self._compared

    @compared.setter
    def compared(self, variants: Sequence[Compared]) -> None:
        with self._lock:
            self.archived = self.archived and self._are_compared(variants)
            self._compared = tuple(variants)

    def archive(self, variants: Sequence[Compared]) -> None:
        """There is an archive of these variants, which may be those that are compared."""
        with self._lock:
            self.archived = self._are_compared(variants)

    def _are_compared(self, variants: Sequence[Compared]) -> bool:
        """Whether they are the very same: their arrays need not be looked at."""
        pairs = zip(variants, self._compared, strict=False)
        return len(variants) == len(self._compared) and all(one is other for one, other in pairs)

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
            self.model = self.own.model
            self._ticket += 1
            self._claimed = self._working = False
            self._stopped.clear()
            self.following = True

    def begin_writing(self, said: str = "") -> bool:
        """Announce the files of what is shown, where they are missing and nothing else goes on."""
        with self._lock:
            if self.busy or self.shown is None or not self.shown.unwritten:
                return False
            refused = self.refused and bool(said)  # what is said stays
            self.begin(WRITE, said)
            self.refused = refused
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
                self.seen = time.monotonic()

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
    def working(self) -> bool:
        """Whether work goes on, which is as good as a sign of the visitor."""
        return self._working

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
            the result of another clip that was shown, if its run had ended, and a sentence on what
            becomes of the work, or nothing.
        """
        with self._lock:
            self.refused, self.stale = False, ""
            before = self.shown
            running = self._called if self.busy else ""
            told = f"{running[:1].upper()}{running[1:]}"
            if self.busy and self._lasting:
                told = f"{told} goes on; other work ends it."
            else:
                self.drop()
                told = f"{told} was stopped." if told else ""
            same = before is not None and before.result.clip.source == clip.source
            if not same:
                self.folder = self.own.new_folder()
            self._footage = self.footage if same else None
            self.clip, self.shown, self.choice = clip, shown, choice
            self.frame, self.compared = 0, ()
            self._settle()
            self.unfilled = False  # whoever turned fills the page
            left = before is None or before.growing or same
            return None if left else before, told

    def show(self, shown: Shown, folder: Path, ticket: int | None = None) -> Shown | None:
        """Put a result on the page, with the labels that are looked at; its files go to ``folder``.

        Of the variants in the tab Compare those stay that belong beside it (``beside``).

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
            self._footage = self.footage
            before = self.shown.result.settings if self.shown else None
            self.compared = beside(self.compared, shown.result.settings, before)
            if shown.footage is not None and self.compared:
                first = self.compared[0].result
                alike = first.settings.max_frames == shown.result.settings.max_frames
                if alike and len(first) < len(shown):  # beside what a stopped run had
                    self.compared = ()
            self.shown, self.folder = shown, folder
            return shown

    def _settle(self) -> None:
        """No more frames come to what is shown: the run that made it ends."""
        if self.shown is not None and self.shown.growing:
            self.shown, self.unfilled = replace(self.shown, growing=False), True

    def keep_compared(self, ticket: int, variants: Sequence[Compared]) -> None:
        """Put variants into the tab Compare, while the page waits for the work with this ticket."""
        with self._lock:
            if self.current(ticket):
                self.compared = tuple(variants)

    def keep_video(self, clip: Clip, thumbnail: str) -> None:
        """Keep a clip that was brought; what has to make room for it is forgotten."""
        used = {self.clip, *(result.clip for result in self._results())}
        for old in self.own.keep_video(clip, thumbnail, used):
            self.earlier.forget(old)

    def take_flow(self, path: Path, clip: Clip, max_frames: int | None = None) -> OwnFlow:
        """``Belongings.take_flow``, which leaves the flow of what the page shows."""
        used = [Path(result.settings.flow) for result in self._results()]
        return self.own.take_flow(path, clip, used, max_frames)

    def take_model(self, path: Path) -> tuple[Path, tuple[int, ...]]:
        """``Belongings.take_model``, which leaves the models that are in use."""
        return self.own.take_model(path, self._used_models())

    def keep_model(self, path: Path) -> None:
        """Keep the model that a fit made; it is the visitor's own at once where they have none."""
        with self._lock:
            self.own.keep_model(path, self._used_models())
            if self.own.model is None or not self.own.model.is_file():
                self.own.model = path

    def _used_models(self) -> list[Path]:
        """Those of what the page shows, of work that was asked for, and the visitor's own."""
        shown = [Path(result.settings.model) for result in self._results()]
        return [*shown, *(model for model in (self.model, self.own.model) if model is not None)]

    def _results(self) -> list[Segmentation]:
        """What the page shows."""
        shown = [self.shown.result] if self.shown else []
        return [*shown, *(each.result for each in self.compared)]

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

    def close(self) -> None:
        """Stop the work and remove everything of this visitor."""
        self.stop()
        self.drop()
        # No spool is closed by hand: a picture may be in the making; the last reference does it.
        self.shown = self.clip = self._footage = None
        self.earlier = Earlier()
        self.compared = ()
        self.own.close()
