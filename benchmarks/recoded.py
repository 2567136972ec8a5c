"""Clips as they come from the web: ``python -m benchmarks.recoded --root ROOT --out DIR``.

Videos of DAVIS2016, coded anew and with some frames twice where that is asked for, beside their
masks, so that ``python -m stseg evaluate --root DIR`` scores them.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from stseg.video import probe, read_frames
from stseg.video_writer import VideoWriter


def recode(source: Path, place: Path, crf: int, twice: int = 0) -> list[int]:
    """Write the frames of a video anew; returns which of them each new frame shows.

    Args:
        source: a video that FFmpeg reads.
        place: the MP4 to write.
        crf: quality of x264: 18 is nearly as good as the source, 23 usual, 28 low.
        twice: every so many frames one is shown twice; 4 makes 30 frames a second of 24, and 0
            repeats none.
    """
    clip, shown = probe(source), list[int]()
    rate = clip.fps * (1 + 1 / twice) if twice else clip.fps
    with VideoWriter(place, rate, crf) as writer:
        for index, frame in enumerate(read_frames(clip)):
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
