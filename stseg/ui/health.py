"""``/healthz``: whether the app works, for whoever watches it."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import stseg
from stseg import memory
from stseg.ui.page import App

PATH = "/healthz"


def health(app: App) -> dict[str, Any]:
    """What is known of the app without any work: plain JSON values, nothing of a visitor."""
    machine = app.sessions.machine
    used = memory.resident()
    return {
        "status": "ok",
        "version": stseg.__version__,
        "device": app.device,
        "queue": len(app.blocks._queue),  # of those who wait, not of those who are served
        "busy_seconds": None if machine.seconds is None else round(machine.seconds, 1),
        "visitors": len(app.sessions),
        "uptime_seconds": round(time.monotonic() - app.begun, 1),
        "memory_mib": None if used is None else round(used / memory.MIB),
    }


def health_routes(app: App) -> list[Route]:
    """The routes for ``launch(app_kwargs={"routes": ...})``: they come before Gradio's own."""

    async def answer(_: Request) -> JSONResponse:
        return JSONResponse(health(app))

    return [Route(PATH, answer)]
