"""The one place where an exception becomes a sentence on the page."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape, unescape
from typing import Any, TypeVar, cast

import gradio as gr

from stseg.errors import Cancelled, InputError
from stseg.files import no_space
from stseg.ui.private import told_sentence

logger = logging.getLogger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Any])

UNEXPECTED = (
    "Something went wrong that is not your doing. It is written in the log of the app; try again, "
    "or with another clip."
)

DISK_FULL = "The disk of the server is full. Try again later, or with a shorter clip."

STOPPED = "The work was stopped before its end."


def guarded(
    handler: Handler,
    on_error: Callable[[str], tuple[Any, ...]] | None = None,
    unchanged: Callable[[], tuple[Any, ...]] | None = None,
) -> Handler:
    """``handler``, with its errors told in a sentence: never a trace on the page.

    Args:
        handler: of an event; a function or a generator.
        on_error: what is filled last when it fails, from the sentence; a function is a generator of
            one value then.
        unchanged: for a generator, what it yields at its end, which leaves the page as it is:
            Gradio sends the last value a second time, over what others have put there since; where
            there is none it empties all components that would have been filled.
    """
    generates = inspect.isgeneratorfunction(inspect.unwrap(handler))
    if generates or on_error is not None:

        @functools.wraps(handler)
        def steps(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                with _sentences():
                    if generates:
                        yield from handler(*args, **kwargs)
                    else:
                        yield handler(*args, **kwargs)
                if unchanged is not None:
                    yield unchanged()
            except gr.Error as error:
                if on_error is not None:
                    yield on_error(unescape(str(error.message)))
                raise

        return cast(Handler, steps)

    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _sentences():
            return handler(*args, **kwargs)

    return cast(Handler, call)


@contextmanager
def _sentences() -> Iterator[None]:
    try:
        yield
    except gr.Error:
        raise
    except InputError as error:
        told = escape(told_sentence(str(error)), quote=False)
        raise gr.Error(told, print_exception=False) from error
    except Cancelled as error:
        raise gr.Error(STOPPED, print_exception=False) from error
    except Exception as error:
        full = no_space(error) if isinstance(error, OSError) else None
        if full is not None:
            logger.error("%s", full)
        else:
            logger.exception("Unexpected error")
        raise gr.Error(unexpected(error), print_exception=False) from error


def unexpected(error: Exception) -> str:
    """The sentence on what nobody foresaw."""
    full = no_space(error) if isinstance(error, OSError) else None
    return UNEXPECTED if full is None else DISK_FULL
