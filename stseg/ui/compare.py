"""Tab: the same clip under several variants, side by side and scrubbed together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from html import escape

import gradio as gr
import numpy as np

from stseg.comparison import (
    MOST,
    Compared,
    compare,
    difference_picture,
    differences,
    plan,
    with_variant,
)
from stseg.errors import InputError
from stseg.flow import ESTIMATORS, available_estimators
from stseg.measures import Measures
from stseg.naming import Table, permutation
from stseg.pipeline import SegmentationRun, load_network
from stseg.records import K_RANGE, Segmentation, Settings
from stseg.render import from_jpeg, overlay, shrink
from stseg.ui import compare_files
from stseg.ui.controls import OWN_MODEL, OWN_MODEL_TITLE, TAUS, check_offered
from stseg.ui.markup import ENLARGE, board, drawing, figure, note, photo
from stseg.ui.over_frames import JUMP, lines_over_frames
from stseg.ui.shown import Shown
from stseg.ui.told import no_room, told_common
from stseg.ui.view import Context, Job, Moment, Progress, TabView
from stseg.ui.work import INTERVAL
from stseg.variants import available_variants

TITLE = "Compare"

SIDE = 480
"""Longer side of one picture."""

ALWAYS = ("several", "full", "no-lc")
"""The default, and with and without L_c: ticked from the start, where their checkpoints are."""

UNSEGMENTED = (
    "Nothing is compared yet. Variants are compared with a clip that is segmented to its end: "
    "press Segment first."
)
EMPTY = (
    f"Nothing is compared yet. Tick up to {MOST} variants and press Compare: frames and flow are "
    "known, so only the network runs."
)

COLUMNS: tuple[tuple[str, str, Callable[[Measures], float | None], str, bool], ...] = (
    (
        "Flicker",
        "Share of sites whose label changes against the label carried along the flow.",
        lambda m: 100 * m.flicker,
        "{:.2f} %",
        False,
    ),
    (
        "Residual",
        "Mean L1 distance between the flow and the motion model of the label, pixels a frame.",
        lambda m: m.residual,
        "{:.3f} px",
        False,
    ),
    (
        "L_r",
        "Reconstruction loss (eq. 3), with the paper's motion model for every variant.",
        lambda m: m.reconstruction,
        "{:.4f}",
        False,
    ),
    (
        "L_c",
        "Temporal consistency loss (eq. 4), for every variant at the η that is named below.",
        lambda m: m.consistency,
        "{:.5f}",
        False,
    ),
    (
        "J",
        "Region similarity against the ground truth (Sec. 4.2).",
        lambda m: None if m.j is None else 100 * m.j,
        "{:.1f}",
        True,
    ),
    (
        "F",
        "Contour accuracy against the ground truth.",
        lambda m: None if m.f is None else 100 * m.f,
        "{:.1f}",
        True,
    ),
    (
        "Seconds",
        "Of the network alone; a run that made every K at once counts them all.",
        lambda m: m.seconds,
        "{:.1f}",
        False,
    ),
)
"""Of the table: name, hint, value, format, and whether more is better."""

OVER_FRAMES: tuple[tuple[str, str, Callable[[Measures], Sequence[float | None]]], ...] = (
    ("J", "J of each frame, %", lambda m: m.over_frames.j),
    ("Flicker", "Flicker of each frame against the one before, %", lambda m: m.over_frames.flicker),
)
"""Of the lines below the table: name, caption and values, as fractions."""

KEY = (
    '<svg class="key" viewBox="0 0 28 4" aria-hidden="true">'
    '<path class="line variant-{}" d="M0 2H28"/></svg>'
)
"""How the line of a variant is drawn."""


def build() -> TabView:
    """Lay out the tab."""
    variants = available_variants()
    models = gr.CheckboxGroup(
        choices=[*((each.title, each.name) for each in variants), (OWN_MODEL_TITLE, OWN_MODEL)],
        value=[each.name for each in variants if each.name in ALWAYS],
        label="Models",
        info="The trained models that are here; with and without L_c is Table 1 of the paper.",
        elem_id="compare-models",
    )
    with gr.Row(elem_id="compare-options", equal_height=True):
        k = gr.Dropdown(
            choices=[("None", 0), *((str(k), k) for k in range(K_RANGE[0], K_RANGE[1] + 1))],
            value=0,
            label="Another K",
            info="The shown model with other segments.",
            elem_id="compare-k",
        )
        tau = gr.Dropdown(
            choices=[("None", 0), *((f"{tau:+d}", tau) for tau in TAUS)],
            value=0,
            label="Another τ",
            info="The shown model with another step.",
            elem_id="compare-tau",
        )
        flow = gr.Dropdown(
            choices=[
                ("None", ""),
                *((ESTIMATORS[name].title, name) for name in available_estimators()),
            ],
            value="",
            label="Another flow",
            info="Estimated anew, so it takes longer.",
            elem_id="compare-flow",
        )
        refinement = gr.Checkbox(
            False,
            label="Refinement",
            info="The shown model with refined masks, or without where they are.",
            elem_id="compare-refine",
        )
    with gr.Row(elem_id="compare-start", equal_height=True):
        start = gr.Button("Compare", variant="primary", scale=0, min_width=120, elem_id="compare")
        tinted = gr.Checkbox(
            False,
            label="Tint differences to the first variant",
            info="The frame in pale gray where labels agree, the label's colour where they do not; "
            "labels are matched one-to-one by overlap first.",
            elem_id="compare-tint",
        )
        write = gr.Button("Write files", size="sm", scale=0, min_width=120, elem_id="compare-write")
        download = gr.DownloadButton(
            compare_files.DOWNLOAD,
            interactive=False,
            size="sm",
            scale=0,
            min_width=180,
            elem_id="compare-download",
        )
    shown = gr.HTML(note(UNSEGMENTED), js_on_load=ENLARGE + JUMP, elem_id="comparison")
    return TabView(
        pictures=(shown,),
        draw=_draw,
        blank=(note(UNSEGMENTED),),
        options=(tinted,),
        redraw_on=(tinted.input,),
        offers=(download,),
        offered=lambda archived: (gr.skip() if archived else compare_files.nothing(),),
        jobs=(
            Job(
                start.click,
                _run,
                reads=(models, k, tau, flow, refinement),
                fills=(download,),
                plan=_planned,
                called="the comparison",
            ),
            Job(
                write.click,
                compare_files.write,
                fills=(download,),
                plan=compare_files.compared,
                called="the writing of the comparison",
                latest=True,
            ),
        ),
    )


def _run(context: Context, shown: Shown, planned: dict[str, Settings]) -> Iterator[Progress]:
    """Segment the clip under every chosen variant, and measure each."""
    brought = [each for each in context.compared() if each.brought]
    made: tuple[Compared, ...] = ()
    notes: list[str] = []
    for number, (title, settings) in enumerate(planned.items(), 1):
        doing = f"Variant {number} of {len(planned)} ({title})"
        result = _known(shown, settings)
        if result is None:
            result, told = yield from _segment(context, shown, settings, doing)
            notes += (f"{title}: {note}" for note in told)
        yield Progress(f"{doing}: measuring …", number - 1, len(planned))
        first = made[0].result if made else None
        made = with_variant(made, compare(title, result, first, context.stop))
        # What was brought is there after every step: this may end early, and nobody else has it.
        together = made
        for each in brought[: MOST - len(made)]:
            together = with_variant(together, each)
        context.keep(together)
        # What was written is of other variants.
        off = (compare_files.nothing(),)
        yield Progress(f"{doing}: done.", number, len(planned), off, redraw=True)
    ended = _ended(context.compared(), brought, shown.result.clip.name)
    yield Progress(" ".join([ended, *notes]))


def _planned(
    context: Context, models: list[str], k: int, tau: int, flow: str, refinement: bool
) -> tuple[Shown, dict[str, Settings]]:
    """What is compared, and the variants by title. Raises InputError where it cannot be done."""
    shown = context.shown
    if shown is None or shown.footage is None:
        raise InputError("No whole result is shown. Segment the clip first, then compare.")
    # η changes no label, so that it is as it stands now.
    base = replace(shown.result.settings, eta=context.eta())
    check_offered([each for each in models if each != OWN_MODEL], [flow] if flow else [])
    models = [str(context.own_model()) if each == OWN_MODEL else each for each in models]
    others = [k] if k else [], [tau] if tau else [], [flow] if flow else []
    return shown, plan(base, models, *others, refinement)


def _ended(there: Sequence[Compared], brought: Sequence[Compared], clip: str) -> str:
    """What is compared now, and what had to make room for it."""
    titles = [each.title for each in there]
    gone = [each.title for each in brought if each.title not in titles]
    return f"{len(there)} variants of {clip}, side by side.{no_room(gone)}"


def _known(shown: Shown, settings: Settings) -> Segmentation | None:
    """A result that is there already, whatever its η."""
    for each in (shown.result, *shown.others.values()):
        if replace(each.settings, eta=settings.eta) == settings:
            # The same object where it may be: labels need not be matched with themselves.
            return each if each.settings == settings else replace(each, settings=settings)
    return None


def _segment(
    context: Context, shown: Shown, settings: Settings, doing: str
) -> Generator[Progress, None, tuple[Segmentation, tuple[str, ...]]]:
    """The result, and what the run did otherwise than asked."""
    clip, footage = shown.footage.clip if shown.footage else shown.result.clip, shown.footage
    serves = footage is not None and footage.serves(clip, settings)
    flow = footage.flow if footage is not None and serves else None
    yield Progress(f"{doing}: loading the model …", 0, len(shown))
    network = load_network(settings.model)
    run = SegmentationRun(clip, settings, network, flow, context.stop, context.cache)
    last = -math.inf
    for frame in run.frames():
        if time.perf_counter() - last >= INTERVAL:
            yield Progress(f"{doing}: frame {frame.index + 1}", frame.index + 1, len(shown))
            last = time.perf_counter()
    return run.result(), run.notes


def _draw(moment: Moment, tinted: bool) -> tuple[str]:
    variants = moment.compared
    if not variants:
        return (note(UNSEGMENTED if moment.shown.footage is None else EMPTY),)
    image = shrink(from_jpeg(moment.shown.pictures[moment.frame]), SIDE)
    size = (image.shape[0], image.shape[1])
    figures = []
    first: np.ndarray | None = None
    for number, each in enumerate(variants):
        labels = _named(each, moment)[each.labels(moment.frame, size)]
        first = labels if first is None else first
        differs = labels != first
        caption = each.title
        if number:
            caption += f" · {100 * float(differs.mean()):.1f} % differ"
        if tinted and number:
            source = drawing(difference_picture(image, labels, differs))
        else:
            source = photo(overlay(image, labels))
        hint = "Colours as in the other tabs." + ("" if number else " Reference of differences.")
        figures.append(figure(f"variant-{number}", caption, source, hint))
    result = moment.shown.result
    pictures = board(figures, result.clip.size, "pairs")
    lines = _lines(variants, len(moment.shown), moment.frame)
    return (pictures + _table(variants) + lines + note(_shared(variants, result.settings)),)


def _shared(variants: Sequence[Compared], base: Settings) -> str:
    """What no title tells, since titles only tell what the shown run has otherwise."""
    alike = not any(differences(each.result.settings, base) for each in variants)
    return f"{'All' if alike else 'Where no name says otherwise'}: {told_common(base)}."


def _named(variant: Compared, moment: Moment) -> Table:
    """From the names of its labels, those of the first variant, to those of the labels shown.

    A segment has one colour on the whole page, whatever stands first here.
    """
    names = moment.naming.table(moment.shown.result, variant.result)
    return permutation(variant.renamed, names[: len(variant.renamed)])


def _lines(variants: Sequence[Compared], frames: int, frame: int) -> str:
    """What the table sums up, frame by frame, as far as somebody measured it."""
    drawn = ""
    for name, caption, values in OVER_FRAMES:
        told = np.full((frames, len(variants)), np.nan)
        for column, each in enumerate(variants):
            there = [np.nan if one is None else 100 * one for one in values(each.measures)]
            told[: len(there), column] = there[:frames]
        if not np.isnan(told).all():
            classes = [f"variant-{number}" for number in range(len(variants))]
            drawn += lines_over_frames(caption, told, classes, frame, name)
    return drawn


def _table(variants: Sequence[Compared]) -> str:
    head = "".join(
        f'<th scope="col" title="{escape(hint)}">{name} {"↑" if more else "↓"}</th>'
        for name, hint, _, _, more in COLUMNS
    )
    best = [
        _best([value(each.measures) for each in variants], more) for _, _, value, _, more in COLUMNS
    ]
    rows = []
    for row, each in enumerate(variants):
        cells = []
        for (_, _, value, how, _), top in zip(COLUMNS, best, strict=True):
            number = value(each.measures)
            if number is None or math.isnan(number):
                cells.append("<td>–</td>")
                continue
            text = how.format(number)
            marked = top is not None and how.format(top) == text
            cells.append(f"<td>{f'<b>{text}</b>' if marked else text}</td>")
        title = f"{KEY.format(row)}{escape(each.title)}"
        rows.append(f'<tr><th scope="row">{title}</th>{"".join(cells)}</tr>')
    return (
        '<div class="scroll"><table class="figures"><thead><tr><th scope="col">Variant</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="note">Bold is best. L_r, L_c and the residual are means over at most 24 volumes '
        f"of three consecutive frames; L_c is at η = {100 * variants[0].measures.eta:.1f} % for "
        "all. J and F need ground truth.</p>"
    )


def _best(values: Sequence[float | None], more: bool) -> float | None:
    there = [value for value in values if value is not None and not math.isnan(value)]
    if len(there) < 2:
        return None
    return max(there) if more else min(there)
