"""A growing table of equal small arrays, in one block of memory."""

from __future__ import annotations

import numpy as np

_FIRST = 64


class Rows:
    """Append-only table of NumPy arrays of one shape.

    A list of small arrays would hold on to what they are views of, and to places all over the
    heap, between which the large arrays of the next frames no longer fit. One thread may append
    while others read.

    Args:
        none: the table without rows, (0, ...); the first row gives the shape of all, ``none`` their
            dtype.
    """

    def __init__(self, none: np.ndarray) -> None:
        self._table = none
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, row: np.ndarray) -> None:
        """Add a copy of ``row`` at the end.

        Raises:
            ValueError: it is not of the shape of the first one.
        """
        if self._count and row.shape != self._table.shape[1:]:
            raise ValueError(f"A row is {row.shape}, but the first was {self._table.shape[1:]}.")
        if self._count == len(self._table):
            larger = np.empty((max(_FIRST, 2 * self._count), *row.shape), self._table.dtype)
            if self._count:
                larger[: self._count] = self._table
            self._table = larger  # who reads the old one reads the same rows
        self._table[self._count] = row
        self._count += 1

    def first(self, count: int) -> np.ndarray:
        """The first ``count`` rows (count, ...), as a copy.

        Raises:
            IndexError: there are fewer.
        """
        if count > self._count:
            raise IndexError(f"There are {self._count} rows, not {count}.")
        return self._table[:count].copy()
