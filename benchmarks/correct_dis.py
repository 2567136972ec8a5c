"""Train what corrects DIS: ``python -m benchmarks.correct_dis --root ../shared --out FILE``.

The candidates of each pair of frames of the training sequences of DAVIS2016 (MP4 frames) and of
rendered clips are made once, about 2,500 pairs; the network (``stseg.flow.correction``) learns to
choose among them what is nearest to the cached RAFT flow, or to the exact one. At the end it prints
the error on dev-val, on which it was not trained. 6,400 steps take nine minutes on two cores with
bf16.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from stseg.device import Device, choose_device
from stseg.flow import to_grid
from stseg.flow.candidates import KINDS, Candidates
from stseg.flow.correction import CorrectionNetwork, Offered, correct, save_correction
from stseg.flow.dis import DIS
from stseg.flow.files import read_flow_file
from stseg.records import GRID
from stseg.synthetic import PATHS, SceneSettings, render
from stseg.unet.conv import weight_gradient_type
from stseg.video import probe, read_frames

SCENES, SCENE_FRAMES, FIRST_SEED = 160, 4, 1000
WINDOW = (96, 160)
MOVING = 0.3
"""What the sites that move by themselves count beside all sites, each taken as a mean."""

Field = Float[np.ndarray, "2 h w"]


@dataclass(frozen=True)
class CorrectionSettings:
    """How the correction is trained.

    Attributes:
        steps: of Adam.
        batch: pairs a step.
        learning_rate: the highest; it rises for 100 steps and falls to a fiftieth along a cosine.
        seed: of every random choice.
    """

    steps: int = 6400
    batch: int = 8
    learning_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Pairs:
    """Candidates and the flow that they are measured against, of n pairs, in pixels of the grid."""

    offered: Offered
    target: Float[Tensor, "n 2 h w"]

    def __len__(self) -> int:
        return len(self.target)


def pairs_of(offered: list[Candidates], targets: list[Field]) -> Pairs:
    """Stack pairs, in half precision: there are thousands."""
    stacked = [
        torch.from_numpy(np.stack([getattr(each, part.name) for each in offered])).half()
        for part in fields(Offered)
    ]
    return Pairs(Offered(*stacked), torch.from_numpy(np.stack(targets)).half())


def joined(parts: list[Pairs]) -> Pairs:
    """All pairs of several clips."""
    names = [part.name for part in fields(Offered)]
    stacked = [torch.cat([getattr(part.offered, name) for part in parts]) for name in names]
    return Pairs(Offered(*stacked), torch.cat([part.target for part in parts]))


def sequence_pairs(root: Path, name: str) -> Pairs:
    """Every pair of a sequence of ``davis16``, with its cached RAFT flow."""
    cached, size = read_flow_file(root / f"flows/raft-sintel/{name}.npz")
    sites = np.divide(GRID, size, dtype=np.float32)[::-1].reshape(2, 1, 1)
    frames = read_frames(probe(root / f"videos/{name}.mp4"))
    offered = _offered(frames)
    return pairs_of(offered, [field.astype(np.float32) * sites for field in cached])


def scene_pairs(index: int) -> Pairs:
    """Every pair of a short rendered clip, noisy and coded as JPEG, with its exact flow."""
    rng = np.random.default_rng(index)
    size, fastest = ((480, 854), 14.0) if index % 2 else ((240, 427), 7.0)
    settings = SceneSettings(
        size=size,
        frames=SCENE_FRAMES,
        objects=int(rng.integers(2, 6)),
        seed=FIRST_SEED + index,
        speed=float(np.exp(rng.uniform(0, np.log(fastest)))),
        paths=PATHS[index // 2 % 2],
    )
    clip = render(settings)
    noise, quality = rng.uniform(0, 4), int(rng.integers(60, 97))
    frames = (_coded(frame + rng.normal(0, noise, frame.shape), quality) for frame in clip.frames)
    sites = np.divide(GRID, size, dtype=np.float32)[::-1].reshape(2, 1, 1)
    targets = [to_grid(field.transpose(1, 2, 0), GRID) * sites for field in clip.flow]
    return pairs_of(_offered(frames), targets)


def _coded(frame: Float[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "h w 3"]:
    whole = np.clip(np.rint(frame), 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", whole, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def _offered(frames: Iterator[UInt8[np.ndarray, "h w 3"]]) -> list[Candidates]:
    dis, before, offered = DIS(), None, []
    for frame in frames:
        now = dis.prepare(frame)
        if before is not None:
            offered.append(dis.candidates(before, now))
        before = now
    return offered


def moving(flow: Float[Tensor, "n 2 h w"]) -> Float[Tensor, "n h w"]:
    """How far each site moves otherwise than most of the frame, from 0 to 1."""
    height, width = flow.shape[2:]
    rows = torch.linspace(-0.5, 0.5, height).view(-1, 1).expand(height, width)
    columns = torch.linspace(-0.5, 0.5, width).expand(height, width)
    ones = torch.ones_like(rows)
    parts = [ones, rows, columns, rows * columns, rows**2, columns**2]
    terms = torch.stack(parts, dim=-1).flatten(0, 1)  # (h w, 6)
    values = flow.float().flatten(2).transpose(1, 2)  # (n, h w, 2)
    weights = torch.ones_like(values[..., 0])
    for _ in range(4):
        weighted = terms * weights.unsqueeze(2)
        normal = weighted.mT @ terms + 1e-6 * torch.eye(len(parts))
        left = values - terms @ torch.linalg.solve(normal, weighted.mT @ values)
        far = left.abs().sum(dim=2)
        median = far.median(dim=1, keepdim=True).values
        weights = (1 + (far / (1.5 * median + 0.01)) ** 2) ** -2
    most = far.quantile(0.98, dim=1, keepdim=True)
    return ((far / (0.3 * most + 0.05)).clamp(max=1) ** 2).view(-1, height, width)


def loss_of(
    flow: Float[Tensor, "b 2 h w"],
    target: Float[Tensor, "b 2 h w"],
    own: Float[Tensor, "b h w"],
    size: Float[Tensor, " b"],
) -> Float[Tensor, ""]:
    """Weighted L1 distance, relative to how much there is to be told in each pair.

    Args:
        flow: corrected.
        target: what it should be.
        own: of ``moving``, for the target.
        size: of ``told``, for the target.
    """
    weight = 1 + MOVING * own / (own.mean(dim=(1, 2), keepdim=True) + 0.05)
    distance = ((flow - target).abs().sum(dim=1) * weight).mean(dim=(1, 2))
    return (distance / weight.mean(dim=(1, 2)) / size).mean()


def told(flow: Float[Tensor, "n 2 h w"]) -> Float[Tensor, " n"]:
    """Mean L1 norm of what varies in a field, and a tenth of all of it: what errors count by."""
    varies = flow - flow.flatten(2).median(dim=2).values[..., None, None]
    return (varies.abs() + 0.1 * flow.abs()).sum(dim=1).mean(dim=(1, 2)) + 0.03


def sample(
    pairs: Pairs, own: Tensor, batch: int, generator: torch.Generator
) -> tuple[Offered, Tensor, Tensor, Tensor]:
    """Random pairs, a window of each, mirrored now and then, with other colours and contrast.

    Returns:
        What is offered, the target, how far each site moves by itself, and which pairs they are.
    """

    def up_to(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    which = torch.randperm(len(pairs), generator=generator)[:batch]
    height, width = pairs.target.shape[2:]
    rows, columns = min(WINDOW[0], height), min(WINDOW[1], width)
    top, left = up_to(height - rows + 1), up_to(width - columns + 1)

    def window(of: Tensor) -> Tensor:
        return of[which][..., top : top + rows, left : left + columns].float()

    flows, believed, changed, guide = (
        window(getattr(pairs.offered, part.name)) for part in fields(Offered)
    )
    target, moves = window(pairs.target), window(own)
    for axis, share in ((-1, 0.5), (-2, 0.3)):  # u turns round with columns, v with rows
        if torch.rand((), generator=generator) >= share:
            continue
        signs = torch.tensor([-1.0, 1.0] if axis == -1 else [1.0, -1.0]).view(2, 1, 1)
        flows, target = flows.flip(axis) * signs, target.flip(axis) * signs
        believed, changed, guide, moves = (
            each.flip(axis) for each in (believed, changed, guide, moves)
        )
    contrast = math.exp(float(torch.rand((), generator=generator)) - 0.5)
    guide = guide[:, torch.randperm(3, generator=generator)] * contrast
    return Offered(flows, believed, changed * contrast, guide), target, moves, which


def train(
    pairs: Pairs, settings: CorrectionSettings, device: Device
) -> Generator[float, None, CorrectionNetwork]:
    """Train a network; each step yields its loss, and the end returns the network.

    Args:
        pairs: of all clips, of one size.
        settings: how.
        device: a CPU.
    """
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    network = CorrectionNetwork().channels_last()
    network.begin()
    own = torch.cat([moving(part).half() for part in pairs.target.split(64)])
    sizes = torch.cat([told(part.float()) for part in pairs.target.split(64)])
    optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate)
    for step in range(settings.steps):
        cosine = 0.51 + 0.49 * math.cos(math.pi * step / settings.steps)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * cosine * min(1.0, (step + 1) / 100)
        offered, target, moves, which = sample(pairs, own, settings.batch, generator)
        loss = loss_of(correct(network, offered, device), target, moves, sizes[which])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        yield loss.item()
    return network.eval()


def errors(pairs: Pairs, network: CorrectionNetwork, device: Device) -> tuple[float, float]:
    """Mean L1 distance to the target as a share of it: of what is filled in, and corrected."""
    shares = []
    for index in range(len(pairs)):
        parts = (getattr(pairs.offered, part.name)[index : index + 1] for part in fields(Offered))
        offered, target = Offered(*(part.float() for part in parts)), pairs.target[index].float()
        with torch.inference_mode():
            flows = offered.flows[0, KINDS.index("filled")], correct(network, offered, device)[0]
        size = max(float(target.abs().sum(dim=0).mean()), 0.05)
        shares.append([float((flow - target).abs().sum(dim=0).mean()) / size for flow in flows])
    filled, corrected = np.mean(shares, axis=0)
    return float(filled), float(corrected)


def main() -> None:
    """Make the candidates, train, write and measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--root", type=Path, required=True, help="folder with davis16")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--steps", type=int, default=CorrectionSettings.steps)
    given = parser.parse_args()
    root = given.root / "davis16"
    device = choose_device("cpu", bfloat16=weight_gradient_type() == torch.bfloat16)
    names = (root / "splits/train.txt").read_text(encoding="utf-8").split()
    sequences = [sequence_pairs(root, name) for name in names]
    pairs = joined([*sequences, *(scene_pairs(index) for index in range(SCENES))])
    print(f"{len(pairs)} pairs", flush=True)
    settings = CorrectionSettings(steps=given.steps)
    steps, losses, begun = train(pairs, settings, device), list[float](), time.perf_counter()
    while True:
        try:
            losses.append(next(steps))
        except StopIteration as end:
            network = end.value
            break
        if len(losses) % 250 == 0:
            seconds = time.perf_counter() - begun
            print(f"{len(losses):5d}  {np.mean(losses[-250:]):.4f}  {seconds:.0f} s", flush=True)
    card = {
        "data": "DAVIS2016 training sequences (MP4 frames, RAFT flow), rendered clips",
        "licence": "Apache-2.0; DAVIS2016 is CC BY-NC 4.0",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {device.name}, torch {torch.__version__}",
        "steps": settings.steps,
        "batch": settings.batch,
        "learning_rate": settings.learning_rate,
        "loss": float(np.mean(losses[-250:])),
    }
    save_correction(given.out, network, card)
    for name in (root / "splits/dev-val.txt").read_text(encoding="utf-8").split():
        filled, corrected = errors(sequence_pairs(root, name), network, device)
        print(f"{name:16s} {100 * filled:5.1f} -> {100 * corrected:5.1f} % of the RAFT flow")


if __name__ == "__main__":
    main()
