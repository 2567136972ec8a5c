"""Runs the long work that tabs declare (``stseg.ui.view.Job``) on the queue that all share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import gradio as gr

from stseg.comparison import Compared, compare, differences, title_of, with_variant
from stseg.errors import Cancelled, InputError, Stop
from stseg.flow.cache import FlowCache
from stseg.records import Segmentation
from stseg.ui import markup
from stseg.ui.controls import ETA, SETTINGS, TITLES
from stseg.ui.given import number
from stseg.ui.guard import guarded, unexpected
from stseg.ui.private import told_sentence
from stseg.ui.session import Session
from stseg.ui.sessions import Sessions
from stseg.ui.view import Context, Job, Progress

logger = logging.getLogger(__name__)

NO_TICKET = -1
"""Of work that was not announced: what it gives is shown to nobody."""

GRACE = 5.0
"""Seconds for a job to end in once the visitor has turned to something else."""


FAILED = "Not done. {}"
"""What the status says of work that came to an end that nobody wanted."""


@contextmanager
def awaited(session: Session, ticket: int) -> Iterator[None]:
    """Around long work: what goes wrong with it is only told while the page waits for it.

    Else the page is about something else by then, and what nobody expected goes to the log.
    """
    try:
        yield
    except Cancelled:
        raise
    except Exception as error:
        if session.current(ticket):
            session.refused = isinstance(error, InputError)
            raise
        if not isinstance(error, InputError):
            logger.exception("Work that was left broke down")


def announcement(sessions: Sessions, job: Job) -> Callable[..., Any]:
    """Answers the press at once: what ran before for this visitor ends.

    It takes the same as ``handler``. What ``job.plan`` refuses ends nothing: where work goes on,
    all that happens is the sentence; else the work tells it.
    """

    def announce(request: gr.Request, *values: Any) -> str:
        session = sessions.of(request.session_hash or "")
        if session.busy:
            context = _context(session, job, NO_TICKET, lambda: False, values[:SETTINGS])
            job.plan(context, *values[SETTINGS:])
        session.begin(id(job), called=job.called, lasting=job.lasting)
        return markup.status(job.waiting, busy=True)

    return guarded(announce)


def handler(sessions: Sessions, job: Job) -> Callable[..., Any]:
    """The event of the long work.

    It takes the controls and ``job.reads``, and gives the status, a number that changes whenever
    the pictures are to be drawn again, and ``job.fills``. What it leaves announced are the files of
    labels that were chosen meanwhile (``Running.write``).
    """

    def given_up(broken_off: Sequence[Any] | None) -> Iterator[tuple[Any, ...]]:
        if broken_off is not None:
            yield gr.skip(), gr.skip(), *broken_off

    def unchanged() -> tuple[Any, ...]:
        return tuple(gr.skip() for _ in job.fills)

    def run(request: gr.Request, *values: Any) -> Iterator[Any]:
        session = sessions.of(request.session_hash or "")
        ticket = session.claim(id(job))
        if ticket is None:
            return

        def work(stop: Stop) -> Iterator[Progress]:
            context = _context(session, job, ticket, stop, values[:SETTINGS])
            yield from job.run(context, *job.plan(context, *values[SETTINGS:]))

        steps = sessions.machine.steps(_name(job), work, lambda: session.stopped(ticket))
        latest = Progress("")
        broken_off: Sequence[Any] | None = None
        left: float | None = None  # when the visitor turned to something else
        try:
            with awaited(session, ticket):
                for latest in steps:
                    broken_off = latest.broken_off
                    if not session.current(ticket):
                        # It is to end by itself, so that it can keep what there is.
                        left = left or time.monotonic()
                        if time.monotonic() - left > GRACE:
                            break
                        continue
                    line = markup.status(latest.text, latest.done, latest.total, busy=True)
                    pulse: Any = time.monotonic() if latest.redraw else gr.skip()
                    yield line, pulse, *(unchanged() if latest.values is None else latest.values)
        except Cancelled:
            latest = Progress("Stopped.")
        except InputError as error:
            latest = Progress(FAILED.format(told_sentence(str(error))))
            yield from given_up(broken_off)
            raise
        except Exception as error:
            latest = Progress(FAILED.format(unexpected(error)))
            yield from given_up(broken_off)
            raise
        finally:
            session.end(ticket)
            steps.close()
            waited_for = session.current(ticket)
            if waited_for:
                session.begin_writing(latest.text)  # K or the threshold may have moved meanwhile
        if waited_for:
            yield markup.status(latest.text), time.monotonic(), *unchanged()
        else:
            yield from given_up(broken_off)

    def failed(sentence: str) -> Any:
        return markup.status(FAILED.format(sentence)), time.monotonic(), *unchanged()

    def nothing() -> tuple[Any, ...]:
        return gr.skip(), gr.skip(), *unchanged()

    return guarded(run, failed, nothing)


def _name(job: Job) -> str:
    """What a log calls it: its module, which is the tab's."""
    return job.run.__module__.rpartition(".")[2]


def _context(session: Session, job: Job, ticket: int, stop: Stop, values: Sequence[Any]) -> Context:
    clip, own = session.clip, None if ticket == NO_TICKET else session.model

    def keep(variants: Sequence[Compared]) -> None:
        session.keep_compared(ticket, variants)

    def add_variant(title: str, result: Segmentation, brought: bool = True) -> Sequence[str]:
        before = [each.title for each in session.compared]
        known = session.compared
        # Also where labels are merged on the page: what is brought is beside the run as it is.
        shown = session.shown.unmerged if session.shown else None
        if session.shown is not None and shown is not None:
            # Of a run that was stopped the title says how far it came.
            there = replace(shown.settings, max_frames=session.shown.record.settings.max_frames)
            title = ", ".join([title, *differences(result.settings, shown.settings)])
            if not known and shown is not result:
                known = (compare(title_of(there, shown.settings), shown, stop=stop),)
        first = known[0].result if known else None
        keep(with_variant(known, compare(title, result, first, stop, brought)))
        left = [each.title for each in session.compared]
        return [title for title in before if title not in left]

    return Context(
        clip=clip,
        shown=session.shown,
        settings=lambda model=None: session.own.settings(clip, values, model, own),
        own_model=lambda: session.own.own_model(own),
        eta=lambda: number(TITLES["eta"], values[ETA], 1.0) / 100,
        plain_settings=lambda: session.own.plain_settings(values, own),
        stop=stop,
        served=cache(lambda: session.own.new_job_folder(_name(job) if job.latest else "")),
        cache=None if clip in session.own.uploads else FlowCache(),
        compared=lambda: session.compared,
        keep=keep,
        add_variant=add_variant,
        keep_model=session.keep_model,
        archive=session.archive,
    )
