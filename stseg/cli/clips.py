"""``python -m stseg clips``: rendered clips with exact flow and masks."""

from __future__ import annotations

import argparse
from pathlib import Path

from stseg.errors import InputError

NAME = "clips"
HELP = "Render synthetic clips (MP4) with exact masks (PNG) and flow (.npz)."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the clips")
    parser.add_argument("--shipped", action="store_true", help="render the three that ship instead")
    parser.add_argument("--count", type=int, default=3, help="number of clips")
    parser.add_argument("--seed", type=int, default=0, help="of the first clip; then one more each")
    parser.add_argument("--frames", type=int, default=24, help="frames of a clip")
    parser.add_argument("--height", type=int, default=270, help="pixels")
    parser.add_argument("--width", type=int, default=480, help="pixels")
    parser.add_argument("--objects", type=int, default=3, help="objects, 2 to 5")
    parser.add_argument("--stop", action="store_true", help="let one object stop for some frames")


def run(arguments: argparse.Namespace) -> None:
    """Render and write.

    Raises:
        InputError: something given is unusable.
    """
    from tqdm import tqdm

    from stseg.synthetic import SceneSettings, render
    from stseg.synthetic_files import check_place, write_clip, write_shipped

    if arguments.shipped:
        write_shipped(arguments.out)
        return
    if arguments.count < 1:
        raise InputError(f"{arguments.count} clips cannot be rendered. Give 1 or more.")
    names = {
        seed: f"clip-{seed:03d}" for seed in range(arguments.seed, arguments.seed + arguments.count)
    }
    for name in names.values():  # before the work
        check_place(arguments.out, name)
    for seed, name in tqdm(names.items(), desc="rendering", unit="clip"):
        settings = SceneSettings(
            size=(arguments.height, arguments.width),
            frames=arguments.frames,
            objects=arguments.objects,
            seed=seed,
            stop=arguments.stop,
        )
        write_clip(render(settings), arguments.out, name)
