"""Components laid out in a test, without a page and its server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import gradio as gr

Built = TypeVar("Built")


def in_blocks(build: Callable[[], Built]) -> Built:
    """What ``build`` lays out in blocks of its own.

    In a loop that runs, since outside of one Gradio makes its own and never closes it; in a thread
    of its own, since the browser's loop may run in this one.
    """

    async def laid_out() -> Built:
        with gr.Blocks():
            return build()

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(lambda: asyncio.run(laid_out())).result()
