"""Endpoint ``/fit``: a video in, a model fitted to it out."""

from __future__ import annotations

from typing import Any

import gradio as gr

from stseg.adaptation import AdaptationSettings
from stseg.errors import InputError
from stseg.ui.controls import DEFAULTS as RECORD
from stseg.ui.controls import read_settings
from stseg.ui.endpoint import Call, Endpoint
from stseg.ui.fit_work import fit_clip
from stseg.ui.given import number, whole
from stseg.ui.sessions import Sessions

NAME = "fit"
DEFAULTS = AdaptationSettings()
MOST = 2000
"""Optimiser steps of one call."""


def build(sessions: Sessions) -> Endpoint:
    """Lay out the endpoint in the place that is open now."""

    def fit(  # noqa: D417 - a client does not give the request
        video: str | None,
        k: Any,
        tau: Any,
        eta: Any,
        beta: Any,
        steps: Any,
        flow: Any,
        model: Any,
        max_frames: Any,
        request: gr.Request,
    ) -> tuple[str, dict[str, Any]]:
        """Fit a model to the flow of one video, without any label.

        Args:
            video: a file that FFmpeg reads, or a GIF.
            k: number of segments, 2 to 8.
            tau: temporal steps, a list of integers.
            eta: occluded sites in percent, 0 to 100.
            beta: weight of the temporal loss L_c; 0 fits without it.
            steps: optimiser steps.
            flow: name of a flow estimator, for instance "dis".
            model: name of the model to start from, for instance "full".
            max_frames: read no more than this many frames; 0 reads all.

        Returns:
            The checkpoint (safetensors), for ``python -m stseg segment --model FILE``, and the
            losses: of each step, and of the clip before and after; a fit that was stopped was last
            measured at the step ``after_step``. "notes" says what was done otherwise than asked.
        """
        settings = read_settings(k, tau, eta, flow, model, RECORD.linkage, max_frames, 0)
        chosen = AdaptationSettings(
            k=settings.k,
            taus=settings.taus,
            eta=settings.eta,
            beta=number("beta", beta, DEFAULTS.beta),
            steps=whole("steps", steps, DEFAULTS.steps),
        )
        if chosen.steps > MOST:
            raise InputError(
                f"{chosen.steps} steps are too many for a shared machine: at most {MOST}."
            )
        with Call(sessions, request) as call:
            clip = call.clip(video)
            path = call.folder / f"{clip.name}-fitted.safetensors"
            *_, step = fit_clip(clip, settings.model, chosen, settings, path, call.stop)
            if step.saved is None:
                raise InputError("The fit was stopped before its first step.")
            known = [each for each in step.told if each.clip_losses is not None]
            losses = {
                "steps": [{"step": each.step, **each.losses} for each in step.told if each.losses],
                "before": known[0].clip_losses,
                "after": known[-1].clip_losses,
                "after_step": known[-1].step,
                "seconds": step.told[-1].seconds,
                "notes": list(step.notes),
            }
            return str(path), losses

    return Endpoint(
        fit,
        inputs=(
            gr.File(label="video", type="filepath"),
            gr.Number(DEFAULTS.k, label="k"),
            gr.JSON(list(DEFAULTS.taus), label="tau"),
            gr.Number(100 * DEFAULTS.eta, label="eta"),
            gr.Number(DEFAULTS.beta, label="beta"),
            gr.Number(DEFAULTS.steps, label="steps"),
            gr.Textbox("dis", label="flow"),
            gr.Textbox(RECORD.model, label="model"),
            gr.Number(0, label="max_frames"),
        ),
        outputs=(gr.File(label="checkpoint"), gr.JSON(label="losses")),
    )
