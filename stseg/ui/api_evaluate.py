"""Endpoint ``/evaluate``: scores of a model on a data set that the server offers."""

from __future__ import annotations

from collections import deque
from typing import Any

import gradio as gr

from stseg.ui.benchmark import SUBSEQUENCE
from stseg.ui.benchmark_work import CACHED, scores_of, scoring_of
from stseg.ui.controls import DEFAULTS, read_settings
from stseg.ui.endpoint import Call, Endpoint, refine_input
from stseg.ui.given import names
from stseg.ui.offered import ALL, chosen
from stseg.ui.sessions import Sessions

NAME = "evaluate"


def build(sessions: Sessions) -> Endpoint:
    """Lay out the endpoint in the place that is open now."""

    def evaluate(  # noqa: D417 - a client does not give the request
        dataset: Any,
        split: Any,
        sequences: Any,
        k: Any,
        tau: Any,
        flow: Any,
        model: Any,
        linkage: Any,
        subsequence: Any,
        stride: Any,
        refine: Any,
        request: gr.Request,
    ) -> dict[str, Any]:
        """Score a model on a data set of the server: J and F as DAVIS measures them.

        Args:
            dataset: title of a data set that the server offers, for instance "Rendered clips".
            split: a list of the data set, or "all".
            sequences: only these, a list of names; an empty list takes all of the split.
            k: number of segments, 2 to 8.
            tau: temporal steps, a list of integers; the first one leads.
            flow: "cached" for the flow beside the data, or the name of a flow estimator.
            model: name of a model, for instance "full".
            linkage: how labels are linked over time, for instance "one-to-one" or "greedy".
            subsequence: frames for which the foreground is chosen at once; 0 is the whole video.
            stride: frames from one triplet to the next: 1 as the paper and what was published have
                it, or 2, which halves the work, for one tau of 1 or -1.
            refine: whether masks are refined by the flow, which the paper does not do.

        Returns:
            The report that `python -m stseg evaluate --json` writes, scores as fractions of 1.
        """
        data_set = chosen(sessions.offered, dataset)
        eta, estimator = 100 * DEFAULTS.eta, DEFAULTS.flow if flow == CACHED else flow
        settings = read_settings(
            k, tau, eta, estimator, model, linkage, 0, subsequence, stride, refine
        )
        only = names("sequences", sequences, "bear", "camel")
        with Call(sessions, request) as call:
            scoring = scoring_of(data_set, split or ALL, only, settings, flow == CACHED)
            latest = deque(scores_of(scoring, call.stop, pictures=False), maxlen=1).pop()
            call.check()
            return latest.to_json() | {"split": split or ALL}

    return Endpoint(
        evaluate,
        inputs=(
            gr.Textbox(next(iter(sessions.offered), ""), label="dataset"),
            gr.Textbox(ALL, label="split"),
            gr.JSON([], label="sequences"),
            gr.Number(DEFAULTS.k, label="k"),
            gr.JSON(list(DEFAULTS.taus), label="tau"),
            gr.Textbox(CACHED, label="flow"),
            gr.Textbox(DEFAULTS.model, label="model"),
            gr.Textbox("greedy", label="linkage"),
            gr.Number(SUBSEQUENCE, label="subsequence"),
            gr.Number(1, label="stride"),
            refine_input(),
        ),
        outputs=(gr.JSON(label="report"),),
    )
