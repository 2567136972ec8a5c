"""Charts of a ``Segmentation`` as plain pictures; the screen puts the words beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from stseg.render import palette

_TOPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def area_top(areas: Float32[np.ndarray, "n k"]) -> float:
    """Share of the frame at the top of ``area_timeline``: what all labels but the largest need.

    The largest, mostly the background, would leave the others a few pixels of height.
    """
    most = float((1 - areas[:, _largest(areas)]).max())
    return next((top for top in _TOPS if top >= most), 1.0)


def area_timeline(
    areas: Float32[np.ndarray, "n k"], width: int = 900, height: int = 90
) -> UInt8[np.ndarray, "height width 3"]:
    """Share of the frame that each label covers, over the frames, as stacked bands.

    From no share at the bottom to ``area_top``. The largest label fills what is left above, the
    others follow in order. Every frame has a column of the same width, from the left.

    Args:
        areas: shares of each frame, summing to 1 over k (``Segmentation.areas``).
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """
    largest = _largest(areas)
    order = np.array([largest, *(each for each in range(areas.shape[1]) if each != largest)])
    top = area_top(areas)
    bands = areas[:, order]
    bands[:, 0] = top - bands[:, 1:].sum(axis=1)
    frame = np.arange(width) * len(areas) // width
    ends = np.cumsum(bands / top, axis=1)[frame]  # (width, k): where each ends, from above
    row = (np.arange(height) + 0.5) / height
    passed = (row[:, None, None] >= ends[None]).sum(axis=2)
    return palette()[order[np.minimum(passed, len(order) - 1)]]


def _largest(areas: Float32[np.ndarray, "n k"]) -> int:
    return int(areas.mean(axis=0).argmax())


@dataclass(frozen=True)
class LineChart:
    """Lines over the frames: the drawing, and where its words go.

    Attributes:
        svg: the lines alone, one column a frame, stretched to whatever box they are put in.
        ticks: text and height of each line of the scale, as a share of the box from its top.
    """

    svg: str
    ticks: tuple[tuple[str, float], ...]


def line_chart(values: Float32[np.ndarray, "n s"], classes: Sequence[str]) -> LineChart:
    """One line a column of ``values`` over the frames, with gaps where a value is NaN.

    The scale holds zero and all values. Every line has a halo (class ``halo``), since no colour is
    told from every background.

    Args:
        values: of each frame and line.
        classes: class of each line, for the style sheet.
    """
    known = values[np.isfinite(values)]
    low, high = (
        (min(0.0, float(known.min())), max(0.0, float(known.max()))) if known.size else (0, 0)
    )
    step = _round_step((high - low) or 1.0)
    first, last = math.floor(low / step), math.ceil(high / step) or 1
    bottom, span = first * step, (last - first) * step

    def height(value: float) -> float:
        return 1 - (value - bottom) / span

    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = tuple(
        (f"{index * step:.{digits}f}", height(index * step)) for index in range(first, last + 1)
    )
    rules = "".join(
        f'<path class="{"zero" if index == 0 else "rule"}" d="M0 {100 * height(index * step):.2f}'
        f'H{len(values)}"/>'
        for index in range(first, last + 1)
    )
    lines = [
        _line([None if math.isnan(value) else 100 * height(value) for value in column.tolist()])
        for column in values.T
    ]
    halos = "".join(f'<path class="halo" d="{line}"/>' for line in lines)
    drawn = "".join(
        f'<path class="line {name}" d="{line}"/>' for name, line in zip(classes, lines, strict=True)
    )
    svg = (
        f'<svg viewBox="0 0 {len(values)} 100" preserveAspectRatio="none" aria-hidden="true">'
        f"{rules}{halos}{drawn}</svg>"
    )
    return LineChart(svg, ticks)


def _line(heights: Sequence[float | None]) -> str:
    """Path through the middle of the columns; a value between two gaps is a dash."""
    parts = []
    for frame, here in enumerate(heights):
        if here is None:
            continue
        before = heights[frame - 1] if frame else None
        after = heights[frame + 1] if frame + 1 < len(heights) else None
        if before is None and after is None:
            parts.append(f"M{frame} {here:.2f}h1")
        else:
            parts.append(f"{'M' if before is None else 'L'}{frame + 0.5} {here:.2f}")
    return "".join(parts)


def _round_step(span: float) -> float:
    """The step of a scale with three to six lines: 1, 2 or 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(span / 3))
    return next(step * power for step in (5, 2, 1) if step * power <= span / 3 * (1 + 1e-9))


def label_trails(points: Float32[np.ndarray, "n k 2"], now: int) -> str:
    """Points of each label over the frames in a plane, as SVG; NaN where a label is nowhere.

    Every point has its frame in ``data-frame``; those of frame ``now`` are larger and come last.
    Classes: ``trail`` and ``point``, both with ``label-<label>``, and ``now``.

    Args:
        points: of each frame and label.
        now: number of the present frame.
    """
    known = points[np.isfinite(points).all(axis=2)]
    low, high = (known.min(axis=0), known.max(axis=0)) if len(known) else (np.zeros(2), np.ones(2))
    span = np.maximum(high - low, 1e-6)
    width, height, margin = 400.0, 240.0, 14.0
    room = np.array([width - 2 * margin, height - 2 * margin])
    placed = margin + (points - low) / span * room
    trails: list[str] = []
    dots: list[str] = []
    present: list[str] = []
    for label in range(points.shape[1]):
        steps = [f"{x:.1f},{y:.1f}" for x, y in placed[:, label].tolist() if not math.isnan(x)]
        trails.append(f'<polyline class="trail label-{label}" points="{" ".join(steps)}"/>')
        for frame, (x, y) in enumerate(placed[:, label].tolist()):
            if math.isnan(x):
                continue
            here = frame == now
            dot = (
                f'<circle class="point label-{label}{" now" if here else ""}" cx="{x:.1f}" '
                f'cy="{y:.1f}" r="{8 if here else 3.5}" data-frame="{frame}">'
                f"<title>Segment {label}, frame {frame}</title></circle>"
            )
            (present if here else dots).append(dot)
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="Map of the segments over the frames">{"".join(trails + dots + present)}</svg>'
    )
