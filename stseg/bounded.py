"""Work on a stranger's file in a process of its own, with bounded time and memory.

A decoder that crashes, hangs or asks for all the memory takes no more than its process with it.
What comes back are arrays and JSON values, each checked, and never a pickle: a process that was
taken over can do no more than give wrong pictures.
"""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from functools import lru_cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any

import numpy as np

from stseg.errors import InputError
from stseg.limits import MIB, Limits

PRELOADED = ("stseg.uploads",)
"""Imported once by the process that the others are forked from: a new one takes some 20 ms."""

STUCK = 120.0
"""Seconds after which a process that neither works nor answers is given up."""

_LARGEST_TEXT = 2**20
_TYPES = frozenset({"|u1", "<f2", "<f4"})
_ROOM = 64 * MIB
"""Memory that a process keeps for telling that it has no more."""


def stream(
    work: Callable[..., Iterable[Any]], *arguments: Any, limits: Limits, name: str
) -> Generator[Any, None, None]:
    """What ``work(*arguments)`` yields, one by one, made in a process of its own.

    The process is no more than one item ahead, and ends with the generator. It can write no file.
    Its log lines come out in this process.

    Args:
        work: a function of a module, which yields arrays (uint8, float16, float32) or JSON values.
        arguments: of ``work``.
        limits: how much memory and time it may take.
        name: what sentences call the file.

    Raises:
        InputError: ``work`` raised it, broke down, or went beyond the limits.
    """
    context = _context()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, work, arguments, limits), daemon=True)
    try:
        process.start()
    except BaseException:
        ours.close()
        theirs.close()
        raise
    try:
        theirs.close()
        while True:
            try:
                item = _receive(ours, limits, process.kill)
            except (EOFError, OSError) as error:
                process.join(STUCK)
                raise _broken(name, process.exitcode) from error
            if "log" in item:
                _tell(item["log"])
            elif "refused" in item:
                raise InputError(str(item["refused"]))
            elif "memory" in item:
                raise InputError(
                    f"{name!r} takes more than {limits.memory:,} MiB of memory to read, which is "
                    "the limit here. Give a smaller file."
                )
            elif "item" in item:
                yield item["item"]
            else:
                return
    finally:
        ours.close()
        if process.is_alive():
            process.kill()
        process.join()
        process.close()


def first(work: Callable[..., Iterable[Any]], *arguments: Any, limits: Limits, name: str) -> Any:
    """The first thing that ``stream`` gives. See there."""
    with closing(stream(work, *arguments, limits=limits, name=name)) as items:
        for item in items:
            return item
    raise _broken(name, 0)


def _broken(name: str, status: int | None) -> InputError:
    if status is None or status in (-signal.SIGXCPU, -signal.SIGKILL):
        return InputError(
            f"{name!r} takes longer to read than is allowed here. Give a smaller or shorter file."
        )
    return InputError(f"{name!r} is damaged: it cannot be read to its end. Make it again.")


def prepare() -> None:
    """Start the process that the others are forked from, which takes seconds, and do not wait."""
    _context()
    forkserver.ensure_running()


@lru_cache(maxsize=1)
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def _receive(connection: Connection, limits: Limits, give_up: Callable[[], None]) -> dict[str, Any]:
    """The next message. Raises EOFError or OSError when there is none or it is not one of ours.

    Args:
        connection: where it comes from.
        limits: how large it may be.
        give_up: ends the process, and with it the wait for the rest of a message.
    """
    if not connection.poll(STUCK):
        raise EOFError
    watchdog = threading.Timer(STUCK, give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        return _read(connection, limits)
    finally:
        watchdog.cancel()


def _read(connection: Connection, limits: Limits) -> dict[str, Any]:
    """A message that has begun."""
    try:
        head = json.loads(connection.recv_bytes(_LARGEST_TEXT))
        if not isinstance(head, dict):
            raise OSError("a message is not a table")
        if "shape" not in head:
            return head
        shape = tuple(int(side) for side in head["shape"])
        if head["type"] not in _TYPES or min(shape) < 1:
            raise OSError("an array is of a kind that is not taken")
        if math.prod(shape) * np.dtype(head["type"]).itemsize > limits.memory * MIB:
            raise OSError("an array is larger than it can be")
        array = np.empty(shape, head["type"])
        if connection.recv_bytes_into(array.data.cast("B")) != array.nbytes:
            raise OSError("an array is cut off")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise OSError("a message makes no sense") from error
    return {"item": array}


def _tell(line: Any) -> None:
    level, name, text = line
    logging.getLogger(str(name)).log(int(level), "%s", text)


class _ToParent(logging.Handler):
    """Sends log lines where somebody reads them."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(logging.WARNING)
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        line = [record.levelno, record.name, record.getMessage()[:2000]]
        self._connection.send_bytes(json.dumps({"log": line}).encode())


def _serve(
    connection: Connection,
    work: Callable[..., Iterable[Any]],
    arguments: tuple[Any, ...],
    limits: Limits,
) -> None:
    """What the process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    logging.getLogger().handlers = [_ToParent(connection)]
    room = bytearray(_ROOM)
    _restrain(limits)
    with suppress(BrokenPipeError):  # nobody waits any more
        try:
            for item in work(*arguments):
                _send(connection, item)
                _renew(limits)
            last: dict[str, Any] = {"end": True}
        except InputError as error:
            last = {"refused": str(error)[: _LARGEST_TEXT // 8]}
        except MemoryError:
            room.clear()
            last = {"memory": True}
        connection.send_bytes(json.dumps(last).encode())


def _send(connection: Connection, item: Any) -> None:
    if not isinstance(item, np.ndarray):
        connection.send_bytes(json.dumps({"item": item}).encode())
        return
    array = np.ascontiguousarray(item)
    head = {"shape": array.shape, "type": array.dtype.str}
    connection.send_bytes(json.dumps(head).encode())
    connection.send_bytes(array.data.cast("B"))


def _restrain(limits: Limits) -> None:
    """Take from this process what it does not need."""
    if sys.platform == "win32":
        return
    import resource

    with suppress(OSError):  # macOS has no /proc; it does not keep RLIMIT_AS either
        with open("/proc/self/statm") as file:
            own = int(file.read().split()[0]) * resource.getpagesize()
        most = own + limits.memory * MIB
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    _renew(limits)


def _renew(limits: Limits) -> None:
    """Another ``patience`` of CPU time, up to the whole ``effort``."""
    if sys.platform == "win32":
        return
    import resource

    used = time.process_time()
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY:
        hard = math.ceil(used) + limits.effort
    resource.setrlimit(resource.RLIMIT_CPU, (min(math.ceil(used) + limits.patience, hard), hard))
