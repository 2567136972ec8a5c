"""Cost against size: ``python -m benchmarks.scaling``; the plot is ``benchmarks/scaling.png``.

CPU seconds of the pipeline (DIS, network, linkage) against the number of frames, of the network
against the number of sites, and of the network against K. CPU time is what a busy machine distorts
least; every point is the best of a few.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from stseg.device import choose_device
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.pipeline import SegmentationRun
from stseg.records import GRID, K_RANGE, Settings
from stseg.synthetic import SceneSettings, render
from stseg.video import probe
from stseg.video_writer import VideoWriter

PLOT = Path(__file__).with_name("scaling.png")
FRAMES = (8, 16, 32, 64)
SIDES = (0.5, 1.0, 1.5, 2.0)
PANEL = (360, 420)

Points = list[tuple[float, float]]


def cpu_seconds(works: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """CPU time of each, the least of some rounds: a slow minute meets all of them."""
    found = np.full((rounds, len(works)), np.inf)
    for each in found:
        for index, work in enumerate(works):
            start = time.process_time()
            work()
            each[index] = time.process_time() - start
    return [float(least) for least in found.min(axis=0)]


def against_frames(network: SegmentationNetwork, counts: Sequence[int]) -> Points:
    """The pipeline on clips of so many frames of 320x180."""
    scene = render(SceneSettings(size=(180, 320), frames=max(counts), objects=3))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with VideoWriter(path, scene.settings.fps) as writer:
            for frame in scene.frames:
                writer.write(frame)
        clip = probe(path)

        def work(count: int) -> None:
            settings = Settings(k=4, max_frames=count)
            for _ in SegmentationRun(clip, settings, network).frames():
                pass

        work(min(counts))
        works = [partial(work, count) for count in counts]
        return list(zip(map(float, counts), cpu_seconds(works, 2), strict=True))


def of_network(
    network: SegmentationNetwork, wanted: Sequence[tuple[tuple[int, int], int]]
) -> list[float]:
    """One volume of each size into so many masks."""
    device = choose_device("cpu")

    def work(volume: torch.Tensor, k: int) -> None:
        with torch.inference_mode(), device.autocast():
            network(volume, k)

    works = [partial(work, torch.randn(1, 2, 3, *size), k) for size, k in wanted]
    for each in works:
        each()
    return cpu_seconds(works, 6)


def straight(points: Points) -> tuple[float, float, float]:
    """Slope and offset of the least squares line, and the largest distance from it in percent."""
    x, y = np.array(points).T
    slope, offset = np.polyfit(x, y, 1)
    return float(slope), float(offset), float(100 * np.abs(slope * x + offset - y).max() / y.max())


def panel(points: Points, title: str, unit: str) -> np.ndarray:
    """One plot: points, and the line through the origin of the axes that fits them best."""
    rows, columns = PANEL
    picture = np.full((rows, columns, 3), 255, np.uint8)
    left, right, top, bottom = 60, columns - 20, 50, rows - 50
    x, y = np.array(points).T
    width, height = float(x.max()), float(1.15 * y.max())

    def place(a: float, b: float) -> tuple[int, int]:
        return (
            round(left + (right - left) * a / width),
            round(bottom - (bottom - top) * b / height),
        )

    def write(text: str, at: tuple[int, int], size: float = 0.42) -> None:
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (40,) * 3, 1, cv2.LINE_AA)

    cv2.rectangle(picture, (left, top), (right, bottom), (200,) * 3, 1)
    slope, offset, _ = straight(points)
    line = [place(each, slope * each + offset) for each in (float(x.min()), width)]
    cv2.line(picture, line[0], line[1], (230, 159, 0), 2, cv2.LINE_AA)
    for a, b in points:
        cv2.circle(picture, place(a, b), 4, (0, 114, 178), -1, cv2.LINE_AA)
    write(title, (left - 40, 28), 0.5)
    write(unit, (left, rows - 12))
    for value in (0.0, height / 1.15):
        write(f"{value:.2g} s", (8, place(0, value)[1] + 4))
    for value in (float(x.min()), width):
        write(f"{value:,.0f}", (min(place(value, 0)[0] - 12, columns - 56), bottom + 18))
    return picture


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=PLOT, help="picture to write")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    ks = tuple(range(K_RANGE[0], K_RANGE[1] + 1))
    network = SegmentationNetwork(NetworkSettings(ks=ks)).eval().channels_last()
    sizes = [(round(GRID[0] * side**0.5), round(GRID[1] * side**0.5)) for side in SIDES]
    sizes = [(height // 4 * 4, width // 4 * 4) for height, width in sizes]
    plots = [
        ("pipeline against frames", "frames", against_frames(network, FRAMES)),
        (
            "network against sites",
            "sites of the grid",
            list(
                zip(
                    [float(h * w) for h, w in sizes],
                    of_network(network, [(size, 4) for size in sizes]),
                    strict=True,
                )
            ),
        ),
        (
            "network against K",
            "K",
            list(zip(map(float, ks), of_network(network, [(GRID, k) for k in ks]), strict=True)),
        ),
    ]
    for title, unit, points in plots:
        told = ", ".join(f"{x:g}: {y:.3f} s" for x, y in points)
        print(f"{title} ({unit}): {told}")
        print(f"  furthest from a straight line: {straight(points)[2]:.1f} % of the largest")
    times = [seconds for _, seconds in plots[2][2]]
    print(f"  from K = {ks[0]} to {ks[-1]}: {100 * (max(times) / min(times) - 1):.1f} % apart")
    picture = np.hstack([panel(points, title, unit) for title, unit, points in plots])
    Image.fromarray(picture).save(arguments.out, optimize=True)
    print(arguments.out)


if __name__ == "__main__":
    main()
