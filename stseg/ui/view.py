"""How a tab tells the page what to fill and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gradio.components import Component

from stseg.ui.work import Shown


@dataclass(frozen=True)
class Moment:
    """Where the visitor stands: a result, a frame of it, and η.

    Attributes:
        shown: the result.
        frame: number of the frame, from 0.
        eta: fraction of sites that count as occluded.
    """

    shown: Shown
    frame: int
    eta: float


def _nothing(*_: Any) -> tuple[Any, ...]:
    return ()


@dataclass(frozen=True)
class TabView:
    """A laid out tab.

    Attributes:
        pictures: components drawn anew whenever the frame, η or an option moves.
        draw: their values, from a moment and the values of ``options``.
        options: components of the tab that ``draw`` reads.
        redraw_on: listeners (``slider.input``) that ask for it, beside the frame and η.
        details: components filled once for a result.
        fill: their values, from a result; None when there is none.
    """

    pictures: Sequence[Component] = ()
    draw: Callable[..., tuple[Any, ...]] = _nothing
    options: Sequence[Component] = ()
    redraw_on: Sequence[Callable[..., Any]] = ()
    details: Sequence[Component] = ()
    fill: Callable[[Shown | None], tuple[Any, ...]] = _nothing
