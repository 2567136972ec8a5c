"""Settings in a JSON file: written beside a result, and read to make another like it."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from stseg.errors import InputError
from stseg.files import write_atomically
from stseg.records import Settings

_KINDS = {"int": (int,), "float": (int, float), "str": (str,), "None": (type(None),), "bool": ()}


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
    known = {each.name: str(each.type) for each in fields(Settings)}
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise InputError(
                f"There is no setting {name!r}. Choose among {', '.join(sorted(known))}."
            )
        if not _fits(value, known[name]):
            raise InputError(f"The setting {name!r} cannot be {value!r}. Correct it.")
        real = "float" in known[name] and value is not None
        given[name] = tuple(value) if name == "taus" else float(value) if real else value
    return Settings(**given)


def _fits(value: object, annotation: str) -> bool:
    """Whether a JSON value can stand for a field of this type."""
    if isinstance(value, bool):
        return annotation == "bool"  # True is an int, too, but no number here
    if annotation.startswith("tuple"):
        return isinstance(value, list) and all(type(each) is int for each in value)
    return any(isinstance(value, _KINDS[part]) for part in annotation.split(" | "))
