"""The network alone, by batch: ``python -m benchmarks.network --root ../shared/davis16``.

Prints triplets a second of the network as it ships and of the plain one, the share of the measured
ceiling for matrix products, and how many labels equal those of exact float32, on flow of all
sequences of dev-val. Meant for a GPU; on a CPU give fewer triplets at a time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stseg.device import Device, choose_device
from stseg.flow.files import read_flow_file
from stseg.network import SegmentationNetwork
from stseg.pipeline import load_network
from stseg.unet.plain import plain

K = 4
OPERATIONS = 48.9e9
"""Multiplications and additions of one triplet of 128x224, the convolutions' alone."""
ROUNDS = 3
SIDE = {"cpu": 2048, "cuda": 8192}
"""Size of the matrices whose product is the ceiling."""


def triplets(root: Path, count: int) -> Tensor:
    """Triplets of RAFT flow, evenly from the sequences of dev-val: (count, 2, 3, h, w)."""
    names = (root / "splits" / "dev-val.txt").read_text(encoding="utf-8").split()
    each = -(-count // len(names))
    found = []
    for name in names:
        flow, _ = read_flow_file(root / "flows" / "raft-sintel" / f"{name}.npz")
        for centre in np.linspace(1, len(flow) - 2, each).round().astype(int):
            found.append(flow[centre - 1 : centre + 2].swapaxes(0, 1))
    return torch.from_numpy(np.stack(found[:count]).astype(np.float32))


def seconds_of(work: Callable[[], object], device: Device, calls: int) -> float:
    """Seconds of one call, the best of ``ROUNDS`` rounds of ``calls``."""

    def wait() -> None:
        if device.torch.type == "cuda":
            torch.cuda.synchronize()

    work()
    best = float("inf")
    for _ in range(ROUNDS):
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        wait()
        best = min(best, (time.perf_counter() - start) / calls)
    return best


def labels(network: SegmentationNetwork, flow: Tensor, device: Device) -> Tensor:
    """The segment of every site (b, t, h, w)."""
    with torch.inference_mode(), device.autocast():
        return network(flow, K).argmax(1)


def ceiling(device: Device) -> float:
    """Operations a second of a large product in the type that the network multiplies in."""
    kind = torch.bfloat16 if device.bfloat16 else torch.float32
    side = SIDE[device.torch.type]
    matrix = torch.randn(side, side, device=device.torch, dtype=kind)
    return 2 * side**3 / seconds_of(lambda: matrix @ matrix, device, 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of davis16")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8, 16, 32, 64, 128])
    parser.add_argument("--model", default="full")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    if device.torch.type == "cuda":
        torch.backends.cudnn.benchmark = True
    exact = Device(device.torch, bfloat16=False, name=f"{device.name}, float32")
    network = load_network(arguments.model).to(device.torch)
    textbook = plain(network)
    flow = triplets(arguments.root, max(arguments.batches)).to(device.torch)
    most = ceiling(device)
    print(
        f"{device.name}, torch {torch.__version__}: at most {most / 1e12:.2f} TFLOP/s", flush=True
    )
    for size in arguments.batches:
        batch, calls = flow[:size], max(1, 32 // size if device.torch.type == "cuda" else 1)
        rates = {
            name: size / seconds_of(partial(labels, net, batch, where), device, calls)
            for name, net, where in (("as it ships", network, device), ("plain", textbook, exact))
        }
        share = rates["as it ships"] * OPERATIONS / most
        line = ", ".join(f"{name} {rate:.2f}/s" for name, rate in rates.items())
        print(f"{size} at a time: {line}; {100 * share:.0f} % of the ceiling", flush=True)
    torch.backends.cudnn.allow_tf32 = False
    wanted = torch.cat([labels(textbook, part, exact) for part in flow.split(4)])
    for size in (min(arguments.batches), max(arguments.batches)):
        found = torch.cat([labels(network, part, device) for part in flow.split(size)])
        same = float((found == wanted).float().mean())
        print(f"{size} at a time: {100 * same:.3f} % of the labels are those of exact float32")


if __name__ == "__main__":
    main()
