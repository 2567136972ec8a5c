"""Small pieces of HTML. Pictures are written into the page itself.

A picture handed to ``gr.Image`` would be saved where Gradio serves it to whoever knows the path;
as a data URI it never touches the disk and goes with the page.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import numpy as np

from stseg.render import jpeg, label_png, png

QUALITY = 82
"""Of photographs on the page: their bytes are in every answer to a move of the slider."""

RENEW = """
const renewed = [];
const onceRenewed = (does) => { renewed.push(does); watch('value', does); };
(window.stsegBoards ??= {})[element.parentElement.closest('[id]').id] = (html) => {
  props.value = html;
  queueMicrotask(() => renewed.forEach((does) => does()));  // after it is laid out
};
watch('value', () => document.dispatchEvent(new CustomEvent('stseg-event', {detail: element})));
"""
"""Of a component whose pictures the player may renew (``stseg.ui.player``): what is to be done
whenever they are renewed, by an event or by the player, is given to ``onceRenewed``. The player
hears of the former: an event that was on its way may show a frame that was left."""

ENLARGE = f"""{RENEW}
const tell = () => {{
  const figures = [...element.querySelectorAll('figure[tabindex]')];
  const large = (figure) => figure.dataset.name === element.dataset.large;
  // On a board without that picture none would be large; a lone picture says nothing.
  if (figures.length && !figures.some(large)) delete element.dataset.large;
  figures.forEach((figure) => figure.setAttribute('aria-pressed', String(large(figure))));
}};
const enlarge = (event) => {{
  const figure = event.target.closest('figure[tabindex]');
  if (!figure) return;
  const name = figure.dataset.name;
  if (element.dataset.large === name) delete element.dataset.large;
  else element.dataset.large = name;
  tell();
}};
element.addEventListener('click', enlarge);
element.addEventListener('keydown', (event) => {{
  if (event.key !== 'Enter' && event.key !== ' ') return;
  if (event.target.matches('figure[tabindex]')) event.preventDefault();  // the page would scroll
  enlarge(event);
}});
onceRenewed(tell);  // which one is large is known here alone
"""
"""Of a component with figures: a click makes one the large one, a second click ends that."""


def photo(image: np.ndarray) -> str:
    """A photograph (H, W, 3) as a data URI."""
    return jpeg_uri(jpeg(image, QUALITY))


def jpeg_uri(data: np.ndarray) -> str:
    """Bytes of a JPEG file as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def drawing(image: np.ndarray) -> str:
    """A picture (H, W, 3) without loss, as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def labels(picture: np.ndarray) -> str:
    """Labels (H, W) in the colours of the screen, as a data URI."""
    return "data:image/png;base64," + base64.b64encode(label_png(picture)).decode()


def figure(
    name: str, caption: str, source: str, hint: str, extra: str = "", enlarges: bool = True
) -> str:
    """A picture with its caption; a click makes it the large one of its board.

    Args:
        name: by which the style sheet knows it.
        caption: what stands below it.
        source: the picture, as a data URI.
        hint: a sentence for who points at it.
        extra: HTML that lies over it.
        enlarges: whether its component has the script ``ENLARGE``, and the page room for more.
    """
    reached = ""
    if enlarges:
        reached = f' tabindex="0" role="button" aria-pressed="false" aria-label="{escape(caption)}"'
    told = f"{hint} Click to enlarge." if enlarges else hint
    return (
        f'<figure data-name="{name}"{reached} title="{escape(told)}">'
        f'<div class="frame"><img src="{source}" alt="{escape(caption)}">{extra}</div>'
        # Whole in a hint: a narrow page cuts it.
        f'<figcaption title="{escape(caption)}">{escape(caption)}</figcaption></figure>'
    )


def board(figures: Sequence[str], size: tuple[int, int], kind: str = "") -> str:
    """Pictures of a clip beside one another.

    Args:
        figures: as ``figure`` gives them.
        size: (H, W) of the clip: the style sheet keeps the large picture within the screen.
        kind: further classes.
    """
    classes = f"board {kind}".rstrip()
    ratio = f"--ratio: {size[1]} / {size[0]}"
    return f'<div class="{classes}" style="{ratio}">{"".join(figures)}</div>'


def of_frame(html: str, frame: int) -> str:
    """Pictures that tell the player which frame they are of."""
    return f'{html}<i data-shown="{frame}" hidden></i>'


def status(text: str, done: int = 0, total: int | None = 0, busy: bool = False) -> str:
    """The line that says what is being done, with a bar while it is.

    Args:
        text: the sentence.
        done: steps done.
        total: number of steps; None or 0 where nobody knows it yet.
        busy: whether to show a bar.
    """
    bar = ""
    if busy:
        filled = f' value="{done}" max="{total}"' if total else ""
        bar = f'<progress aria-label="Progress"{filled}></progress>'
    state = "busy" if busy else "idle"
    return f'<div class="status {state}" role="status">{bar}<span>{escape(text)}</span></div>'


def note(text: str) -> str:
    """A quiet paragraph."""
    return f'<p class="note">{escape(text)}</p>'


def badge(device: str, text: str, urgent: bool = False) -> str:
    """Where the work runs, and what there is to say about it; ``urgent`` asks for a deed."""
    kind = "badge urgent" if urgent else "badge"
    return f'<div class="{kind}"><b>{escape(device)}</b><span>{escape(text)}</span></div>'
