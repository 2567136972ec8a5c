"""The user's packages in an environment of their own, installed while other tests run."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Installation:
    """An installation on its way.

    Attributes:
        folder: of the environment.
        command: what installs, as the README has it.
        process: which runs it.
        log: what it says.
    """

    folder: Path
    command: str
    process: subprocess.Popen[bytes]
    log: Path


def install(folder: Path) -> Installation:
    """Begin to install from nothing, in a new environment in ``folder``."""
    command = "pip install -r requirements.txt"
    new, log = folder / "new", folder / "log.txt"
    path = f"{new / 'bin'}{os.pathsep}{os.environ['PATH']}"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-ec", f'"$0" -m venv "$1" && {command}', sys.executable, str(new)],
            cwd=ROOT,
            env={**os.environ, "PATH": path},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    return Installation(new, command, process, log)
