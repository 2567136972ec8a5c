"""Memory against the length of a clip: ``python -m benchmarks.memory --video FILE``.

Each length is segmented with DIS by the command line in a process of its own, all files written,
and its peak resident memory printed. The frames of the video run forth and back until there are
enough. ``--small`` takes an untrained network of one level instead of the one that ships: what
grows with the clip is the same, and 3,000 frames take minutes, not half an hour.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch

from stseg.checkpoint import save_checkpoint
from stseg.memory import MIB, peak_of
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.video import Picture, probe, read_frames
from stseg.video_writer import VideoWriter

LENGTHS = (100, 3000)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description="Peak memory of segment against the frames.")
    parser.add_argument("--video", type=Path, required=True, help="where the frames are from")
    parser.add_argument("--frames", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--small", action="store_true", help="a small network, untrained")
    options = parser.parse_args()
    peaks = []
    with tempfile.TemporaryDirectory(prefix="stseg-memory-") as name:
        folder = Path(name)
        model = small_model(folder) if options.small else "full"
        for count in options.frames:
            path = folder / f"{count}.mp4"
            write_long(options.video, path, count)
            begun = time.perf_counter()
            words = ["segment", path, "--out", folder / str(count), "--model", model, "--no-cache"]
            failed, most = peak_of([sys.executable, "-m", "stseg", *map(str, words)])
            if failed:
                raise SystemExit(f"The command failed: {words}")
            peaks.append(most)
            seconds = time.perf_counter() - begun
            print(f"{count:5} frames: {peaks[-1] / MIB:6.0f} MiB at most, {seconds:.0f} s")
    print(f"largest against smallest: {max(peaks) / min(peaks):.3f}")


def small_model(folder: Path) -> Path:
    """A network of one level that nobody has trained."""
    torch.manual_seed(0)
    path = folder / "small.safetensors"
    settings = NetworkSettings(levels=1, features=4)
    save_checkpoint(path, SegmentationNetwork(settings), {"note": "untrained"})
    return path


def write_long(source: Path, path: Path, count: int) -> None:
    """So many frames of ``source``, forth and back."""
    clip = probe(source)
    frames = list(read_frames(clip))
    with VideoWriter(path, clip.fps) as writer:
        for frame in islice(_forth_and_back(frames), count):
            writer.write(frame)


def _forth_and_back(frames: Sequence[Picture]) -> Iterator[Picture]:
    while True:
        yield from frames[:-1]
        yield from frames[:0:-1]


if __name__ == "__main__":
    main()
