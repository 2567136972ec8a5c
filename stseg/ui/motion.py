"""Tab: how each segment moves, how well its model explains the flow, and what η leaves out."""

from __future__ import annotations

import math
import time
from html import escape

import gradio as gr
import numpy as np

from stseg.kinematics import UNITS, MotionOverTime
from stseg.render import (
    COLOURS,
    flow_colours,
    from_jpeg,
    heat,
    occlusion_picture,
    segment_flow,
    shrink,
)
from stseg.segment_motion import SMALLEST, FrameMotion, mask_change
from stseg.ui.legend import labels_of
from stseg.ui.markup import board, drawing, figure, note, photo
from stseg.ui.over_frames import lines_over_frames
from stseg.ui.segments import BOARD, SMALL, WHEEL
from stseg.ui.shown import Shown
from stseg.ui.view import Moment, TabView

TITLE = "Motion"

EMPTY = note("No clip is segmented.")

PENDING = note("The motion models are being fitted …")

LONG = 300
"""Frames beyond which the parameters are read beside the page: they take some 20 ms a frame."""

WAIT = 1.0
"""Seconds that a look waits for them."""

AGAIN = f"""{BOARD}
let again = null;
onceRenewed(() => {{
  clearTimeout(again);
  if (element.querySelector('[data-again]')) again = setTimeout(() => trigger('input'), 1500);
}});
"""
"""While the parameters are being read the tab asks again."""

LOSS = "loss"
PARAMETERS = {
    "speed": ("Speed", "px a frame"),
    "right": ("To the right", "px a frame"),
    "down": ("Downwards", "px a frame"),
    "divergence": ("Divergence", "% a frame, positive grows"),
    "rotation": ("Rotation", "degrees a frame, positive clockwise"),
    "deformation": ("Deformation", "% a frame, length of the hyperbolic terms"),
    "residual": ("Residual", "px a frame, L1 distance of the flow to the model"),
    LOSS: ("L_r", "of the whole frame (eq. 3)"),
}
"""What the chart can show: its name and its unit."""

TABLE = tuple(UNITS)


def build() -> TabView:
    """Lay out the tab."""
    parameter = gr.Radio(
        choices=[(name, key) for key, (name, _) in PARAMETERS.items()],
        value="speed",
        label="Parameter over the frames",
        info="Of each segment's fitted motion model, read at the segment's centroid.",
        elem_id="parameter",
    )
    told = gr.HTML(EMPTY, js_on_load=AGAIN, elem_id="motion")
    return TabView(
        pictures=(told,),
        draw=_draw,
        blank=(EMPTY,),
        pending=(PENDING,),
        options=(parameter,),
        redraw_on=(parameter.input, told.input),
        lazy=True,
    )


def _draw(moment: Moment, parameter: str) -> tuple[str]:
    shown, frame = moment.shown, moment.frame
    fitted = shown.motion.at(frame)
    chart = note("The parameters over the frames follow when the clip is segmented to its end.")
    if not shown.growing:
        told = _over_time(shown)
        chart = _waiting()
        if told is not None:
            chart = _chart(told, parameter, frame) + _table(told, shown, parameter, frame)
    pictures = _explained(moment, fitted) + _consistency(moment)
    size = shown.result.clip.size
    return (
        f"{board(pictures, size, 'even')}{chart}"
        '<div class="caption">Fitted motion of each segment: bright where it is, pale where its '
        "model only reaches</div>"
        f"{board(_models(moment, fitted), size, 'even small')}",
    )


def _over_time(shown: Shown) -> MotionOverTime | None:
    """The parameters of all frames; None while those of a long clip are being read."""
    motion = shown.motion
    return motion.over_time() if len(shown) <= LONG else motion.over_time_within(WAIT)


def _waiting() -> str:
    # The time makes it another value, so that the script asks once more.
    text = note("The parameters over the frames are being computed …")
    return f'<div data-again="{time.monotonic()}">{text}</div>'


def _explained(moment: Moment, fitted: FrameMotion) -> list[str]:
    """The flow, what the models make of it, and what they leave."""
    shown, scale = moment.shown, moment.shown.scale
    top = scale / 2
    return [
        figure(
            "measured",
            f"Optical flow, {scale:.1f} px a frame in full colour",
            drawing(flow_colours(shown.result.motion(moment.frame), scale)),
            "Hue is the direction, saturation the speed.",
            WHEEL,
        ),
        figure(
            "explained",
            "Fitted motion, each site by its own segment",
            drawing(flow_colours(fitted.composed(), scale)),
            "One quadratic model in space and time a segment (eq. 2), in the same colours.",
        ),
        figure(
            "residual",
            f"Residual, mean {fitted.unexplained().mean():.2f} px a frame",
            drawing(heat(fitted.unexplained(), top)),
            "L1 distance of the flow to the models, weighted by the masks: what L_r sums up.",
            _bar(f"{top:.1f} px"),
        ),
    ]


def _consistency(moment: Moment) -> list[str]:
    """What η discards, and the map behind L_c with and without it."""
    shown, frame, eta = moment.shown, moment.frame, moment.eta
    image = shrink(from_jpeg(shown.pictures[frame]), SMALL)
    change = mask_change(shown.result, frame, eta)
    top = 1 / shown.result.k
    under = heat(change.change * change.visible, top)
    under[~change.visible] = COLOURS[7]
    percent = f"{100 * eta:.1f} %"
    # The last frames have no flow after them to compare with.
    own = change.frame == frame
    pair = "this frame and the next" if own else "the last two frames that can be compared"
    return [
        figure(
            "discarded",
            f"Sites that η = {percent} discards",
            photo(occlusion_picture(shown.result, frame, eta, image)),
            f"Where the flow changes most between {pair} (eq. 5).",
        ),
        figure(
            "change",
            f"Change of the masks, all sites: L_c {change.before:.4f}",
            drawing(heat(change.change, top)),
            f"L1 change of the soft masks between {pair} (eq. 4).",
            _bar(f"{top:.2f}"),
        ),
        figure(
            "kept-change",
            f"Under η = {percent}: L_c {change.after:.4f}",
            drawing(under),
            "The same without the sites that η discards, which are marked (eq. 5).",
        ),
    ]


def _models(moment: Moment, fitted: FrameMotion) -> list[str]:
    pictures = []
    for label, name in labels_of(moment.shown).items():
        flow, inside = fitted.flow[label], fitted.labels == label
        if not inside.any():
            text = "not in this frame"
        elif inside.sum() < SMALLEST * inside.size:
            text, flow = "too small to tell", np.zeros_like(flow)  # as in the table
        else:
            text = f"{np.hypot(*flow)[inside].mean():.1f} px a frame, mean of its sites"
        picture = segment_flow(flow, inside, moment.shown.scale, label)
        pictures.append(
            figure(
                f"model-{label}",
                f"Segment {name}: {text}",
                drawing(picture),
                "Its motion model over the whole frame.",
                f'<span class="chip" style="--swatch: var(--label-{label})">{name}</span>',
            )
        )
    return pictures


def _values(told: MotionOverTime, parameter: str) -> np.ndarray:
    """The parameter in the unit of ``PARAMETERS``: (n, k), or (n, 1) for the whole frame."""
    if parameter == LOSS:
        return told.reconstruction[:, None]
    return told.readable()[parameter]


def _chart(told: MotionOverTime, parameter: str, frame: int) -> str:
    values = _values(told, parameter)
    name, unit = PARAMETERS[parameter]
    whole = parameter == LOSS
    classes = ["whole"] if whole else [f"label-{label}" for label in range(values.shape[1])]
    return lines_over_frames(f"{name}, {unit}", values, classes, frame, name)


def _table(told: MotionOverTime, shown: Shown, parameter: str, frame: int) -> str:
    """The parameters of all segments at this frame: the legend of the chart, too."""
    columns = {key: _values(told, key)[frame] for key in TABLE}
    labels = shown.result.labels_on_grid(frame)
    areas = np.bincount(labels.ravel(), minlength=shown.result.k) / labels.size
    head = "".join(
        f'<th scope="col"{_mark(key == parameter)} title="{escape(PARAMETERS[key][1])}">'
        f"{escape(PARAMETERS[key][0])}<small>{unit}</small></th>"
        for key, unit in zip(TABLE, ("px", "px", "px", "%", "°", "%", "px"), strict=True)
    )
    rows = "".join(
        f'<tr><th scope="row"><i style="--swatch: var(--label-{label})"></i>{name}</th>'
        f"<td>{100 * areas[label]:.1f} %</td>"
        + "".join(
            f"<td{_mark(key == parameter)}>{_number(float(column[label]))}</td>"
            for key, column in columns.items()
        )
        + "</tr>"
        for label, name in labels_of(shown).items()
    )
    loss = float(told.reconstruction[frame])
    return (
        '<div class="scroll"><table class="numbers"><thead><tr><th scope="col">Segment</th>'
        f'<th scope="col">Area</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<div class="caption">Frame {frame}, per frame of the clip, at the centroid of each '
        f"segment. L_r of the triplet: {loss:.3f}.</div>"
    )


def _mark(yes: bool) -> str:
    return ' class="chosen"' if yes else ""


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def _bar(top: str) -> str:
    """The scale of a heat map, in its corner."""
    ramp = drawing(heat(np.linspace(0, 1, 64, dtype=np.float32)[None], 1.0))
    return f'<span class="ramp"><b>0</b><img src="{ramp}" alt=""><b>{escape(top)}</b></span>'
