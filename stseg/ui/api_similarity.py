"""Endpoint ``/similarity``: a video in, how alike its segments are and how they merge out."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from stseg.pipeline import SegmentationRun
from stseg.records import Segmentation
from stseg.selection import subsequences
from stseg.similarity import check_choice, relabelled
from stseg.ui.affinity import Affinity, spread
from stseg.ui.controls import read_settings
from stseg.ui.endpoint import Call, Endpoint, refine_input, settings_inputs, stride_input
from stseg.ui.given import number
from stseg.ui.sessions import Sessions

NAME = "similarity"

ACROSS = 160
"""Frames that are compared with each other, at most: Gradio walks through every number of the
answer while nobody else is served, and the pairs grow with the square."""


def build(sessions: Sessions) -> Endpoint:
    """Lay out the endpoint in the place that is open now."""

    def similarity(  # noqa: D417 - a client does not give the request
        video: str | None,
        k: Any,
        tau: Any,
        eta: Any,
        flow: Any,
        model: Any,
        linkage: Any,
        max_frames: Any,
        subsequence: Any,
        threshold: Any,
        measure: Any,
        stride: Any,
        refine: Any,
        request: gr.Request,
    ) -> dict[str, Any]:
        """Compare the segments of a video in the network's own features, and merge those alike.

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
            threshold: groups fuse while the mean cosine between their segments is above it, -1 to
                1; 1 fuses none.
            measure: "cosine" or "dot" (the dot product, divided by the number of features).
            stride: frames from one triplet to the next: 1 as the paper has it, or 2, which halves
                the work, for one tau of 1 or -1; 0 is 2 where tau allows it.
            refine: whether masks are refined by the flow, which the paper does not do.

        Returns:
            A dictionary. "parts": for each sub-sequence (the whole clip is one, unless
            `subsequence` says otherwise) its first and last frame ("frames"), the matrix of label
            against label over them ("similarity") and for each label the one it becomes ("merged").
            "whole_clip" and "merged": the same where there is one part, else null. "frames": the
            matrix for every frame. "across_time": for each label the matrix of frame against frame,
            among the frames in "across_time_frames": all, or of a long video 160 that are evenly
            spread. "plane": for every frame and label its point (x, y) by PCA. Null stands for a
            label that is not there. "areas": mean share of the frame of each merged label.
            "threshold", "measure", "settings": as they were used.
        """
        settings = read_settings(
            k, tau, eta, flow, model, linkage, max_frames, subsequence, stride, refine
        )
        threshold = number("threshold", threshold, 0.9)
        check_choice(threshold, measure)
        with Call(sessions, request) as call:
            run = SegmentationRun(call.clip(video), settings, stop=call.stop)
            for _ in run.frames():
                pass
            result = run.result()
            answer = summary(result, threshold, measure)
            result.close()
            return answer

    return Endpoint(
        similarity,
        inputs=(
            gr.File(label="video", type="filepath"),
            *settings_inputs(),
            gr.Number(1.0, label="threshold"),
            gr.Textbox("cosine", label="measure"),
            stride_input(),
            refine_input(),
        ),
        outputs=(gr.JSON(label="similarity"),),
    )


def summary(result: Segmentation, threshold: float, measure: str) -> dict[str, Any]:
    """What the endpoint answers, as plain JSON values. Raises InputError for a bad choice."""
    affinity = Affinity(result)
    compared = spread(len(result), ACROSS)
    names = affinity.names(threshold)
    means = relabelled(result, threshold, names).areas().mean(axis=0)
    parts = [
        {
            "frames": [part.start, part.stop - 1],
            "similarity": _plain(affinity.whole(measure, part.start)),
            "merged": names[part.start].tolist(),
        }
        for part in subsequences(len(result), result.settings.subsequence)
    ]
    whole = parts[0] if len(parts) == 1 else {}
    return {
        "parts": parts,
        "whole_clip": whole.get("similarity"),
        "merged": whole.get("merged"),
        "frames": [_plain(affinity.at(frame, measure)) for frame in range(len(result))],
        "across_time": [
            _plain(affinity.among(compared, label, measure)) for label in range(result.k)
        ],
        "across_time_frames": compared.tolist(),
        "plane": _plain(affinity.points()),
        "areas": {str(label): round(float(means[label]), 4) for label in np.unique(names)},
        "threshold": threshold,
        "measure": measure,
        "settings": result.settings.to_json(),
    }


def _plain(values: np.ndarray) -> Any:
    """Nested lists rounded to four places; None for NaN, which JSON does not know."""
    rounded = np.round(values.astype(np.float64), 4)
    plain = rounded.astype(object)
    plain[np.isnan(rounded)] = None
    return plain.tolist()
