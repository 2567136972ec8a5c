"""Broken files through the door: ``python -m benchmarks.broken_files --count 200 --seed 0``.

Each is made from a good one (see ``benchmarks.mutations``) and read as the app reads an upload, to
its end. A sentence or a correct result is right; anything else, or more than 10 s, is a failure.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SLOWEST = 10.0
"""Seconds that a broken file may take."""


@dataclass(frozen=True)
class Tried:
    """What became of one broken file: ``outcome`` is "refused", "read" or "failed"."""

    kind: str
    mutation: str
    outcome: str
    seconds: float
    told: str


def attempt(kind: str, place: Path) -> str:
    """Read a file as the app does; the sentence of its refusal, or nothing when it was read.

    Raises:
        AssertionError: what was read is not what it should be.
    """
    from benchmarks.mutations import FLOWS, FRAMES, SIZE
    from stseg.checkpoint import load_checkpoint
    from stseg.errors import InputError
    from stseg.flow import own_flow
    from stseg.flow.weights import load_raft_weights
    from stseg.limits import Limits
    from stseg.records import Clip
    from stseg.uploads import Door
    from stseg.video import read_frames, thumbnail

    door = Door(Limits(frames=100, side=2048, memory=512, patience=5, effort=9))
    try:
        if kind == "safetensors":
            network = load_checkpoint(place).network
            assert all(each.isfinite().all() for each in network.parameters())
        elif kind == "pth":
            assert "fnet.conv1.weight" in load_raft_weights(place)
        elif kind in FLOWS:
            clip = Clip(place.parent / "frames", "a", SIZE, 24.0, FRAMES)
            kept = place.parent / "kept.npz"
            door.flow(place, clip, kept)
            fields = own_flow(kept, clip).forward
            assert len(fields) == FRAMES - 1
            assert all(np.isfinite(field).all() for field in fields)
        else:
            clip = door.video(place)
            count = 0
            for frame in read_frames(clip):
                assert frame.shape == (*clip.size, 3)
                assert frame.dtype == np.uint8
                count += 1
            assert 1 <= count <= 100
            assert thumbnail(clip).dtype == np.uint8
    except InputError as error:
        sentence = str(error)
        assert sentence.endswith((".", "?")), sentence
        assert len(sentence) < 1000, sentence
        return sentence
    return ""


@dataclass(frozen=True)
class Grown:
    """By how much this process has grown: bytes of memory, and open files."""

    memory: int
    files: int


def lay_out(folder: Path, files: Mapping[str, bytes], frames: Mapping[str, bytes]) -> Path:
    """Write the files of one upload, and the frames that flow belongs to; the path to read."""
    place = folder / "walk" if len(files) > 1 else folder / next(iter(files))
    for name, data in files.items():
        path = place / name if len(files) > 1 else place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "frames").mkdir()
    for name, data in frames.items():
        (folder / "frames" / name).write_bytes(data)
    return place


def run(count: int, seed: int, folder: Path) -> tuple[list[Tried], Grown]:
    """Try so many broken files, after the good ones, which must all be read."""
    from benchmarks.mutations import broken, good_files

    rng = np.random.default_rng(seed)
    (folder / "good").mkdir()
    good = good_files(rng, folder / "good")
    frames = good["png-folder"]
    for kind, files in good.items():
        told = attempt(kind, lay_out(folder / "good" / kind, files, frames))
        assert not told, f"a good {kind} is refused: {told}"
    done: list[Tried] = []
    memory, opened = resident(), len(os.listdir("/proc/self/fd"))
    for number in range(count):
        kind, mutation, files = broken(good, number, rng)
        place = lay_out(folder / f"{number:04d}", files, frames)
        begun = time.perf_counter()
        try:
            told = attempt(kind, place)
            outcome = "refused" if told else "read"
        except Exception:  # noqa: BLE001 - whatever it is, it is what we look for
            told, outcome = traceback.format_exc(), "failed"
            print(f"{number} {kind} {mutation}: {told}", file=sys.stderr)
        done.append(Tried(kind, mutation, outcome, time.perf_counter() - begun, told))
    return done, Grown(resident() - memory, len(os.listdir("/proc/self/fd")) - opened)


def resident() -> int:
    """Bytes of memory that this process has now."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Print the counts; the exit status is 1 when a file failed or took too long."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stseg-broken-") as folder:
        done, grown = run(arguments.count, arguments.seed, Path(folder))
    kinds = sorted({each.kind for each in done})
    for title, chosen in (*((kind, [kind]) for kind in kinds), ("all", kinds)):
        tried = [each for each in done if each.kind in chosen]
        counts = Counter(each.outcome for each in tried)
        worst = max(each.seconds for each in tried)
        print(
            f"{title:12} {len(tried):4} tried, {counts['refused']:4} refused with a sentence, "
            f"{counts['read']:4} read, {counts['failed']} failed; at most {worst:.1f} s"
        )
    print(f"memory grew by {grown.memory / 2**20:.1f} MiB, open files by {grown.files}")
    slow = [each for each in done if each.seconds > SLOWEST]
    return 1 if slow or any(each.outcome == "failed" for each in done) else 0


if __name__ == "__main__":
    sys.exit(main())
