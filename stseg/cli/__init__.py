"""The command line: ``python -m stseg`` or ``stseg``. One file a sub-command."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from stseg import __version__
from stseg.cli import ablate, benchmark, clips, evaluate, fit, flow, segment, train, weights
from stseg.errors import Cancelled, InputError
from stseg.files import denied, no_space

# Each offers NAME, HELP, add_arguments(parser) and run(arguments). What is heavy (torch, OpenCV)
# is imported only when a command runs: --help answers at once.
COMMANDS = (segment, flow, weights, clips, train, fit, evaluate, ablate, benchmark)

INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands."""
    parser = argparse.ArgumentParser(
        prog="stseg", description="See what moves together in a video.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"stseg {__version__}")
    sub = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        child = sub.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.HELP,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(child)
        child.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status: 0, 2 for unusable input, 130 when interrupted."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    arguments = build_parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except InputError as error:
        print(f"stseg: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        sentence = no_space(error) or denied(error)
        if sentence is None:
            raise
        print(f"stseg: {sentence}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Cancelled):
        print("stseg: stopped; nothing unfinished is left.", file=sys.stderr)
        return INTERRUPTED
    return 0
