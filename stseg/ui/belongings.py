"""What a visitor brought, and the folders that hold it and what they get."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Collection, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from stseg.errors import Cancelled, InputError
from stseg.records import Clip, Settings
from stseg.ui.controls import MODEL, OWN_FLOW, OWN_MODEL, settings_on_page
from stseg.ui.private import private_folder
from stseg.uploads import Door

_JOB = "job-"

T = TypeVar("T")


@dataclass(frozen=True)
class OwnFlow:
    """Flow that a visitor brought.

    Attributes:
        path: where it is kept; no sentence may tell it.
        clip: the one clip that it belongs to.
    """

    path: Path
    clip: Clip


class Belongings:
    """The uploads of one visitor, checked at the door, and their folders.

    ``private`` holds uploads and is not served. ``served`` holds the files of the latest result
    for playing and downloading; its name cannot be guessed.

    Args:
        scratch: folder of the app.
        served: the one in it whose files are served.
        door: where uploads come in.

    Attributes:
        flow: the flow that the visitor brought last, or None.
        model: the checkpoint that they brought last, or took from a fit; the first that they fitted
            where there was none; or None.
        names: of files that the visitor brought; no log tells them.
        uploads: clips that the visitor brought, with their thumbnails.
    """

    def __init__(self, scratch: Path, served: Path, door: Door) -> None:
        self.uploads: dict[Clip, str] = {}
        self.names: frozenset[str] = frozenset()
        self.flow: OwnFlow | None = None
        self.model: Path | None = None
        self._flows: list[Path] = []
        self._models: list[Path] = []
        self._door = door
        self._all_served = served
        self.private = private_folder(scratch)
        self.served = served / secrets.token_urlsafe(24)
        self.served.mkdir(parents=True)

    def take_upload(self, path: Path) -> Path:
        """Move an upload to where nothing is served from, under its own name.

        Raises:
            InputError: it is no file, or one that the app itself serves. Gradio takes the path of
                such a file for an upload, and moving it would take it from somebody else.
        """
        if path.is_symlink() or path.resolve().is_relative_to(self._all_served.resolve()):
            raise InputError("This file was not uploaded. Upload it from your own machine.")
        self.names |= {path.name, path.stem}  # a new set: a log line may go through the old one
        folder = Path(tempfile.mkdtemp(dir=self.private))
        return Path(shutil.move(path, folder / path.name))

    def drop_upload(self, path: Path) -> None:
        """Remove an upload that nobody took; what was none is left alone."""
        with suppress(InputError):
            shutil.rmtree(self.take_upload(path).parent, ignore_errors=True)

    def take_video(self, path: Path) -> Clip:
        """Take an uploaded video; it does not stay when it is refused.

        Raises:
            InputError: it is no video, or beyond a limit.
        """
        with self._taken(path) as taken:
            return self._door.video(taken)

    def keep_video(self, clip: Clip, thumbnail: str, used: Collection[Clip | None]) -> list[Clip]:
        """Keep a clip of the visitor's; beyond the limit the oldest that are not used go.

        Args:
            clip: as ``take_video`` gave it.
            thumbnail: of the clip, as a data URI.
            used: clips that must stay.

        Returns:
            the clips that went.
        """
        self.uploads[clip] = thumbnail
        gone = self._surplus(self.uploads, {clip, *used})
        for old in gone:
            del self.uploads[old]
            shutil.rmtree(old.source.parent, ignore_errors=True)
        return gone

    def take_flow(
        self, path: Path, clip: Clip, used: Collection[Path], max_frames: int | None = None
    ) -> OwnFlow:
        """Take uploaded flow of ``clip``: what stays is a file of our own with the same vectors.

        As with clips, what is one too many goes.

        Args:
            path: what was uploaded.
            clip: that it belongs to.
            used: flow that must stay.
            max_frames: it may be the flow of so many first frames alone.

        Raises:
            InputError: it is unusable, of another clip, or beyond a limit.
        """
        taken = self.take_upload(path)
        kept = self.new_private_folder() / taken.name
        try:
            self._door.flow(taken, clip, kept, max_frames)
        finally:
            shutil.rmtree(taken.parent, ignore_errors=True)
        self._add(kept, self._flows, used)
        self.flow = OwnFlow(kept, clip)
        return self.flow

    def take_model(self, path: Path, used: Collection[Path]) -> tuple[Path, tuple[int, ...]]:
        """Take an uploaded checkpoint: ``model`` from now on. As with clips, one too many goes.

        Args:
            path: what was uploaded.
            used: models that must stay.

        Returns:
            where it is kept, and the K that it gives.

        Raises:
            InputError: it is no checkpoint of STSeg, or beyond a limit.
        """
        with self._taken(path) as taken:
            ks = self._door.model(taken)
        self._add(taken, self._models, used)
        self.model = taken
        return taken, ks

    def keep_model(self, path: Path, used: Collection[Path]) -> None:
        """Keep a model that was fitted, alone in its folder; as with clips, one too many goes."""
        self._add(path, self._models, used)

    @contextmanager
    def _taken(self, path: Path) -> Iterator[Path]:
        """An upload that was taken, which does not stay where the block fails."""
        taken = self.take_upload(path)
        try:
            yield taken
        except BaseException:
            shutil.rmtree(taken.parent, ignore_errors=True)
            raise

    def _add(self, new: Path, kept: list[Path], used: Collection[Path]) -> None:
        """Keep a file, each in a folder of its own, and remove those that are too many."""
        kept.append(new)
        for old in self._surplus(kept, {new, *used}):
            kept.remove(old)
            shutil.rmtree(old.parent, ignore_errors=True)

    def settings(
        self,
        clip: Clip | None,
        values: Sequence[Any],
        model: str | None = None,
        own: Path | None = None,
    ) -> Settings:
        """``plain_settings`` with the flow that was brought for ``clip`` in its place.

        Args:
            clip: that is to be segmented.
            values: of the controls.
            model: its name instead of the one that they say.
            own: see ``plain_settings``.

        Raises:
            InputError: a value is unusable, or no flow of this clip was brought.
        """
        if model is not None:
            values = [model if place == MODEL else value for place, value in enumerate(values)]
        settings = self.plain_settings(values, own)
        if settings.flow != OWN_FLOW:
            return settings
        return replace(settings, flow=str(self.flow_for(clip)))

    def plain_settings(self, values: Sequence[Any], own: Path | None = None) -> Settings:
        """What the controls say, with the model of the visitor's own in its place.

        Flow of one's own, which belongs to one clip, is still called ``OWN_FLOW``.

        Args:
            values: of the controls.
            own: the visitor's own model as it was when the work was asked for; None takes ``model``
                as it is now.

        Raises:
            InputError: a value is unusable, or there is no model of their own.
        """
        settings = settings_on_page(*values)
        if settings.model != OWN_MODEL:
            return settings
        return replace(settings, model=str(self.own_model(own)))

    def own_model(self, own: Path | None = None) -> Path:
        """The visitor's own model; ``own`` as in ``plain_settings``.

        Raises:
            InputError: there is none.
        """
        model = own or self.model
        if model is None:
            raise InputError(
                "There is no model of your own yet. Fit one on the tab Fit, upload one under "
                "Advanced, or choose another model."
            )
        if not model.is_file():  # somebody cleared the temporary files of the server
            raise InputError(
                f"The model {model.name} is not there any more. Fit or upload it again, or choose "
                "another model."
            )
        return model

    def flow_for(self, clip: Clip | None) -> Path:
        """The flow that the visitor brought for ``clip``.

        Raises:
            InputError: they brought none, or that of another clip.
        """
        own = self.flow
        if own is None:
            raise InputError(
                "No flow is uploaded. Upload an .npz or a .zip, or choose an estimator."
            )
        if clip is None or clip.source != own.clip.source:
            raise InputError(
                f"The flow {own.path.name} belongs to {own.clip.name}. Choose that clip, upload "
                "the flow of this one, or choose an estimator."
            )
        return own.path

    def _surplus(self, kept: Collection[T], used: Container[object]) -> list[T]:
        """The oldest of what is kept that are too many and not used."""
        unused = [each for each in kept if each not in used]
        return unused[: max(0, len(kept) - self._door.limits.clips)]

    def new_folder(self) -> Path:
        """Where the files of one result can be served from; it is not made yet."""
        return self.served / f"result-{secrets.token_urlsafe(8)}"

    def new_private_folder(self) -> Path:
        """An empty folder that is not served."""
        return Path(tempfile.mkdtemp(dir=self.private))

    def new_job_folder(self, latest: str = "") -> Path:
        """An empty folder that is served, for what a job offers; it stays until the visit ends.

        Those of an endpoint's calls stay for as many calls as clips of a visitor do.

        Args:
            latest: name of a job of whose folders only this one stays.

        Raises:
            Cancelled: the visitor left.
        """
        kind = f"{_JOB}{latest}-" if latest else _JOB
        if latest:
            for old in self.served.glob(f"{kind}*"):
                shutil.rmtree(old, ignore_errors=True)
        folder = self.served / f"{kind}{secrets.token_urlsafe(8)}"
        try:
            folder.mkdir()
        except FileNotFoundError as error:
            raise Cancelled("The visitor left, and their folder went.") from error
        return folder

    def keep_only(self, folder: Path) -> None:
        """Remove the files of all results but the one in ``folder``; those of jobs stay."""
        for old in self.served.iterdir():
            if old != folder and not old.name.startswith(_JOB):
                shutil.rmtree(old, ignore_errors=True)

    def close(self) -> None:
        """Remove everything."""
        self.uploads = {}
        for folder in (self.private, self.served):
            shutil.rmtree(folder, ignore_errors=True)
