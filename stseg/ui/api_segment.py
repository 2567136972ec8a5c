"""Endpoint ``/segment``: a video in, its labels and pictures out."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from stseg.errors import InputError
from stseg.export import outputs
from stseg.formats import EXTRAS
from stseg.ui.controls import read_settings
from stseg.ui.endpoint import Call, Endpoint, refine_input, settings_inputs, stride_input
from stseg.ui.given import names, number
from stseg.ui.sessions import Sessions
from stseg.ui.work import segment_clip

NAME = "segment"

APART = 1.0
"""Merge threshold at which no two labels are fused."""


def build(sessions: Sessions) -> Endpoint:
    """Lay out the endpoint in the place that is open now."""

    def segment(  # noqa: D417 - a client does not give the request
        video: str | None,
        k: Any,
        tau: Any,
        eta: Any,
        flow: Any,
        model: Any,
        linkage: Any,
        max_frames: Any,
        subsequence: Any,
        merge: Any,
        stride: Any,
        also: Any,
        refine: Any,
        request: gr.Request,
    ) -> tuple[str, str, dict[str, Any]]:
        """Segment a video into what moves together.

        Args:
            video: a file that FFmpeg reads, or a GIF.
            k: number of segments, 2 to 8.
            tau: temporal steps, a list of integers; the first one leads.
            eta: occluded sites in percent, 0 to 100.
            flow: name of a flow estimator, for instance "dis".
            model: name of a model, for instance "full".
            linkage: how labels are linked over time, for instance "one-to-one" or "greedy".
            max_frames: read no more than this many frames; 0 reads all.
            subsequence: link anew every so many frames; 0 links the whole video.
            merge: groups of labels fuse while the mean cosine between them is above this, -1 to 1;
                1 fuses none.
            stride: frames from one triplet to the next: 1 as the paper has it, or 2, which halves
                the work, for one tau of 1 or -1; 0 is 2 where tau allows it.
            also: extra files that the zip is to hold as well, a list of names: "coco", "soft",
                "flow", "foreground", "motion", "settings".
            refine: whether masks are refined by the flow, which the paper does not do.

        Returns:
            The grid video (MP4), a zip of indexed label PNGs and of what `also` names, and the
            summary: settings, versions, timings and statistics of each segment.
        """
        settings = read_settings(
            k, tau, eta, flow, model, linkage, max_frames, subsequence, stride, refine
        )
        fused = APART if merge is None else number("merge", merge, 0.9)
        settings = replace(settings, merge=fused if fused != APART else None)
        extras = names("also", also, "coco", "motion")
        outputs(extras)  # refuses here what there is not, and not when all is done
        with Call(sessions, request) as call:
            clip = call.clip(video)
            files: Mapping[str, Path] = {}
            place = call.folder / "files"
            for step in segment_clip(clip, settings, place, None, call.stop, extras=extras):
                if step.finished and step.shown:
                    files = step.shown.files
            if not files:
                raise InputError("The run was stopped before its end.")
            summary = json.loads(files["summary.json"].read_text(encoding="utf-8"))
            labels = files["labels-png.zip"]
            for name in dict.fromkeys(extras):
                call.check()
                add_to(labels, labels.parent / EXTRAS[name].file)
            return str(files["grid.mp4"]), str(labels), summary

    return Endpoint(
        segment,
        inputs=(
            gr.File(label="video", type="filepath"),
            *settings_inputs(),
            gr.Number(APART, label="merge"),
            stride_input(),
            gr.JSON([], label="also"),
            refine_input(),
        ),
        outputs=(gr.File(label="grid video"), gr.File(label="labels"), gr.JSON(label="summary")),
    )


def add_to(archive: Path, path: Path) -> None:
    """Add a file, or a folder with what is in it, to a zip under its own name."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as opened:
        for each in files:
            opened.write(each, each.relative_to(path.parent))
