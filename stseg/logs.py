"""Log lines that a person reads and a program parses: ``time=... level=... what=...``."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping

HIDDEN = "(upload)"
"""Stands in the log for the name of what a visitor brought."""

_FIELDS = "fields"
_PLAIN = re.compile(r"[\w.:/+@-]+")
_PRIVATE = re.compile(r"(stseg-private-\w*|gradio/[0-9a-f]{16,})/[^\n]*")
"""Paths of what visitors bring: nothing behind such a folder is told."""


def event(logger: logging.Logger, what: str, fields: Mapping[str, object]) -> None:
    """Log at INFO that something happened.

    Args:
        logger: of the module.
        what: a word.
        fields: figures and words, with the unit in the name; never what a visitor named.
    """
    logger.info(what, extra={_FIELDS: dict(fields)})


class Lines(logging.Formatter):
    """``key=value`` in one line a record; values with spaces are JSON strings, traces too.

    Args:
        hide: gives the names of what visitors brought, which no message and no trace tells.
    """

    def __init__(self, hide: Callable[[], Iterable[str]] = tuple) -> None:
        super().__init__()
        self.converter = time.gmtime
        self.hide = hide

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        told = getattr(record, _FIELDS, None)
        values: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname,
            "logger": record.name,
        }
        if told is None:
            values["message"] = self._hidden(record.getMessage())
        else:
            values |= {"what": record.getMessage(), **told}
        if record.exc_info:
            values["trace"] = self._hidden(self.formatException(record.exc_info))
        return " ".join(f"{key}={_quoted(value)}" for key, value in values.items())

    def _hidden(self, text: str) -> str:
        text = _PRIVATE.sub(rf"\1/{HIDDEN}", text)
        for word in sorted(filter(None, self.hide()), key=len, reverse=True):
            # Whole words: "a.mp4" must not take the letter out of all others.
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", HIDDEN, text)
        return text


def _quoted(value: object) -> str:
    if isinstance(value, float):
        value = round(value, 3)
    text = "-" if value is None else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
