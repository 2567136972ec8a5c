"""Clips as they come from the web: ``python -m benchmarks.recoded --root ROOT --out DIR``.

Videos of DAVIS2016, coded anew and with some frames twice where that is asked for, beside their
masks, so that ``python -m stseg evaluate --root DIR`` scores them.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32

from stseg.video import probe, read_frames
from stseg.video_writer import VideoWriter

DARKEST = 0.15
"""What the light of a dusk is multiplied by where it is darkest."""

_PATCHES = (3, 4)


def dusk(size: tuple[int, int], seed: int) -> Float32[np.ndarray, "h w 1"]:
    """Light that about half of a frame lies in, from ``DARKEST`` to 1, without an edge.

    What is dark has little texture, and x264 leaves it where it was: the ground seems to stand
    still while the camera moves.

    Args:
        size: of the frames, (h, w).
        seed: of where it is dark.
    """
    rough = np.random.default_rng(seed).normal(0, 1, _PATCHES).astype(np.float32)
    smooth = cv2.resize(rough, size[::-1], interpolation=cv2.INTER_CUBIC)
    away = (smooth - np.median(smooth)) / smooth.std()
    return (DARKEST + (1 - DARKEST) / (1 + np.exp(-4 * away)))[..., None]


def recode(
    source: Path, place: Path, crf: int, twice: int = 0, night: int | None = None
) -> list[int]:
    """Write the frames of a video anew; returns which of them each new frame shows.

    Args:
        source: a video that FFmpeg reads.
        place: the MP4 to write.
        crf: quality of x264: 18 is nearly as good as the source, 23 usual, 28 low.
        twice: every so many frames one is shown twice; 4 makes 30 frames a second of 24, and 0
            repeats none.
        night: seed of a ``dusk`` that falls on all frames; None leaves them as they are.
    """
    clip, shown = probe(source), list[int]()
    rate = clip.fps * (1 + 1 / twice) if twice else clip.fps
    with VideoWriter(place, rate, crf) as writer:
        light = None if night is None else dusk(clip.size, night)
        for index, frame in enumerate(read_frames(clip)):
            if light is not None:
                frame = (frame * light).round().astype(np.uint8)
            for _ in range(2 if twice and index % twice == twice - 1 else 1):
                writer.write(frame)
                shown.append(index)
    return shown


def main() -> None:
    """Write the clips and their masks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of DAVIS2016")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--split", default="dev-val", help="list in ROOT/splits")
    parser.add_argument("--sequences", nargs="+", help="instead of a list")
    parser.add_argument("--crf", type=int, default=23, help="quality of x264 (default: 23)")
    parser.add_argument("--twice", type=int, default=0, help="every so many frames one twice")
    given = parser.parse_args()
    listed = given.root / f"splits/{given.split}.txt"
    for name in given.sequences or listed.read_text(encoding="utf-8").split():
        (given.out / name).mkdir(parents=True)
        source, place = given.root / f"videos/{name}.mp4", given.out / f"{name}.mp4"
        shown = recode(source, place, given.crf, given.twice)
        for frame, index in enumerate(shown):
            mask = given.root / f"Annotations/480p/{name}/{index:05d}.png"
            shutil.copy(mask, given.out / f"{name}/{frame:05d}.png")
        print(f"{name}: {len(shown)} frames, {place.stat().st_size / source.stat().st_size:.0%}")


if __name__ == "__main__":
    main()
