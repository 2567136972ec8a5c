"""Tab: the files of a result, and the command line that makes them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from stseg.formats import EXTRAS
from stseg.ui.markup import note
from stseg.ui.shown import Shown
from stseg.ui.view import TabView
from stseg.ui.work import command_of, told_choice

TITLE = "Downloads"

FILES = {
    "labels-png.zip": "Linked labels, one indexed PNG a frame in the colours of the screen.",
    "labels.npz": "The same labels as one array (frames, height, width) of uint8.",
    # What has no suffix is a folder, and comes as one file.
    **{
        extra.file if "." in extra.file else f"{extra.file}.zip": extra.hint
        for extra in EXTRAS.values()
    },
    "overlay.mp4": "The clip with its segments over it, H.264.",
    "grid.mp4": "Frame, flow, masks and linked labels side by side, H.264.",
    "summary.json": "Settings, versions, timings, and area and mean motion of each segment.",
}

NONE_YET = "Files appear here when a clip has been segmented to its end."
BROKEN_OFF = "The run was stopped after {frames}. Press Write files to have the files of these."
PENDING = (
    "The files of {choice} are not written yet: they appear here when they are. If they were "
    "stopped, press Write files."
)


def build() -> TabView:
    """Lay out the tab."""
    state = gr.HTML(note(NONE_YET), elem_id="download-state")
    write = gr.Button(
        "Write files", interactive=False, size="sm", scale=0, min_width=230, elem_id="write-files"
    )
    buttons = []
    for name, hint in FILES.items():
        with gr.Row(elem_classes="download", equal_height=True):
            buttons.append(
                gr.DownloadButton(
                    name, interactive=False, size="sm", scale=0, min_width=230, elem_classes="file"
                )
            )
            gr.HTML(note(hint), min_width=120)
    command = gr.Code(
        "",
        language="shell",
        label="Command line that reproduces this run",
        interactive=False,
        buttons=["copy"],
        wrap_lines=True,
        lines=2,
        elem_id="command",
    )

    def fill(shown: Shown | None) -> tuple[Any, ...]:
        files = shown.files if shown else {}
        labelled = [
            gr.update(label=f"{name} · {_size(files[name])}", value=files[name], interactive=True)
            if name in files
            else gr.update(label=name, value=None, interactive=False)
            for name in FILES
        ]
        line = _command(shown) if shown else ""
        missing = shown is not None and not shown.growing and not files
        ask = gr.update(interactive=missing)
        return note(_state(shown)), ask, *labelled, line

    def update(shown: Shown) -> tuple[Any, ...]:
        """The files come when the run has ended; those of a run that goes on are none."""
        return tuple(gr.skip() for _ in details) if shown.growing else fill(shown)

    details = (state, write, *buttons, command)
    return TabView(details=details, fill=fill, update=update, write_on=(write.click,))


def _state(shown: Shown | None) -> str:
    if shown is None or shown.growing:
        return NONE_YET
    choice, frames = told_choice(shown.choice), _frames(len(shown))
    if shown.files:
        part = f", its first {frames}" if shown.broken_off else ""
        return f"Files of {shown.result.clip.name}, {choice}{part}."
    return (BROKEN_OFF if shown.broken_off else PENDING).format(choice=choice, frames=frames)


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"


def _command(shown: Shown) -> str:
    """The source of an upload is its name alone: where it lies at home is not known here."""
    return command_of(shown.record)


def _size(path: Path) -> str:
    """The size of a file, as a person reads it."""
    size = path.stat().st_size
    return f"{size / 2**20:.1f} MB" if size >= 2**20 / 10 else f"{max(1, round(size / 2**10))} kB"
