"""Settings in a JSON file: written beside a result, and read to make another like it."""

from __future__ import annotations

import json
from pathlib import Path

from stseg.errors import InputError
from stseg.files import write_atomically
from stseg.records import Settings, checked_setting


def write_settings(settings: Settings, path: Path) -> None:
    """Write the settings as JSON. Raises InputError if the file cannot be written."""
    text = json.dumps(settings.to_json(), indent=2, ensure_ascii=False)
    write_atomically(path, (text + "\n").encode())


def read_settings(path: Path) -> Settings:
    """Settings from a file of ``write_settings``, or from the ``summary.json`` of a result.

    Raises:
        InputError: there is no such file, it holds no settings, or a value is out of its range.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a file of settings ({error}). Give the settings.json or summary.json "
            "of a result."
        ) from error
    if isinstance(values, dict) and isinstance(values.get("settings"), dict):
        values = values["settings"]
    return settings_of(values)


def settings_of(values: object) -> Settings:
    """Settings from what ``Settings.to_json`` gave; what is not there has its default.

    Raises:
        InputError: these are no settings, or a value is out of its range.
    """
    if not isinstance(values, dict):
        raise InputError("These are no settings: an object of names and values is expected.")
    return Settings(**{name: checked_setting(name, value) for name, value in values.items()})
