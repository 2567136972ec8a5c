"""The files of the tab Compare: written when somebody asks for them, as one archive."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from stseg.comparison import Compared
from stseg.comparison_files import write_comparison
from stseg.errors import InputError
from stseg.ui.private import told_settings
from stseg.ui.view import Context, Progress
from stseg.ui.work import INTERVAL

DOWNLOAD = "Comparison"


def nothing() -> Any:
    """The button before anything is written."""
    return gr.update(label=DOWNLOAD, value=None, interactive=False)


def compared(context: Context) -> tuple[tuple[Compared, ...]]:
    """The variants that are there. Raises InputError where nothing is compared yet."""
    variants = tuple(context.compared())
    if not variants:
        raise InputError("Nothing is compared yet. Press Compare first.")
    return (variants,)


def write(context: Context, variants: Sequence[Compared]) -> Iterator[Progress]:
    """Write the archive of what is compared now."""
    clip, total = variants[0].result.clip, min(len(each.result) for each in variants)
    doing = f"Writing the comparison of {clip.name}"
    yield Progress(f"{doing} …", 0, total, values=(nothing(),))
    folder = context.served() / f"{clip.name}-comparison"
    last = -math.inf
    try:
        for done in write_comparison(variants, folder, context.stop, told_settings):
            if time.perf_counter() - last >= INTERVAL:
                yield Progress(f"{doing}: frame {done} of {total}", done, total)
                last = time.perf_counter()
        path = shutil.make_archive(str(folder), "zip", folder.parent, folder.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    label = f"{DOWNLOAD} · {clip.name}, {len(variants)} variants"
    ready = gr.update(label=label, value=path, interactive=True)
    context.archive(variants)
    told = f"The comparison of {clip.name} is written: {len(variants)} variants, {total} frames."
    yield Progress(told, values=(ready,), broken_off=(ready,))
