"""All visitors of the app: who is here, and who left."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from stseg import memory
from stseg.errors import InputError
from stseg.limits import Limits
from stseg.scratch import Scratch
from stseg.ui.machine import Machine
from stseg.ui.session import Session
from stseg.uploads import Door

logger = logging.getLogger(__name__)

TIME_TO_LIVE = 12 * 3600.0
"""Seconds without a sign of a visitor after which their clips go, where no closing was seen."""

SWEEP = 600.0
"""Seconds from one look for such visitors to the next."""

REMEMBERED = 10_000
"""Names of visitors who left that are known: a request of theirs that was still under way must not
make them a new session, which nobody would close."""


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
            if session is not None:
                session.seen = time.monotonic()
                return session
            if name in self._left:
                raise InputError("The connection to this page was lost. Load the page again.")
            session = self._open[name] = Session(self._scratch.path, self.served, self.door)
        self._close_idle()
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
        return {name for session in list(self._open.values()) for name in session.own.names}

    def __len__(self) -> int:
        return len(self._open)

    def _sweep(self) -> None:
        while not self._ended.wait(SWEEP):
            self._close_idle()

    def _close_idle(self) -> None:
        """Close who gave no sign of life for long; work that goes on for them is one."""
        now = time.monotonic()
        with self._lock:
            idle = [
                name
                for name, session in self._open.items()
                if not session.working and now - session.seen > TIME_TO_LIVE
            ]
            closing = [self._open.pop(name) for name in idle]
            for name in idle:
                self._remember(name)  # the page may still be open somewhere
        for session in closing:  # which takes its time, and others look things up meanwhile
            logger.info("A session without a sign of life is closed.")
            session.close()

    def _remember(self, name: str) -> None:
        """That this visitor left; a client without a name is never gone."""
        if name and name not in self._left:
            self._left.append(name)
