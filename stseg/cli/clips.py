"""``python -m stseg clips``: rendered clips with exact flow and masks."""

from __future__ import annotations

import argparse

from stseg.cli.given import a_path
from stseg.errors import InputError

NAME = "clips"
HELP = "Render synthetic clips (MP4) with exact masks (PNG) and flow (.npz)."

CHOICES = {
    "count": (3, "number of clips"),
    "seed": (0, "of the first clip; then one more each"),
    "frames": (24, "frames of a clip"),
    "height": (270, "pixels"),
    "width": (480, "pixels"),
    "objects": (3, "objects, 2 to 5"),
}
"""Defaults and meanings of the numbers that make a clip; those that ship have their own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", type=a_path, required=True, help="folder for the clips")
    parser.add_argument("--shipped", action="store_true", help="render the three that ship instead")
    for name, (default, meaning) in CHOICES.items():
        # Without a default it shows whether it was given.
        parser.add_argument(
            f"--{name}", type=int, default=argparse.SUPPRESS, help=f"{meaning} ({default})"
        )
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
        given = [name for name in CHOICES if hasattr(arguments, name)]
        given += ["stop"] if arguments.stop else []
        if given:
            raise InputError(
                f"--{given[0]} is for clips that are made anew, but --shipped renders those that "
                "ship, as they are. Leave one of the two out."
            )
        write_shipped(arguments.out)
        return
    chosen = {name: getattr(arguments, name, default) for name, (default, _) in CHOICES.items()}
    count, first = chosen["count"], chosen["seed"]
    if count < 1:
        raise InputError(f"{count} clips cannot be rendered. Give 1 or more.")
    names = {seed: f"clip-{seed:03d}" for seed in range(first, first + count)}
    for name in names.values():  # before the work
        check_place(arguments.out, name)
    for seed, name in tqdm(names.items(), desc="rendering", unit="clip"):
        settings = SceneSettings(
            size=(chosen["height"], chosen["width"]),
            frames=chosen["frames"],
            objects=chosen["objects"],
            seed=seed,
            stop=arguments.stop,
        )
        write_clip(render(settings), arguments.out, name)
    print(f"{', '.join(names.values())}: in {arguments.out}")
