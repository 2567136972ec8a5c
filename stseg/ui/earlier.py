"""Results of clips that a visitor turned away from: coming back needs no new run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from stseg.records import Clip
from stseg.segment_motion import SegmentMotion
from stseg.spool import Spool
from stseg.ui.affinity import Affinity
from stseg.ui.shown import Shown

FRAMES = 1000
"""Of all results that one visitor turned away from; a frame is about 1.3 MiB, on the disk."""

RESULTS = 4
"""No more of them: each takes some ten open files."""


class Earlier:
    """The latest results of other clips, one a clip, within bounds.

    What is large of them leaves memory, what can be computed again goes, and so do their files.

    Args:
        frames: of all results together.
        results: how many.
    """

    def __init__(self, frames: int = FRAMES, results: int = RESULTS) -> None:
        self._frames = frames
        self._results = results
        self._kept: tuple[Shown, ...] = ()
        self._lock = threading.Lock()

    def keep(self, shown: Shown, stays: Sequence[Spool] = ()) -> None:
        """Keep a result whose run has ended; what is older may go.

        One that was stopped does not take the place of a whole one.

        Args:
            shown: the result.
            stays: what is not moved to the disk.
        """
        known = self.of(shown.result.clip)
        whole = known is not None and not known.broken_off
        if shown.growing or len(shown) > self._frames or (shown.broken_off and whole):
            return
        own = replace(
            shown,
            written={},
            motion=SegmentMotion(shown.result),
            affinity=Affinity(shown.unmerged),
        )
        with self._lock:
            total, kept = 0, list[Shown]()
            for each in (own, *self._others(shown.result.clip)):
                total += len(each)
                if total > self._frames or len(kept) == self._results:
                    break
                kept.append(each)
            self._kept = tuple(kept)
        try:
            for spool in own.spools:
                if not any(spool is each for each in stays):
                    spool.leave_memory()
        except OSError:  # the disk is full, and segmenting again takes less
            self.forget(shown.result.clip)

    def of(self, clip: Clip) -> Shown | None:
        """The result of this clip, or None."""
        return next((each for each in self._kept if _is_of(each, clip)), None)

    def forget(self, clip: Clip) -> None:
        """Let the result of this clip go."""
        with self._lock:
            self._kept = self._others(clip)

    def _others(self, clip: Clip) -> tuple[Shown, ...]:
        return tuple(each for each in self._kept if not _is_of(each, clip))


def _is_of(shown: Shown, clip: Clip) -> bool:
    return shown.result.clip.source == clip.source
