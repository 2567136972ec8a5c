"""The errors that a person can cause and can mend. Their text is a sentence."""

from __future__ import annotations

from collections.abc import Callable

Stop = Callable[[], bool]
"""Asked between steps of long work: True when it is to end."""


class InputError(ValueError):
    """Something given from outside is unusable: the message says what is wrong and what to do.

    The command line prints it and leaves with status 2; the app shows it as a toast.
    """


class Cancelled(Exception):
    """The person pressed Stop (or Ctrl-C): work ended early on purpose, nothing is wrong."""


def heed(stop: Stop | None, work: str) -> None:
    """Raise ``Cancelled`` where ``stop`` says that ``work`` (a run, a fit) is to end."""
    if stop is not None and stop():
        raise Cancelled(f"The {work} was stopped.")
