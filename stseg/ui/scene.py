"""What the page shows of a session: gallery, badge, slider, and the pictures of the tabs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from stseg.records import Clip, Settings
from stseg.ui import markup
from stseg.ui.clips import Catalogue
from stseg.ui.pace import Pace, in_words
from stseg.ui.player import slider_update
from stseg.ui.segments import preview
from stseg.ui.session import Session
from stseg.ui.shown import Shown
from stseg.ui.view import Moment, TabView
from stseg.video import thumbnail

PREVIEW_HEIGHT = 480

NAMES = {
    "taus": "τ",
    "flow": "the flow",
    "model": "the model",
    "linkage": "the linkage",
    "max_frames": "the number of frames",
    "subsequence": "the sub-sequence",
    "step": "the triplets",
    "refine": "the refinement",
}
"""What of the settings needs Segment when it changes, as the badge says it; η changes no label."""


class Scene:
    """Values of the page's components: status, badge, slider, all pictures, all details.

    ``Session.looks`` are η in percent, the number of the open tab, and the options of the tabs.

    Attributes:
        views: the tabs, in their order; set once they are laid out.
    """

    def __init__(self, catalogue: Catalogue, pace: Pace, device: str) -> None:
        self.views: Sequence[TabView] = ()
        self._catalogue = catalogue
        self._pace = pace
        self._device = device

    def gallery(self, session: Session) -> str:
        """The clips, with the chosen one marked."""
        return self._catalogue.gallery(session.own.uploads, session.clip)

    def badge(self, session: Session, clip: Clip, settings: Settings) -> str:
        """Where the work runs, how long the clip would take, and whether Segment is needed."""
        footage = session.footage
        known = footage is not None and footage.serves(clip, settings)
        seconds = self._pace.seconds(clip, settings, known)
        time = "" if seconds is None else f"about {in_words(seconds)}"
        if known:
            time = f"{time}, its flow is known" if time else "its flow is known"
        changed = self.changed(session, settings)
        if changed:
            told = f" ({time})" if time else ""
            return markup.badge(self._device, f"{changed}: press Segment{told}.", urgent=True)
        if seconds is None:
            return self.badge_text(f"The length of {clip.name} is not known yet.")
        return self.badge_text(f"{clip.name}: {time}.")

    @staticmethod
    def changed(session: Session, settings: Settings) -> str:
        """What differs from the settings of what is shown so that Segment is needed, or nothing."""
        return _changed(session.shown, settings) if session.shown else ""

    def badge_text(self, text: str) -> str:
        """The badge with a sentence of its own."""
        return markup.badge(self._device, text)

    def shown(
        self,
        session: Session,
        line: Any,
        badge: str,
        move: bool = True,
        total: int = 0,
        anew: bool = True,
        draw: bool = True,
    ) -> tuple[Any, ...]:
        """All of the scene for the result that the session shows.

        Args:
            session: the visitor, with a result.
            line: the status, or ``gr.skip()``.
            badge: made of what the controls say now (``badge``, ``badge_text``).
            move: whether the slider goes to the session's frame; it must where that one is gone.
            total: frames that will be there, where more are to come.
            anew: whether these are other labels than before, so that details are filled; else they
                are only brought up to date.
            draw: whether pictures are drawn, or stay as they are.
        """
        shown = session.shown
        assert shown is not None
        total = max(total, len(shown))
        if session.frame >= total:
            # Gradio refuses every event of a page whose slider is beyond its end.
            session.frame, move = total - 1, True
        details = self._filled(session, shown) if anew else self._updated(shown)
        if draw:
            pictures = self.pictures(session, shown, all_tabs=True, anew=anew)
        else:
            pictures = self.skip(sum(len(view.pictures) for view in self.views))
        return (
            line,
            badge,
            slider_update(total, session.frame if move else None),
            *pictures,
            *details,
        )

    @staticmethod
    def first_picture(clip: Clip) -> str:
        """The board of a clip without a result. Raises InputError where it cannot be read."""
        return preview(clip, thumbnail(clip, PREVIEW_HEIGHT))

    def preview(self, session: Session, line: str, badge: str, board: str) -> tuple[Any, ...]:
        """All of the scene for a clip without a result, of which ``board`` is ``first_picture``."""
        # Those of the last clip must not stay; the first picture is the board of the segments.
        blank = [value for view in self.views for value in view.blank]
        blank[0] = board
        return (
            line,
            badge,
            slider_update(0, 0),
            *blank,
            *self._filled(session, None),
        )

    def refilled(self, session: Session, line: Any, badge: str) -> tuple[Any, ...]:
        """The same pictures, and the controls as they are for them: what was asked for is not."""
        pictures = self.skip(1 + sum(len(view.pictures) for view in self.views))
        return line, badge, *pictures, *self._filled(session, session.shown)

    def _filled(self, session: Session, shown: Shown | None) -> list[Any]:
        """Details for other labels; what they say of an option, the pictures take as well."""
        details: list[Any] = []
        looks = list(session.looks)
        place = len(looks) - sum(len(view.options) for view in self.views)
        for view in self.views:
            values = view.fill(shown)
            details += values
            for option in view.options:
                for component, value in zip(view.details, values, strict=True):
                    if component is option:
                        looks[place] = _value(value, looks[place])
                place += 1
        session.looks = looks
        return details

    def _updated(self, shown: Shown) -> list[Any]:
        details: list[Any] = []
        for view in self.views:
            details += self.skip(len(view.details)) if view.update is None else view.update(shown)
        return details

    def pictures(
        self, session: Session, shown: Shown, all_tabs: bool, anew: bool = False
    ) -> tuple[Any, ...]:
        """Pictures of the tabs; those of a tab that is not open are left as they are.

        Args:
            session: the visitor.
            shown: the result.
            all_tabs: whether tabs that are not open are drawn as well, unless they are lazy.
            anew: whether these are other labels than before: what a lazy tab shows goes.
        """
        eta, opened, *options = session.looks
        frame = min(max(session.frame, 0), len(shown) - 1)
        moment = Moment(shown, frame, eta / 100, session.compared, session.naming)
        pictures: list[Any] = []
        for index, view in enumerate(self.views):
            own, options = options[: len(view.options)], options[len(view.options) :]
            if index == opened or (all_tabs and not view.lazy):
                pictures += (markup.of_frame(html, frame) for html in view.draw(moment, *own))
            elif anew and view.lazy and session.looks[1] != index:  # nor was it opened meanwhile
                pictures += view.pending
            else:
                pictures += self.skip(len(view.pictures))
        return tuple(pictures)

    def unchanged(self) -> tuple[Any, ...]:
        """All of the scene left as it is."""
        count = sum(len(view.pictures) + len(view.details) for view in self.views)
        return self.skip(3 + count)

    def skip(self, count: int) -> tuple[Any, ...]:
        """So many components left as they are."""
        return tuple(gr.skip() for _ in range(count))


def _value(update: Any, before: Any) -> Any:
    """The value of a component after an update of it."""
    return update.get("value", before) if isinstance(update, dict) else update


def _changed(shown: Shown, settings: Settings) -> str:
    """What differs from the settings of the result so that Segment is needed, or nothing."""
    own = shown.result.settings
    names = [name for key, name in NAMES.items() if getattr(own, key) != getattr(settings, key)]
    if own.stride == settings.stride and NAMES["step"] in names:
        names.remove(NAMES["step"])  # nobody touched it: it follows from τ
    if settings.k != own.k and settings.k not in shown.others:
        names.insert(0, "K")
    if not names:
        return ""
    text = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    first = text[0].upper() if text[0].isascii() else text[0]  # not every τ is a Τ
    return f"{first}{text[1:]} changed"
