"""Tab: the segments over the frame, beside what they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Literal

import gradio as gr
import numpy as np

from stseg.charts import area_top
from stseg.records import Clip, label_map
from stseg.render import (
    COLOURS,
    colour_wheel,
    flow_colours,
    flow_scale_of,
    from_jpeg,
    occlusion_picture,
    overlay,
    shrink,
    soft_mask,
    spotlight,
)
from stseg.truth import annotated, truth_at
from stseg.ui.legend import build_legend, hidden_labels, labels_of, legend_update
from stseg.ui.markup import ENLARGE, board, drawing, figure, labels, note, photo
from stseg.ui.over_frames import JUMP, cursor, ends
from stseg.ui.shown import Shown
from stseg.ui.told import told
from stseg.ui.view import Moment, TabView
from stseg.ui.work import TO_WRITE

TITLE = "Segments"

VIDEO = "Frame, flow, masks and linked labels as one video"

EMPTY = note("No clip is chosen.")

MOVING: Final = "moving"
"""The style that leaves bright what moves by itself."""

FOREGROUND = (
    "Segments that do not move as the border of the frame does, chosen without ground truth, once "
    "per sub-sequence or ten frames. Downloads has the masks: Foreground."
)

SOFTENED = 1
"""The segment whose soft mask is shown at first: 0 is the background more often than not."""

SMALL = 480
"""Longer side of the pictures that need no more."""

WHEEL = f'<img class="wheel" src="{drawing(colour_wheel(64))}" alt="Colour of each direction">'

BOARD = ENLARGE + JUMP
"""A click on the timeline jumps to its frame; a click on a picture makes it the large one."""


def build() -> TabView:
    """Lay out the tab."""
    with gr.Row(elem_id="options", equal_height=True):
        opacity = gr.Slider(
            0,
            100,
            value=50,
            step=5,
            label="Opacity (%)",
            info="Of the segments over the frame.",
            elem_id="opacity",
            buttons=[],
        )
        style = gr.Radio(
            choices=[("Fill", "fill"), ("Outline", "outline"), ("Moving", MOVING)],
            value="fill",
            label="Style",
            info="Segments, their borders, or what moves by itself.",
            elem_id="style",
        )
        hidden = build_legend()
        scale = gr.Radio(
            choices=[("Clip", "clip"), ("Frame", "frame")],
            value="clip",
            label="Flow scale",
            info="Full colour is its fastest motion.",
            elem_id="flow-scale",
        )
        soft = gr.Dropdown(
            # As it will be for a result: the page tells it before it has learnt of the first one.
            choices=[("0", 0), ("1", 1)],
            value=SOFTENED,
            label="Soft mask",
            info="Of a segment.",
            elem_id="soft",
            min_width=120,
        )
    shown = gr.HTML(EMPTY, js_on_load=BOARD, elem_id="board")
    heading = gr.HTML(_heading(None), elem_classes="heading", elem_id="grid-heading")
    video = gr.Video(
        show_label=False,
        interactive=False,
        visible=False,
        autoplay=False,
        loop=True,
        elem_id="grid-video",
        buttons=["download"],
    )
    return TabView(
        pictures=(shown,),
        draw=_draw,
        blank=(EMPTY,),
        options=(opacity, style, hidden, scale, soft),
        redraw_on=(opacity.input, style.input, hidden.input, scale.input, soft.input),
        details=(hidden, heading, video, soft),
        fill=_fill,
        update=_update,
    )


def preview(clip: Clip, image: np.ndarray) -> str:
    """What the board shows of a clip that is not segmented yet."""
    text = f"{clip.name}, not segmented yet: press Segment"
    picture = figure("frame", text, photo(image), "A frame.", enlarges=False)
    return board([picture], clip.size, "single")


def _fill(shown: Shown | None) -> tuple[Any, ...]:
    return legend_update(shown, clear=True), _heading(shown), _video(shown), _soft_choices(shown)


def _update(shown: Shown) -> tuple[Any, ...]:
    """The shares of the frames so far; what is hidden stays hidden. The video comes last."""
    video = (gr.skip(), gr.skip()) if shown.growing else (_heading(shown), _video(shown))
    return legend_update(shown, clear=False), *video, gr.skip()


def _soft_choices(shown: Shown | None) -> Any:
    """Labels whose soft mask can be looked at."""
    names = labels_of(shown) if shown else {0: "0"}
    choices = [(name, label) for label, name in names.items()]
    return gr.update(choices=choices, value=_softened(names, SOFTENED))


def _softened(names: Mapping[int, str], chosen: int) -> int:
    """The label that was chosen, or the last one before it that is there."""
    return max((label for label in names if label <= chosen), default=0)


def _heading(shown: Shown | None) -> str:
    made = "" if shown is None else f"Made with {told(shown.result.settings)}. "
    if shown is not None and "grid.mp4" in shown.files:
        return note(f"{made}{VIDEO}.")
    wanting = shown is not None and shown.broken_off
    when = f"; {TO_WRITE}" if wanting else ", here as soon as it is written"
    return note(f"{made}{VIDEO}{when}.")


def _video(shown: Shown | None) -> Any:
    grid = shown.files.get("grid.mp4") if shown else None
    return gr.update(value=str(grid) if grid else None, visible=grid is not None)


def _draw(
    moment: Moment,
    opacity: float,
    style: Literal["fill", "outline", "moving"],
    hidden: object,
    scaled: Literal["clip", "frame"],
    softened: int,
) -> tuple[str]:
    shown, frame, result = moment.shown, moment.frame, moment.shown.result
    image = from_jpeg(shown.pictures[frame])
    small = shrink(image, SMALL)
    soft, assignment = result.soft_masks(frame), result.assignment[frame]
    own = label_map(soft, size_of(small))
    flow = result.motion(frame)
    scale = shown.scale if scaled == "clip" else flow_scale_of(flow)
    names = labels_of(shown)
    label = _softened(names, softened)

    def segments() -> str:
        linked = assignment[label_map(soft, size_of(image))]
        off = hidden_labels(hidden)
        if style == MOVING:
            lit = [each for each in shown.foreground.labels(frame) if each not in off]
            over = spotlight(image, linked, lit, opacity / 100)
            return figure("overlay", f"Moving objects, frame {frame}", photo(over), FOREGROUND)
        over = overlay(image, linked, opacity / 100, style, off)
        return figure("overlay", f"Segments, frame {frame}", photo(over), "Labels.")

    def measured() -> str:
        return figure(
            "flow",
            f"Optical flow, {scale:.1f} px a frame in full colour",
            drawing(flow_colours(flow, scale)),
            "Hue is the direction, saturation the speed.",
            WHEEL,
        )

    def masks() -> str:
        hint = "As the network gives them, not linked."
        return figure("masks", "Masks, frame by frame", labels(own), hint)

    def linked_labels() -> str:
        hint = "One label a segment through the clip."
        return figure("labels", "Linked labels", labels(assignment[own]), hint)

    def softly() -> str:
        return figure(
            "soft",
            f"Soft mask of segment {names[label]}",
            photo(soft_mask(result.linked_masks(frame)[label], label, size_of(small))),
            "Bright where the network is certain.",
        )

    def discarded() -> str:
        return figure(
            "occlusions",
            f"Sites that η = {100 * moment.eta:.1f} % discards",
            photo(occlusion_picture(result, frame, moment.eta, small)),
            "Where the flow changes most between this frame and the next (eq. 5).",
        )

    def true() -> str:
        truth = truth_at(result.clip, frame, size_of(small))
        if truth is None:
            return ""
        clip = result.clip
        named = moment.naming.of_truth(result, annotated(clip), partial(truth_at, clip))[truth]
        hint = "Objects in the colours of the labels that they overlap, one-to-one over the clip."
        return figure("truth", "Ground truth", labels(_coloured(named)), hint)

    # Encoding takes most of the time, and lets others compute meanwhile.
    parts = (segments, measured, masks, linked_labels, softly, discarded, true)
    with ThreadPoolExecutor(2, "stseg-draw") as pool:
        figures = list(pool.map(lambda part: part(), parts))
    pictures = board(figures, result.clip.size, "seven" if figures[-1] else "")
    return (pictures + _timeline(shown, frame),)


def size_of(image: np.ndarray) -> tuple[int, int]:
    """(H, W) of a picture."""
    return image.shape[0], image.shape[1]


def _coloured(names: np.ndarray) -> np.ndarray:
    """Names beyond the last colour begin anew after the neutral one: there may be more objects."""
    return np.where(names == 0, 0, (names - 1) % (len(COLOURS) - 1) + 1).astype(np.uint8)


def _timeline(shown: Shown, frame: int) -> str:
    return (
        '<div class="timeline"><div class="caption">Area of each segment over the frames, up to '
        f"{100 * area_top(shown.areas):.0f} % of the frame: click to jump</div>"
        f'<div class="bands" data-frames="{len(shown)}">'
        f'<img src="{shown.timeline}" alt="Area of each segment over the frames">'
        f"{cursor(frame, len(shown))}</div>{ends(len(shown))}</div>"
    )
