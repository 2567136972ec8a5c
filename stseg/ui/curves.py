"""Loss curves as a drawing in the page itself: it takes the page's colours, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from stseg.loss_chart import Curve, running_mean

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 36
WINDOW = 10


def curves_svg(curves: Sequence[Curve], steps: int) -> str:
    """The curves from step 0 to ``steps``, with axes and a legend; empty ones are left out.

    Noisy curves are drawn thin, with their running mean over them; marked ones point by point.
    """
    known = [curve for curve in curves if len(curve.values)]
    top = _nice(max((max(curve.values) for curve in known), default=1.0))
    inner, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(step: int, value: float) -> tuple[float, float]:
        return LEFT + inner * step / max(steps, 1), TOP + high * (1 - min(value / top, 1.0))

    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = TOP + high * (1 - share)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4}" text-anchor="end">{top * share:.3g}</text>')
    for share in (0, 0.5, 1):
        x = LEFT + inner * share
        anchor = "end" if share == 1 else "middle"
        parts.append(
            f'<text x="{x}" y="{TOP + high + 14}" text-anchor="{anchor}">{steps * share:.0f}</text>'
        )
    parts.append(
        f'<text x="{LEFT + inner / 2}" y="{HEIGHT - 4}" text-anchor="middle">optimiser steps</text>'
    )
    for curve in known:
        points = [place(*pair) for pair in zip(curve.steps, curve.values, strict=True)]
        if curve.marked or len(points) == 1:
            parts.append(_line(points, curve.colour, "solid"))
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{curve.colour}"/>'
                for x, y in points
            ]
            continue
        smooth = running_mean(curve.values, WINDOW)
        mean = [place(*pair) for pair in zip(curve.steps, smooth.tolist(), strict=True)]
        parts += [_line(points, curve.colour, "thin"), _line(mean, curve.colour, "solid")]
    legend = "".join(
        f'<span><i style="background: {curve.colour}"></i>{escape(curve.name)} '
        f"<b>{np.mean(curve.values[-1 if curve.marked else -WINDOW :]):.4f}</b></span>"
        for curve in known
    )
    words = ", ".join(f"{curve.name} {curve.values[-1]:.4f}" for curve in known)
    return (
        f'<div class="curves"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Loss curves: {escape(words)}">{"".join(parts)}</svg>'
        f'<div class="legend">{legend}</div></div>'
    )


def _line(points: Sequence[tuple[float, float]], colour: str, kind: str) -> str:
    told = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{kind}" stroke="{colour}" points="{told}"/>'


def _nice(value: float) -> float:
    """The next of 1, 2, 4, 6, 8, 10 times a power of ten above ``value``."""
    if not np.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** float(np.floor(np.log10(value)))
    return next(power * digit for digit in (1, 2, 4, 6, 8, 10) if power * digit >= value)
