"""Results that several processes make together: each is made once and kept.

A result is a JSON file in a work folder. Who makes it holds a lock on a claim file beside it. The
lock belongs to the process: when that ends, however it ends, the system lets go of the lock, so
that no claim outlives its owner and nobody has to guess how old a claim may be.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stseg.errors import InputError
from stseg.files import write_atomically

try:
    import fcntl
except ImportError:  # Windows: results are kept, but two processes may make the same one
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

LIMIT = 4096
"""Results that a folder keeps; what was used longest ago goes first."""


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

    def load(self, key: str) -> dict[str, Any] | None:
        """The result under ``key``; None where there is none that can be read."""
        path = self._path(key)
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            logger.warning("The result %s is unusable (%s); it is made again.", path, error)
            return None
        return result if isinstance(result, dict) else None

    def store(self, key: str, result: dict[str, Any]) -> None:
        """Keep a result, whole or not at all. Raises InputError where it cannot be written."""
        write_atomically(self._path(key), json.dumps(result).encode())
        self._shrink()

    def drop(self, key: str) -> None:
        """Forget a result."""
        with suppress(OSError):
            self._path(key).unlink()

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
