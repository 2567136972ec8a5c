"""The frame slider with its buttons; what moves it is in ``page.js``."""

from __future__ import annotations

from typing import Any

import gradio as gr


def build_player() -> gr.Slider:
    """Lay out the row and give the slider, which is the only part the server knows."""
    with gr.Row(elem_id="player", equal_height=True):
        previous = gr.Button("Previous", size="sm", min_width=72, scale=0, elem_id="previous")
        play = gr.Button("Play", size="sm", min_width=64, scale=0, elem_id="play")
        following = gr.Button("Next", size="sm", min_width=64, scale=0, elem_id="next")
        slider = gr.Slider(
            0,
            1,
            value=0,
            step=1,
            precision=0,
            label="Frame",
            info="Moves every picture; arrow keys step, and so does a click on the timeline.",
            elem_id="frame",
            scale=1,
            buttons=[],
            min_width=160,
        )
    previous.click(None, js="() => window.stseg.step(-1)", api_visibility="private")
    following.click(None, js="() => window.stseg.step(1)", api_visibility="private")
    play.click(None, js="() => window.stseg.toggle()", api_visibility="private")
    return slider


def slider_update(frames: int, frame: int | None) -> Any:
    """The slider for a clip of so many frames, at ``frame``; None leaves it where it is."""
    moved: dict[str, Any] = {} if frame is None else {"value": frame}
    return gr.update(maximum=max(1, frames - 1), interactive=frames > 1, **moved)
