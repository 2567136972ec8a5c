"""What a test looks at afterwards, done in processes of its own beside the tests before it.

Most tests take one core. Work that a test would only wait for, such as installing the user's
packages, begins with the first test and has the other core, or, where another process of
pytest-xdist has that core, when the test asks for it:

    @pytest.mark.aside(work=work)
    def test_something(aside: Any) -> None:
        assert aside == ...  # what work(folder) returned
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

Work = Callable[[Path], Any]
"""Takes an empty folder of its own; what it returns (pickled) or raises reaches the test."""


class Aside:
    """One piece of work after another, in the order of the tests that want them.

    Args:
        items: tests whose work begins now.
        folder: makes an empty folder of this name.
    """

    def __init__(self, items: Iterable[pytest.Item], folder: Callable[[str], Path]) -> None:
        # A process, since some tests count the open files of this one.
        self._lane = ProcessPoolExecutor(1, get_context("spawn"))
        self._folder = folder
        self._begun: dict[Work, Future[Any]] = {}
        for item in items:
            for mark in item.iter_markers("aside"):
                self._begin(mark.kwargs["work"])

    def __getitem__(self, work: Work) -> Any:
        """What the work returned; waits for it."""
        return self._begin(work).result()

    def _begin(self, work: Work) -> Future[Any]:
        if work not in self._begun:
            self._begun[work] = self._lane.submit(work, self._folder(work.__name__))
        return self._begun[work]

    def close(self) -> None:
        """Begin nothing more, and wait for what is on its way."""
        self._lane.shutdown(cancel_futures=True)
