"""Loss curves as a picture: for the folder of a run, and for the screen."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Curve:
    """One line of the chart.

    Attributes:
        name: what the legend says.
        steps: where it is known.
        values: what it is there.
        colour: of the line, as matplotlib takes it.
        marked: draw every value as a point instead of a running mean over noisy ones.
    """

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    colour: str
    marked: bool = False


CURVES = {"L": "#333333", "L_r": "#0072b2", "L_c": "#d55e00"}
"""Colours of the losses, told apart in the common colour-vision deficiencies."""

WINDOW = 50
"""Values in the running mean of a noisy curve, at most; short curves take a tenth of theirs."""


def running_mean(values: Sequence[float], window: int) -> np.ndarray:
    """Mean of each value and up to ``window - 1`` before it; NaN where there is none."""
    known = np.asarray(values, float)
    weights = np.isfinite(known)
    sums = np.cumsum(np.where(weights, known, 0))
    counts = np.cumsum(weights)
    sums[window:] -= sums[:-window].copy()
    counts[window:] -= counts[:-window].copy()
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def loss_chart(
    curves: Sequence[Curve], title: str = "", size: tuple[float, float] = (8.0, 4.0)
) -> bytes:
    """The curves over the steps, as a PNG file.

    Args:
        curves: what to draw; those without a value are left out.
        title: over the chart.
        size: width and height in inches of 100 pixels.
    """
    # Imported late: training lies below the pipeline, which must not need matplotlib to start.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for curve in curves:
        if not len(curve.values):
            continue
        if curve.marked:
            axes.plot(curve.steps, curve.values, "o-", color=curve.colour, ms=3, label=curve.name)
            continue
        window = min(WINDOW, max(1, len(curve.values) // 10))
        axes.plot(curve.steps, curve.values, color=curve.colour, alpha=0.2, lw=0.7)
        smooth = running_mean(curve.values, window)
        axes.plot(curve.steps, smooth, color=curve.colour, lw=1.5, label=curve.name)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.set_ylim(bottom=0)
    if axes.has_data():
        axes.legend(frameon=False)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()
