"""Which tabs there are. A new one is a file beside this one and a line in the table."""

from __future__ import annotations

from typing import Protocol

from stseg.ui import downloads, segments
from stseg.ui.view import TabView


class Tab(Protocol):
    """The names that the file of a tab exposes."""

    @property
    def TITLE(self) -> str:
        """What the page calls it."""

    def build(self) -> TabView:
        """Lay out the tab in the place that is open now, and say how it is filled."""


TABS: tuple[Tab, ...] = (segments, downloads)
