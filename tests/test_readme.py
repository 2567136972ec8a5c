"""The README's commands, as written, by somebody who copies them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.strip().splitlines()
]
COMMANDS = [line for line in SHELL if line.startswith("python -m stseg ")]
START = "pip install -r requirements.txt && python app.py"
TEST = "pip install -r requirements-dev.txt && python -m pytest"


def copy(folder: Path) -> Path:
    """Copy what a clone holds, so that results do not end up in this one."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def with_bin(folder: Path) -> dict[str, str]:
    """Variables under which ``python`` and ``pip`` are those of an environment."""
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def run(words: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        words,
        cwd=folder,
        env=with_bin(Path(sys.executable).parent),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words[-1]}\n{done.stderr}"


def follow(folder: Path) -> Path:
    """Run the README's commands and its Python; the folder of the results."""
    copy(folder)
    for command in COMMANDS:
        run(["bash", "-ec", command], folder)
    code, _ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    run(
        [sys.executable, "-c", f"{code}\nimport numpy\nnumpy.save('results/labels', labels)"],
        folder,
    )
    return folder / "results"


@dataclass(frozen=True)
class Installation:
    """What installs, as the README has it; its ``bin``, and how it went."""

    command: str
    bin: Path
    went: subprocess.CompletedProcess[str]


def install(folder: Path) -> Installation:
    """Install the user's packages from nothing, in a new environment."""
    command = START.partition(" && ")[0]
    new = folder / "new"
    went = subprocess.run(
        ["bash", "-ec", f'"$0" -m venv "$1" && {command}', sys.executable, str(new)],
        cwd=ROOT,
        env=with_bin(new / "bin"),
        capture_output=True,
        text=True,
        check=False,
    )
    return Installation(command, new / "bin", went)


def test_the_two_commands_are_there() -> None:
    assert START in SHELL
    assert TEST in SHELL


def test_each_command_is_shown() -> None:
    assert {line.split()[3] for line in COMMANDS} == {
        "segment",
        "flow",
        "clips",
        "train",
        "fit",
        "evaluate",
        "ablate",
    }


@pytest.mark.aside(work=follow)
def test_the_command_line_works_as_written(aside: Path) -> None:
    summary = json.loads((aside / "crossing" / "summary.json").read_text())
    assert summary["clip"]["frames"] == 24
    with np.load(aside / "orbit" / "labels.npz") as data:
        assert data["labels"].shape == (12, 270, 480)
        assert data["labels"].max() < 5
    assert (aside / "run" / "best.safetensors").is_file()
    one, same = (np.load(aside / name / "labels.npz")["labels"] for name in ("pause", "again"))
    np.testing.assert_array_equal(one, same)
    scores = json.loads((aside / "scores.json").read_text())
    assert set(scores["sequences"]) == {"pause"}


@pytest.mark.aside(work=follow)
def test_the_python_example_works_as_written(aside: Path) -> None:
    labels = np.load(aside / "labels.npy")
    assert labels.shape == (270, 480)
    assert labels.dtype == np.uint8


def test_every_file_that_the_readme_names_is_there() -> None:
    for name in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`(stseg/[\w/.]+)`", README):
        assert (ROOT / name).exists(), name


@pytest.mark.alone
@pytest.mark.aside(work=install)
def test_the_app_starts_by_its_command_in_a_new_environment(
    aside: Installation, tmp_path: Path
) -> None:
    """Install from nothing, start, and get the page: within 15 s of the installation."""
    assert aside.went.returncode == 0, aside.went.stdout + aside.went.stderr
    start = START.removeprefix(f"{aside.command} && ")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**with_bin(aside.bin), "GRADIO_SERVER_PORT": str(port)}
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    copy(checkout)
    log = tmp_path / "log"
    began = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-ec", f"exec {start}"],
            cwd=checkout,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        page = None
        while page is None and time.monotonic() - began < 120:
            assert process.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    page = answer.read().decode()
            except OSError:
                time.sleep(0.2)
        seconds = time.monotonic() - began
        assert page is not None
        assert "STSeg" in page
        assert seconds < 15
        # The server answers a moment before launch() returns and the address is logged.
        while f":{port}" not in log.read_text():
            assert time.monotonic() - began < 15, "no address in the log"
            time.sleep(0.05)
    finally:
        process.terminate()
        process.wait(timeout=20)
