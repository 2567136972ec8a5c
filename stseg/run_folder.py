"""The folder of a training run: its state, from which it is resumed, and its loss curve."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from stseg.errors import InputError
from stseg.files import write_atomically
from stseg.loss_chart import CURVES, Curve, loss_chart
from stseg.tensor_files import read_tensors, write_tensors

COLUMNS = ("step", "loss", "reconstruction", "consistency", "validation", "seconds")
"""Of ``losses.csv``; the rows of a state have them in this order."""

VALIDATION = COLUMNS.index("validation")

_OTHERS = {
    "settings": "with other settings",
    "data": "on other data",
    "start": "that began with other weights",
    "teacher": "that imitates another network, or none",
}
"""What tells a run from others, and what is said where it differs."""


@dataclass(frozen=True)
class RunState:
    """A run after a whole step.

    Attributes:
        step: steps done.
        best: number of the stage and validation loss of the best checkpoint, if there is one.
        rows: a row of ``COLUMNS`` for each step; the validation loss is None where none was due.
        network: weights of the network by name.
        adam: what the optimiser keeps for each parameter, by the parameter's number.
        generator: state of the random generator.
    """

    step: int
    best: tuple[int, float] | None
    rows: list[list[Any]]
    network: Mapping[str, Tensor]
    adam: Mapping[int, Mapping[str, Tensor]]
    generator: Tensor


class RunFolder:
    """Reads and writes ``state.safetensors``, ``losses.csv`` and ``losses.png``.

    Args:
        folder: where the run lives; it may not be there yet.
        identity: "settings", "data", "start" and "teacher" of the run, as JSON values: another run
            is not resumed.
        plain: settings by default, which a state takes for what its version did not know yet.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], plain: Mapping[str, Any] | None = None
    ) -> None:
        self._folder = folder
        self._identity = dict(identity)
        self._plain = plain

    @property
    def best_file(self) -> Path:
        """Where the best checkpoint goes."""
        return self._folder / "best.safetensors"

    @property
    def _state_file(self) -> Path:
        return self._folder / "state.safetensors"

    @property
    def begun(self) -> bool:
        """Whether there is a state."""
        return self._state_file.exists()

    def read(self) -> RunState:
        """The state that was saved last.

        Raises:
            InputError: it cannot be read, or is that of another run.
        """
        tensors, header = read_tensors(self._state_file)
        # A state of an older version says its settings only, and there were no teachers.
        found = {**self._identity, "settings": None, "teacher": None, **header}
        found["settings"] = _completed(found["settings"], self._plain)
        for name, what in _OTHERS.items():
            if found[name] != self._identity[name]:
                raise InputError(
                    f"{self._folder} holds a run {what}. Choose another folder, or delete this one "
                    "to start again."
                )
        network: dict[str, Tensor] = {}
        adam: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "network":
                network[rest] = tensor
            elif kind == "adam":
                index, _, part = rest.partition(".")
                adam.setdefault(int(index), {})[part] = tensor
        best = None if header["best"] is None else (header["best"][0], header["best"][1])
        return RunState(header["step"], best, header["rows"], network, adam, tensors["generator"])

    def write(self, state: RunState, steps: int) -> None:
        """Write the state and the loss curve; each file is whole or not there.

        Args:
            state: after a whole step.
            steps: of the whole run.

        Raises:
            InputError: a file cannot be written.
        """
        tensors = {f"network.{name}": tensor for name, tensor in state.network.items()}
        for index, values in state.adam.items():
            tensors |= {f"adam.{index}.{name}": tensor for name, tensor in values.items()}
        tensors["generator"] = state.generator
        header = {**self._identity, "step": state.step, "best": state.best, "rows": state.rows}
        write_tensors(self._state_file, tensors, header)
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        writer.writerows(state.rows)
        write_atomically(self._folder / "losses.csv", text.getvalue().encode())
        title = f"{state.step} of {steps} steps"
        write_atomically(self._folder / "losses.png", _chart(state.rows, title))


def _completed(found: Any, plain: Any) -> Any:
    """What a state says, and what it leaves out as it is by default."""
    if not isinstance(found, Mapping) or not isinstance(plain, Mapping):
        return found
    said = {name: _completed(value, plain.get(name)) for name, value in found.items()}
    return {**plain, **said}


def _chart(rows: Sequence[Sequence[Any]], title: str) -> bytes:
    steps = [row[0] for row in rows]
    known = [row for row in rows if row[VALIDATION] is not None]
    curves = [
        Curve(name, steps, [row[column] for row in rows], colour)
        for column, (name, colour) in enumerate(CURVES.items(), start=1)
    ]
    validated, losses = [row[0] for row in known], [row[VALIDATION] for row in known]
    held_out = Curve("L, held out", validated, losses, "#009e73", True)
    return loss_chart([*curves, held_out], title)
