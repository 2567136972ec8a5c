"""Flow of a whole clip: brought, from the cache, or computed."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np

from stseg.errors import Stop, heed
from stseg.flow import ESTIMATORS, FlowSettings, estimator, flow_pairs, own_fields
from stseg.flow.cache import FlowCache
from stseg.pipeline import flow_key
from stseg.records import Clip, Settings, grid_for
from stseg.video import read_frames
from stseg.volume import FlowFields


def read_fields(
    clip: Clip, settings: Settings, cache: FlowCache | None = None, stop: Stop | None = None
) -> Generator[int, None, FlowFields]:
    """Forward flow of a clip: brought, from the cache, or computed. Yields the frames read so far.

    Args:
        clip: the clip.
        settings: which estimator, and how many frames.
        cache: where computed flow is kept and looked up.
        stop: asked after each frame, also while those of brought flow are counted.

    Raises:
        InputError: the estimator or the flow that was brought is unusable.
        Cancelled: ``stop`` said so.
    """

    def check() -> None:
        heed(stop, "fit")

    fields = FlowFields()
    if settings.flow not in ESTIMATORS and Path(settings.flow).exists():
        brought = own_fields(Path(settings.flow), clip, settings.max_frames, check)
        for done, field in enumerate(brought, start=1):
            fields.forward.append(field)
            yield done
        return fields
    key = flow_key(clip, settings)
    stored = None if cache is None else cache.load(key, backward=False)
    if stored is not None:
        return stored
    using = estimator(FlowSettings.of(settings), check)
    images = read_frames(clip, settings.max_frames)
    for done, (_, forward, _) in enumerate(flow_pairs(images, using, grid_for(clip.size)), start=1):
        check()
        if forward.size:
            fields.forward.append(forward.astype(np.float16))
        yield done
    if cache is not None and key == flow_key(clip, settings):
        cache.store(key, fields)  # else the file changed while it was read
    return fields
