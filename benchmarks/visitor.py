"""A visitor of the app without a browser: the same requests as the page makes, over plain HTTP."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

PATIENCE = 600.0
"""Seconds that a visitor waits for an answer; behind 20 others that takes minutes."""


class Refused(Exception):
    """The app answered with an error; the text is what the page would show."""


@dataclass(frozen=True)
class Page:
    """What the app says of its page.

    Attributes:
        address: of the app, with a slash at its end.
        events: of the page, by name.
        defaults: values of the components, by number.
        labels: numbers of the components, by label.
        looker: number of the component that gets the pictures of a frame.
    """

    address: str
    events: Mapping[str, Mapping[str, Any]]
    defaults: Mapping[int, Any]
    labels: Mapping[str, int]
    looker: int

    @classmethod
    def of(cls, address: str) -> Page:
        """Read it from a running app."""
        config = httpx.get(f"{address}config", timeout=60).json()
        components = {each["id"]: each["props"] for each in config["components"]}
        return cls(
            address,
            {each["api_name"]: each for each in config["dependencies"] if each["api_name"]},
            {number: props.get("value") for number, props in components.items()},
            {
                str(props["label"]): number
                for number, props in reversed(components.items())
                if props.get("label")
            },
            next(n for n, props in components.items() if props.get("elem_id") == "looker"),
        )

    def values(self, event: str, said: Mapping[str, Any]) -> list[Any]:
        """Inputs of an event: what the labels say, else the defaults."""
        chosen = {self.labels[label]: value for label, value in said.items()}
        return [chosen.get(i, self.defaults.get(i)) for i in self.events[event]["inputs"]]


class Visitor:
    """One open page. Closing it is what closing a browser's tab is to the app."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._name = secrets.token_urlsafe(8)
        self._client = httpx.Client(base_url=f"{page.address}gradio_api/", timeout=PATIENCE)
        self._left = False
        self._key = ""
        self.last = 1  # frame that the slider reaches
        # Nobody reads the signs of life: the open connection is what tells that the page is open.
        beat = self._client.build_request("GET", f"heartbeat/{self._name}")
        self._beat = self._client.send(beat, stream=True)

    def close(self) -> None:
        """Leave, whatever runs."""
        self._left = True
        self._beat.close()
        self._client.close()

    @property
    def left(self) -> bool:
        """Whether the page is closed."""
        return self._left

    def arrive(self) -> None:
        """Open the page. Raises Refused or httpx.HTTPError."""
        self.call("arrive", {})
        self._key = str(self.call("introduce", {})[0])

    def move(self, frame: int) -> dict[str, str]:
        """Move the slider: pictures by their place. Raises Refused or httpx.HTTPError."""
        asked = {
            "data": [self._key, frame],
            "component_id": self._page.looker,
            "fn_name": "look",
            "session_hash": self._name,
        }
        answer = self._client.post("component_server/", json=asked)
        pictures: dict[str, str] | None = answer.json() if answer.status_code == 200 else None
        if pictures is None:
            raise Refused(f"frame {frame}: {answer.status_code} {answer.text[:200]}")
        return pictures

    def call(
        self,
        event: str,
        said: Mapping[str, Any],
        event_data: Mapping[str, Any] | None = None,
        leave_after: int | None = None,
    ) -> Sequence[Any]:
        """An event of the queue: the values of its last step.

        Args:
            event: its name.
            said: values by label.
            event_data: what the browser tells beside them.
            leave_after: close the page after so many steps; then the answer is empty.

        Raises:
            Refused: the app says that it did not work.
            httpx.HTTPError: the connection broke.
        """
        body = {**self._body(event, said), "event_data": event_data}
        joined = self._client.post("queue/join", json=body)
        if joined.status_code != 200:
            raise Refused(f"{event}: {joined.status_code} {joined.text[:200]}")
        number, steps = joined.json()["event_id"], 0
        where = "queue/data"
        with self._client.stream("GET", where, params={"session_hash": self._name}) as lines:
            for line in lines.iter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                if message.get("event_id") not in (None, number):
                    continue
                if message["msg"] == "process_generating":
                    steps += 1
                    if leave_after is not None and steps > leave_after:
                        self.close()
                        return []
                if message["msg"] in ("process_completed", "unexpected_error", "server_stopped"):
                    if not message.get("success"):
                        raise Refused(f"{event}: {json.dumps(message)[:300]}")
                    values: list[Any] = message["output"]["data"]
                    return values
        raise Refused(f"{event}: the answer ended early")

    def _body(self, event: str, said: Mapping[str, Any]) -> dict[str, Any]:
        known = self._page.events[event]
        return {
            "fn_index": known["id"],
            "data": self._page.values(event, said),
            "session_hash": self._name,
            "trigger_id": known["targets"][0][0],
        }
