"""What the page remembers of each visitor, on the server and only while they are here."""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import threading
import time
from pathlib import Path

from stseg.records import Clip
from stseg.ui.private import private_folder
from stseg.ui.work import Shown

logger = logging.getLogger(__name__)

TIME_TO_LIVE = 12 * 3600.0
"""Seconds without a sign of a visitor after which their clips go, where no closing was seen."""


class Session:
    """One visitor: their uploads, the clip they chose, what they look at, their running work.

    ``private`` holds uploads and is not served. ``served`` holds the files of the latest result
    for playing and downloading; its name cannot be guessed. Both go with the session.

    Attributes:
        clip: the clip that Segment will take.
        shown: the result on the page.
        own_flow: flow that the visitor brought, or None.
        uploads: clips that the visitor brought, with their thumbnails.
        frame: the frame they look at.
        following: whether the page runs along with the work; False once they moved the slider.
    """

    def __init__(self, served: Path) -> None:
        self.clip: Clip | None = None
        self.shown: Shown | None = None
        self.uploads: dict[Clip, str] = {}
        self.own_flow: Path | None = None
        self.following = True
        self.frame = 0
        self.seen = time.monotonic()
        self.private = private_folder()
        self.served = served / secrets.token_urlsafe(24)
        self.served.mkdir(parents=True)
        self._lock = threading.Lock()
        self._ticket = 0
        self._claimed = True
        self._stopped = threading.Event()

    def begin(self) -> None:
        """Announce work: what runs for this visitor ends, and the next ``claim`` starts anew."""
        with self._lock:
            self._ticket += 1
            self._claimed = False
            self._stopped.clear()
            self.following = True

    def claim(self) -> int | None:
        """The ticket of the work announced last, or None when it was stopped or taken already."""
        with self._lock:
            if self._claimed or self._stopped.is_set():
                return None
            self._claimed = True
            return self._ticket

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
            self._ticket += 1
            self._claimed = True

    def current(self, ticket: int) -> bool:
        """Whether the page still waits for the work with this ticket."""
        return ticket == self._ticket

    def stopped(self, ticket: int) -> bool:
        """Whether the work with this ticket is to end."""
        return self._stopped.is_set() or ticket != self._ticket

    def take_upload(self, path: Path) -> Path:
        """Move an upload to where nothing is served from, under its own name."""
        folder = Path(tempfile.mkdtemp(dir=self.private))
        return Path(shutil.move(path, folder / path.name))

    def new_folder(self) -> Path:
        """Where the files of one result can be served from; it is not made yet."""
        return self.served / secrets.token_urlsafe(8)

    def keep_only(self, folder: Path) -> None:
        """Remove the files of all results but the one in ``folder``."""
        for old in self.served.iterdir():
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)

    def close(self) -> None:
        """Stop the work and remove everything of this visitor."""
        self.stop()
        self.drop()
        # No spool is closed by hand: a picture may be in the making; the last reference does it.
        self.shown = self.clip = None
        self.uploads = {}
        for folder in (self.private, self.served):
            shutil.rmtree(folder, ignore_errors=True)


class Sessions:
    """All visitors, by the name that Gradio gives each page that is open."""

    def __init__(self) -> None:
        self.served = Path(tempfile.mkdtemp(prefix="stseg-served-"))
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> Session:
        """The session of this name; a new one for a new visitor."""
        with self._lock:
            session = self._open.get(name)
            if session is None:
                self._close_idle()
                session = self._open[name] = Session(self.served)
            session.seen = time.monotonic()
            return session

    def close(self, name: str) -> None:
        """The visitor left."""
        with self._lock:
            session = self._open.pop(name, None)
        if session is not None:
            session.close()

    def close_all(self) -> None:
        """The app ends."""
        for name in list(self._open):
            self.close(name)
        shutil.rmtree(self.served, ignore_errors=True)

    def __len__(self) -> int:
        return len(self._open)

    def _close_idle(self) -> None:
        now = time.monotonic()
        for name, session in list(self._open.items()):
            if now - session.seen > TIME_TO_LIVE:
                logger.info("A session without a sign of life is closed.")
                del self._open[name]
                session.close()
