"""The left column: which clip, and how it is segmented. A hint on every control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from stseg.errors import InputError
from stseg.flow import ESTIMATORS, available_estimators
from stseg.layouts import VIDEO_SUFFIXES
from stseg.limits import Limits
from stseg.records import K_RANGE, LINKAGES, Settings
from stseg.ui.camera import build_camera
from stseg.ui.clips import PICK
from stseg.ui.given import number, truth, whole, whole_or_none, wholes
from stseg.ui.told import LINKAGE_TITLES
from stseg.variants import available_variants

TAUS = (-3, -2, -1, 1, 2, 3)
DEFAULTS = Settings()

STRIDE_TITLES = [("automatic", 0), ("at every frame (paper)", 1), ("at every second frame", 2)]

SETTINGS = 10
"""Number of values that ``read_settings`` takes; they come before what else an event reads."""

ETA = 2
"""Which of those values is η, in percent."""

FLOW = 3
"""Which of those values is the flow."""

TITLES = {
    "k": "K",
    "tau": "τ",
    "eta": "η",
    "max_frames": "Frames to read",
    "subsequence": "Sub-sequence",
    "stride": "Triplets",
    "refine": "Refine masks by the flow",
}
"""What the page calls the parameters of ``read_settings``."""

MODEL = 4
"""Which of those values is the model."""

OWN_FLOW = "own"
"""Name of the flow that the visitor uploads."""

OWN_MODEL = "own"
"""Name of the visitor's own model (``Belongings.model``)."""

OWN_MODEL_TITLE = "Your own, fitted or uploaded"


@dataclass(frozen=True)
class Controls:
    """Components of the left column.

    ``settings`` are the values that ``read_settings`` takes, in its order.
    """

    gallery: gr.HTML
    upload: gr.UploadButton
    flow: gr.Dropdown
    model: gr.Dropdown
    own_flow: gr.UploadButton
    own_model: gr.UploadButton
    k: gr.Slider
    eta: gr.Slider
    settings: Sequence[Any]
    segment: gr.Button
    stop: gr.Button
    badge: gr.HTML


def build_controls(limits: Limits) -> Controls:
    """Lay out the column.

    Args:
        limits: of what visitors upload, which the column states.
    """
    gallery = gr.HTML("", js_on_load=PICK, elem_id="clips", label="Clip")
    upload = gr.UploadButton(
        "Upload a video or GIF",
        file_types=["video", *sorted(VIDEO_SUFFIXES)],
        size="sm",
        elem_id="upload",
    )
    gr.HTML(f"<p class='note'>{limits.hint}</p>", elem_id="limits", padding=False)
    build_camera()
    k = gr.Slider(
        *K_RANGE,
        value=DEFAULTS.k,
        step=1,
        precision=0,
        label="K, number of segments",
        info="Take one more than the motions you expect; spare ones stay empty or split the rest.",
        elem_id="k",
        buttons=[],
    )
    taus = gr.Dropdown(
        choices=[(f"{tau:+d}", tau) for tau in TAUS],
        value=list(DEFAULTS.taus),
        multiselect=True,
        label="τ, temporal step",
        info="Frames between the three flows of a volume; several are averaged, the first leads.",
        elem_id="tau",
    )
    eta = gr.Slider(
        0,
        10,
        value=100 * DEFAULTS.eta,
        step=0.1,
        label="η, occluded sites (%)",
        info="Share of sites left out of the temporal loss; see the picture move, labels stay.",
        elem_id="eta",
        buttons=[],
    )
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        flow = gr.Dropdown(
            choices=[
                *((ESTIMATORS[name].title, name) for name in available_estimators()),
                ("Your own, uploaded below", OWN_FLOW),
            ],
            value=DEFAULTS.flow,
            label="Flow estimator",
            info=_flow_hint(),
            elem_id="flow",
        )
        own_flow = gr.UploadButton(
            "Upload flow (.npz, or .zip of .flo or KITTI .png)",
            file_types=[".npz", ".zip"],
            size="sm",
            elem_id="own-flow",
        )
        variants = available_variants()
        model = gr.Dropdown(
            choices=[
                *((variant.title, variant.name) for variant in variants),
                (OWN_MODEL_TITLE, OWN_MODEL),
            ],
            value=first_offered([variant.name for variant in variants]),
            label="Model variant",
            info="How the network was trained.",
            elem_id="model",
        )
        own_model = gr.UploadButton(
            "Upload a model (.safetensors)",
            file_types=[".safetensors"],
            size="sm",
            elem_id="own-model",
        )
        linkage = gr.Dropdown(
            choices=[(LINKAGE_TITLES.get(name, name), name) for name in LINKAGES],
            elem_id="linkage",
            value=DEFAULTS.linkage,
            label="Linkage",
            info="How segments keep their label: by place alone, or by alike motion (χ) as well.",
        )
        frames = gr.Number(
            # Not None: Gradio's page turns it into 0 as soon as it is drawn.
            value=0,
            label="Frames to read",
            info="0 reads the whole clip.",
        )
        subsequence = gr.Number(
            value=0,
            label="Sub-sequence",
            info="Link anew every so many frames, as scores do (Sec. 4.2); 0 links the whole clip.",
            elem_id="subsequence",
        )
        stride = gr.Dropdown(
            choices=STRIDE_TITLES,
            value=0,
            label="Triplets",
            info="Every second takes half the time, and is what one τ of +1 or -1 gets; frames "
            "between take a mean.",
            elem_id="stride",
        )
        refine = gr.Checkbox(
            value=DEFAULTS.refine,
            label="Refine masks by the flow",
            info="Moves borders to where the flow changes, which takes longer; not in the paper.",
            elem_id="refine",
        )
    with gr.Column(elem_id="run"):
        with gr.Row():
            segment = gr.Button("Segment", variant="primary", elem_id="segment", min_width=80)
            stop = gr.Button("Stop", variant="stop", elem_id="stop", min_width=80)
        badge = gr.HTML("", elem_id="badge")
    settings = (k, taus, eta, flow, model, linkage, frames, subsequence, stride, refine)
    return Controls(
        gallery, upload, flow, model, own_flow, own_model, k, eta, settings, segment, stop, badge
    )


def first_offered(names: Sequence[str]) -> str | None:
    """The model that is chosen at first: the default where it is there, else any."""
    return DEFAULTS.model if DEFAULTS.model in names else next(iter(names), None)


def _flow_hint() -> str:
    hint = "Gives the motion between frames, the only thing that the network sees."
    missing = [name for name, kind in ESTIMATORS.items() if not kind.ready]
    if not missing:
        return hint
    return f"{hint} RAFT needs its weights: python -m stseg weights {missing[0]}."


def read_settings(
    k: Any,
    taus: Any,
    eta: Any,
    flow: Any,
    model: Any,
    linkage: Any,
    frames: Any,
    subsequence: Any = 0,
    stride: Any = 0,
    refine: Any = DEFAULTS.refine,
    *,
    titles: Mapping[str, str] | None = None,
    own_model: bool = False,
) -> Settings:
    """What the controls, or the parameters of an endpoint, say.

    The flow and the model are names here: the command line also takes paths, but somebody on the
    page must not make the server open files of their choice.

    Args:
        k: number of segments.
        taus: temporal steps, a list or one.
        eta: occluded sites in percent.
        flow: name of a flow estimator, or ``OWN_FLOW``.
        model: name of a model; None is the default.
        linkage: name of a linkage.
        frames: how many to read; None and 0 read all.
        subsequence: frames after which labels are linked anew; None and 0 never do.
        stride: frames from one triplet to the next; None and 0 leave the choice.
        refine: whether masks are refined by the flow; None is the default.
        titles: what sentences call the parameters; None calls them by their names.
        own_model: whether ``OWN_MODEL`` is the name of a model, too.

    Raises:
        InputError: a value is of another kind (nobody has checked it before) or out of its range,
            or a name is not one of those offered.
    """
    model = model or DEFAULTS.model
    called = {name: name for name in TITLES} | dict(titles or {})
    percent = number(called["eta"], eta, 1.0)
    if not 0 <= percent <= 100:
        raise InputError(f"{called['eta']} is {percent:g} %, but it is a percentage from 0 to 100.")
    own = own_model and model == OWN_MODEL
    check_offered([] if own else [model], [] if flow == OWN_FLOW else [flow])
    return Settings(
        k=whole(called["k"], k, DEFAULTS.k),
        taus=tuple(wholes(called["tau"], taus, 1)),
        eta=percent / 100,
        flow=flow,
        model=model,
        linkage=linkage,
        max_frames=whole_or_none(called["max_frames"], frames, 0),
        subsequence=whole_or_none(called["subsequence"], subsequence, 0) or 0,
        stride=whole_or_none(called["stride"], stride, 0),
        refine=truth(called["refine"], refine, DEFAULTS.refine),
    )


def settings_on_page(*values: Any) -> Settings:
    """``read_settings`` of the left column: sentences call its controls as they are titled."""
    return read_settings(*values, titles=TITLES, own_model=True)


def check_offered(models: Sequence[Any], flows: Sequence[Any]) -> None:
    """Refuse what is no name that the page offers: it must not open files of somebody's choice.

    Raises:
        InputError: a model or a flow estimator that is not offered here.
    """
    variants = [variant.name for variant in available_variants()]
    for what, names, offered in (
        ("flow estimator", flows, available_estimators()),
        ("model", models, variants),
    ):
        for name in names:
            if name not in offered:
                present = ", ".join(offered) or "none"
                raise InputError(f"There is no {what} {name!r} here. Choose one of: {present}.")
