"""``python -m stseg fit``: go on training on the flow of one clip alone."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from stseg.cli.given import a_name, a_path, check_flow_options
from stseg.errors import InputError

if TYPE_CHECKING:
    from stseg.adaptation import AdaptationSettings

NAME = "fit"
HELP = "Fit a model to one clip, without any label; Ctrl-C keeps what there is."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("video", type=a_path, help="video file, GIF, or folder of frames")
    parser.add_argument("--out", type=a_path, required=True, help="folder for the checkpoint")
    parser.add_argument(
        "--model",
        type=a_name,
        default="several",
        help="variant or checkpoint file to start from",
    )
    parser.add_argument("--k", type=int, default=4, help="number of segments, 2 to 8")
    parser.add_argument("--tau", type=int, nargs="+", default=[1], help="temporal steps")
    parser.add_argument(
        "--eta", type=float, default=0.01, help="fraction of sites that L_c leaves out, 0 to 1"
    )
    parser.add_argument("--beta", type=float, default=1.0, help="weight of L_c; 0 is without it")
    # What AdaptationSettings has by default is in brackets: to import it here would take long.
    parser.add_argument("--steps", type=int, default=None, help="optimiser steps (50)")
    parser.add_argument(
        "--rate", type=float, default=None, help="learning rate at the start (1e-05)"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=None,
        metavar=("H", "W"),
        help="grid of the volumes of a landscape clip (64 112)",
    )
    parser.add_argument("--batch", type=int, default=None, help="volumes a step (4)")
    parser.add_argument("--seed", type=int, default=0, help="of order and augmentation")
    parser.add_argument(
        "--flow",
        type=a_name,
        default="dis",
        help="flow estimator, or your own flow: an .npz file, or a folder or .zip of fields",
    )
    parser.add_argument("--weights", type=a_name, default=None, help="weight file of the estimator")
    parser.add_argument(
        "--iterations", type=int, default=argparse.SUPPRESS, help="refinements of RAFT (12)"
    )
    parser.add_argument("--no-cache", action="store_true", help="compute the flow anew")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--frames", type=int, default=None, help="read no more than this many")


def stopped(arguments: argparse.Namespace) -> str | None:
    """What to tell after Ctrl-C; None where no fit has begun."""
    left: str | None = getattr(arguments, "left", None)
    return left


def run(arguments: argparse.Namespace) -> None:
    """Fit and write ``fitted.safetensors``, ``losses.json`` and ``losses.png``.

    Ctrl-C ends it early; what was learnt until then is written.

    Raises:
        InputError: something given is unusable.
    """
    from dataclasses import replace

    from tqdm import tqdm

    from stseg.adaptation import Adaptation, AdaptationProgress, curves_of
    from stseg.clip_flow import read_fields
    from stseg.device import choose_device
    from stseg.files import check_writable, write_atomically
    from stseg.flow.cache import FlowCache
    from stseg.loss_chart import loss_chart
    from stseg.records import Settings
    from stseg.summary import command_line
    from stseg.video import probe

    fit = _settings(arguments)
    check_flow_options(arguments)
    path = arguments.out / "fitted.safetensors"
    if path.exists():
        raise InputError(
            f"{arguments.out} holds a fit already. Choose another folder, or delete it."
        )
    check_writable(arguments.out)
    settings = Settings(
        k=fit.k,
        taus=fit.taus,
        eta=fit.eta,
        flow=arguments.flow,
        weights=arguments.weights,
        iterations=getattr(arguments, "iterations", Settings.iterations),
        device=arguments.device,
        max_frames=arguments.frames,
    )
    clip = probe(arguments.video)
    reading = read_fields(clip, settings, None if arguments.no_cache else FlowCache())
    with tqdm(desc="flow", unit="frame") as bar:
        while True:
            try:
                bar.update(next(reading) - bar.n)
            except StopIteration as ended:
                flow = ended.value
                break
    device = choose_device(arguments.device)
    work = Adaptation(arguments.model, clip, flow, fit, device)
    told: list[AdaptationProgress] = []
    stop: KeyboardInterrupt | None = None
    try:
        with tqdm(total=fit.steps, desc="fitting", unit="step") as bar:
            for progress in work.run():
                told.append(progress)
                bar.update(progress.step - bar.n)
                if progress.clip_losses is not None:
                    bar.set_postfix(loss=f"{progress.clip_losses['loss']:.4f}")
    except KeyboardInterrupt as error:
        if not work.step:
            arguments.left = "nothing was learnt, so that nothing is written"
            raise
        stop = error
    curve = [
        {"step": each.step, **each.losses, "clip": each.clip_losses} for each in told if each.step
    ]
    write_atomically(arguments.out / "losses.json", (json.dumps(curve, indent=1) + "\n").encode())
    write_atomically(arguments.out / "losses.png", loss_chart(curves_of(told)))
    work.save(path)  # the last: where it is, all is there
    arguments.left = f"what {work.step} of {fit.steps} steps learnt is in {path}"
    measured = {
        each.step: each.clip_losses["loss"] for each in told if each.clip_losses is not None
    }
    last = max(measured)  # a stop comes between two measurements
    learnt = f", {measured[last]:.4f} after {last} of them" if last else ""
    print(
        f"{clip.name}: {work.step} step{'' if work.step == 1 else 's'} in "
        f"{told[-1].seconds:.0f} s on {device.name}; L on the clip {measured[0]:.4f} before{learnt}"
    )
    command = command_line(
        clip, replace(settings, model=str(path)), str(arguments.out / "segments")
    )
    print(f"Segment with it: {command}")
    if stop is not None:
        raise stop


def _settings(arguments: argparse.Namespace) -> AdaptationSettings:
    from stseg.adaptation import AdaptationSettings

    given = {
        "steps": arguments.steps,
        "learning_rate": arguments.rate,
        "size": None if arguments.size is None else tuple(arguments.size),
        "batch": arguments.batch,
    }
    return AdaptationSettings(
        k=arguments.k,
        taus=tuple(arguments.tau),
        eta=arguments.eta,
        beta=arguments.beta,
        seed=arguments.seed,
        **{name: value for name, value in given.items() if value is not None},
    )
