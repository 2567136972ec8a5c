"""A growing list of arrays that leaves memory for the disk when it becomes large."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

DEFAULT_MEMORY = 16 * 2**20


class Spool:
    """Append-only list of NumPy arrays, held in memory up to a bound and then in a private file.

    The file is unlinked as soon as it is made, so that it goes with the process whatever happens.
    Arrays may differ in shape and dtype. Reading gives a fresh copy. One thread may append while
    others read.

    Args:
        memory: bytes that may stay in memory; what is appended beyond them goes to the file.
    """

    def __init__(self, memory: int = DEFAULT_MEMORY) -> None:
        self._memory = memory
        self._held: list[np.ndarray | tuple[int, tuple[int, ...], np.dtype[Any]]] = []
        self._in_memory = 0
        self._end = 0
        self._file: int | None = None
        self._lock = threading.Lock()

    def append(self, array: np.ndarray) -> None:
        """Add a copy of ``array`` at the end."""
        array = np.asarray(array, order="C")
        with self._lock:
            if self._in_memory + array.nbytes <= self._memory:
                self._held.append(array.copy())
                self._in_memory += array.nbytes
                return
            self._held.append(self._written(array))

    def leave_memory(self) -> None:
        """Move what is held in memory to the file, too; what is appended later goes there."""
        with self._lock:
            for index, held in enumerate(self._held):
                if isinstance(held, np.ndarray):
                    self._held[index] = self._written(held)
            self._memory = self._in_memory = 0

    def _written(self, array: np.ndarray) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
        """Where in the file the array is now, and what it is."""
        if self._file is None:
            self._file, path = tempfile.mkstemp(prefix="stseg-")
            os.unlink(path)
        view = memoryview(array.tobytes())
        written = 0
        while written < len(view):
            written += os.pwrite(self._file, view[written:], self._end + written)
        self._end += array.nbytes
        return self._end - array.nbytes, array.shape, array.dtype

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, index: int) -> np.ndarray:
        """The array at ``index``, as a copy. Raises IndexError past either end."""
        held = self._held[index]
        if isinstance(held, np.ndarray):
            return held.copy()
        offset, shape, dtype = held
        count = int(np.prod(shape)) * dtype.itemsize
        assert self._file is not None
        data = bytearray(count)
        view = memoryview(data)
        read = 0
        while read < count:
            chunk = os.pread(self._file, count - read, offset + read)
            if not chunk:
                raise OSError("The temporary file of this clip ended early. Segment it again.")
            view[read : read + len(chunk)] = chunk
            read += len(chunk)
        return np.frombuffer(data, dtype=dtype).reshape(shape)

    def __iter__(self) -> Iterator[np.ndarray]:
        for index in range(len(self)):
            yield self[index]

    def __deepcopy__(self, memo: dict[int, object]) -> Spool:
        # What is appended never changes, so that two records can share it.
        return self

    def close(self) -> None:
        """Free memory and disk. The spool is empty afterwards; closing twice is harmless."""
        with self._lock:
            self._held.clear()
            self._in_memory = 0
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def __del__(self) -> None:
        self.close()
