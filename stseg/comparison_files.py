"""Files of a comparison: its table, its figures frame by frame, and the variants in one video."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stseg.comparison import Compared
from stseg.errors import Stop, heed
from stseg.files import write_atomically
from stseg.records import Settings
from stseg.render import captioned, overlay, shrink
from stseg.video import read_frames
from stseg.video_writer import VideoWriter

TILE = 480
"""Longer side of one picture of the video, in pixels."""

FILES = ("comparison.mp4", "comparison.json", "comparison.csv", "frames.csv")
"""What ``write_comparison`` writes."""


def write_comparison(
    variants: Sequence[Compared],
    folder: Path,
    stop: Stop | None = None,
    told: Callable[[Settings], Settings] = lambda settings: settings,
) -> Iterator[int]:
    """Write ``FILES`` into ``folder``, step by step: gives the number of frames done.

    ``comparison.json`` has everything, and the η of L_c, which is the same for all;
    ``comparison.csv`` a line for each variant, ``frames.csv`` one for each variant and frame. J, F,
    flicker, L_r and L_c are fractions, the residual is in pixels a frame; a cell is empty where
    there is no such figure.

    Args:
        variants: of one clip, the first as reference.
        folder: is made.
        stop: asked before each frame.
        told: settings as files may tell them.

    Raises:
        Cancelled: ``stop`` said so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    video, record, table, frames = (folder / name for name in FILES)
    yield from writing_video(variants, video, stop)
    clip = variants[0].result.clip
    rows = []
    for each in variants:
        settings = told(each.result.settings).to_json()
        rows.append({**each.to_json(), "frames": len(each.result), "settings": settings})
    about = {"name": clip.name, "size": list(clip.size), "fps": clip.fps}
    record_of = {"clip": about, "eta": variants[0].measures.eta, "variants": rows}
    text = json.dumps(record_of, indent=2, ensure_ascii=False)
    write_atomically(record, text.encode())
    named = [name for name in rows[0] if name not in ("title", "per_frame", "settings")]
    write_atomically(
        table, _csv(["variant", *named], ([r["title"], *(r[name] for name in named)] for r in rows))
    )
    figures = list(rows[0]["per_frame"])
    lines = (
        [row["title"], index, *values]
        for row in rows
        for index, values in enumerate(zip(*row["per_frame"].values(), strict=True))
    )
    write_atomically(frames, _csv(["variant", "frame", *figures], lines))


def _csv(head: Sequence[str], rows: Iterator[list[Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows([_cell(each) for each in row] for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def comparison_video(variants: Sequence[Compared], path: Path, stop: Stop | None = None) -> None:
    """``writing_video``, to its end."""
    for _ in writing_video(variants, path, stop):
        pass


def writing_video(
    variants: Sequence[Compared], path: Path, stop: Stop | None = None
) -> Iterator[int]:
    """Write the variants side by side, two in a row, with their titles (H.264).

    Gives the number of frames done after each of them.

    Args:
        variants: of one clip, whose frames are read again.
        path: of the video.
        stop: asked before each frame.

    Raises:
        Cancelled: ``stop`` said so.
    """
    clip = variants[0].result.clip
    n = min(len(each.result) for each in variants)
    with VideoWriter(path, clip.fps) as video:
        for index, image in enumerate(read_frames(clip, n)):
            heed(stop, "comparison")
            small = shrink(image, TILE)
            size = (small.shape[0] // 2 * 2, small.shape[1] // 2 * 2)
            small = np.ascontiguousarray(small[: size[0], : size[1]])
            tiles = [
                captioned(overlay(small, each.labels(index, size)), each.title.replace("τ", "tau"))
                for each in variants
            ]
            if len(tiles) % 2:
                tiles.append(np.full_like(tiles[0], 24))
            rows = [np.hstack(tiles[first : first + 2]) for first in range(0, len(tiles), 2)]
            video.write(np.vstack(rows))
            yield index + 1
