"""The page: the column of controls, the player, the tabs, and what happens on which event."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from stseg.device import choose_device
from stseg.limits import Limits
from stseg.scratch import Scratch
from stseg.ui import jobs
from stseg.ui.api import build_api
from stseg.ui.clips import Catalogue
from stseg.ui.controls import build_controls
from stseg.ui.desk import Desk
from stseg.ui.events import Events
from stseg.ui.example import Example
from stseg.ui.guard import guarded
from stseg.ui.looking import Looking
from stseg.ui.offered import offered
from stseg.ui.pace import Pace
from stseg.ui.player import build_player
from stseg.ui.running import Running
from stseg.ui.scene import Scene
from stseg.ui.sessions import Sessions
from stseg.ui.tabs import tabs

TITLE = "What moves together"

HEAVY: dict[str, Any] = {"concurrency_id": "heavy", "concurrency_limit": 1}
"""One clip at a time, whoever asks: two would only slow each other down."""

LIGHT: dict[str, Any] = {
    "show_progress": "hidden",
    "api_visibility": "private",
    "concurrency_limit": None,
}
"""Whatever only looks at what is known runs at once, beside the long work of others."""

PAUSE = 0.05
"""Seconds between two looks of Gradio for new work in its queue, and for its progress."""

FAREWELL = 5.0
"""Seconds that the app waits, when it is closed, for what still computes."""

HEADER = (
    f"<header><h1>{TITLE}</h1><p>Choose a clip and press Segment: a network that has never seen a "
    "label splits its optical flow into K motions, over space and time. "
    '<span class="source">After Meunier &amp; Bouthemy, CVPR 2023.</span></p></header>'
)


class App:
    """The page and what it holds on the server.

    Attributes:
        blocks: what is launched.
        sessions: the visitors.
        device: where the work runs, as a person calls it.
        begun: when it was made (``time.monotonic``).
    """

    def __init__(
        self,
        folders: Sequence[Path],
        limits: Limits | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        catalogue = Catalogue(folders)  # first: it may refuse, and nothing is on the disk yet
        self.sessions = Sessions(offered(folders), limits, scratch)
        self.sessions.sweep_regularly()
        self.sessions.door.prepare()
        # Files below are served as they lie, under names that cannot be guessed; Gradio would
        # otherwise copy them into its own folder and leave them there.
        gr.set_static_paths([self.sessions.served])
        pace = Pace()
        self.example = Example(catalogue, pace, self.sessions.served, self.sessions.machine)
        self.device = choose_device().name
        self.begun = time.monotonic()
        self._scene = Scene(catalogue, pace, self.device)
        desk = Desk(self.sessions, self._scene)
        self._events = Events(desk, catalogue, self.example)
        self._running = Running(desk, pace)
        self._looking = Looking(desk)
        self.blocks = self._build()

    def close(self) -> None:
        """Stop all work and remove all files."""
        self.example.close()
        self.sessions.close_all()
        # A process that ends while torch still computes in a thread is aborted.
        self.sessions.machine.idle(FAREWELL)

    def _build(self) -> gr.Blocks:
        with gr.Blocks(
            title=f"STSeg · {TITLE}",
            analytics_enabled=False,
            fill_width=True,
            delete_cache=(1800, 3600),
        ) as blocks:
            gr.HTML(HEADER, elem_id="header")
            with gr.Row(elem_id="columns"):
                with gr.Column(scale=0, min_width=300, elem_id="left"):
                    controls = build_controls(self.sessions.door.limits)
                with gr.Column(scale=1, min_width=320, elem_id="right"):
                    status = gr.HTML("", elem_id="status")
                    player = build_player(self._looking.look_at)
                    frame = player.frame
                    views, selections = [], []
                    with gr.Tabs(elem_id="tabs"):
                        for tab in tabs(self.sessions.offered):
                            with gr.Tab(tab.TITLE) as opened:
                                views.append(tab.build())
                            selections.append(opened.select)
            build_api(self.sessions, HEAVY)
            events, running, looking = self._events, self._running, self._looking
            self._scene.views = views
            tab_open = gr.State(0)
            pictures = [each for view in views for each in view.pictures]
            details = [each for view in views for each in view.details]
            # Gradio tells each component that an event fills how the event stands, hidden or not,
            # and goes through the whole page for each: one component is told for all.
            light = {**LIGHT, "show_progress_on": status}
            heavy = {**HEAVY, "show_progress": "hidden", "show_progress_on": status}
            # Gradio checks a value against the clip of which it has told the page last, which may
            # not have heard of it yet: it would refuse a press that comes soon after another one.
            # What handlers take they check themselves.
            quick = {**light, "preprocess": False}
            looks = [frame, controls.eta, tab_open, *(o for view in views for o in view.options)]
            scene = [status, controls.badge, frame, *pictures, *details]

            arrived = blocks.load(
                guarded(events.arrive, unchanged=lambda: (gr.skip(), *self._scene.unchanged())),
                [*controls.settings, *looks],
                [controls.gallery, *scene],
                **light,
                queue=True,
            )
            arrived.then(guarded(events.settle), None, frame, **light)
            blocks.load(guarded(events.introduce), None, player.looker, **light)
            blocks.unload(events.leave)

            def kept() -> tuple[Any, ...]:
                return gr.skip(), gr.skip(), gr.skip()

            picked = controls.gallery.click(
                guarded(events.pick),
                [*controls.settings, *looks],
                [controls.gallery, *scene],
                trigger_mode="multiple",  # else clicks are lost while one is being answered
                **quick,
            )
            uploaded = controls.upload.upload(
                guarded(
                    events.upload,
                    events.refused,
                    lambda: (gr.skip(), *self._scene.unchanged()),
                ),
                [controls.upload, *controls.settings, *looks],
                [controls.gallery, *scene],
                **light,
            )
            controls.own_flow.upload(
                guarded(events.bring_flow, events.refused_part, kept),
                [controls.own_flow, *controls.settings],
                [controls.flow, status, controls.badge],
                **light,
            )
            controls.own_model.upload(
                guarded(events.bring_model, events.refused_part, kept),
                [controls.own_model, *controls.settings],
                [controls.model, status, controls.badge],
                **light,
            )
            asked_with_fitted = [
                ask(
                    guarded(events.use_fitted),
                    [fitted, *controls.settings],
                    [controls.model, controls.badge],
                    **light,
                ).success
                for view in views
                for ask, fitted in view.segment_on
            ]
            segmented = [
                ask(guarded(running.announce), [*controls.settings, *looks], status, **quick).then(
                    guarded(running.segment, running.failed, self._scene.unchanged),
                    [*controls.settings],
                    scene,
                    api_visibility="private",
                    trigger_mode="multiple",
                    **heavy,
                )
                for ask in (controls.segment.click, *asked_with_fitted)
            ]
            labels_moved = [
                controls.k.input(
                    guarded(events.choose_k),
                    [*controls.settings, *looks],
                    scene,
                    trigger_mode="always_last",
                    **quick,
                )
            ]
            labels_moved += [
                gr.on(
                    merging.on,
                    guarded(events.use_merged),
                    [merging.use, merging.threshold, *controls.settings, *looks],
                    scene,
                    trigger_mode="always_last",
                    **quick,
                )
                for merging in (view.merging for view in views)
                if merging is not None
            ]
            controls.stop.click(guarded(running.stop), None, status, **light)
            pulse = gr.State(0.0)
            jobs_ended = []
            for job in (job for view in views for job in view.jobs):
                reads = [*controls.settings, *job.reads]
                announced = job.start(jobs.announcement(self.sessions, job), reads, status, **light)
                ended = announced.then(
                    jobs.handler(self.sessions, job),
                    reads,
                    [status, pulse, *job.fills],
                    api_visibility="private",
                    trigger_mode="multiple",
                    **heavy,
                )
                jobs_ended.append(ended)
                for stop in job.stop:
                    stop(guarded(running.stop), None, status, **light)
            asked = [
                ask(guarded(running.ask_files), None, status, **light)
                for view in views
                for ask in view.write_on
            ]
            # What the controls mean may have changed, though none of them did: a fitted model.
            offers = [each for view in views for each in view.offers]
            for ended in (picked, uploaded, *segmented, *jobs_ended):
                ended.then(guarded(events.settled), None, [controls.badge, *offers], **light)
            for announcing in (picked, *segmented, *labels_moved, *jobs_ended, *asked):
                announcing.then(
                    guarded(running.write, running.failed, self._scene.unchanged),
                    None,
                    scene,
                    api_visibility="private",
                    trigger_mode="multiple",
                    **heavy,
                )
            gr.on(
                [each.change for each in controls.settings],
                guarded(events.retune),
                [*controls.settings],
                [status, controls.badge],
                trigger_mode="always_last",
                **light,
            )
            options = [controls.eta.input, *(on for view in views for on in view.redraw_on)]
            for triggers, draw, told in (
                ([player.looker.input], looking.look, [frame]),
                (options, looking.redraw, looks),
            ):
                gr.on(
                    triggers,
                    guarded(draw),
                    told,
                    pictures,
                    trigger_mode="always_last",
                    queue=False,
                    **quick,
                )
            pulse.change(guarded(looking.redraw), looks, pictures, **quick)
            for index, select in enumerate(selections):
                select(_opened(index), None, tab_open, **light).then(
                    guarded(looking.redraw), looks, pictures, **quick
                )
        # Gradio looks a thousand times a second on Linux: a tenth of a core for nothing.
        blocks._queue.sleep_when_free = blocks._queue.progress_update_sleep_when_free = PAUSE
        return blocks


def _opened(index: int) -> Any:
    return lambda: index


def build_page(
    folders: Sequence[Path], limits: Limits | None = None, scratch: Scratch | None = None
) -> App:
    """Make the page; its example is segmented in the background.

    Args:
        folders: data folders whose clips are offered beside the shipped ones.
        limits: of what visitors upload; None takes the usual ones.
        scratch: where everything is kept that visitors bring and get; None makes one.

    Raises:
        InputError: a folder is missing or holds no clip.
    """
    return App(folders, limits, scratch)
