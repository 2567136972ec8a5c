"""A stranger's video looked through from end to end, as the process does that may break over it.

Apart from ``stseg.uploads``, so that this process need not load torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stseg.errors import InputError
from stseg.limits import Limits
from stseg.video import extent, probe


def described(path: Path, limits: Limits) -> Iterator[dict[str, Any]]:
    """One table: ``size`` (H, W) in pixels, ``fps``, and ``frames``, which are counted.

    Raises:
        InputError: it is no video, has fewer than two frames, or is beyond a limit.
    """
    clip = probe(path)
    limits.check_video(clip.size, 0, 0.0, path.name)
    frames, seconds = extent(path)
    limits.check_video(clip.size, frames, seconds, path.name)
    if frames < 2:
        raise InputError(
            f"{path.name} has {frames or 'no'} frame{'' if frames == 1 else 's'}, but motion needs "
            "at least two. Choose a longer video."
        )
    yield {"size": clip.size, "fps": clip.fps, "frames": frames}
