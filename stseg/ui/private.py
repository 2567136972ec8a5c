"""Folders for what visitors bring: nothing in them is served, and no page tells where they are."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path

from stseg.flow import ESTIMATORS
from stseg.records import Settings
from stseg.scratch import PREFIX
from stseg.variants import VARIANTS

_PREFIX = "stseg-private-"


def private_folder(within: Path) -> Path:
    """A new folder for one visitor, in the folder of the app."""
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=within))


def told_path(path: Path) -> str:
    """A path as a page or a file may tell it: the name alone for what a visitor brought."""
    if any(part.startswith(_PREFIX) for part in path.parts):
        return path.name
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def told_sentence(text: str) -> str:
    """A sentence without the folders that the app keeps its visitors' files in.

    It can be sent, whatever the names and files that it cites have in them.
    """
    places = re.escape(str(Path(tempfile.gettempdir()) / PREFIX))
    told = re.sub(rf"{places}\w+(/[\w-]+)*/", "", text)
    return told.encode("utf-8", "replace").decode()


def told_settings(settings: Settings) -> Settings:
    """Settings as files may tell them: of what is the visitor's own the name alone."""
    if settings.flow not in ESTIMATORS:
        settings = replace(settings, flow=told_path(Path(settings.flow)))
    if settings.model not in VARIANTS:  # all other models that the page takes are a visitor's own
        settings = replace(settings, model=Path(settings.model).name)
    return settings
