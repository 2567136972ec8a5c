"""The same work for programs: the endpoints that ``gradio_client`` calls, one a file."""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from stseg.errors import Stop
from stseg.ui import api_compare, api_evaluate, api_fit, api_segment, api_similarity
from stseg.ui.endpoint import Endpoint
from stseg.ui.guard import guarded
from stseg.ui.machine import Machine
from stseg.ui.sessions import Sessions


class EndpointFile(Protocol):
    """The names that the file of an endpoint (``api_<name>.py``) exposes."""

    @property
    def NAME(self) -> str:
        """Its stable name, without the slash."""

    def build(self, sessions: Sessions) -> Endpoint:
        """Lay out its components in the place that is open now, and say what it does."""


ENDPOINTS: tuple[EndpointFile, ...] = (
    api_segment,
    api_compare,
    api_similarity,
    api_fit,
    api_evaluate,
)


def alone(name: str, call: Callable[..., Any], machine: Machine) -> Callable[..., Any]:
    """``call`` with the machine for itself; of a generator the last value counts.

    A ``Call`` that it makes is what its stop is asked by.
    """

    @functools.wraps(call)
    def waited(*values: Any) -> Any:
        def work(stop: Stop) -> Iterator[Any]:
            result = call(*values)
            if inspect.isgenerator(result):
                yield from result
            else:
                yield result

        return deque(machine.steps(name, work, lambda: False), maxlen=1).pop()

    return waited


def forgetting(endpoint: Endpoint, sessions: Sessions) -> Callable[..., Any]:
    """``endpoint.call``, after which its video is gone also where the call was refused before."""
    if endpoint.inputs[0].label != "video":
        return endpoint.call

    @functools.wraps(endpoint.call)
    def called(*values: Any) -> Any:
        try:
            return endpoint.call(*values)
        finally:
            video, request = values[0], values[-1]
            if isinstance(video, str) and Path(video).is_file():
                sessions.of(request.session_hash or "").own.drop_upload(Path(video))

    return called


def build_api(sessions: Sessions, heavy: dict[str, Any]) -> None:
    """Add the endpoints to the page that is open now, out of sight.

    Args:
        sessions: where the files of a client are kept until it leaves.
        heavy: the queue that all long work shares.
    """
    with gr.Column(visible=False):
        for file in ENDPOINTS:
            endpoint = file.build(sessions)
            gr.Button(file.NAME).click(
                guarded(alone(f"/{file.NAME}", forgetting(endpoint, sessions), sessions.machine)),
                list(endpoint.inputs),
                list(endpoint.outputs),
                api_name=file.NAME,
                api_description=inspect.getdoc(endpoint.call),
                **heavy,
            )
