"""The list that goes from memory to disk: contents, shapes, copies, threads, the end."""

from __future__ import annotations

import copy
import os
import tempfile
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stseg.spool import Spool


def arrays(rng: np.random.Generator) -> list[np.ndarray]:
    """Arrays of many shapes and dtypes, 1 to some 10,000 bytes."""
    return [
        rng.integers(0, 255, (4, 20, 30), np.uint8),
        rng.standard_normal((2, 25, 40)).astype(np.float16),
        rng.standard_normal((3, 7, 5)).astype(np.float32),
        rng.integers(0, 9, (0, 4)),
        rng.standard_normal((60, 20))[::2, ::-1],
        rng.standard_normal((6, 8)).T,
        rng.random((5, 5)) < 0.5,
    ]


@pytest.mark.parametrize("memory", [0, 1, 3000, 5000, 2**20])
def test_what_goes_in_comes_out_wherever_it_lies(memory: int, rng: np.random.Generator) -> None:
    spool = Spool(memory)
    given_ = arrays(rng)
    for array in given_:
        spool.append(array)
    assert len(spool) == len(given_)
    for index, array in enumerate(given_):
        assert spool[index].dtype == array.dtype
        np.testing.assert_array_equal(spool[index], array, strict=True)
    for read, array in zip(spool, given_, strict=True):
        np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(spool[-1], given_[-1])


@pytest.mark.parametrize("memory", [0, 3000, 2**20])
def test_what_leaves_memory_is_still_there(memory: int, rng: np.random.Generator) -> None:
    spool = Spool(memory)
    given_ = arrays(rng)
    for array in given_[:4]:
        spool.append(array)
    spool.leave_memory()
    spool.leave_memory()
    for array in given_[4:]:
        spool.append(array)
    assert not any(isinstance(part, np.ndarray) for part in spool._held)
    for read, array in zip(spool, given_, strict=True):
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array, strict=True)


@pytest.mark.parametrize("memory", [0, 2**20])
def test_a_single_number_keeps_its_shape(memory: int) -> None:
    spool = Spool(memory)
    spool.append(np.array(3.5))
    assert spool[0].shape == ()
    assert spool[0] == 3.5


@given(st.lists(st.integers(0, 300), max_size=20), st.integers(0, 2000))
def test_memory_holds_no_more_than_its_bound(sizes: list[int], memory: int) -> None:
    spool = Spool(memory)
    for number, size in enumerate(sizes):
        spool.append(np.full(size, number % 256, np.uint8))
    held = sum(part.nbytes for part in spool._held if isinstance(part, np.ndarray))
    assert held <= memory
    for number, (read, size) in enumerate(zip(spool, sizes, strict=True)):
        assert read.tolist() == [number % 256] * size


def test_an_index_past_the_end_is_an_error() -> None:
    spool = Spool()
    spool.append(np.zeros(3))
    for index in (1, -2):
        with pytest.raises(IndexError):
            spool[index]


@pytest.mark.parametrize("memory", [0, 2**20])
def test_reading_and_writing_make_copies(memory: int) -> None:
    array = np.arange(6)
    spool = Spool(memory)
    spool.append(array)
    array[:] = 9
    read = spool[0]
    read[:] = 7
    assert spool[0].tolist() == [0, 1, 2, 3, 4, 5]


def test_deep_copies_share_what_never_changes() -> None:
    spool = Spool(0)
    spool.append(np.arange(4))
    record = {"masks": spool}
    assert copy.deepcopy(record)["masks"] is spool


def test_the_file_has_no_name_and_goes_with_the_spool(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = Spool(0)
    spool.append(np.arange(1000))
    assert os.listdir(str(tmp_path)) == []
    number = spool._file
    assert number is not None
    assert os.fstat(number).st_size == 8000
    spool.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


@pytest.mark.parametrize("memory", [0, 2**20])
def test_closing_empties_and_may_be_repeated(memory: int) -> None:
    spool = Spool(memory)
    spool.append(np.arange(4))
    spool.close()
    spool.close()
    assert len(spool) == 0
    assert list(spool) == []
    with pytest.raises(IndexError):
        spool[0]


def test_a_closed_spool_can_be_filled_again() -> None:
    spool = Spool(0)
    spool.append(np.arange(4))
    spool.close()
    spool.append(np.arange(5))
    spool.append(np.arange(6))
    assert [array.tolist() for array in spool] == [list(range(5)), list(range(6))]


def test_a_file_cut_short_is_noticed() -> None:
    spool = Spool(0)
    spool.append(np.arange(100))
    assert spool._file is not None
    os.ftruncate(spool._file, 50)
    with pytest.raises(OSError, match="ended early"):
        spool[0]


def test_threads_read_while_one_appends() -> None:
    spool = Spool(4000)  # the first half stays in memory
    count, errors = 200, []
    done = threading.Event()

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not done.is_set():
            if len(spool):
                index = int(rng.integers(len(spool)))
                if not (spool[index] == index).all() or spool[index].shape != (index % 7 + 1, 10):
                    errors.append(index)

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    for reader in readers:
        reader.start()
    for index in range(count):
        spool.append(np.full((index % 7 + 1, 10), index, np.uint8))
    done.set()
    for reader in readers:
        reader.join(timeout=20)
    assert errors == []
    assert [int(array[0, 0]) for array in spool] == list(range(count))
