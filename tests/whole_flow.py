"""Flow that somebody brings, all of it at once, for tests that compare it whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stseg.flow import open_flow
from stseg.flow.files import Size


def read_whole(path: Path) -> tuple[np.ndarray, Size]:
    """Fields (n - 1, 2, h, w), and the size (H, W) of the frame."""
    brought = open_flow(path)
    return np.stack(list(brought.fields())), brought.size
