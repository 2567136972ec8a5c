"""What a stranger's file may be, and what reading it may take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from stseg.errors import InputError

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Limits of what visitors upload. Files of one's own have none.

    Attributes:
        megabytes: size of a file, in MiB.
        seconds: duration of a video.
        frames: number of frames of a video.
        side: longest side of a frame, in pixels.
        memory: what the process that decodes a file may take beside itself, in MiB.
        patience: CPU seconds that one frame may take it.
        effort: CPU seconds that a whole file may take it.
        clips: number of clips of one visitor that stay at a time; the oldest goes. As many flows,
            and as many models.
        weights: size of a model (a checkpoint), in MiB.

    Raises:
        InputError: a limit is not a positive number.
    """

    megabytes: int = 512
    seconds: int = 600
    frames: int = 3000
    side: int = 4096
    memory: int = 2048
    patience: int = 8
    effort: int = 900
    clips: int = 12
    weights: int = 64

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) < 1:
                raise InputError(f"The limit {each.name} must be 1 or more.")

    @property
    def hint(self) -> str:
        """What a visitor has to know, as a sentence."""
        long = f"{self.seconds // 60} min" if self.seconds % 60 == 0 else f"{self.seconds} s"
        return (
            f"At most {self.megabytes:,} MiB, {long}, {self.frames:,} frames and {self.side:,} "
            "pixels a side."
        )

    def check_bytes(self, size: int, name: str) -> None:
        """Raise ``InputError`` for a file of more than ``megabytes``."""
        if size > self.megabytes * MIB:
            raise InputError(
                f"{name!r} has {size / MIB:,.0f} MiB, but at most {self.megabytes:,} MiB are taken "
                "here. Cut it, or compress it more."
            )

    def check_weights(self, size: int, name: str) -> None:
        """Raise ``InputError`` for a checkpoint of more than ``weights``."""
        if size > self.weights * MIB:
            raise InputError(
                f"{name!r} has {size / MIB:,.0f} MiB, but a model of at most {self.weights:,} MiB "
                "is taken here. Give a smaller network, or run STSeg on your own machine."
            )

    def check_video(self, size: tuple[int, int], frames: int, seconds: float, name: str) -> None:
        """Raise ``InputError`` for a video that is too large or too long.

        Args:
            size: (H, W) of a frame in pixels.
            frames: number of frames.
            seconds: duration.
            name: what the sentence calls it.
        """
        if max(size) > self.side:
            raise InputError(
                f"The frames of {name!r} are {size[1]} x {size[0]} pixels, but a side has at most "
                f"{self.side:,} here. Scale the video down."
            )
        if frames > self.frames:
            raise InputError(
                f"{name!r} has more than {self.frames:,} frames, the most that are taken here. "
                "Cut it, or run STSeg on your own machine."
            )
        if seconds > self.seconds:
            raise InputError(
                f"{name!r} lasts {seconds:,.0f} s, but at most {self.seconds:,} s are taken here. "
                "Cut it, or run STSeg on your own machine."
            )


def read_limits(words: Iterable[str]) -> Limits:
    """Limits from words such as ``frames=6000``; what is not said keeps its default.

    Raises:
        InputError: there is no such limit, or its value is not a whole number above 0.
    """
    known = [each.name for each in fields(Limits)]
    given: dict[str, int] = {}
    for word in words:
        name, _, value = word.strip().partition("=")
        if name not in known or not value.isascii() or not value.isdigit():
            raise InputError(
                f"{word.strip()!r} is no limit. Write NAME=NUMBER with one of {', '.join(known)}, "
                "for instance frames=6000."
            )
        given[name] = int(value)
    return Limits(**given)
