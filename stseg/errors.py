"""The errors that a person can cause and can mend. Their text is a sentence."""


class InputError(ValueError):
    """Something given from outside is unusable: the message says what is wrong and what to do.

    The command line prints it and leaves with status 2; the app shows it as a toast.
    """


class Cancelled(Exception):
    """The person pressed Stop (or Ctrl-C): work ended early on purpose, nothing is wrong."""
