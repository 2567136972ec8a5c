"""Parity and speed of optical flow: ``python -m benchmarks.flow --root ../shared``.

Prints mean end-point errors (pixels at 854x480) and pairs a second on this machine. Ratios are
between runs of one process, one after the other.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import torch

from stseg.device import Device, choose_device
from stseg.flow import FlowSettings, estimator, to_grid
from stseg.flow.files import read_flo, read_flow_file
from stseg.flow.plain_raft import plain_flow
from stseg.flow.raft import Raft
from stseg.flow.weights import load_raft_weights
from stseg.records import GRID
from stseg.video import probe, read_frames

SIZE = (480, 854)
SEQUENCES = ("blackswan", "camel", "kite-surf")


def end_point_error(flow: np.ndarray, reference: np.ndarray) -> float:
    """Mean distance between vectors of two fields (2, h, w)."""
    return float(np.hypot(*(flow - reference)).mean())


def pairs_a_second(work: Callable[[], None], pairs: int) -> float:
    """Pairs a second of ``work``, the best of two runs."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return pairs / min(seconds)


def published_parity(root: Path, weights: Path, device: Device) -> list[float]:
    """Errors against the authors' published fields, from the original JPEG frames."""
    raft, errors = Raft(weights, 20, device), []
    for index in (0, 10):
        images = [
            cv2.cvtColor(
                cv2.imread(str(root / f"JPEGImages/480p/blackswan/{frame:05d}.jpg")),
                cv2.COLOR_BGR2RGB,
            )
            for frame in (index, index + 1)
        ]
        first, second = (raft.prepare(image) for image in images)
        flow = raft.between(first, second, SIZE).transpose(2, 0, 1)
        published = read_flo(root / f"flows/published/blackswan_{index:05d}.flo")
        errors.append(end_point_error(flow, published))
    return errors


def cached_parity(root: Path, weights: Path, device: Device, name: str, pairs: int) -> float:
    """Error against the cached flow of a sequence, from its MP4 frames."""
    raft = Raft(weights, 12, device)
    cached, _ = read_flow_file(root / f"flows/raft-sintel/{name}.npz")
    images = islice(read_frames(probe(root / f"videos/{name}.mp4")), pairs + 1)
    errors = []
    for index, (first, second) in enumerate(pairwise(map(raft.prepare, images))):
        flow = to_grid(raft.between(first, second, SIZE), GRID)
        errors.append(end_point_error(flow, cached[index].astype(np.float32)))
    return float(np.mean(errors))


def raft_speed(root: Path, weights: Path) -> tuple[float, float, float]:
    """Pairs a second of the authors' procedure and as it ships, and their mean distance (px).

    Both run on the CPU. The plain one is ``stseg.flow.plain_raft``.
    """
    images = list(islice(read_frames(probe(root / "videos/camel.mp4")), 4))
    raft, table = Raft(weights, 12, choose_device("cpu")), load_raft_weights(weights)
    flows: dict[str, list[np.ndarray]] = {"plain": [], "shipped": []}

    def whole_pairs() -> None:
        flows["plain"] = [plain_flow(table, *pair, 12) for pair in pairwise(images)]

    def as_it_ships() -> None:
        prepared = map(raft.prepare, images)
        flows["shipped"] = [
            raft.between(first, second, SIZE) for first, second in pairwise(prepared)
        ]

    pairs = len(images) - 1
    speeds = pairs_a_second(whole_pairs, pairs), pairs_a_second(as_it_ships, pairs)
    both = zip(flows["plain"], flows["shipped"], strict=True)
    apart = np.mean([np.hypot(*(one - other).transpose(2, 0, 1)).mean() for one, other in both])
    return *speeds, float(apart)


def dis_speed(root: Path, name: str) -> float:
    """Pairs a second of DIS, corrected or not, conversion to gray included."""
    images = list(islice(read_frames(probe(root / "videos/camel.mp4")), 31))
    dis = estimator(FlowSettings(name))

    def work() -> None:
        for first, second in pairwise(map(dis.prepare, images)):
            dis.between(first, second, SIZE)

    return pairs_a_second(work, len(images) - 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder with davis16 and weights")
    parser.add_argument("--pairs", type=int, default=10**6, help="pairs of each sequence")
    arguments = parser.parse_args()
    root = arguments.root / "davis16"
    weights = arguments.root / "weights" / "raft-sintel.pth"
    device = choose_device()
    print(f"{platform.processor() or platform.machine()}, {device.name}, torch {torch.__version__}")
    for name in ("dis-plain", "dis"):
        print(f"{name}: {dis_speed(root, name):.1f} pairs/s")
    plain, shipped, apart = raft_speed(root, weights)
    print(f"RAFT plain float32, as the authors' code runs it: {plain:.3f} pairs/s")
    print(f"RAFT as it ships: {shipped:.3f} pairs/s, {shipped / plain:.2f} times as many")
    print(f"RAFT as it ships against plain: {apart:.5f} px")
    for bfloat16 in (False, True):
        errors = published_parity(root, weights, choose_device(bfloat16=bfloat16))
        precision = "bf16" if bfloat16 else "float32"
        told = ", ".join(f"{error:.4f}" for error in errors)
        print(f"RAFT {precision}, 20 iterations, against the published fields: {told} px")
    for name in SEQUENCES:
        error = cached_parity(root, weights, device, name, arguments.pairs)
        print(f"RAFT, 12 iterations, {name}.mp4 against its cached flow: {error:.3f} px")


if __name__ == "__main__":
    main()
