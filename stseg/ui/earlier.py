"""Results of clips that a visitor turned away from: coming back shows them as they were."""

from __future__ import annotations

from dataclasses import replace

from stseg.records import Clip
from stseg.ui.shown import Shown

FRAMES = 1000
"""Of all results that one visitor turned away from; a frame is about 1.3 MiB, on the disk."""


class Earlier:
    """The latest results of other clips, one a clip, as many as have so many frames in all.

    They leave memory, and their files are not kept: those are written anew.
    """

    def __init__(self, frames: int = FRAMES) -> None:
        self._frames = frames
        self._kept: tuple[Shown, ...] = ()

    def keep(self, shown: Shown) -> None:
        """Keep a result, if its run went to the end; what is older may go."""
        self.forget(shown.result.clip)
        if shown.footage is None or shown.growing:
            return
        if len(shown) > self._frames:
            return
        total, kept = 0, list[Shown]()
        for each in (replace(shown, written={}), *self._kept):
            total += len(each)
            if total > self._frames:
                break
            kept.append(each)
        self._kept = tuple(kept)
        try:
            shown.leave_memory()
        except OSError:  # the disk is full, and segmenting again takes less
            self.forget(shown.result.clip)

    def of(self, clip: Clip) -> Shown | None:
        """The result of this clip, or None."""
        return next((each for each in self._kept if _same(each, clip)), None)

    def forget(self, clip: Clip) -> None:
        """Let the result of this clip go."""
        self._kept = tuple(each for each in self._kept if not _same(each, clip))


def _same(shown: Shown, clip: Clip) -> bool:
    return shown.result.clip.source == clip.source
