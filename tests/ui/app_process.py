"""The app as a process of its own, and a page of it: what the tests of the screen share."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Page

from stseg.device import choose_device

ROOT = Path(__file__).resolve().parents[2]

# Without bfloat16 the network takes several times as long, on the cores that the browser shares;
# and with two processes of tests, as in CI, each has one core.
_ALONE = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1") == "1"
_QUICK = "1" if _ALONE and choose_device().bfloat16 else "2"
PATIENCE = float(os.environ.get("STSEG_PATIENCE", _QUICK))
"""How many times longer to wait than on a machine that does nothing else."""


@dataclass
class Served:
    """A running app: where it listens and writes, the processor time of its start, its process."""

    address: str
    temporary: Path
    seconds: float
    log: Path
    pid: int


@dataclass
class Visit:
    """An open page, and what it complained about or asked of the network."""

    page: Page
    address: str
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def open(self, query: str = "") -> None:
        """Open the page and wait for its example."""
        self.page.set_default_timeout(10_000 * PATIENCE)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._request(request.url))
        self.page.goto(self.address + query)
        self.page.wait_for_selector(
            "#board figure[data-name=overlay] img", timeout=60_000 * PATIENCE
        )
        # Gradio hands one component after the other what an event brought.
        self.page.wait_for_selector("#frame input[type=range]:not([disabled])")
        for _ in range(3):
            self.page.evaluate("() => new Promise(requestAnimationFrame)")

    def status(self) -> str:
        return self.page.inner_text("#status")

    def wait_status(self, part: str, seconds: float) -> None:
        self.page.wait_for_function(
            "part => document.querySelector('#status').innerText.includes(part)",
            arg=part,
            timeout=1000 * seconds * PATIENCE,
        )

    def picture(self, name: str) -> str:
        source = self.page.get_attribute(f"#board figure[data-name={name}] img", "src")
        assert source is not None
        return source

    def enlarges(self, where: str) -> bool:
        """Whether a click makes a figure larger, and a second one as it was. Leaves it so."""
        figure = self.page.locator(where)
        widths = [figure.evaluate("figure => figure.getBoundingClientRect().width")]
        for _ in range(2):
            figure.click()
            widths.append(figure.evaluate("figure => figure.getBoundingClientRect().width"))
        first, large, last = widths
        return bool(large > 1.8 * first and last == first)

    def pick(self, name: str) -> None:
        """Choose a clip in the gallery; wait until the page has turned to it."""
        self.page.click(f"#clips button:has-text('{name}')")
        self.page.wait_for_selector(f"#clips button[aria-pressed=true]:has-text('{name}')")
        self.wait_status(name, 10)

    def read_only(self, frames: int) -> None:
        """Read no more than so many frames, so that the test is quick."""
        field_ = self.page.get_by_label("Frames to read")
        if not field_.is_visible():
            self.page.click("#advanced button")
        field_.fill(str(frames))
        field_.blur()

    def _console(self, message: object) -> None:
        if getattr(message, "type", "") == "error":
            self.errors.append(getattr(message, "text", ""))

    def _request(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.outside.append(url)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(arguments: list[str], temporary: Path) -> tuple[subprocess.Popen[bytes], Served]:
    """Start ``app.py`` and wait for its address."""
    environment = {key: value for key, value in os.environ.items() if key != "STSEG_DATA"}
    environment |= {"TMPDIR": str(temporary), "GRADIO_TEMP_DIR": str(temporary / "gradio")}
    port, log = free_port(), temporary / "log.txt"
    begun = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port), *arguments],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    while f":{port}" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() - begun < 60 * PATIENCE, "the app does not start"
        time.sleep(0.1)
    seconds = processor_seconds(process.pid)
    return process, Served(f"http://127.0.0.1:{port}/", temporary, seconds, log, process.pid)


def processor_seconds(pid: int) -> float:
    """What a process has computed so far, whatever else the machine does and has in its cache."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def end(process: subprocess.Popen[bytes]) -> int:
    """Ask the app politely to end; its exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=20)
