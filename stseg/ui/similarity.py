"""Tab: how alike the segments are in the network's own features, and what follows from merging."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import gradio as gr
import numpy as np

from stseg.charts import label_trails
from stseg.comparison import title_of
from stseg.errors import InputError
from stseg.records import label_map
from stseg.render import from_jpeg, heat, overlay, shrink
from stseg.similarity import relabelled
from stseg.ui.affinity import Affinity, Cell
from stseg.ui.markup import ENLARGE, board, drawing, figure, labels, note, photo
from stseg.ui.segments import SMALL
from stseg.ui.shown import Shown
from stseg.ui.told import no_room
from stseg.ui.view import Context, Job, Merging, Moment, Progress, TabView

TITLE = "Similarity"

CHEQUERED = (
    "Triplets are at every second frame: the frames between are seen at the ends of one, where the "
    "features differ, those of the background most. Hence the chequers."
)

SITES = 520
"""A side of the map of all pairs of frames, at most: on the page it is half as large."""

EMPTY = note("No clip is segmented.")

PENDING = note("The similarities are being drawn …")
NOT_KNOWN = "This result has no latent representations, so there is nothing to compare."

SCRIPT = """
const choose = (cell) =>
  document.dispatchEvent(new CustomEvent('stseg-pair', {detail: cell}));
const act = (event) => {
  const cell = event.target.closest('[data-cell]');
  if (cell) { choose(cell.dataset.cell); return; }
  const time = event.target.closest('[data-across]');
  if (time) {
    const box = time.getBoundingClientRect();
    const n = Number(time.dataset.frames), label = time.dataset.across;
    const at = (share) => Math.min(n - 1, Math.max(0, Math.floor(share * n)));
    const [row, column] = event.clientX === undefined || event.type === 'keydown'
      ? [Number(time.dataset.now), 0]
      : [at((event.clientY - box.top) / box.height), at((event.clientX - box.left) / box.width)];
    choose(`${row}.${label}-${column}.${label}`);
    return;
  }
  const point = event.target.closest('[data-frame]');
  if (point) window.stseg.go(Number(point.dataset.frame));
};
element.addEventListener('click', act);
element.addEventListener('keydown', (event) => {
  if (event.target.matches('button')) return;  // it makes a click of both keys by itself
  if (event.key !== 'Enter' && event.key !== ' ') return;
  if (event.target.matches('[data-across]')) event.preventDefault();  // the page would scroll
  act(event);
});
"""
"""A click on a cell shows its two segments; a click on a point of the map jumps to its frame."""


PAIR = """
document.addEventListener('stseg-pair', (event) => {
  props.value = event.detail;
  trigger('input');
});
"""
"""Keeps the chosen cell, out of sight: an option of the tab like any other."""


def build() -> TabView:
    """Lay out the tab."""
    with gr.Row(elem_id="similarity-options"):
        label = gr.Radio(
            choices=[("0", 0)],
            value=0,
            label="Segment across time",
            info="Whose representation is compared between all pairs of frames.",
            elem_id="across",
        )
        measure = gr.Radio(
            choices=[("Cosine", "cosine"), ("Dot product", "dot")],
            value="cosine",
            label="Measure",
            info="Directions alone, or their lengths as well.",
            elem_id="measure",
        )
        threshold = gr.Slider(
            -1,
            1,
            value=1,
            step=0.01,
            label="Merge threshold",
            info="Groups fuse while their segments' mean cosine is above it; 1 merges none.",
            elem_id="threshold",
            buttons=[],
        )
        use = gr.Checkbox(
            False,
            label="Use merged labels",
            info="Segments, Motion and Downloads take them, too.",
            elem_id="use-merged",
        )
        keep = gr.Button("Add merged labels to Compare", size="sm", elem_id="keep-merged")
    pair = gr.HTML("", html_template="<i></i>", js_on_load=PAIR, elem_id="pair")
    told = gr.HTML(EMPTY, js_on_load=SCRIPT + ENLARGE, elem_id="similarity")
    return TabView(
        pictures=(told,),
        draw=_draw,
        blank=(EMPTY,),
        pending=(PENDING,),
        options=(label, measure, threshold, pair),
        redraw_on=(label.input, measure.input, threshold.input, pair.input),
        details=(label, use, pair),
        fill=_fill,
        jobs=(Job(keep.click, _keep, reads=(threshold,), plan=_fusing),),
        merging=Merging((use.input, threshold.release), use, threshold),
        lazy=True,
    )


def _fill(shown: Shown | None) -> tuple[object, ...]:
    count = shown.result.k if shown else 1
    choices = [(str(label), label) for label in range(count)]
    merges = shown is not None and shown.choice.merge is not None
    return gr.update(choices=choices, value=0), merges, ""


def _fusing(context: Context, threshold: float) -> tuple[Shown, float, np.ndarray]:
    """A result, and what its labels become. Raises InputError where none of them fuse."""
    shown = context.shown
    if shown is None or not shown.affinity.known:
        raise InputError("No result with latent representations is shown. Segment a clip first.")
    names = shown.affinity.names(threshold)
    if (names == np.arange(names.shape[1])).all():
        raise InputError("Nothing is merged at this threshold. Move it down until labels fuse.")
    return shown, threshold, names


def _keep(
    context: Context, shown: Shown, threshold: float, names: np.ndarray
) -> Iterator[Progress]:
    """The merged labels as a variant in the tab Compare."""
    own = shown.unmerged
    fused = relabelled(own, threshold, names)
    title = title_of(fused.settings, own.settings)
    yield Progress(f"{title}: comparing …")
    gone = context.add_variant(title, fused)
    yield Progress(f"{title}: the merged labels are in the tab Compare.{no_room(gone)}")


def _draw(
    moment: Moment, label: int | None, measure: str, threshold: float, pair: str | None
) -> tuple[str]:
    shown, frame = moment.shown, moment.frame
    affinity = shown.affinity
    if not affinity.known:
        return (note(NOT_KNOWN),)
    # What was chosen for the last result may still be on the page.
    label = min(label or 0, shown.result.k - 1)
    first, second = affinity.read(pair or "") or ((frame, 0), (frame, min(1, shown.result.k - 1)))
    names = affinity.names(threshold)[frame]
    part = affinity.part(frame)
    over = "the whole clip"
    if len(part) < len(shown):  # labels of two parts have nothing to do with each other
        over = f"frames {part.start} to {part.stop - 1}, a sub-sequence"
    chosen = [_side(shown, first, "pair-a"), _side(shown, second, "pair-b")]
    figures = [*chosen, _merging(moment, names, threshold)]
    step = shown.result.settings.step
    between = f'<div class="caption">{CHEQUERED}</div>' if step == 2 else ""
    panels = (
        (f"Segments of frame {frame}: click a cell to see both", _now(affinity, measure, frame)),
        (f"Segments over {over}", _whole(affinity, measure, frame)),
        (
            f"Segment {label} across time: click a pair of frames",
            _across(affinity, measure, label, frame) + between,
        ),
        ("All segments at all frames, by PCA: click to jump", _map(affinity, frame)),
    )
    return (
        f'<div class="matrices">{"".join(_panel(*panel) for panel in panels)}</div>'
        f'<div class="caption">{_told(affinity, measure, first, second, names)}</div>'
        f"{board(figures, shown.result.clip.size, 'even')}",
    )


def _panel(title: str, body: str) -> str:
    return f'<section><div class="caption">{escape(title)}</div>{body}</section>'


def _now(affinity: Affinity, measure: str, frame: int) -> str:
    values = affinity.at(frame, measure)
    cells = range(len(values))
    return _table(
        values, [[f"{frame}.{row}-{frame}.{column}" for column in cells] for row in cells]
    )


def _whole(affinity: Affinity, measure: str, frame: int) -> str:
    """A click shows each of both segments where it is most like its mean over these frames."""
    names = [f"{typical}.{label}" for label, typical in enumerate(affinity.typical(frame))]
    cells = [[f"{row}-{column}" for column in names] for row in names]
    return _table(affinity.whole(measure, frame), cells)


def _range(values: np.ndarray) -> tuple[float, float]:
    """Ends of the scale of label against label: -1 and 1 for cosines, wide enough for products."""
    known = np.abs(values[np.isfinite(values)])
    top = max(1.0, float(known.max())) if known.size else 1.0
    return -top, top


def _colours(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return heat(np.nan_to_num(values, nan=low) - np.float32(low), high - low)


def _table(values: np.ndarray, cells: list[list[str]]) -> str:
    """Label against label: buttons in the colours of the heat map."""
    colours = _colours(values, *_range(values))
    swatch = '<i style="--swatch: var(--label-{0})"></i>{0}'
    head = "".join(f'<th scope="col">{swatch.format(label)}</th>' for label in range(len(values)))
    rows = ""
    for label, row in enumerate(values):
        rows += f'<tr><th scope="row">{swatch.format(label)}</th>'
        for column, value in enumerate(row):
            if np.isnan(value):
                rows += '<td class="none">–</td>'
                continue
            red, green, blue = (int(part) for part in colours[label, column])
            ink = "#fff" if 299 * red + 587 * green + 114 * blue < 128_000 else "#10131a"
            text = _number(float(value))
            rows += (
                f'<td><button data-cell="{cells[label][column]}" '
                f'aria-label="Segments {label} and {column}: {text}. Show both." '
                f'style="background: rgb({red}, {green}, {blue}); color: {ink}">{text}</button>'
                "</td>"
            )
        rows += "</tr>"
    return f'<table class="matrix"><tr><td></td>{head}</tr>{rows}</table>'


def _across(affinity: Affinity, measure: str, label: int, frame: int) -> str:
    values = affinity.across(label, measure)
    # One segment is much like itself: the scale ends where its values do.
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    low = min(low, high - 0.02)
    count = len(values)
    if count > SITES:  # each in the middle of its site, where a click finds the same frame
        kept = ((np.arange(SITES) + 0.5) * count / SITES).astype(int)
        values = values[np.ix_(kept, kept)]
    picture = _colours(values, low, high)
    picture[np.isnan(values)] = 128
    at = f"{100 * (frame + 0.5) / count:.2f}%"
    return (
        f'<div class="across" data-across="{label}" data-frames="{count}" data-now="{frame}" '
        f'tabindex="0" role="button" aria-label="Similarity of segment {label} between all pairs '
        f'of frames"><img src="{drawing(picture)}" alt=""><span class="row" style="top: {at}">'
        f'</span><span class="column" style="left: {at}"></span></div>'
        f'<div class="ends"><span>0</span><span>{count - 1}</span></div>{_ramp(low, high)}'
    )


def _map(affinity: Affinity, frame: int) -> str:
    return f'<div class="map">{label_trails(affinity.points(), frame)}</div>'


def _ramp(low: float, high: float) -> str:
    ramp = drawing(heat(np.linspace(0, 1, 64, dtype=np.float32)[None], 1.0))
    return (
        f'<span class="legend">{_number(low)}<img src="{ramp}" alt="">{_number(high)} · gray where '
        "the segment is not there</span>"
    )


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _side(shown: Shown, cell: Cell, name: str) -> str:
    """One of the two chosen segments over its frame."""
    frame, label = cell
    image = shrink(from_jpeg(shown.pictures[frame]), SMALL)
    found = _labels(shown, frame, image)
    others = [other for other in range(shown.result.k) if other != label]
    text = f"Segment {label}, frame {frame}" + ("" if (found == label).any() else ": not there")
    chip = f'<span class="chip" style="--swatch: var(--label-{label})">{label}</span>'
    over = overlay(image // 2 + 64, found, 0.6, "fill", others)
    return figure(name, text, photo(over), "Chosen by a click on a cell.", chip)


def _merging(moment: Moment, names: np.ndarray, threshold: float) -> str:
    shown, frame = moment.shown, moment.frame
    image = shrink(from_jpeg(shown.pictures[frame]), SMALL)
    found = _labels(shown, frame, image)
    seen = ~np.isnan(np.diag(shown.affinity.whole("cosine", frame)))
    count = len(np.unique(names[seen]))
    return figure(
        "merged",
        f"Labels merged at {_number(threshold)}: {count} of {seen.sum()} left",
        labels(names[found]),
        "Linked labels, those that fuse in the colour of the first of them.",
    )


def _labels(shown: Shown, frame: int, image: np.ndarray) -> np.ndarray:
    """Labels before any are merged: what the matrices are about."""
    result = shown.unmerged
    size = (image.shape[0], image.shape[1])
    return result.assignment[frame][label_map(result.soft_masks(frame), size)]


def _told(affinity: Affinity, measure: str, first: Cell, second: Cell, names: np.ndarray) -> str:
    value = affinity.between(first, second, measure)
    pair = "is not known" if np.isnan(value) else _number(value)
    groups = [np.flatnonzero(names == label) for label in np.unique(names)]
    fused = [" + ".join(map(str, group)) for group in groups if len(group) > 1]
    fusing = f"Merged: {', '.join(fused)}." if fused else "Nothing is merged at this threshold."
    called = "Dot product" if measure == "dot" else "Cosine"
    return (
        f"{called} of segment {first[1]} in frame {first[0]} and segment {second[1]} in frame "
        f"{second[0]}: {pair}. {fusing}"
    )
