"""How fast this machine is: each part as it ships against its plain version, in one run.

The plain version of a part is the textbook's: float32, PyTorch's default layout and own modules,
whole pairs, L-BFGS. Plain and fast take turns, so that a busy machine slows both; the best time of
each counts. Speed does not depend on the weights: where there are none, untrained ones do.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stseg.augment import augment
from stseg.checkpoint import load_checkpoint, save_checkpoint
from stseg.datasets import FlowSequence
from stseg.device import Device, choose_device
from stseg.errors import InputError
from stseg.flow import read_flow_file, to_grid
from stseg.flow.plain_raft import plain_flow
from stseg.flow.raft import LARGE, Raft, RaftNetwork
from stseg.flow.weights import load_raft_weights, weights_path
from stseg.losses import consistency_loss, reconstruction_loss
from stseg.memory import MIB, peak_of
from stseg.motion import FitSettings, FittedMotion, fit_motion, fit_motion_lbfgs, motion_model
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.records import GRID, Clip
from stseg.synthetic import SceneSettings, render
from stseg.train_settings import Stage, TrainSettings
from stseg.training import Trainer
from stseg.unet.plain import plain
from stseg.variants import VARIANTS
from stseg.video import probe, read_frames
from stseg.video_writer import VideoWriter

K = 4
BATCH = 4
FRAMES = 80
SIZE = (480, 854)
TRIPLETS = 3
ROUNDS = 2
TRAINING = TrainSettings(NetworkSettings(ks=(K,)), stages=(Stage(GRID, 100, 1e-4),))

Figures = dict[str, float | str]


@dataclass(frozen=True)
class Material:
    """What is measured on.

    Attributes:
        clip: a video of some 80 frames of 854x480.
        flows: flow of a few sequences, (n - 1, 2, 128, 224).
        model: a checkpoint.
        weights: weights of RAFT.
    """

    clip: Clip
    flows: Sequence[np.ndarray]
    model: Path
    weights: Path

    def volumes(self, each: int) -> Tensor:
        """Volumes (b, 2, 3, h, w) from the middles of ``each`` equal parts of every sequence."""
        chosen = []
        for flow in self.flows:
            for part in range(each):
                start = (2 * part + 1) * (len(flow) - 3) // (2 * each)
                chosen.append(flow[start : start + 3].transpose(1, 0, 2, 3))
        return torch.from_numpy(np.stack(chosen).astype(np.float32))


@contextmanager
def material(root: Path | None = None) -> Iterator[Material]:
    """A rendered clip and its flow, or real ones.

    Args:
        root: folder of DAVIS2016 with ``videos``, ``flows/raft-sintel`` and ``splits/dev-val.txt``;
            None renders a clip.

    Raises:
        InputError: the folder lacks some of it.
    """
    with tempfile.TemporaryDirectory(prefix="stseg-benchmark-") as name:
        folder = Path(name)
        if root is None:
            clip, flows = _rendered(folder)
        else:
            clip, flows = _real(root)
        model = VARIANTS["full"].path
        if not model.is_file():
            model = folder / "untrained.safetensors"
            save_checkpoint(model, SegmentationNetwork(NetworkSettings(ks=(K,))), {})
        weights = weights_path("raft")
        if not weights.is_file():
            weights = folder / "untrained.pth"
            torch.save(RaftNetwork(LARGE).state_dict(), weights)
        yield Material(clip, flows, model, weights)


def _rendered(folder: Path) -> tuple[Clip, list[np.ndarray]]:
    """A clip that runs forwards and back, which halves the time to draw it."""
    scene = render(SceneSettings(size=SIZE, frames=FRAMES // 2 + 1, objects=3, speed=6.0))
    path = folder / "rendered.mp4"
    with VideoWriter(path, scene.settings.fps) as writer:
        for frame in (*scene.frames, *scene.frames[-2:0:-1]):
            writer.write(frame)
    flow = [to_grid(np.ascontiguousarray(each.transpose(1, 2, 0)), GRID) for each in scene.flow]
    return probe(path), [np.stack(flow)]


def _real(root: Path) -> tuple[Clip, list[np.ndarray]]:
    names = root / "splits" / "dev-val.txt"
    if not names.is_file():
        raise InputError(f"There is no {names}. Give a folder of DAVIS2016, or leave --root out.")
    sequences = names.read_text(encoding="utf-8").split()
    flows = [read_flow_file(root / "flows/raft-sintel" / f"{name}.npz")[0] for name in sequences]
    longest = max(zip(sequences, flows, strict=True), key=lambda pair: len(pair[1]))[0]
    return probe(root / "videos" / f"{longest}.mp4"), flows


def rivals(
    works: dict[str, Callable[[], object]], device: Device | None = None
) -> dict[str, float]:
    """Seconds of each work, the best of ``ROUNDS`` that they take in turn."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if device is not None and device.torch.type == "cuda":
                torch.cuda.synchronize()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def network_figures(data: Material, device: Device) -> Figures:
    """Triplets a second of the network, and how many labels it shares with the plain one."""
    network = load_checkpoint(data.model).network.to(device.torch)
    k = K if K in network.settings.ks else network.settings.ks[0]
    reference = plain(network)
    volumes = data.volumes(max(TRIPLETS, -(-BATCH // len(data.flows)))).to(device.torch)
    batch, alone = volumes[:BATCH], volumes[:1]

    def fast(batch: Tensor) -> Tensor:
        with torch.inference_mode(), device.autocast():
            return network(batch, k).argmax(1)

    def slow(batch: Tensor) -> Tensor:
        with torch.inference_mode():
            return reference(batch, k).argmax(1)

    with torch.inference_mode(), device.autocast():
        network(alone, k)  # the first pass prepares kernels
    seconds = rivals(
        {
            "alone": lambda: slow(alone),
            "batch": lambda: slow(batch),
            "fast": lambda: fast(batch),
        },
        device=device,
    )
    same = [float((slow(part) == fast(part)).float().mean()) for part in volumes.split(1)]
    rate = len(batch) / seconds["fast"]
    return {
        "network.plain_triplets_per_s": 1 / seconds["alone"],
        "network.fast_triplets_per_s": rate,
        "network.speedup": rate * seconds["alone"],
        "network.speedup_batched": rate * seconds["batch"] / len(batch),
        "network.label_agreement": float(np.mean(same)),
    }


def job_figures(data: Material, device: Device) -> Figures:
    """The whole job of the command line in a process of its own: seconds and peak memory.

    Raises:
        InputError: it failed.
    """
    with tempfile.TemporaryDirectory() as out:
        words = ["segment", str(data.clip.source), "--out", out, "--model", str(data.model)]
        network = load_checkpoint(data.model).network.settings
        words += ["--k", str(K if K in network.ks else network.ks[0]), "--no-cache"]
        words += ["--device", device.torch.type]
        start = time.perf_counter()
        failed, peak = peak_of([sys.executable, "-m", "stseg", *words])
        seconds = time.perf_counter() - start
        if failed:
            raise InputError("The whole job failed. Run `python -m stseg segment` to see why.")
        frames = len(list((Path(out) / "labels").glob("*.png")))
    return {"job.seconds": seconds, "job.frames": frames, "job.peak_rss_mib": peak / MIB}


def raft_figures(data: Material, device: Device) -> Figures:
    """Pairs a second of RAFT as it ships against the authors' procedure, 12 iterations."""
    images = list(read_frames(data.clip, 4))
    shipped = Raft(data.weights, 12, device)
    weights = {
        name: each.to(device.torch) for name, each in load_raft_weights(data.weights).items()
    }
    size = data.clip.size
    before = shipped.prepare(images[0])
    shipped.between(before, before, size)

    def whole_pair() -> None:
        plain_flow(weights, images[0], images[1], 12)

    def as_it_ships() -> None:  # the first frame was encoded for the pair before
        prepared = [before, *(shipped.prepare(image) for image in images[1:])]
        for first, second in pairwise(prepared):
            shipped.between(first, second, size)

    seconds = rivals({"plain": whole_pair, "shipped": as_it_ships}, device=device)
    return {"raft.speedup": seconds["plain"] * (len(images) - 1) / seconds["shipped"]}


def fit_figures(data: Material, device: Device) -> Figures:
    """The motion fit against L-BFGS: speed, and how far its objective is above."""
    flow = data.volumes(BATCH)[:BATCH].to(device.torch)
    chance = torch.Generator().manual_seed(0)
    scores = 2 * torch.randn(len(flow), K, 3, 8, 14, generator=chance)
    masks = nn.functional.interpolate(scores, flow.shape[2:], mode="trilinear").softmax(1)
    masks = masks.to(device.torch)
    model, found = motion_model("quadratic-time"), {}

    def fit(name: str, work: Callable[[], FittedMotion]) -> None:
        found[name] = float(reconstruction_loss(masks, flow, work()))

    fit("fast", lambda: fit_motion(flow, masks, model, FitSettings()))  # makes the design
    seconds = rivals(
        {
            "plain": lambda: fit("plain", lambda: fit_motion_lbfgs(flow, masks, model)),
            "fast": lambda: fit("fast", lambda: fit_motion(flow, masks, model, FitSettings())),
        },
        device=device,
    )
    return {
        "fit.speedup": seconds["plain"] / seconds["fast"],
        "fit.objective_gap": found["fast"] / found["plain"] - 1,
    }


class PlainTrainer(Trainer):
    """The same trainer of plain parts: float32, default layout, one L-BFGS fit for each head."""

    def plain_parts(self) -> None:
        """Take them; the weights stay."""
        self.network = plain(self.network)
        rate = self.settings.stages[0].learning_rate
        self._optimiser = torch.optim.Adam(self.network.parameters(), lr=rate)

    def _train_step(self) -> dict[str, float]:
        settings = self.settings
        chosen = torch.randint(len(self._training), (settings.batch,), generator=self._generator)
        flow = self._training.batch(chosen.tolist(), settings.stages[0].size)
        volume, flow = augment(flow, self._model, settings.augment, self._generator)
        features = self.network.features(volume)
        totals = []
        for k in settings.network.ks:
            masks = self.network.masks(features, k)
            motion = fit_motion_lbfgs(flow, masks.detach(), self._model)
            consistency = consistency_loss(masks, flow, settings.losses.eta)
            reconstruction = reconstruction_loss(masks, flow, motion)
            totals.append(reconstruction + settings.losses.beta * consistency)
        total = torch.stack(totals).mean()
        self._optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self._optimiser.step()
        return {"loss": total.item()}


def train_figures(data: Material, device: Device) -> Figures:
    """Steps a second of the trainer against the plain one: batch 4, K = 4, 128x224."""
    flows = [FlowSequence(f"{n}", torch.from_numpy(each)) for n, each in enumerate(data.flows)]
    settings = TRAINING
    with tempfile.TemporaryDirectory() as folder:
        fast = Trainer(settings, flows, Path(folder) / "fast", device)
        slow = PlainTrainer(
            settings, flows, Path(folder) / "plain", replace(device, bfloat16=False)
        )
        slow.plain_parts()
        fast._train_step()
        seconds = rivals({"plain": slow._train_step, "fast": fast._train_step}, device=device)
    return {"train.speedup": seconds["plain"] / seconds["fast"]}


def start_figures(data: Material, device: Device) -> Figures:
    """Seconds of ``--help``, and of ``import stseg`` where torch is imported already."""
    asked = (
        "import time, torch; start = time.perf_counter(); import stseg; "
        "print(time.perf_counter() - start)"
    )

    def seconds_of_import() -> float:
        done = subprocess.run([sys.executable, "-c", asked], capture_output=True, check=True)
        return float(done.stdout)

    words = [sys.executable, "-m", "stseg", "--help"]
    seconds = rivals({"help": lambda: subprocess.run(words, capture_output=True, check=True)})
    return {
        "start.help_s": seconds["help"],
        "start.import_s": min(seconds_of_import() for _ in range(ROUNDS)),
    }


PARTS: dict[str, Callable[[Material, Device], Figures]] = {
    "network": network_figures,
    "whole job": job_figures,
    "RAFT": raft_figures,
    "motion fit": fit_figures,
    "training": train_figures,
    "start": start_figures,
}
"""Each part gives some of the figures."""


def machine() -> str:
    """Processor, cores, device, and versions, in a line."""
    name = platform.processor() or platform.machine()
    with_names = Path("/proc/cpuinfo")
    if with_names.is_file():
        lines = with_names.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((each.split(":")[1].strip() for each in lines if "model name" in each), name)
    device, cores = choose_device().name, os.cpu_count()
    return f"{name}, {cores} cores; {device}; torch {torch.__version__}"


def measure(root: Path | None = None, report: Callable[[str], None] | None = None) -> Figures:
    """All figures, by flat names; speeds are ratios unless their name says otherwise.

    Args:
        root: see ``material``.
        report: told what is being measured.

    Raises:
        InputError: ``root`` lacks something.
    """
    tell = report or (lambda text: None)
    device, figures = choose_device(), {}
    tell("clip")
    with material(root) as data:
        for name, part in PARTS.items():
            tell(name)
            figures.update(part(data, device))
    return {**figures, "machine": machine()}
