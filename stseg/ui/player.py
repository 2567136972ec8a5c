"""The frame slider with its buttons: what moves it is in ``page.js``, what answers it is here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

LOOK = """
let wanted = null, asking = false;
const ask = async () => {
  if (asking) return;  // the last frame that is wanted meanwhile comes next, those before never
  asking = true;
  while (wanted !== null) {
    const frame = wanted;
    wanted = null;
    try {
      const boards = await server.look(props.value, frame);
      for (const name in boards) window.stsegBoards[name](boards[name]);
      if (!boards) trigger('input');
      // An event that came meanwhile may have moved the slider.
      const stands = Number(document.querySelector('#frame input[type=range]').value);
      if (wanted === null && stands !== frame) wanted = stands;
    } catch {
      trigger('input');
    }
  }
  asking = false;
};
// An event that was on its way when the slider was moved shows the frame of before.
let asked = false;
document.addEventListener('stseg-event', (event) => setTimeout(() => {
  const slider = document.querySelector('#frame input[type=range]');
  const shown = event.detail.querySelector('[data-shown]');
  if (!asked || !shown || shown.dataset.shown === slider.value) return;
  wanted = Number(slider.value);
  ask();
}, 200));  // the slider may have been moved by the same event
document.addEventListener('input', (event) => {
  const player = event.target.closest && event.target.closest('#frame');
  const slider = player && player.querySelector('input[type=range]');
  const frame = slider && event.target.value !== '' ? Number(event.target.value) : NaN;
  if (Number.isNaN(frame)) return;
  wanted = Math.min(Math.max(frame, Number(slider.min)), Number(slider.max));
  asked = true;
  ask();
});
"""
"""Asks the server for the pictures of the frame that the slider stands at, and hangs them up.

Gradio's own way, an event, takes twice as long: it copies what every component holds, on either
side. It is the way out where this one fails, since it can say why."""

Look = Callable[[Any], dict[str, str] | None]
"""From what the script tells, a list of the visitor's key and the frame, the HTML of the pictures
by the name of their component; None where an event has to say why there is none."""


@dataclass(frozen=True)
class Player:
    """The row, as far as the server knows it.

    Attributes:
        frame: the slider.
        looker: asks for pictures when the slider is moved; its value is the visitor's key, and
            its ``input`` says that it could not get them.
    """

    frame: gr.Slider
    looker: gr.HTML


def build_player(look: Look) -> Player:
    """Lay out the row.

    Args:
        look: draws a frame.
    """

    def answer(told: Any) -> dict[str, str] | None:  # Gradio marks it, which no method lets it
        return look(told)

    answer.__name__ = "look"
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
            interactive=False,  # until a clip is there, which says how many frames it has
        )
    previous.click(None, js="() => window.stseg.step(-1)", api_visibility="private")
    following.click(None, js="() => window.stseg.step(1)", api_visibility="private")
    play.click(None, js="() => window.stseg.toggle()", api_visibility="private")
    looker = gr.HTML("", js_on_load=LOOK, elem_id="looker", server_functions=[answer])
    return Player(slider, looker)


def slider_update(frames: int, frame: int | None) -> Any:
    """The slider for a clip of so many frames, at ``frame``; None leaves it where it is."""
    moved: dict[str, Any] = {} if frame is None else {"value": frame}
    return gr.update(maximum=max(1, frames - 1), interactive=frames > 1, **moved)
