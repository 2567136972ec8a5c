"""The finished example of the first visit, made in the background while the page comes up."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path

from stseg.errors import Cancelled, InputError, Stop
from stseg.files import no_space
from stseg.records import Settings
from stseg.ui.clips import Catalogue
from stseg.ui.machine import Machine
from stseg.ui.pace import Pace
from stseg.ui.shown import Choice, Shown
from stseg.ui.work import Step, segment_clip

logger = logging.getLogger(__name__)

AGAIN = 300.0
"""Seconds after which a visit has the example tried again that failed, as on a full disk."""

SETTINGS = Settings()
"""The three objects of the example and its background have a segment each."""


class Example:
    """One shipped clip, segmented once for all visitors.

    Args:
        catalogue: where the clip is from; its thumbnails are made in the same background.
        pace: learns from the run.
        served: folder whose files are served; the example's go there.
        machine: where it is segmented, in turn with the work of visitors.
    """

    def __init__(self, catalogue: Catalogue, pace: Pace, served: Path, machine: Machine) -> None:
        self.clip = catalogue.example
        self._catalogue = catalogue
        self._pace = pace
        self._machine = machine
        self._folder = Path(tempfile.mkdtemp(prefix="example-", dir=served))
        self._left = threading.Event()
        self._lock = threading.Lock()
        self._refused: float | None = None  # when the disk did not allow it, or it failed
        self._executor = ThreadPoolExecutor(2, "stseg-example")
        self._result: Future[Shown | None] = self._executor.submit(self._make)
        self._thumbnails = self._executor.submit(self._make_thumbnails)

    def ready(self, seconds: float) -> bool:
        """Wait up to so long for the example; whether it is there, or nothing makes it now."""
        with self._lock:
            if self._refused is not None and time.monotonic() - self._refused >= AGAIN:
                self._refused = None
                self._result = self._executor.submit(self._make)
        try:
            self._result.result(timeout=seconds)
        except NotYet:
            return False
        return True

    def thumbnails_ready(self, seconds: float) -> bool:
        """Wait up to so long for the thumbnails of the catalogue."""
        try:
            self._thumbnails.result(timeout=seconds)
        except NotYet:
            return False
        return True

    def shown(self) -> Shown | None:
        """The example once it is ready; None where there is none."""
        made = self._result  # ``ready`` may put another in its place
        return made.result() if made.done() and not made.cancelled() else None

    def close(self) -> None:
        """Stop what still runs."""
        self._left.set()
        self._executor.shutdown(cancel_futures=True)

    def _make_thumbnails(self) -> None:
        try:
            self._catalogue.make_thumbnails()
        except Exception:  # the gallery does without those that are missing
            logger.exception("Not every clip of the gallery has a thumbnail.")

    def _make(self) -> Shown | None:
        clip = self.clip
        if clip is None:
            return None

        def work(stop: Stop) -> Iterator[Step]:
            files = self._folder / "files"
            return segment_clip(
                clip, SETTINGS, files, None, stop, wanted=lambda: Choice(SETTINGS.k)
            )

        shown = None
        try:
            for step in self._machine.steps("example", work, self._left.is_set):
                shown = step.shown or shown
        except Cancelled:
            return None
        except InputError as error:
            logger.warning("There is no example on the first page: %s", error)
            if isinstance(error.__cause__, OSError):  # there may be room later
                self._refused = time.monotonic()
            return None
        except OSError as error:
            why = no_space(error) or f"The disk refused it ({error.strerror or error})."
            logger.warning("There is no example on the first page for now. %s", why)
            self._refused = time.monotonic()
            return None
        except Exception:  # whoever comes would be told of it at every click
            logger.exception("There is no example on the first page for now.")
            self._refused = time.monotonic()
            return None
        if shown is not None:
            self._pace.learn(shown.result)
        return shown
