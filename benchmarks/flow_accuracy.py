"""How far DIS is from RAFT: ``python -m benchmarks.flow_accuracy --root ../shared``.

Two pairs of each sequence of DAVIS2016's dev-val (the correction was trained on ``--split train``),
from its MP4 frames, against the cached RAFT flow on the network's grid: the mean L1 distance as a
share of the RAFT flow itself, and as a share of what a quadratic model of the whole field leaves of
it, which is what moves by itself.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from stseg.flow import to_grid
from stseg.flow.correction import Correction
from stseg.flow.dis import DIS
from stseg.flow.files import read_flow_file
from stseg.records import GRID
from stseg.video import probe, read_frames

Image = UInt8[np.ndarray, "H W 3"]
Flow = Float[np.ndarray, "2 h w"]
SIZE = (480, 854)
LEAST = 0.2
"""Pixels of motion below which a share says nothing."""


def two_pairs(root: Path, name: str) -> list[tuple[Image, Image, Flow]]:
    """The pairs at a quarter and at three quarters of a sequence, with their RAFT flow."""
    cached, _ = read_flow_file(root / f"flows/raft-sintel/{name}.npz")
    places = [len(cached) // 4, 3 * len(cached) // 4]
    images = list(islice(read_frames(probe(root / f"videos/{name}.mp4")), places[-1] + 2))
    return [(images[t], images[t + 1], cached[t].astype(np.float32)) for t in places]


def shares(flow: Flow, reference: Flow) -> tuple[float, float]:
    """L1 distance relative to the reference, and to what a quadratic model leaves of it."""
    rows, columns = np.indices(reference.shape[1:]) / np.array(GRID).reshape(2, 1, 1) - 0.5
    ones = np.ones_like(rows)
    terms = np.stack([ones, rows, columns, rows * columns, rows**2, columns**2]).reshape(6, -1)
    values = reference.reshape(2, -1).T
    fit = terms.T @ np.linalg.lstsq(terms.T, values, rcond=None)[0]
    distance = np.abs(flow - reference).sum(axis=0).mean()
    size, left = (np.abs(each).sum(axis=1).mean() for each in (values, values - fit))
    return distance / max(size, LEAST), distance / max(left, LEAST)


def bare(first: Image, second: Image) -> Flow:
    """OpenCV's preset "medium", as it comes, on gray frames of the full size."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second)]
    return to_grid(np.asarray(search.calc(*gray, np.zeros((*SIZE, 2), np.float32))), GRID)


def on_grid_by(dis: DIS) -> Callable[[Image, Image], Flow]:
    """The flow of a pair on the network's grid, by one search."""
    return lambda first, second: to_grid(
        dis.between(dis.prepare(first), dis.prepare(second), SIZE), GRID
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--root", type=Path, required=True, help="folder with davis16")
    parser.add_argument("--split", default="dev-val", help="train or dev-val")
    given = parser.parse_args()
    root = given.root / "davis16"
    names = (root / "splits" / f"{given.split}.txt").read_text(encoding="utf-8").split()
    pairs = [pair for name in names for pair in two_pairs(root, name)]
    ways: dict[str, Callable[[Image, Image], Flow]] = {
        "OpenCV's preset": bare,
        "both ways, filled in (dis-plain)": on_grid_by(DIS()),
        "corrected (dis)": on_grid_by(DIS(Correction())),
    }
    print(f"{len(pairs)} pairs; L1 distance to RAFT, mean and median")
    for title, way in ways.items():
        begun = time.perf_counter()
        flows = [way(first, second) for first, second, _ in pairs]
        seconds = (time.perf_counter() - begun) / len(pairs)
        told = np.array([shares(f, pair[2]) for f, pair in zip(flows, pairs, strict=True)])
        of_flow, of_rest = (f"{m.mean():.3f}, {np.median(m):.3f}" for m in told.T)
        print(
            f"DIS, {title}: {of_flow} of the flow; {of_rest} of what moves by itself; "
            f"{1000 * seconds:.0f} ms a pair"
        )


if __name__ == "__main__":
    main()
