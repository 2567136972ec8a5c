"""What a result says of itself: settings, versions, figures, and the command that makes it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from stseg.annotations import frame_files
from stseg.flow import ESTIMATORS
from stseg.linkage import uses_similarity
from stseg.records import Clip, Segmentation, Settings
from stseg.render import COLOURS


def command_line(
    clip: Clip,
    settings: Settings,
    folder: str = "results",
    told: Callable[[Path], str] = str,
    also: Sequence[str] = (),
) -> str:
    """The command that makes a result again and writes it to ``folder``.

    Args:
        clip: what was segmented.
        settings: how.
        folder: where the command writes.
        told: how a path is told, where it is not to be told as it is.
        also: extra files that it writes, by their names in ``stseg.formats.EXTRAS``.
    """
    kind = ESTIMATORS.get(settings.flow)
    flow = _path(told(Path(settings.flow))) if kind is None else settings.flow
    words = [
        *("python", "-m", "stseg", "segment", _path(told(clip.source)), "--out", _path(folder)),
        *("--k", str(settings.k), "--tau", *map(str, settings.taus), "--eta", str(settings.eta)),
        *("--flow", flow, "--model", _path(settings.model), "--linkage", settings.linkage),
        *("--device", settings.device),
    ]
    if kind is not None and kind.weights is not None:  # RAFT; for others these are refused
        words += ["--iterations", str(settings.iterations)]
        words += [] if settings.weights is None else ["--weights", _path(settings.weights)]
    if settings.subsequence:
        words += ["--subsequence", str(settings.subsequence)]
    if settings.max_frames is not None:
        words += ["--frames", str(settings.max_frames)]
    weighted = uses_similarity(settings.linkage)  # for others it is refused
    if weighted and settings.similarity_weight != Settings.similarity_weight:
        words += ["--similarity-weight", str(settings.similarity_weight)]
    words += ["--stride", str(settings.step)]  # whatever a later version takes by itself
    if settings.refine:
        words.append("--refine")
    if settings.merge is not None:
        # In full: -1e-05 would be taken for an option.
        words += ["--merge", np.format_float_positional(settings.merge, trim="0")]
    words += ["--also", *also] if also else []
    return shlex.join(words)


def _path(path: str) -> str:
    """A path that no command takes for an option."""
    return f"./{path}" if path.startswith("-") else path


def summary(
    segmentation: Segmentation,
    folder: str = "results",
    also: Sequence[str] = (),
    areas: Float32[np.ndarray, "n k"] | None = None,
) -> dict[str, Any]:
    """Settings, versions, statistics of each segment and timings, as JSON values.

    ``segments`` has, for each label that there is, what it is called ("1 + 3" where two are fused),
    its colour, mean share of the frame, number of frames in which it has a site, and mean motion (u
    right, v down, in pixels a frame) of its sites on the network's grid over all frames but the
    last; None where it has none. ``stride`` is what that of the settings came to, where it was left
    open. ``files`` of the clip, where it is a folder, are the names of its frames: label i is that
    of file i.

    Args:
        segmentation: what to tell of.
        folder: where it is written to.
        also: extra files that are written with it.
        areas: share of each frame that each label covers in the label maps that are written; None
            takes those on the network's grid.
    """
    clip, settings = segmentation.clip, segmentation.settings
    n, k = len(segmentation), segmentation.k
    if areas is None:
        areas = segmentation.areas()
    motion = np.zeros((k, 2))
    weight = np.zeros(k)
    for index in range(n - 1):
        labels = segmentation.labels_on_grid(index).ravel()
        weight += np.bincount(labels, minlength=k)
        for component, values in enumerate(segmentation.motion(index)):
            motion[:, component] += np.bincount(labels, weights=values.ravel(), minlength=k)
    motion /= np.maximum(weight, 1)[:, None]
    return {
        "clip": {
            "name": clip.name,
            "source": str(clip.source),
            "frames": n,
            "height": clip.size[0],
            "width": clip.size[1],
            "fps": clip.fps,
            **({"files": frame_files(clip.source)[:n]} if clip.source.is_dir() else {}),
        },
        "settings": settings.to_json(),
        "stride": settings.step,
        "command": command_line(clip, settings, folder, also=also),
        "made_with": dict(segmentation.made_with),
        "seconds": dict(segmentation.seconds),
        "segments": [
            {
                "label": label,
                "name": name,
                "colour": "#{:02x}{:02x}{:02x}".format(*COLOURS[label]),
                "mean_area": round(float(areas[:, label].mean()), 5),
                "frames": int((areas[:, label] > 0).sum()),
                "mean_motion": [round(float(value), 3) for value in motion[label]]
                if weight[label]
                else None,
            }
            for label, name in segmentation.called.items()
        ],
    }
