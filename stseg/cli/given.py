"""What the commands say about their options in the same way: paths, and defaults in the help."""

from __future__ import annotations

import argparse
from pathlib import Path


def a_path(text: str) -> Path:
    """A path, which may not be empty: ``Path("")`` is the current folder, which nobody named."""
    return Path(a_name(text))


def a_name(text: str) -> str:
    """A name or path that is not empty, as an unset variable of the shell would make it."""
    if not text:
        raise argparse.ArgumentTypeError("The name is empty. Give a name or a path.")
    return text


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults that are values: a required option has none, and nothing tells nothing."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        empty = action.default is False or action.default in (None, "", (), [])
        if action.required or empty:
            return action.help
        return super()._get_help_string(action)


def check_flow_options(arguments: argparse.Namespace) -> None:
    """Raise InputError for an option of RAFT where the flow is not RAFT's."""
    from stseg.flow import check_options

    given = {
        "--weights": arguments.weights is not None,
        "--iterations": hasattr(arguments, "iterations"),
    }
    check_options(arguments.flow, [option for option, is_given in given.items() if is_given])
