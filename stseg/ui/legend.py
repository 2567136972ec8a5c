"""The legend of the segments: colour, share of the frame, and a box that hides one.

Gradio's own group of checkboxes fails in the browser when it gets fewer choices, which is what
happens whenever K is moved down.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from stseg.records import K_RANGE
from stseg.ui.shown import Shown

TEMPLATE = """
<fieldset class="legend">
  <legend>Hide segments</legend>
  <p>Colour and mean share of the frame; tick to take one off the overlay.</p>
  <div>${entries.map((entry) => `<label style="--swatch: var(--label-${entry.label})"><input
    type="checkbox" value="${entry.label}"><i></i>${entry.text}</label>`).join('')}</div>
</fieldset>
"""

SCRIPT = """
const boxes = () => [...element.querySelectorAll('input[type=checkbox]')];
const sync = () => boxes().forEach((box) => {
  box.checked = (props.value || []).includes(Number(box.value));
});
element.addEventListener('change', () => {
  props.value = boxes().filter((box) => box.checked).map((box) => Number(box.value));
  trigger('input');
});
watch(['value', 'entries'], sync);
"""


def build_legend() -> gr.HTML:
    """Lay it out; its value is the list of the hidden labels."""
    return gr.HTML(
        [],
        html_template=TEMPLATE,
        js_on_load=SCRIPT,
        elem_id="legend",
        label="Hide segments",
        apply_default_css=False,
        entries=[],
    )


def legend_update(shown: Shown | None, clear: bool) -> Any:
    """The legend of a result; segments that are fused are one entry.

    Args:
        shown: the result; None empties the legend.
        clear: whether nothing is hidden any more; else what is hidden stays so.
    """
    value: dict[str, Any] = {"value": []} if clear else {}
    return gr.update(entries=_entries(shown) if shown else [], **value)


def hidden_labels(value: object) -> list[int]:
    """What the page says is hidden; whatever is no label is left out."""
    if not isinstance(value, list):
        return []
    return [each for each in value if isinstance(each, int) and 0 <= each < K_RANGE[1]]


def labels_of(shown: Shown) -> dict[int, str]:
    """The labels of a result and what they are called: those that are fused are one."""
    return shown.result.called


def _entries(shown: Shown) -> list[dict[str, Any]]:
    means = shown.areas.mean(axis=0)
    return [
        {"label": label, "text": f"{name} · {100 * means[label]:.1f} %"}
        for label, name in labels_of(shown).items()
    ]
