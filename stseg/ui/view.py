"""How a tab tells the page what to fill and when, and which long work it can start."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from gradio.components import Component

from stseg.comparison import Compared
from stseg.errors import Stop
from stseg.flow.cache import FlowCache
from stseg.naming import Naming
from stseg.records import Clip, Segmentation, Settings
from stseg.ui.shown import Shown


@dataclass(frozen=True)
class Moment:
    """Where the visitor stands: a result, a frame of it, and η.

    Attributes:
        shown: the result.
        frame: number of the frame, from 0.
        eta: fraction of sites that count as occluded.
        compared: variants of the same clip that were made to be compared, the first as reference.
        naming: of their labels as in ``shown``, remembered from one picture to the next.
    """

    shown: Shown
    frame: int
    eta: float
    compared: Sequence[Compared] = ()
    naming: Naming = field(default_factory=Naming)


@runtime_checkable
class AddVariant(Protocol):
    """See ``Context.add_variant``."""

    def __call__(self, title: str, result: Segmentation, brought: bool = True) -> Sequence[str]:
        """Hand a result to the tab Compare; the titles of what had to make room for it."""


@dataclass(frozen=True)
class Context:
    """What a job knows of the visitor who started it, and what it may do for them.

    Attributes:
        clip: the chosen clip, or None.
        shown: the result on the page when the job began, or None: ``shown.result`` is its
            ``Segmentation``, ``shown.footage`` has its flow (``FlowFields``) and its frames.
        settings: what the left column says. A function, since it raises ``InputError`` for values
            out of range or flow of another clip, and most jobs need none of them. Uploaded flow
            is already a path. It takes the name of a model that is to be there instead.
        plain_settings: the same for work on other clips than the chosen one, to which uploaded
            flow does not belong: that it is chosen is all that they say (``OWN_FLOW``).
        own_model: the visitor's own model (``OWN_MODEL``), as it was when this work was asked for.
            Raises ``InputError`` where there is none.
        eta: η alone, as the left column says it now. Raises ``InputError`` as ``settings`` does.
        stop: asked often (a job must end within a second of it): True when Stop was pressed, the
            visitor left, turned to another clip or began other work. Hand it on as ``stop=``.
        served: gives a folder, always the same and empty at first, whose files can be downloaded
            (give their path to a ``gr.DownloadButton``); its name cannot be guessed, and it goes
            with the visitor. ``Cancelled`` where they left.
        cache: where flow is kept, for ``SegmentationRun``; None for a clip that a visitor brought.
        compared: the variants in the tab Compare; ``keep`` replaces them (for that tab alone).
        keep: see ``compared``.
        add_variant: hand a finished result of *the chosen clip* to the tab Compare, under a short
            title that names its model and K; other settings than those of the shown result are
            added to it. It computes the row of the table (some seconds; ``Cancelled`` on stop). The
            same title replaces the older one; beyond the fourth the oldest but the first goes, and
            its title comes back. What is ``brought`` (true unless said otherwise) outlives the next
            comparison.
        keep_model: keep a checkpoint, alone in ``served``; it is what ``OWN_MODEL`` means at once
            where the visitor has no model of their own.
        archive: say of which variants there is an archive now (``TabView.offered``).
    """

    clip: Clip | None
    shown: Shown | None
    settings: Callable[..., Settings]
    plain_settings: Callable[[], Settings]
    own_model: Callable[[], Path]
    eta: Callable[[], float]
    stop: Stop
    served: Callable[[], Path]
    cache: FlowCache | None
    compared: Callable[[], Sequence[Compared]]
    keep: Callable[[Sequence[Compared]], None]
    add_variant: AddVariant
    keep_model: Callable[[Path], None]
    archive: Callable[[Sequence[Compared]], None]


@dataclass(frozen=True)
class Progress:
    """Where a job is: what the page's status line says, and what the tab shows of it.

    Attributes:
        text: a sentence: what is being done, or at last what was done.
        done: steps done.
        total: their number; None where nobody knows it.
        values: new values of ``Job.fills``, one each (``gr.skip()`` leaves one as it is); None
            leaves all as they are.
        redraw: whether the pictures of the open tab are drawn again now; at the end of a job they
            are in any case.
        broken_off: what ``values`` are to be at last if nothing comes after this, since the visitor
            turned to something else or the work failed; None leaves all as they are then.
    """

    text: str
    done: int = 0
    total: int | None = None
    values: Sequence[Any] | None = None
    redraw: bool = False
    broken_off: Sequence[Any] | None = None


def _as_they_are(context: Context, *values: Any) -> tuple[Any, ...]:
    del context
    return values


@dataclass(frozen=True)
class Job:
    """Long work that a tab starts; put it into ``TabView.jobs``.

    A press on ``start`` ends what runs for this visitor (see ``plan``) and is answered at once
    with ``waiting``. When the machine is free (all long work of all visitors shares one queue),
    ``run`` is called in a thread with a ``Context`` and what ``plan`` makes of the present values
    of ``reads``: the values themselves, if nothing else is said. Each
    ``Progress`` that it yields is shown; the text of the last one stays. So::

        def run(context: Context, epochs: float) -> Iterator[Progress]:
            if context.shown is None:
                raise InputError("No result is shown. Segment a clip first.")
            done = 0
            while done < epochs and not context.stop():
                ...
                done += 1
                yield Progress("Fitting: epoch …", done, int(epochs), values=(chart(), None))
            yield Progress(f"Fitted {done} epochs.", values=(chart(), file()))

        TabView(jobs=(Job(button.click, run, reads=(epochs,), fills=(chart, download)),))

    Yield at most twice a second, so that the page keeps up. After Stop, what is yielded is still
    shown (so a job can keep what there is). After the visitor left or began something else it is
    given some seconds to come to its end (``jobs.GRACE``); of all that it yields then only the last
    ``Progress.broken_off`` is shown. Release what it holds in ``finally``. An ``InputError``
    becomes the sentence on the page; ``Cancelled`` becomes "Stopped."; anything else is logged and
    told without a trace. When it has ended the pictures of the open tab are drawn again, so that
    what ``context.add_variant`` gave is there.

    Attributes:
        start: the listener that starts it (``button.click``).
        run: the work, from the context and what ``plan`` gave.
        reads: components whose values ``plan`` takes after the context.
        fills: components that ``Progress.values`` fill.
        stop: listeners of the tab's own Stop button, beside that of the left column.
        plan: what is to be done, or an ``InputError``. It is asked before ``run``, and when the
            button is pressed while other work goes on, which an error then leaves alone.
        waiting: the status line until it begins.
        called: what it is ("the fit"), for the sentence on what becomes of it when another clip is
            chosen; empty says nothing.
        lasting: whether it goes on then: it has nothing to do with the chosen clip.
        latest: whether what it offers (``Context.served``) takes the place of what it offered
            before; else all of it stays until the visit ends.
    """

    start: Callable[..., Any]
    run: Callable[..., Iterator[Progress]]
    reads: Sequence[Component] = ()
    fills: Sequence[Component] = ()
    stop: Sequence[Callable[..., Any]] = ()
    plan: Callable[..., tuple[Any, ...]] = _as_they_are
    waiting: str = "Waiting for the machine …"
    called: str = ""
    lasting: bool = False
    latest: bool = False


@dataclass(frozen=True)
class Merging:
    """Controls by which the visitor makes all tabs take merged labels.

    Attributes:
        on: listeners that ask for it.
        use: whether labels are merged.
        threshold: similarity above which segments fuse.
    """

    on: Sequence[Callable[..., Any]]
    use: Component
    threshold: Component


def _nothing(*_: Any) -> tuple[Any, ...]:
    return ()


@dataclass(frozen=True)
class TabView:
    """A laid out tab.

    Attributes:
        pictures: components drawn anew whenever the frame, η or an option moves: HTML, with a name
            in the page and ``markup.RENEW`` among its scripts.
        draw: their values, from a moment and the values of ``options``.
        blank: their values for a clip without a result.
        pending: their values, where ``lazy``, for other labels before the tab is opened.
        options: components of the tab that ``draw`` reads.
        redraw_on: listeners (``slider.input``) that ask for it, beside the frame and η.
        details: components filled once for the labels of a result. What of them is an option, too,
            begins anew with other labels, and the pictures take what ``fill`` says of it.
        fill: their values, from a result; None when there is none.
        update: their values at each further step of the run that gives these labels, the last one
            with their files; None leaves them as ``fill`` made them.
        jobs: long work that the tab can start.
        merging: controls that merge labels on all tabs, in the one tab that has them.
        write_on: listeners that ask for the files of what is shown.
        segment_on: listeners that ask for the chosen clip to be segmented with a fitted model, each
            with the component that holds it (``Fitted``, or None).
        offers: components that are right for what is compared alone, and ``offered`` their values
            from whether there is an archive of that: filled whenever work ends or another clip is
            chosen.
        offered: see ``offers``.
        lazy: draw only while the tab is open: for pictures that take more than a moment.
    """

    pictures: Sequence[Component] = ()
    draw: Callable[..., tuple[Any, ...]] = _nothing
    blank: Sequence[Any] = ()
    pending: Sequence[Any] = ()
    options: Sequence[Component] = ()
    redraw_on: Sequence[Callable[..., Any]] = ()
    details: Sequence[Component] = ()
    fill: Callable[[Shown | None], tuple[Any, ...]] = _nothing
    update: Callable[[Shown], tuple[Any, ...]] | None = None
    jobs: Sequence[Job] = ()
    merging: Merging | None = None
    write_on: Sequence[Callable[..., Any]] = ()
    segment_on: Sequence[tuple[Callable[..., Any], Component]] = ()
    offers: Sequence[Component] = ()
    offered: Callable[[bool], tuple[Any, ...]] = _nothing
    lazy: bool = False
