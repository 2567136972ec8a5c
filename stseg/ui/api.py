"""The same work for programs: one endpoint, ``/segment``, for ``gradio_client``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr

from stseg.errors import InputError
from stseg.records import Settings
from stseg.ui.controls import DEFAULTS, read_settings
from stseg.ui.guard import guarded
from stseg.ui.session import Sessions
from stseg.ui.work import segment_clip
from stseg.video import probe

DESCRIPTION = """Segment a video into what moves together.

Give `video` (a file), `k` (number of segments, 2 to 8), `tau` (list of temporal steps; the first
leads), `eta` (percent of occluded sites), `flow` (estimator), `model` (variant), `linkage`
("one-to-one" or "greedy") and `max_frames` (0 reads all). Returns the grid video (MP4), a zip of
indexed label PNGs, and the summary (settings, segments, timings) as a dictionary."""


def build_api(sessions: Sessions, heavy: dict[str, Any]) -> None:
    """Add the endpoint to the page that is open now, out of sight.

    Args:
        sessions: where the files are kept until the client leaves.
        heavy: the queue that all long work shares.
    """
    with gr.Column(visible=False):
        video = gr.File(label="video", type="filepath")
        k = gr.Number(DEFAULTS.k, precision=0, label="k")
        tau = gr.JSON(list(DEFAULTS.taus), label="tau")
        eta = gr.Number(100 * DEFAULTS.eta, label="eta")
        flow = gr.Textbox(DEFAULTS.flow, label="flow")
        model = gr.Textbox(DEFAULTS.model, label="model")
        linkage = gr.Textbox(DEFAULTS.linkage, label="linkage")
        max_frames = gr.Number(0, precision=0, label="max_frames")
        outputs = [gr.File(label="grid video"), gr.File(label="labels"), gr.JSON(label="summary")]
        button = gr.Button("segment")

    def segment(
        video: str | None,
        k: int,
        tau: list[int] | int,
        eta: float,
        flow: str,
        model: str,
        linkage: Any,
        max_frames: int,
        request: gr.Request,
    ) -> tuple[str, str, dict[str, Any]]:
        if video is None:
            raise InputError("No video is given. Give a file, for instance handle_file(path).")
        taus = tau if isinstance(tau, list) else [tau]
        settings: Settings = read_settings(k, taus, eta, flow, model, linkage, max_frames or None)
        session = sessions.of(request.session_hash or "")
        session.begin()
        ticket = session.claim() or 0
        clip = probe(session.take_upload(Path(video)))
        files: dict[str, Path] = {}
        for step in segment_clip(
            clip, settings, session.new_folder(), None, lambda: session.stopped(ticket)
        ):
            if step.finished and step.shown:
                files = dict(step.shown.files)
        if not files:
            raise InputError("The run was stopped before its end.")
        summary = json.loads(files["summary.json"].read_text(encoding="utf-8"))
        return str(files["grid.mp4"]), str(files["labels-png.zip"]), summary

    button.click(
        guarded(segment),
        [video, k, tau, eta, flow, model, linkage, max_frames],
        outputs,
        api_name="segment",
        api_description=DESCRIPTION,
        **heavy,
    )
