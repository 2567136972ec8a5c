"""``python -m stseg train``: unlabelled flow in, checkpoint out."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stseg.cli.given import a_path
from stseg.errors import InputError

if TYPE_CHECKING:
    from stseg.train_settings import Stage, TrainSettings

NAME = "train"
HELP = "Train a variant on folders of cached flow; a run that was cut goes on where it was."

BEST, STATE = "best.safetensors", "state.safetensors"
"""Files of a run: its checkpoint, and where it is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--flows",
        type=a_path,
        nargs="+",
        required=True,
        help="folders of .npz flow, one a sequence",
    )
    parser.add_argument(
        "--reference",
        type=a_path,
        default=None,
        help="folder of better flow of the same frames: the losses are measured on it, while the "
        "network sees the flow of --flows",
    )
    parser.add_argument(
        "--start",
        type=a_path,
        default=None,
        help="checkpoint whose weights the run starts from (torchrun takes it for an option of its "
        "own: torchrun ... -m -- stseg train ...)",
    )
    parser.add_argument(
        "--teacher",
        type=a_path,
        default=None,
        metavar="CHECKPOINT",
        help="imitate the masks that this checkpoint gives on the flow of --reference, instead of "
        "making the losses of the paper smaller",
    )
    parser.add_argument("--out", type=a_path, required=True, help="folder of the run")
    parser.add_argument("--variant", default="full", help="which settings to train")
    parser.add_argument(
        "--split",
        type=a_path,
        default=None,
        help="list of the sequences to take, one a line; else all",
    )
    parser.add_argument(
        "--stage",
        nargs="+",
        default=None,
        metavar="HxW:STEPS:RATE[:BETA]",
        help="resolution, steps, learning rate and weight of L_c of each stage instead of the "
        "variant's own",
    )
    parser.add_argument(
        "--beta", type=float, default=None, help="weight of L_c instead of the variant's own"
    )
    parser.add_argument(
        "--eta",
        type=float,
        default=None,
        help="fraction of sites that L_c leaves out instead of the variant's own, 0 to 1",
    )
    parser.add_argument("--k", type=int, nargs="+", default=None, help="heads; the first validates")
    parser.add_argument(
        "--only-heads",
        type=int,
        nargs="+",
        default=(),
        metavar="K",
        help="draw these heads anew and train nothing else, on the trunk of --start",
    )
    parser.add_argument(
        "--direction-heads",
        type=int,
        nargs="+",
        default=(),
        metavar="K",
        help="begin these heads from the directions of what the first of the other heads of "
        "--start calls other than background",
    )
    parser.add_argument(
        "--first-leads",
        action="store_true",
        help="only the loss at the first K moves the trunk, as if it were trained alone; the other "
        "heads learn from its features",
    )
    parser.add_argument("--batch", type=int, default=None, help="volumes a step")
    parser.add_argument(
        "--objects",
        type=int,
        default=None,
        help="paste up to so many objects with motions of their own into each sample",
    )
    parser.add_argument(
        "--pasted",
        type=float,
        default=None,
        metavar="CHANCE",
        help="chance that a sample is one of those that may have objects",
    )
    parser.add_argument(
        "--exaggerate",
        type=float,
        default=None,
        metavar="FACTOR",
        help="multiply the errors of rough flow (with --reference), by up to this factor and by "
        "its inverse at least",
    )
    parser.add_argument(
        "--zoom",
        type=float,
        default=None,
        help="show windows of the frame in the samples, up to so many times magnified",
    )
    parser.add_argument(
        "--spread",
        type=float,
        default=None,
        help="how many times larger than usual heads that are drawn start (all, or those of "
        "--only-heads); 10 makes all segments differ",
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--data", default="", help="what the card says of the data")
    parser.add_argument("--licence", default="", help="what the card says of the data's licence")


def stopped(arguments: argparse.Namespace) -> str | None:
    """What to tell after Ctrl-C; None where no run has begun."""
    if not (arguments.out / STATE).is_file():
        return None
    return f"the run in {arguments.out} is kept, and the same command goes on with it"


def run(arguments: argparse.Namespace) -> None:
    """Train to the end, or until interrupted (the state is saved).

    Raises:
        InputError: something given is unusable.
    """
    import torch
    from tqdm import tqdm

    from stseg.checkpoint import load_checkpoint
    from stseg.datasets import read_training_flows
    from stseg.device import choose_device
    from stseg.distributed import Team, team
    from stseg.files import check_writable
    from stseg.splits import read_list
    from stseg.training import Trainer

    settings = _settings(arguments)
    _check_out(arguments)
    check_writable(arguments.out)
    names = None
    if arguments.split is not None:
        if not arguments.split.is_file():
            raise InputError(f"There is no file {arguments.split}. Give a list of sequences.")
        names = read_list(arguments.split)
    sequences = read_training_flows(arguments.flows, names, arguments.reference)
    card: dict[str, Any] = {
        "variant": arguments.variant,
        "data": arguments.data,
        "licence": arguments.licence,
    }
    device = choose_device(arguments.device)
    if device.torch.type == "cuda":
        torch.backends.cudnn.benchmark = True  # the sizes are the same at every step
    start = None
    if arguments.start is not None:
        base = load_checkpoint(arguments.start)
        start = base.network
        card["start"] = {"file": arguments.start.name, "card": dict(base.card)}
    teacher = None
    if arguments.teacher is not None:
        known = load_checkpoint(arguments.teacher)
        teacher = known.network
        card["teacher"] = {"file": arguments.teacher.name, "card": dict(known.card)}

    def train(processes: Team) -> bool:
        """Whether the run was at its end before."""
        trainer = Trainer(
            settings,
            sequences,
            arguments.out,
            device,
            card,
            start=start,
            team=processes,
            teacher=teacher,
        )
        ended = trainer.step == settings.steps
        with tqdm(
            total=settings.steps,
            initial=trainer.step,
            desc="training",
            unit="step",
            disable=not processes.leads,
        ) as bar:
            for progress in trainer.run():
                bar.update()
                if progress.validation is not None:
                    bar.set_postfix(validation=f"{progress.validation:.4f}")
        return ended

    with team(device.torch.type) as processes:
        ended = train(processes)
        if processes.leads:
            best = arguments.out / BEST
            if not best.is_file():  # somebody took it away
                raise InputError(
                    f"The run in {arguments.out} is at its end, but {best.name} is not there. "
                    "Delete the folder to train again."
                )
            if ended:
                print("The run was at its end: nothing was left to do.", file=sys.stderr)
            print(f"The checkpoint is {best}")


def _check_out(arguments: argparse.Namespace) -> None:
    """Raise InputError where the run would replace a checkpoint that is not of its own."""
    best = arguments.out / BEST
    for option in ("start", "teacher"):
        given = getattr(arguments, option)
        if given is not None and given.resolve() == best.resolve():
            raise InputError(
                f"--{option} names {given}, which the run in {arguments.out} would replace. Choose "
                "another folder with --out."
            )
    if best.exists() and not (arguments.out / STATE).exists():
        raise InputError(
            f"{best} is not of an unfinished run, and would be replaced: there is no {STATE} "
            "beside it. Choose another folder, or delete it."
        )


def _settings(arguments: argparse.Namespace) -> TrainSettings:
    from dataclasses import replace

    from stseg.variants import variant

    settings = replace(variant(arguments.variant).settings, seed=arguments.seed)
    if arguments.k is not None:
        settings = replace(settings, network=replace(settings.network, ks=tuple(arguments.k)))
    if arguments.batch is not None:
        settings = replace(settings, batch=arguments.batch)
    if (arguments.only_heads or arguments.direction_heads) and arguments.start is None:
        raise InputError(
            "Heads that are trained alone, or begun from directions, need a trunk that is there "
            "already. Name its checkpoint with --start."
        )
    if arguments.spread is not None and arguments.start is not None and not arguments.only_heads:
        raise InputError(
            "--spread is about heads that are drawn, and those of --start are trained already. "
            "Leave it out, or name the heads to draw anew with --only-heads."
        )
    if arguments.exaggerate is not None and arguments.reference is None:
        raise InputError(
            "--exaggerate multiplies the errors of rough flow, which only better flow of the same "
            "frames tells. Name its folder with --reference, or leave it out."
        )
    if arguments.teacher is not None and arguments.reference is None:
        raise InputError(
            "--teacher is imitated on better flow of the same frames than what the network sees. "
            "Name its folder with --reference, or leave it out."
        )
    if arguments.pasted is not None and not (arguments.objects or settings.augment.objects):
        raise InputError(
            f"--pasted is the chance of objects, but {arguments.variant!r} pastes none into its "
            "samples. Say how many with --objects, or leave it out."
        )
    settings = replace(
        settings,
        only_heads=tuple(arguments.only_heads),
        direction_heads=tuple(arguments.direction_heads),
        first_leads=arguments.first_leads,
    )
    losses = _given({"beta": arguments.beta, "eta": arguments.eta})
    augment = _given(
        {
            "objects": arguments.objects,
            "pasted": arguments.pasted,
            "exaggerate": arguments.exaggerate,
            "zoom": arguments.zoom,
        }
    )
    settings = replace(
        settings,
        losses=replace(settings.losses, **losses),
        augment=replace(settings.augment, **augment),
    )
    if arguments.spread is not None:
        settings = replace(settings, spread=arguments.spread)
    if arguments.stage is not None:
        settings = replace(settings, stages=tuple(_stage(text) for text in arguments.stage))
    staged = arguments.stage is not None and any(each.beta is not None for each in settings.stages)
    if arguments.teacher is not None and (losses or staged):
        raise InputError(
            "β and η are about the losses of the paper, and --teacher takes their place. Leave out "
            "one or the other."
        )
    return settings


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given; the others stay as the variant has them."""
    return {name: value for name, value in options.items() if value is not None}


def _stage(text: str) -> Stage:
    from stseg.train_settings import Stage

    found = re.fullmatch(r"(\d+)x(\d+):(\d+):([^:]+)(?::([^:]+))?", text)
    try:
        if found is None:
            raise ValueError(text)
        size, steps = (int(found[1]), int(found[2])), int(found[3])
        rate, beta = float(found[4]), None if found[5] is None else float(found[5])
    except ValueError as error:
        raise InputError(
            f"The stage {text!r} is not like 64x112:6000:5e-4, or 64x112:6000:5e-4:0 to leave out "
            "L_c. Give it in this form."
        ) from error
    return Stage(size, steps, rate, beta=beta)
