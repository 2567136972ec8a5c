"""The folder of a running app: everything that it writes for its visitors lies in it."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path

logger = logging.getLogger(__name__)

PREFIX = "stseg-app-"
"""Of the name of the folder."""

_OWNER = ".owner"
_YOUNG = 3600.0
"""Seconds for which a folder without an owner may be one that is being made."""


class Scratch:
    """A new folder in the temporary one, which goes with ``close``.

    A killed app leaves its folder behind. It holds a lock on a file in it, which the system takes
    back however it ended; so the next app knows what nobody owns any more, and removes it.

    Attributes:
        path: the folder.
    """

    def __init__(self) -> None:
        remove_stale()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        making = self.path / f"{_OWNER}.part"
        self._owner: int | None = os.open(making, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._owner, fcntl.LOCK_EX)
        making.rename(self.path / _OWNER)  # nobody sees it before it is locked

    def close(self) -> None:
        """Remove the folder. Closing twice is harmless."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None


def remove_stale() -> int:
    """Remove the folders of apps of this user that do not run any more; their number."""
    removed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if _is_stale(folder):
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    if removed:
        logger.info("Removed what %d ended apps had left in the temporary folder.", removed)
    return removed


def _is_stale(folder: Path) -> bool:
    try:
        status = folder.lstat()
        if folder.is_symlink() or status.st_uid != os.getuid():
            return False
        descriptor = os.open(folder / _OWNER, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return folder.is_dir() and time.time() - status.st_mtime > _YOUNG
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
