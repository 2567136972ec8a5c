"""Speed of training and of the motion fit: ``python -m benchmarks.training --root ../shared``.

Prints samples a second of the trainer as it ships against the plain version of the same step
(float32, L-BFGS, PyTorch's own modules in the default layout), and the fit against L-BFGS: seconds
and objective. All in one process, alternating, so that other work on the machine hits both alike;
the best of a few counts.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from stseg.augment import augment
from stseg.datasets import FlowSequence, TripletSet, read_training_flows
from stseg.device import Device, choose_device
from stseg.losses import consistency_loss, reconstruction_loss
from stseg.motion import MODELS, FitSettings, FittedMotion, fit_motion, fit_motion_lbfgs
from stseg.pipeline import load_network
from stseg.train_settings import Stage, TrainSettings
from stseg.training import Trainer
from stseg.unet.plain import plain
from stseg.variants import VARIANTS

SEQUENCES = ("camel", "drift-turn", "rhino", "swing")


def best_of(works: dict[str, Callable[[], object]], runs: int, steps: int) -> dict[str, float]:
    """Seconds of one call of each, the best of ``runs`` alternating rounds of ``steps`` calls."""
    seconds = dict.fromkeys(works, float("inf"))
    for work in works.values():
        work()  # what is made once is not counted
    for _ in range(runs):
        for name, work in works.items():
            start = time.perf_counter()
            for _ in range(steps):
                work()
            seconds[name] = min(seconds[name], (time.perf_counter() - start) / steps)
    return seconds


def plain_step(settings: TrainSettings, sequences: list[FlowSequence]) -> Callable[[], None]:
    """One step of the plain version: same data, augmentation, heads and losses."""
    with tempfile.TemporaryDirectory(prefix="stseg-") as folder:
        alone = Device(torch.device("cpu"), bfloat16=False, name="CPU, float32")
        trainer = Trainer(settings, sequences, Path(folder), alone)
    network, model = plain(trainer.network), MODELS[settings.motion_model]
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.stages[0].learning_rate)
    volumes = TripletSet(sequences, settings.instants, settings.taus, settings.held_out)
    generator = torch.Generator().manual_seed(0)
    ks = settings.network.ks

    def step() -> None:
        chosen = torch.randint(len(volumes), (settings.batch,), generator=generator)
        flow = volumes.batch(chosen.tolist(), settings.stages[0].size)
        volume, flow = augment(flow, model, settings.augment, generator)
        other = int(torch.randint(len(ks) - 1, (1,), generator=generator))
        features = network.features(volume)
        totals = []
        for k in (ks[0], ks[1 + other]):
            masks = network.masks(features, k)
            motion = fit_motion_lbfgs(flow, masks.detach(), model)
            reconstruction = reconstruction_loss(masks, flow, motion)
            consistency = consistency_loss(masks, flow, settings.losses.eta)
            totals.append(reconstruction + settings.losses.beta * consistency)
        optimiser.zero_grad(set_to_none=True)
        torch.stack(totals).mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        optimiser.step()

    return step


def objective(flow: Tensor, masks: Tensor, motion: FittedMotion) -> float:
    """L_r of eq. 3 at this fit."""
    return float(reconstruction_loss(masks, flow, motion))


def fit_figures(sequences: list[FlowSequence], runs: int) -> None:
    """Time and objective of the shipped fit against L-BFGS at batch 4, K = 4, 3x128x224."""
    volumes = TripletSet(sequences, held_out=0.0)
    indices = torch.linspace(0, len(volumes) - 1, 4).long().tolist()
    flow = volumes.batch(indices, (128, 224))
    model = MODELS["quadratic-time"]
    with torch.no_grad():
        trained = load_network("full")(flow, 4)
    generator = torch.Generator().manual_seed(0)
    random = torch.softmax(torch.randn(trained.shape, generator=generator), dim=1)
    for name, masks in (("trained network", trained), ("random", random)):
        found: dict[str, FittedMotion] = {}

        def ours(masks: Tensor = masks, found: dict[str, FittedMotion] = found) -> None:
            found["ours"] = fit_motion(flow, masks, model, FitSettings())

        def theirs(masks: Tensor = masks, found: dict[str, FittedMotion] = found) -> None:
            found["theirs"] = fit_motion_lbfgs(flow, masks, model)

        seconds = best_of({"ours": ours, "theirs": theirs}, runs, 1)
        losses = {each: objective(flow, masks, motion) for each, motion in found.items()}
        gap = 100 * (losses["ours"] / losses["theirs"] - 1)
        speedup = seconds["theirs"] / seconds["ours"]
        print(
            f"fit, masks of the {name}: L-BFGS {seconds['theirs']:.3f} s, as it ships "
            f"{seconds['ours']:.4f} s: fit.speedup {speedup:.0f}, fit.objective_gap {gap:.2f} %",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder with davis16")
    parser.add_argument("--runs", type=int, default=3, help="rounds; the best counts")
    parser.add_argument("--steps", type=int, default=2, help="training steps a round")
    parser.add_argument("--sizes", nargs="+", default=["64x112", "128x224"])
    parser.add_argument("--batch", type=int, default=4, help="volumes a step, as it ships")
    parser.add_argument("--no-plain", action="store_true", help="only as it ships (on a GPU)")
    arguments = parser.parse_args()
    device = choose_device()
    if device.torch.type == "cuda":
        torch.backends.cudnn.benchmark = True
    print(f"{platform.processor() or platform.machine()}, {device.name}, torch {torch.__version__}")
    folder = arguments.root / "davis16" / "flows" / "raft-sintel"
    sequences = read_training_flows([folder], SEQUENCES)
    if not arguments.no_plain:
        fit_figures(sequences, arguments.runs)
    for text in arguments.sizes:
        height, width = map(int, text.split("x"))
        settings = replace(
            VARIANTS["full"].settings,
            stages=(Stage((height, width), 10**6, 5e-4),),
            batch=arguments.batch,
        )
        with tempfile.TemporaryDirectory(prefix="stseg-") as out:
            trainer = Trainer(settings, sequences, Path(out), device)
            works: dict[str, Callable[[], object]] = {"shipped": trainer._train_step}
            if not arguments.no_plain:
                works["plain"] = plain_step(replace(settings, batch=4), sequences)
            seconds = best_of(works, arguments.runs, arguments.steps)
        shipped = settings.batch / seconds["shipped"]
        line = f"training at {text}: as it ships {shipped:.2f} samples/s"
        if "plain" in seconds:
            rate = 4 / seconds["plain"]
            times = shipped / rate
            line += f", plain {rate:.3f} samples/s: train.speedup {times:.1f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
