"""Endpoint ``/compare``: a video in, several variants of its segmentation side by side out."""

from __future__ import annotations

from typing import Any

import gradio as gr

from stseg.comparison import Compared, compare, plan, with_variant
from stseg.comparison_files import comparison_video
from stseg.pipeline import SegmentationRun, load_network
from stseg.ui.controls import check_offered, read_settings
from stseg.ui.endpoint import Call, Endpoint, refine_input, settings_inputs, stride_input
from stseg.ui.given import names, truth, wholes
from stseg.ui.sessions import Sessions
from stseg.volume import FlowFields

NAME = "compare"


def build(sessions: Sessions) -> Endpoint:
    """Lay out the endpoint in the place that is open now."""

    def compare_variants(  # noqa: D417 - a client does not give the request
        video: str | None,
        models: Any,
        other_k: Any,
        other_tau: Any,
        other_flow: Any,
        k: Any,
        tau: Any,
        eta: Any,
        flow: Any,
        model: Any,
        linkage: Any,
        max_frames: Any,
        subsequence: Any,
        stride: Any,
        refine: Any,
        other_refine: Any,
        request: gr.Request,
    ) -> tuple[str, list[dict[str, Any]]]:
        """Segment a video under two to four variants and compare them.

        The variants are each of `models` with the settings below, then these settings with each of
        `other_k`, `other_tau` and `other_flow` in turn, and with `other_refine`. Flow is computed
        once and shared.

        Args:
            video: a file that FFmpeg reads, or a GIF.
            models: names of models, for instance ["full", "no-lc"]: with and without L_c.
            other_k: other numbers of segments, for instance [3], or 3.
            other_tau: other temporal steps, for instance [2], or 2.
            other_flow: other flow estimators, for instance ["raft-sintel"].
            k: number of segments, 2 to 8.
            tau: temporal steps, a list of integers; the first one leads.
            eta: occluded sites in percent, 0 to 100.
            flow: name of a flow estimator, for instance "dis".
            model: name of a model, for the variants of `other_k`, `other_tau` and so on.
            linkage: how labels are linked over time, for instance "one-to-one" or "greedy".
            max_frames: read no more than this many frames; 0 reads all.
            subsequence: link anew every so many frames; 0 links the whole video.
            stride: frames from one triplet to the next: 1 as the paper has it, or 2, which halves
                the work, for one tau of 1 or -1; 0 is 2 where tau allows it.
            refine: whether masks are refined by the flow, which the paper does not do.
            other_refine: whether a variant is added with refined masks; without, where they are.

        Returns:
            The variants side by side (MP4), and the table: a list with one dictionary a variant
            (title, flicker, residual, L_r, L_c, J and F where known, seconds, per_frame: flicker, J
            and F of each frame, settings, notes: what was done otherwise than asked).
        """
        base = read_settings(
            k, tau, eta, flow, model, linkage, max_frames, subsequence, stride, refine
        )
        wanted = names("models", models, "full", "no-lc")
        estimators = names("other_flow", other_flow, "raft-sintel")
        check_offered(wanted, estimators)
        ks, taus = wholes("other_k", other_k, 3), wholes("other_tau", other_tau, 2)
        refinement = truth("other_refine", other_refine, False)
        planned = plan(base, wanted, ks, taus, estimators, refinement)
        with Call(sessions, request) as call:
            clip = call.clip(video)
            known: tuple[Compared, ...] = ()
            flows: dict[tuple[str, bool], FlowFields] = {}
            notes: dict[str, list[str]] = {}
            for title, settings in planned.items():
                key = settings.flow, any(each < 0 for each in settings.taus)
                network = load_network(settings.model)
                run = SegmentationRun(clip, settings, network, flows.get(key), call.stop)
                for _ in run.frames():
                    pass
                flows[key], notes[title] = run.flow, list(run.notes)
                first = known[0].result if known else None
                known = with_variant(known, compare(title, run.result(), first, call.stop))
            path = call.folder / "comparison.mp4"
            comparison_video(known, path, call.stop)
            return str(path), [{**each.to_json(), "notes": notes[each.title]} for each in known]

    return Endpoint(
        compare_variants,
        inputs=(
            gr.File(label="video", type="filepath"),
            gr.JSON(["full", "no-lc"], label="models"),
            gr.JSON([], label="other_k"),
            gr.JSON([], label="other_tau"),
            gr.JSON([], label="other_flow"),
            *settings_inputs(),
            stride_input(),
            refine_input(),
            gr.Checkbox(False, label="other_refine"),
        ),
        outputs=(gr.File(label="comparison video"), gr.JSON(label="table")),
    )
