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
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from new_environment import Installation

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.strip().splitlines()
]
START = "pip install -r requirements.txt && python app.py"
TEST = "pip install -r requirements-dev.txt && python -m pytest"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a clone holds, so that results do not end up in this one."""
    folder = tmp_path_factory.mktemp("checkout")
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


def shell(command: str, folder: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    bin_folder = path or Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-ec", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def run_in_order(commands: Sequence[str], folder: Path) -> None:
    """Run the commands two at a time, each after those whose results it names."""
    made: dict[str, Future[None]] = {}

    def run(command: str, needed: Sequence[Future[None]]) -> None:
        for each in needed:  # they began earlier, so that nobody waits in a circle
            each.result()
        done = shell(command, folder)
        assert done.returncode == 0, f"{command}\n{done.stderr}"

    with ThreadPoolExecutor(2) as lanes:
        running = []
        for command in commands:
            needed = [each for path, each in made.items() if re.search(rf"{path}\b", command)]
            running.append(lanes.submit(run, command, needed))
            if out := re.search(r"--out (\S+)", command):
                made[out[1]] = running[-1]
        for each in running:
            each.result()


def test_the_two_commands_are_there() -> None:
    assert START in SHELL
    assert TEST in SHELL


def test_the_command_line_works_as_written(checkout: Path) -> None:
    commands = [line for line in SHELL if line.startswith("python -m stseg ")]
    assert {line.split()[3] for line in commands} == {
        "segment",
        "flow",
        "clips",
        "train",
        "fit",
        "evaluate",
        "ablate",
    }
    run_in_order(commands, checkout)
    results = checkout / "results"
    summary = json.loads((results / "crossing" / "summary.json").read_text())
    assert summary["clip"]["frames"] == 24
    with np.load(results / "orbit" / "labels.npz") as data:
        assert data["labels"].shape == (12, 270, 480)
        assert data["labels"].max() < 5
    assert (results / "run" / "best.safetensors").is_file()
    one, same = (np.load(results / name / "labels.npz")["labels"] for name in ("pause", "again"))
    np.testing.assert_array_equal(one, same)
    scores = json.loads((results / "scores.json").read_text())
    assert set(scores["sequences"]) == {"pause"}


def test_the_python_example_works_as_written(checkout: Path) -> None:
    code, _ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    check = "\nassert labels.shape == (270, 480) and labels.dtype == 'uint8'\n"
    done = subprocess.run(
        [sys.executable, "-c", code + check],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_file_that_the_readme_names_is_there() -> None:
    for name in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`(stseg/[\w/.]+)`", README):
        assert (ROOT / name).exists(), name


@pytest.mark.slow
def test_the_app_starts_by_its_command_in_a_new_environment(
    checkout: Path, installation: Installation, tmp_path: Path
) -> None:
    """Install from nothing, start, and get the page: within 15 s of the installation."""
    assert f"{installation.command} && python app.py" == START
    assert installation.process.wait() == 0, installation.log.read_text()
    start = START.removeprefix(f"{installation.command} && ")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PATH": f"{installation.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "GRADIO_SERVER_PORT": str(port),
    }
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
