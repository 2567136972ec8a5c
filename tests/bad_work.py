"""What a hostile file can make a decoder do; run by ``test_bounded`` in processes of their own."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import struct
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from stseg.errors import InputError


def arrays(count: int) -> Iterator[np.ndarray]:
    for index in range(count):
        yield np.full((3, 4), index, np.float32)


def told(value: Any) -> Iterator[Any]:
    yield value


def process() -> Iterator[int]:
    yield os.getpid()
    time.sleep(60)
    yield 0


def refused() -> Iterator[int]:
    yield 1
    raise InputError("This is no video. Give another.")


def crash() -> Iterator[int]:
    yield 1
    ctypes.string_at(0)
    yield 2


def bug() -> Iterator[int]:
    yield 1
    raise ZeroDivisionError


def spin() -> Iterator[int]:
    yield 1
    while True:
        pass


def spin_a_little(times: int) -> Iterator[int]:
    for index in range(times):
        until = time.process_time() + 0.7
        while time.process_time() < until:
            pass
        yield index


def hoard() -> Iterator[int]:
    yield 1
    yield len(np.ones(2**28, np.float64))


def write(path: Path) -> Iterator[int]:
    path.write_bytes(b"x" * 100)
    yield 1


def warn() -> Iterator[int]:
    logging.getLogger("stseg.video").warning("The file %r breaks off.", "a.mp4")
    yield 1


def objects() -> Iterator[np.ndarray]:
    yield np.array([{}], object)


def half_a_message() -> Iterator[int]:
    """Begins a message by hand and never ends it, as a process that was taken over could."""
    yield 1
    (ours,) = (each for each in gc.get_objects() if isinstance(each, Connection) and each.writable)
    os.write(ours.fileno(), struct.pack("!i", 100))
    time.sleep(60)
