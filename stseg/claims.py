"""Results that several processes make together: each is made once and kept.

A result is a JSON file in a work folder. Who makes it holds a lock on a claim file beside it. The
lock belongs to the process: when that ends, however it ends, the system lets go of the lock, so
that no claim outlives its owner and nobody has to guess how old a claim may be.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from stseg.errors import InputError
from stseg.files import write_atomically

try:
    import fcntl
except ImportError:  # Windows: results are kept, but two processes may make the same one
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LIMIT = 4096
"""Results that a folder keeps; what was used longest ago goes first."""

Record = dict[str, Any]
"""A result as JSON values."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_turn(
    items: Sequence[Item],
    attempt: Callable[[Item, bool], Result | None],
    pause: Callable[[], None],
) -> Iterator[Result]:
    """Results of all items, in the order in which they are ready.

    Args:
        items: pieces of work that several processes share.
        attempt: gives the result of an item, or None where another process is at it; such an item
            is asked for again when all others are done, and then told so by True.
        pause: called where a whole round gave nothing, before the next one; it may raise.
    """
    again, waiting = False, list(items)
    while waiting:
        left = []
        for item in waiting:
            result = attempt(item, again)
            if result is None:
                left.append(item)
            else:
                yield result
        if len(left) == len(waiting):
            pause()
        again, waiting = True, left


class WorkFolder:
    """Kept results, by key.

    Args:
        folder: where; it is made if it is not there.

    Raises:
        InputError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The work folder {folder} cannot be made: {error.strerror}. Choose another."
            ) from error

    def load(self, key: str) -> Record | None:
        """The result under ``key``; None where there is none that can be read."""
        path = self._path(key)
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            logger.warning("The result %s is unusable (%s); it is made again.", path, error)
            return None
        with suppress(OSError):  # a folder that can only be read keeps its order
            os.utime(path)
        return result if isinstance(result, dict) else None

    def store(self, key: str, result: Record) -> None:
        """Keep a result, whole or not at all. Raises InputError where it cannot be written."""
        write_atomically(self._path(key), json.dumps(result).encode())
        self._shrink()

    def fill(
        self,
        keys: Mapping[Item, str],
        claim: str,
        make: Callable[[list[Item]], Mapping[Item, Record]],
        fresh: bool = False,
        suits: Callable[[Record], bool] = lambda _: True,
    ) -> dict[Item, Record] | None:
        """Results that are made together: those that are kept, and the others made now and kept.

        What cannot be kept, as in a folder that can only be read, is given all the same.

        Args:
            keys: of the results.
            claim: key of the work on them; who holds it makes them, and all others leave them.
            make: makes those that are missing.
            fresh: make them all, whatever is kept.
            suits: whether a kept result will do.

        Returns:
            All of them, or None where another process is at them.
        """

        def kept() -> dict[Item, Record]:
            loaded = {} if fresh else {item: self.load(key) for item, key in keys.items()}
            return {item: each for item, each in loaded.items() if each is not None and suits(each)}

        found = kept()
        if len(found) == len(keys):
            return found
        with self.claim(claim) as ours:
            if not ours:
                return None
            found = kept()  # made while we asked
            missing = [item for item in keys if item not in found]
            made = make(missing) if missing else {}
            for item, record in made.items():
                try:
                    self.store(keys[item], record)
                except InputError as error:
                    logger.warning("The result of %s is not kept: %s", item, error)
        return {item: found.get(item) or made[item] for item in keys}

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether the work under ``key`` is ours, as long as the context is open.

        False: somebody else is at it. A claim whose process has ended is free again.
        """
        if fcntl is None:
            yield True
            return
        path = self._folder / f"{key}.claim"
        try:
            descriptor = _locked(path)
        except OSError as error:
            # A file system without locks: better twice than never.
            logger.warning("%s cannot be locked (%s); the work is not shared.", path, error)
            yield True
            return
        if descriptor is None:
            yield False
            return
        try:
            with suppress(OSError):  # a full disk: who holds it is only told to people
                os.truncate(descriptor, 0)
                os.write(descriptor, f"{os.uname().nodename} {os.getpid()}\n".encode())
            yield True
        finally:
            with suppress(OSError):
                path.unlink()  # while it is locked: whoever waits for it looks again
            os.close(descriptor)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _shrink(self) -> None:
        found = []
        for path in self._folder.glob("*.json"):
            with suppress(OSError):
                found.append((path.stat().st_mtime, path))
        for _, path in sorted(found)[: max(len(found) - LIMIT, 0)]:
            with suppress(OSError):
                path.unlink()


def _locked(path: Path) -> int | None:
    """A descriptor of ``path`` that holds its lock; None where another process holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The owner before us may have removed the file between the two lines above.
            with suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == path.stat().st_ino:
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
