"""Lines over the frames of a clip, with a scale and a cursor; a click on them jumps to a frame."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import Float

from stseg.charts import line_chart

JUMP = """
element.addEventListener('click', (event) => {
  const chart = event.target.closest('.timeline .bands');
  if (!chart) return;
  const box = chart.getBoundingClientRect();
  const frames = Number(chart.dataset.frames);
  window.stseg.go(Math.floor((event.clientX - box.left) / box.width * frames));
});
"""
"""Of a component with a timeline or such lines."""


def lines_over_frames(
    caption: str, values: Float[np.ndarray, "n s"], classes: Sequence[str], frame: int, name: str
) -> str:
    """One line a column of ``values``, NaN where it has a gap.

    Args:
        caption: what stands above it.
        values: of each frame and line.
        classes: class of each line, for the style sheet.
        frame: where the cursor is.
        name: what the lines are, for who cannot see them.
    """
    chart = line_chart(values.astype(np.float32), classes)
    scale = "".join(f'<span style="top: {100 * y:.1f}%">{text}</span>' for text, y in chart.ticks)
    return (
        f'<div class="timeline chart"><div class="caption">{escape(caption)}: click to jump</div>'
        f'<div class="scaled"><div class="scale">{scale}</div>'
        f'<div class="bands" data-frames="{len(values)}" role="img" '
        f'aria-label="{escape(name)} over the frames">{chart.svg}{cursor(frame, len(values))}</div>'
        f"</div>{ends(len(values))}</div>"
    )


def cursor(frame: int, frames: int) -> str:
    """The mark of a frame, in the middle of its column."""
    return f'<span class="cursor" style="left: {100 * (frame + 0.5) / frames:.2f}%"></span>'


def ends(frames: int) -> str:
    """Numbers of the first and the last frame."""
    return f'<div class="ends"><span>0</span><span>{frames - 1}</span></div>'
