"""The table that grows in one block: contents, copies, shapes."""

from __future__ import annotations

import numpy as np
import pytest

from stseg.rows import Rows


@pytest.mark.parametrize("count", [1, 63, 64, 65, 300])
def test_what_goes_in_comes_out(count: int, rng: np.random.Generator) -> None:
    given = rng.standard_normal((count, 4, 3)).astype(np.float32)
    rows = Rows(np.zeros((0, 4, 0), np.float32))
    for row in given:
        rows.append(row)
    assert len(rows) == count
    for some in (0, 1, count):
        np.testing.assert_array_equal(rows.first(some), given[:some], strict=True)


def test_an_empty_table_is_what_it_was_given() -> None:
    none = np.zeros((0, 5, 0), np.float32)
    np.testing.assert_array_equal(Rows(none).first(0), none, strict=True)


def test_rows_without_an_element_are_counted() -> None:
    """χ that nobody wants has no channels."""
    rows = Rows(np.zeros((0, 4, 0), np.float32))
    for _ in range(100):
        rows.append(np.zeros((4, 0), np.float32))
    assert rows.first(100).shape == (100, 4, 0)


def test_nothing_is_shared_with_who_appends_or_reads() -> None:
    rows = Rows(np.zeros((0, 2), np.uint8))
    row = np.array([1, 2], np.uint8)
    rows.append(row)
    row[:] = 9
    read = rows.first(1)
    read[:] = 7
    np.testing.assert_array_equal(rows.first(1), [[1, 2]])


def test_what_was_read_before_it_grew_stays(rng: np.random.Generator) -> None:
    rows = Rows(np.zeros((0, 2), np.uint8))
    given = rng.integers(0, 9, (200, 2), np.uint8)
    read = []
    for place, row in enumerate(given, start=1):
        rows.append(row)
        read.append(rows.first(place))
    for place, each in enumerate(read, start=1):
        np.testing.assert_array_equal(each, given[:place], strict=True)


def test_a_row_of_another_shape_is_refused() -> None:
    rows = Rows(np.zeros((0, 2), np.uint8))
    rows.append(np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match=r"A row is \(1,\), but the first was \(2,\)"):
        rows.append(np.zeros(1, np.uint8))


def test_more_than_there_are_cannot_be_read() -> None:
    with pytest.raises(IndexError, match="There are 0 rows, not 1"):
        Rows(np.zeros((0, 2), np.uint8)).first(1)
