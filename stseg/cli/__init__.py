"""The command line: ``python -m stseg`` or ``stseg``. One file a sub-command."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence

from stseg import __version__
from stseg.cli import ablate, benchmark, clips, evaluate, fit, flow, segment, train, weights
from stseg.cli.given import HelpFormatter
from stseg.errors import Cancelled, InputError
from stseg.files import denied, no_space, too_long
from stseg.threads import wait_briefly

# Each offers NAME, HELP, add_arguments(parser) and run(arguments). What is heavy (torch, OpenCV)
# is imported only when a command runs: --help answers at once. One that leaves something behind
# when it is stopped offers stopped(arguments), which says what.
COMMANDS = (segment, flow, weights, clips, train, fit, evaluate, ablate, benchmark)

INTERRUPTED = 130
BROKEN_PIPE = 141
"""Exit status as of a process that the signal ended: 128 and its number."""


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
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(child)
        child.set_defaults(
            run=command.run,
            stopped=getattr(command, "stopped", lambda arguments: None),
            parser=child,
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Returns:
        The exit status: 0, 2 for unusable input, 130 when interrupted, 141 when nobody reads on.
    """
    _mend_streams()
    wait_briefly()
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    words = sys.argv[1:] if argv is None else argv
    arguments, unknown = build_parser().parse_known_args(words)
    if unknown:  # with the usage of the sub-command, which parse_args does not show
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        _check_names(words)
        arguments.run(arguments)
        sys.stdout.flush()  # here, where a closed pipe is expected
    except InputError as error:
        print(f"stseg: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor does the end complain
        return BROKEN_PIPE
    except OSError as error:
        sentence = no_space(error) or denied(error) or too_long(error)
        if sentence is None:
            raise
        print(f"stseg: {sentence}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Cancelled):
        left = arguments.stopped(arguments) or "nothing unfinished is left"
        print(f"stseg: stopped; {left}.", file=sys.stderr)
        return INTERRUPTED
    return 0


def _mend_streams() -> None:
    """What is printed never fails: nobody may listen (``>&-``), or not in UTF-8."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open to the end
            setattr(sys, name, nowhere)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _check_names(words: Sequence[str]) -> None:
    """Raise InputError for a name that is not UTF-8, which no summary or log could tell."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"The name {word!a} is not UTF-8. Rename the file.") from error
