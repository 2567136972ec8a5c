"""Train what corrects DIS: ``python -m benchmarks.correct_dis --root ../shared --out FILE``.

First the network (``stseg.flow.correction``) learns to choose what is nearest to the cached RAFT
flow of the training sequences of DAVIS2016 (MP4 frames), or to the exact flow of rendered clips.
Then masks judge it, too: two segmentation networks that ship, as they are, should give on the
corrected flow what they give on the better one; collages (``benchmarks.collages``) are in the
material now, and the sequences two times more, coded anew with less quality, once with half of each
frame in the dark (``benchmarks.recoded``). At the end it prints the error on dev-val, on which it
was not trained. On two cores with bf16 that is about an hour and a half: nine minutes, a quarter of
an hour for the material, and the rest where masks judge; it takes 21 GiB of memory.
"""

from __future__ import annotations

import argparse
import math
import platform
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from benchmarks.correction_data import (
    Pairs,
    collage_pairs,
    joined,
    pictures,
    sample,
    scene_pairs,
    sequence_pairs,
)
from stseg.checkpoint import load_checkpoint
from stseg.device import Device, choose_device
from stseg.flow.candidates import KINDS
from stseg.flow.correction import CorrectionNetwork, Offered, correct, save_correction
from stseg.network import SegmentationNetwork
from stseg.objectives import agreement_loss
from stseg.tensor_files import SHIPPED
from stseg.unet.conv import weight_gradient_type

SCENES, COLLAGES = 160, 800
CRFS = (20, 23, 26, 29, 32)
"""Qualities of x264 with which the sequences are coded anew, by turns."""

SHARES = (0.6, 0.1, 0.3)
"""Of sequences, scenes and collages in what masks judge."""

WINDOW = (96, 160)
JUDGED_WINDOWS = ((4, (64, 112)), (2, (96, 160)))
"""Triplets and window of every other step in which masks judge."""

JUDGES = (("full", 0.6), ("several", 0.4))
"""Networks whose masks judge, and how often; with K = 4."""

MOVING = 0.3
"""What the sites that move by themselves count beside all sites, each taken as a mean."""


@dataclass(frozen=True)
class CorrectionSettings:
    """How a part of the training is done.

    Attributes:
        steps: of Adam.
        batch: pairs a step; where masks judge, ``JUDGED_WINDOWS`` has triplets.
        learning_rate: the highest; it rises for 100 steps and falls to a fiftieth along a cosine.
        seed: of every random choice.
    """

    steps: int = 6400
    batch: int = 8
    learning_rate: float = 1e-3
    seed: int = 0

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        cosine = 0.51 + 0.49 * math.cos(math.pi * step / self.steps)
        return self.learning_rate * cosine * min(1.0, (step + 1) / 100)


JUDGED = CorrectionSettings(steps=6000, learning_rate=4e-4)


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


class Course:
    """A part of the training: pairs, what they are weighed by, and Adam.

    Args:
        network: what is trained.
        pairs: of all clips, of one size.
        settings: how.
    """

    def __init__(
        self, network: CorrectionNetwork, pairs: Pairs, settings: CorrectionSettings
    ) -> None:
        self.network, self.pairs, self.settings = network.train(), pairs, settings
        self.generator = torch.Generator().manual_seed(settings.seed)
        self._own = torch.cat([moving(part).half() for part in pairs.target.split(64)])
        self._sizes = torch.cat([told(part.float()) for part in pairs.target.split(64)])
        self._optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate)

    def looked_at(
        self, which: Int64[Tensor, " b"], window: tuple[int, int], device: Device
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Corrected flow of a window of these pairs, what it should be, and the loss."""
        offered, target, moves = sample(self.pairs, self._own, which, window, self.generator)
        flow = correct(self.network, offered, device)
        return flow, target, loss_of(flow, target, moves, self._sizes[which])

    def follow(self, loss: Tensor, step: int) -> None:
        """One step of Adam."""
        for group in self._optimiser.param_groups:
            group["lr"] = self.settings.rate(step)
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimiser.step()


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
    network = CorrectionNetwork().channels_last()
    network.begin()
    course = Course(network, pairs, settings)
    for step in range(settings.steps):
        which = torch.randperm(len(pairs), generator=course.generator)[: settings.batch]
        _, _, loss = course.looked_at(which, WINDOW, device)
        course.follow(loss, step)
        yield loss.item()
    return network.eval()


def train_judged(
    network: CorrectionNetwork,
    kinds: Sequence[Pairs],
    judges: Sequence[tuple[SegmentationNetwork, float]],
    settings: CorrectionSettings,
    device: Device,
) -> Generator[float, None, CorrectionNetwork]:
    """Go on with masks that judge the flow, too; yields the loss of each step.

    Args:
        network: trained so far; it is changed.
        kinds: of material, as ``SHARES`` has them.
        judges: networks that stay as they are, and how often each judges.
        settings: how.
        device: a CPU.
    """
    course, firsts, before = Course(network, joined(kinds), settings), [], 0
    for kind in kinds:
        firsts.append(kind.triplets() + before)
        before += len(kind)
    shares = [share / len(first) for share, first in zip(SHARES, firsts, strict=True)]
    weights = torch.cat([torch.full((len(f),), s) for f, s in zip(firsts, shares, strict=True)])
    every, following = torch.cat(firsts), torch.arange(3)
    often = torch.tensor([share for _, share in judges])
    for step in range(settings.steps):
        batch, window = JUDGED_WINDOWS[step % len(JUDGED_WINDOWS)]
        drawn = every[torch.multinomial(weights, batch, True, generator=course.generator)]
        which = (drawn[:, None] + following).flatten()
        flow, target, loss = course.looked_at(which, window, device)
        judge, _ = judges[int(torch.multinomial(often, 1, generator=course.generator))]
        seen, better = (each.unflatten(0, (batch, 3)).transpose(1, 2) for each in (flow, target))
        with device.autocast():
            masks = judge(seen, 4)
            with torch.no_grad():
                wanted = judge(better, 4)
        course.follow(loss + agreement_loss(masks, wanted), step)
        yield loss.item()
    return network.eval()


def judges_that_ship() -> list[tuple[SegmentationNetwork, float]]:
    """Those of ``JUDGES``, frozen."""
    loaded = [(load_checkpoint(SHIPPED / f"{name}.safetensors").network, n) for name, n in JUDGES]
    return [(network.channels_last().requires_grad_(False), often) for network, often in loaded]


def judged_material(
    root: Path, names: Sequence[str], sequences: Pairs, scenes: Pairs
) -> tuple[Pairs, Pairs, Pairs]:
    """What masks judge, as ``SHARES`` has it; the sequences are there three times.

    Args:
        root: folder of DAVIS2016.
        names: of the sequences.
        sequences: as they are.
        scenes: rendered clips.
    """
    crfs = CRFS * math.ceil((len(names) + 2) / len(CRFS))
    coded = [sequence_pairs(root, *each) for each in zip(names, crfs, strict=False)]
    dark = [
        sequence_pairs(root, name, crf, night=seed)
        for seed, (name, crf) in enumerate(zip(names, crfs[2:], strict=False))
    ]
    cut_from = pictures(root, names)
    collages = joined([collage_pairs(index, cut_from) for index in range(COLLAGES)])
    return joined([sequences, *coded, *dark]), scenes, collages


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


def finish(steps: Generator[float, None, CorrectionNetwork]) -> tuple[CorrectionNetwork, float]:
    """Train to the end and print the loss on the way; the network and its last losses' mean."""
    losses, begun = list[float](), time.perf_counter()
    while True:
        try:
            losses.append(next(steps))
        except StopIteration as end:
            return end.value, float(np.mean(losses[-250:]))
        if len(losses) % 250 == 0:
            seconds = time.perf_counter() - begun
            print(f"{len(losses):5d}  {np.mean(losses[-250:]):.4f}  {seconds:.0f} s", flush=True)


def main() -> None:
    """Make the candidates, train, write and measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--root", type=Path, required=True, help="folder with davis16")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    given = parser.parse_args()
    root = given.root / "davis16"
    device = choose_device("cpu", bfloat16=weight_gradient_type() == torch.bfloat16)
    names = (root / "splits/train.txt").read_text(encoding="utf-8").split()
    sequences = joined([sequence_pairs(root, name) for name in names])
    scenes = joined([scene_pairs(index) for index in range(SCENES)])
    print(f"{len(sequences)} pairs of sequences, {len(scenes)} of rendered clips", flush=True)
    settings = CorrectionSettings()
    network, _ = finish(train(joined([sequences, scenes]), settings, device))
    kinds = judged_material(root, names, sequences, scenes)
    del sequences
    print(f"{len(kinds[-1])} pairs of collages; masks judge", flush=True)
    network, loss = finish(train_judged(network, kinds, judges_that_ship(), JUDGED, device))
    card = {
        "data": "DAVIS2016 training sequences (MP4 frames, also coded anew, and so with half of "
        "each frame in the dark; RAFT flow), rendered clips, collages of frames of the sequences",
        "licence": "Apache-2.0; DAVIS2016 is CC BY-NC 4.0",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {device.name}, torch {torch.__version__}",
        "steps": [settings.steps, JUDGED.steps],
        "batch": settings.batch,
        "learning_rate": [settings.learning_rate, JUDGED.learning_rate],
        "judges": [name for name, _ in JUDGES],
        "loss": loss,
    }
    save_correction(given.out, network, card)
    for name in (root / "splits/dev-val.txt").read_text(encoding="utf-8").split():
        filled, corrected = errors(sequence_pairs(root, name), network, device)
        print(f"{name:16s} {100 * filled:5.1f} -> {100 * corrected:5.1f} % of the RAFT flow")


if __name__ == "__main__":
    main()
