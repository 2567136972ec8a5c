"""Tab: fit a model to the chosen clip alone, without any label, and watch it learn."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr
import numpy as np

from stseg.adaptation import AdaptationSettings, curves_of
from stseg.comparison import comparable, title_of
from stseg.errors import InputError
from stseg.flow import ESTIMATORS
from stseg.loss_chart import Curve
from stseg.naming import matching_at
from stseg.records import Clip, Settings, label_map
from stseg.render import from_jpeg, overlay, shrink
from stseg.ui.controls import OWN_MODEL, OWN_MODEL_TITLE, first_offered
from stseg.ui.curves import curves_svg
from stseg.ui.fit_work import (
    FitStep,
    Fitted,
    fit_clip,
    picture_of,
    segment_known,
    watched,
)
from stseg.ui.markup import board, figure, note, photo
from stseg.ui.told import model_title, no_room
from stseg.ui.view import Context, Job, Progress, TabView
from stseg.variants import available_variants
from stseg.volume import FlowFields

TITLE = "Fit"
CHECKPOINT = "Checkpoint"

SIDE = 480
"""Longer side of a picture."""

COLOURS = ("#64748b", "#3b82f6", "#ea580c", "#16a34a")
"""Of L, L_r, L_c and L of the clip: seen on white and on black, told apart by most eyes."""

DEFAULTS = AdaptationSettings()
SIZES = {"Coarse": (64, 112), "Full": (128, 224)}

ABOUT = (
    "Training goes on with the flow of the chosen clip alone, from a model that ships or from your "
    "own. K, τ, η and the flow are those of the left column. No label is used."
)


def build() -> TabView:
    """Lay out the tab."""
    gr.HTML(note(ABOUT), elem_classes="heading")
    variants = available_variants()
    with gr.Row(elem_id="fit-options", equal_height=True):
        base = gr.Dropdown(
            choices=[
                *((each.title, each.name) for each in variants),
                (OWN_MODEL_TITLE, OWN_MODEL),
            ],
            value=first_offered([each.name for each in variants]),
            label="Start from",
            info="The trained model that the fit begins with.",
            min_width=200,
            elem_id="fit-base",
        )
        steps = gr.Slider(
            1,
            1000,
            value=DEFAULTS.steps,
            step=1,
            precision=0,
            label="Steps",
            info="More steps follow the clip more closely, and take longer.",
            min_width=240,
            elem_id="fit-steps",
            buttons=[],
        )
        size = gr.Radio(
            choices=list(SIZES),
            value="Coarse",
            label="Grid",
            info="64x112 sites is four times as fast as 128x224.",
            min_width=200,
            elem_id="fit-size",
        )
    with gr.Row(elem_id="fit-losses", equal_height=True):
        consistency = gr.Radio(
            choices=[("With L_c", True), ("Without L_c", False)],
            value=True,
            label="Temporal loss",
            info="L_c asks for masks that change little over time (eq. 4).",
            min_width=200,
            elem_id="fit-consistency",
        )
        beta = gr.Slider(
            0.1,
            5,
            value=DEFAULTS.beta,
            step=0.1,
            label="β, weight of L_c",
            info="Counts only with L_c; 1 is the paper's.",
            min_width=200,
            elem_id="fit-beta",
            buttons=[],
        )
    with gr.Row(elem_id="fit-buttons"):
        start = gr.Button("Fit", variant="primary", elem_id="fit-start", min_width=80)
        stop = gr.Button("Stop", variant="stop", elem_id="fit-stop", min_width=80)
        join = gr.Button(
            "Add to Compare", interactive=False, elem_id="fit-join", size="sm", min_width=80
        )
        use = gr.Button(
            "Segment with it", interactive=False, elem_id="fit-use", size="sm", min_width=80
        )
        download = gr.DownloadButton(
            CHECKPOINT,
            interactive=False,
            size="sm",
            min_width=80,
            elem_id="fit-download",
        )
    with gr.Row(elem_id="fit-views"):
        with gr.Column(min_width=320):
            chart = gr.HTML(note("Loss curves appear here while it learns."), elem_id="fit-chart")
        with gr.Column(min_width=320):
            pictures = gr.HTML("", elem_id="fit-pictures")
    fitted = gr.State(None)
    fills = (chart, pictures, download, join, use, fitted)
    fit = Job(
        start.click,
        _fit,
        reads=(base, consistency, beta, steps, size, fitted),
        fills=fills,
        stop=(stop.click,),
        plan=_planned,
        waiting="Waiting for the machine to fit …",
        called="the fit",
    )
    add = Job(join.click, _join, reads=(fitted,), plan=_fitting)
    return TabView(jobs=(fit, add), segment_on=((use.click, fitted),))


def _planned(
    context: Context,
    base: str | None,
    consistency: bool,
    beta: float,
    steps: float,
    size: str,
    before: Fitted | None,
) -> tuple[Clip, Settings, Settings, AdaptationSettings, Fitted | None]:
    """What to fit to, how to segment with the model it begins as, which flow to read, how to fit.

    The last is what was fitted before.

    Raises:
        InputError: something is not there, or makes no sense.
    """
    clip = context.clip
    if clip is None:
        raise InputError("No clip is chosen. Choose the clip to fit to on the left.")
    if base not in [*(each.name for each in available_variants()), OWN_MODEL]:
        raise InputError(f"There is no model {base!r} here. Choose one of those offered.")
    if size not in SIZES:
        raise InputError(f"There is no grid {size!r}. Choose one of {', '.join(SIZES)}.")
    settings = context.settings(base)  # whatever is chosen on the left
    taus = tuple(dict.fromkeys(abs(tau) for tau in settings.taus))
    # The fit needs no flow that leads backwards, and flow of one's own may have none.
    forwards = replace(settings, taus=taus)
    settings = settings if settings.flow in ESTIMATORS else forwards
    chosen = AdaptationSettings(
        k=settings.k,
        taus=taus,
        eta=settings.eta,
        beta=float(beta) if consistency else 0.0,
        steps=int(steps),
        size=SIZES[size],
    )
    return clip, settings, forwards, chosen, before


def _fit(
    context: Context,
    clip: Clip,
    settings: Settings,
    forwards: Settings,
    chosen: AdaptationSettings,
    before: Fitted | None,
) -> Iterator[Progress]:
    start = model_title(settings.model)
    known = context.shown.footage if context.shown else None
    path = context.served() / f"{clip.name}-fitted.safetensors"
    yield Progress("Getting the flow of the clip …")
    # Chart, pictures and buttons are of one fit: those of an earlier one go together, and only when
    # this one has learnt something that a Stop would keep. Where it does not come so far, the
    # buttons are those of the earlier one again, whose model is the visitor's own as before.
    nothing = _buttons(None)
    lost = f"The fit of {start} to {clip.name} was broken off: nothing of it is kept."
    broken_off: tuple[Any, ...] | None = None
    image, names = None, None
    step = FitStep("")
    every = _every(chosen.steps)
    fitting = fit_clip(
        clip, settings.model, chosen, forwards, path, context.stop, known, context.cache, every
    )
    for step in fitting:
        if image is None and step.first is not None and step.flow is not None:
            frame = watched(len(step.flow.forward) + 1)
            image, names = _image(context, clip, frame), _names(context, clip, frame, step.first)
        values = None
        if image is not None and step.done:
            chart = _chart(clip, start, curves_of(step.told, COLOURS), chosen.steps)
            values = (chart, _pictures(clip, step, image, names), *nothing)
            nothing, broken_off = _skip(4), (note(lost), "", *_buttons(before))
        yield Progress(step.text, step.done, step.total, values, broken_off=broken_off)
    if step.saved is None or step.flow is None:
        return
    title = f"Fitted to this clip from {start}, K = {settings.k}"
    if chosen.beta == 0:
        title += ", without L_c"
    fitted = Fitted(clip, step.saved, settings, title)
    last = (*_skip(2), *_buttons(fitted))
    context.keep_model(step.saved)
    yield Progress(f"{step.text} The checkpoint can be downloaded.", values=last, broken_off=last)
    if context.stop():
        kept = (
            f"{step.text} What it learnt is kept: segment with it, download it, or add it to "
            "Compare."
        )
        yield Progress(kept, broken_off=last)
        return
    gone = yield from _add(context, fitted, step.flow)
    joined = f"{_joined(context)}{no_room(gone)}"
    yield Progress(f"{step.text} {joined} The checkpoint can be downloaded.")


def _join(context: Context, fitted: Fitted) -> Iterator[Progress]:
    """After a stop: segment with what there is."""
    gone = yield from _add(context, fitted, _known(context, fitted))
    yield Progress(f"{_joined(context)}{no_room(gone)}")


def _fitting(context: Context, fitted: Fitted | None) -> tuple[Fitted]:
    """The model, which was fitted to the chosen clip. Raises InputError where there is none."""
    if fitted is None:
        raise InputError("Nothing is fitted yet. Press Fit first.")
    if context.clip is None or context.clip.source != fitted.clip.source:
        raise InputError(
            f"The model was fitted to {fitted.clip.name}. Choose that clip, or fit to this one."
        )
    return (fitted,)


def _joined(context: Context) -> str:
    if context.shown is None:  # there is nothing on the page yet to see it beside
        return "The result waits in Compare for Segment."
    return "The result is in Compare."


def _known(context: Context, fitted: Fitted) -> FlowFields | None:
    """The flow of the shown result, where it is what segmenting takes."""
    footage = context.shown.footage if context.shown else None
    serves = footage is not None and footage.serves(fitted.clip, fitted.settings)
    return footage.flow if footage is not None and serves else None


def _add(
    context: Context, fitted: Fitted, flow: FlowFields | None
) -> Generator[Progress, None, list[str]]:
    """The fitted model as a variant, beside the model that it began as; what had to make room."""
    gone: list[str] = []
    shown = context.shown.unmerged.settings if context.shown else None
    start = fitted.settings
    there = [each.result.settings for each in context.compared()]
    if shown is not None and not any(
        (each.model, each.k, each.merge) == (start.model, start.k, None) and comparable(each, start)
        for each in (shown, *there)
    ):
        title = title_of(start, start)
        gone += yield from _segment(context, fitted, start, title, flow, brought=False)
    settings = replace(start, model=str(fitted.path))
    gone += yield from _segment(context, fitted, settings, fitted.title, flow, brought=True)
    return gone


def _segment(
    context: Context,
    fitted: Fitted,
    settings: Settings,
    title: str,
    flow: FlowFields | None,
    brought: bool,
) -> Generator[Progress, None, Sequence[str]]:
    work = segment_known(fitted.clip, settings, flow, context.stop, context.cache)
    while True:
        try:
            step = next(work)
        except StopIteration as ended:
            return context.add_variant(title, ended.value, brought)
        yield Progress(f"{title}: {step.text}", step.done, step.total)


def _every(steps: int) -> int:
    """Steps between two pictures: at least a dozen in all, and at least one in ten steps."""
    return max(1, min(10, steps // 12))


def _image(context: Context, clip: Clip, index: int) -> np.ndarray:
    footage = context.shown.footage if context.shown else None
    same = footage is not None and footage.clip.source == clip.source
    if footage is not None and same and index < len(footage.pictures):
        return shrink(from_jpeg(footage.pictures[index]), SIDE)
    return shrink(picture_of(clip, index), SIDE)


def _names(context: Context, clip: Clip, index: int, masks: np.ndarray) -> np.ndarray | None:
    """The label on the page of each segment, so that it has the same colour here; None for none."""
    shown = context.shown.result if context.shown else None
    if shown is None or shown.clip.source != clip.source or index >= len(shown):
        return None
    return matching_at(shown, index, masks)


def _chart(clip: Clip, start: str, curves: Sequence[Curve], steps: int) -> str:
    text = f"Losses of the fit of {start} to {clip.name}"
    return f'<div class="caption">{escape(text)}</div>{curves_svg(curves, steps)}'


def _pictures(clip: Clip, step: FitStep, image: np.ndarray, names: np.ndarray | None) -> str:
    """The watched frame before the fit and now; the clip is named, for another may be chosen."""
    size = (image.shape[0], image.shape[1])
    measured = [each for each in step.told if each.masks is not None]
    at = measured[-1].step if measured else 0
    hint = "Colours are those of the network's own segments, not linked."
    if names is not None:
        hint = "A segment has the colour of the label that it overlapped most before the fit."

    def labels(masks: np.ndarray) -> np.ndarray:
        segments = label_map(masks, size)
        return segments if names is None else names[segments]

    figures = [
        figure(
            name,
            caption,
            photo(overlay(image, labels(masks), 0.5, "fill", [])),
            hint,
            enlarges=False,  # on most screens they are as wide as their column
        )
        for name, caption, masks in (
            ("before", f"Before the fit: {clip.name}", step.first),
            ("now", f"After {at} step{'' if at == 1 else 's'}: {clip.name}", step.latest),
        )
        if masks is not None
    ]
    return board(figures, size, "pair")


def _buttons(fitted: Fitted | None) -> tuple[Any, Any, Any, Fitted | None]:
    """The buttons that take a fitted model, and the model; the clip is named, for others may be."""
    there = fitted is not None
    label = f"{CHECKPOINT} · {fitted.clip.name}" if fitted else CHECKPOINT
    file = gr.update(label=label, value=str(fitted.path) if fitted else None, interactive=there)
    return file, gr.update(interactive=there), gr.update(interactive=there), fitted


def _skip(count: int) -> tuple[Any, ...]:
    return tuple(gr.skip() for _ in range(count))
