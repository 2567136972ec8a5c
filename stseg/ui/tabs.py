"""Which tabs there are. A new one is a file beside this one and a line in the table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from stseg.ui import compare, downloads, fit, motion, segments, similarity
from stseg.ui.benchmark import Benchmark
from stseg.ui.view import TabView


@runtime_checkable
class Tab(Protocol):
    """The names that the file of a tab exposes."""

    @property
    def TITLE(self) -> str:
        """What the page calls it."""

    def build(self) -> TabView:
        """Lay out the tab in the place that is open now, and say how it is filled."""


TABS: tuple[Tab, ...] = (segments, compare, similarity, motion, fit, downloads)


def tabs(offered: Mapping[str, Path]) -> tuple[Tab, ...]:
    """All tabs, in their order on the page.

    Args:
        offered: data sets that visitors may score, title → folder.
    """
    return (*TABS[:-1], Benchmark(offered), TABS[-1])
