"""The clips that every visitor finds, and the gallery that offers them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from stseg.errors import InputError
from stseg.layouts import find_clips
from stseg.records import Clip
from stseg.ui.markup import photo
from stseg.video import thumbnail

logger = logging.getLogger(__name__)

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "clips"

EXAMPLE = "orbit"
"""The shipped clip that a first visit finds segmented."""

PICK = """
element.addEventListener('click', (event) => {
  const tile = event.target.closest('button[data-key]');
  if (tile) trigger('click', {key: tile.dataset.key});
  if (event.target.closest('.skip')) document.querySelector('#upload').focus();
});
"""
"""Script of the gallery: a click on a tile tells its key."""

MANY = 9
"""Clips beyond which the keyboard can pass over the gallery."""

SKIP = '<button type="button" class="skip">Skip the clips</button>'
"""Seen while it has the focus."""


class Catalogue:
    """Shipped clips and those of the data folders, with their thumbnails.

    Args:
        folders: data folders.

    Raises:
        InputError: a folder is missing or holds no clip.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        shipped = find_clips(ASSETS) if ASSETS.is_dir() else []
        self._groups = [("Rendered, with exact ground truth", shipped)] if shipped else []
        for folder in folders:
            self._groups.append((folder.resolve().name, find_clips(folder)))
        self._thumbnails: dict[Path, str] = {}

    @property
    def clips(self) -> list[Clip]:
        """All clips, in the order of the gallery."""
        return [clip for _, clips in self._groups for clip in clips]

    @property
    def example(self) -> Clip | None:
        """The clip of the first visit, if any ships."""
        clips = self.clips
        return next((clip for clip in clips if clip.name == EXAMPLE), clips[0] if clips else None)

    def make_thumbnails(self) -> None:
        """Make what is missing; slow for a large folder, so call it from a thread."""
        for clip in self.clips:
            self._thumbnails.setdefault(clip.source, thumbnail_uri(clip))

    def gallery(self, uploads: Mapping[Clip, str], chosen: Clip | None) -> str:
        """The gallery as HTML: groups of tiles, those of the visitor first.

        Args:
            uploads: the visitor's own clips with their thumbnails.
            chosen: the clip that is marked.
        """
        parts = []
        for title, tiles in self._tiles(uploads):
            shown = [
                _tile(clip, key, uploads.get(clip) or self._thumbnails.get(clip.source), chosen)
                for key, clip in tiles.items()
            ]
            if shown:
                parts.append(f"<h4>{escape(title)}</h4><div class='tiles'>{''.join(shown)}</div>")
        skip = SKIP if len(self.clips) + len(uploads) > MANY else ""
        return f"{skip}<div class='gallery'>{''.join(parts)}</div>"

    def find(self, key: str, uploads: Mapping[Clip, str]) -> Clip:
        """The clip of a tile. Raises InputError when it is not there any more."""
        for _, tiles in self._tiles(uploads):
            if key in tiles:
                return tiles[key]
        raise InputError("This clip is not there any more. Choose another one.")

    def _tiles(self, uploads: Mapping[Clip, str]) -> Iterator[tuple[str, dict[str, Clip]]]:
        yield "Yours", {f"own-{clip.source.parent.name}": clip for clip in uploads}
        for group, (title, clips) in enumerate(self._groups):
            yield title, {f"{group}-{index}": clip for index, clip in enumerate(clips)}


def _tile(clip: Clip, key: str, picture: str | None, chosen: Clip | None) -> str:
    frames = f"{clip.frames} frames" if clip.frames else "frames not counted yet"
    hint = f"{clip.name}: {clip.size[1]} x {clip.size[0]}, {frames}"
    image = f'<img src="{picture}" alt="">' if picture else '<span class="blank"></span>'
    pressed = "true" if clip == chosen else "false"
    return (
        f'<button type="button" data-key="{key}" aria-pressed="{pressed}" title="{escape(hint)}">'
        f"{image}<span>{escape(clip.name)}</span></button>"
    )


def thumbnail_uri(clip: Clip) -> str:
    """A thumbnail as a data URI; empty where the clip cannot be read."""
    try:
        return photo(thumbnail(clip, 72))
    except InputError as error:
        logger.warning("%s It has no thumbnail.", error)
        return ""
