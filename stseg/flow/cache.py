"""Flow that was computed once is kept in the user's cache folder, for the next run or restart."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from stseg.files import sweep
from stseg.flow.weights import cache_folder
from stseg.spool import Spool
from stseg.volume import FlowFields

logger = logging.getLogger(__name__)

FLOW_VERSION = (10,)
"""Part of the key of cached flow: raise it when the code of an estimator gives other numbers.

What else decides them is in ``stseg.flow.flow_origin``.
"""

LIMIT = 2 * 2**30
_CHUNK = 2**20


def content_key(source: Path, words: Sequence[object]) -> str:
    """Key of a clip's flow: hash of the content of the video and of what decides its flow.

    Args:
        source: a video file, or a folder of frames.
        words: estimator, its settings, grid, frames read.
    """
    digest = hashlib.blake2b(digest_size=20)
    digest.update(repr(tuple(words)).encode())
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    for path in files:
        if path.is_file():
            digest.update(path.name.encode() if source.is_dir() else b"")
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
    return digest.hexdigest()


def weights_key(weights: str | None) -> str:
    """Part of the keys of flow: the content of the weight file; "" for the published weights.

    A file that is not there has its name, since whoever computes the flow will say so.
    """
    if weights is None:
        return ""
    path = Path(weights)
    return content_key(path, []) if path.is_file() else weights


class FlowCache:
    """A folder of computed flow, bounded in size, that several processes can share.

    Each direction of a clip is one ``.npy`` file (n - 1, 2, h, w) float16, written whole and moved
    into place. Beyond the limit, what was used longest ago goes first. A cache that cannot be read
    or written only costs time: the flow is computed.

    Args:
        folder: where; None takes ``flow`` in the user's cache folder.
        limit: bytes that may be kept.
    """

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self._folder = folder or cache_folder() / "flow"
        self._limit = limit

    def load(self, key: str, backward: bool) -> FlowFields | None:
        """The flow under ``key``, with backward fields where they are asked for; None if absent."""
        fields = FlowFields()
        wanted = [("forward", fields.forward)]
        if backward:
            wanted.append(("backward", fields.backward))
        for direction, spool in wanted:
            path = self._path(key, direction)
            try:
                stored = np.load(path, mmap_mode="r")
            except FileNotFoundError:
                return None
            except OSError as error:  # it may be whole
                logger.warning("The cached flow %s cannot be read (%s).", path, error)
                return None
            except (ValueError, EOFError, BadZipFile) as error:
                logger.warning("The cached flow %s is unusable (%s).", path, error)
                with suppress(OSError):
                    path.unlink()
                return None
            for field in stored:
                spool.append(field)
            with suppress(OSError):  # a cache that can only be read keeps its order
                os.utime(path)
        return fields

    def store(self, key: str, fields: FlowFields) -> None:
        """Keep the flow of a whole clip under ``key``."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for direction, spool in (("forward", fields.forward), ("backward", fields.backward)):
                if len(spool):
                    self._write(self._path(key, direction), spool)
            self._shrink()
        except OSError as error:
            logger.warning("The flow is not kept in %s: %s.", self._folder, error)

    def _path(self, key: str, direction: str) -> Path:
        return self._folder / f"{key}-{direction}.npy"

    def _write(self, path: Path, spool: Spool) -> None:
        header = {
            "descr": "<f2",
            "fortran_order": False,
            "shape": (len(spool), *spool[0].shape),
        }
        descriptor, part = tempfile.mkstemp(prefix=".part-", dir=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for field in spool:
                    file.write(field.astype("<f2").tobytes())
            os.replace(part, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(part)
            raise

    def _shrink(self) -> None:
        """Delete what was used longest ago, until the rest fits; others may delete beside us."""
        sweep(self._folder, ".part-*")
        found = []
        for path in self._folder.glob("*.npy"):
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._limit:
                return
            with suppress(OSError):
                path.unlink()
            total -= size
