"""The accelerator, which one piece of long work has at a time; work that is stuck loses it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

from stseg import memory
from stseg.errors import Cancelled, InputError, Stop
from stseg.logs import event

logger = logging.getLogger(__name__)

STALL = 300.0
"""Seconds without a sign of life after which work is given up."""

LOOK = 0.2
"""Seconds between two looks at what goes on."""

T = TypeVar("T")
_END: Any = object()


@dataclass
class Lease:
    """The time that one piece of work has the machine.

    Attributes:
        begun: when it got the machine (``time.monotonic``).
        beat: its latest sign of life.
        lost: whether it was given up; it may still run, but it must end.
        worker: the thread that makes its steps.
    """

    worker: _Worker
    begun: float = field(default_factory=time.monotonic)
    beat: float = field(default_factory=time.monotonic)
    lost: bool = False

    def watched(self, stop: Stop) -> Stop:
        """``stop`` for the work itself: each question is a sign of life."""

        def asked() -> bool:
            self.beat = time.monotonic()
            return self.lost or stop()

        return asked


class Machine:
    """A lock for all long work of the app: of buttons, of endpoints, of the first example.

    Gradio's queue lets one piece of work begin at a time, but frees its place when a page is
    closed, while the computation may run on for a moment; and it knows nothing of the example.

    Each step of the work runs in a thread of the machine, so that whoever waits for it can tell
    when it is stuck. A thread cannot be killed: work that is stuck keeps it, a new thread takes
    its place, and the stuck work ends when it next asks whether to stop.

    Args:
        stall: seconds without a step and without a question whether to stop, after which the work
            is given up.
    """

    def __init__(self, stall: float = STALL) -> None:
        self._stall = stall
        self._free = threading.Condition()
        self._lease: Lease | None = None
        self._worker = _Worker()

    @property
    def seconds(self) -> float | None:
        """How long the work that goes on has had the machine; None when it is free."""
        lease = self._lease
        return None if lease is None else time.monotonic() - lease.begun

    def idle(self, seconds: float) -> bool:
        """Wait up to so long for the work that goes on to end; whether it has."""
        with self._free:
            return self._free.wait_for(lambda: self._lease is None, seconds)

    def watched(self, stop: Stop) -> Stop:
        """``Lease.watched`` for the work that has the machine now; to be called from inside it."""
        return stop if self._lease is None else self._lease.watched(stop)

    def steps(
        self, what: str, work: Callable[[Stop], Iterator[T]], stop: Stop
    ) -> Generator[T, None, None]:
        """The steps of ``work``, made while nothing else has the machine.

        Closing the iterator closes the work and frees the machine.

        Args:
            what: the work in a word, for the log.
            work: begins the work. It is given what to ask whether it is to stop, and it must ask
                often: silence is taken for being stuck.
            stop: asked while this waits for the machine, and by the work.

        Raises:
            InputError: the work is stuck.
            Cancelled: ``stop`` said so before it began.
        """
        asked = time.monotonic()
        lease = self._take(stop)
        outcome = "left"
        try:
            steps = work(lease.watched(stop))
            try:
                while (step := self._result(lambda: next(steps, _END), lease)) is not _END:
                    yield step
                outcome = "done"
            except (InputError, Cancelled) as error:
                outcome = "stopped" if isinstance(error, Cancelled) else "refused"
                raise
            except Exception:
                outcome = "failed"
                raise
            finally:
                close = getattr(steps, "close", None)
                if close is not None and not lease.lost:  # what is stuck cannot be closed
                    self._result(close, lease)
        finally:
            memory.give_back()
            self._leave(lease)
            used = memory.resident()
            fields = {
                "outcome": "stuck" if lease.lost else outcome,
                "waited_seconds": lease.begun - asked,
                "seconds": time.monotonic() - lease.begun,
                "memory_mib": None if used is None else used // memory.MIB,
            }
            event(logger, what, fields)

    def _take(self, stop: Stop) -> Lease:
        """Wait for the machine. Raises Cancelled when ``stop`` said so first."""
        with self._free:
            while self._lease is not None:
                self._free.wait(LOOK)
                if self._lease is not None:
                    self._end_if_stuck(self._lease)
                if stop():
                    raise Cancelled("The work was stopped before it began.")
            self._lease = Lease(self._worker)
            return self._lease

    def _leave(self, lease: Lease) -> None:
        with self._free:
            if lease is self._lease:
                self._lease = None
                self._free.notify_all()

    def _end_if_stuck(self, lease: Lease) -> None:
        """Give the machine to the next where this work gave no sign of life for too long."""
        if time.monotonic() - lease.beat < self._stall:
            return
        with self._free:
            if lease is not self._lease:
                return
            lease.lost = True
            lease.worker.leave()
            self._worker = _Worker()
            self._leave(lease)
        logger.error("Work without a sign of life for %.0f s is given up.", self._stall)

    def _result(self, function: Callable[[], T], lease: Lease) -> T:
        if not lease.lost:
            lease.beat = time.monotonic()
            made = lease.worker.call(function)
            while not lease.lost:
                if wait([made], LOOK).done:
                    return made.result()
                self._end_if_stuck(lease)
        raise InputError(
            f"The work made no progress for {self._stall:.0f} s and was given up. Try again, with "
            "fewer frames or a smaller video."
        )


class _Worker:
    """One thread that does what it is given, in turn; it never keeps the process from ending."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=self._run, name="stseg-machine", daemon=True).start()

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Do this next."""
        future: Future[T] = Future()
        self._calls.put((future, function))
        return future

    def leave(self) -> None:
        """End the thread once it has done what it was given."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function = call
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
                future.set_exception(error)
                del error
            else:
                future.set_result(result)
                del result
            del call, future, function  # nothing of the work stays while this waits
