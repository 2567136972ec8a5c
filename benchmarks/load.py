"""Many visitors at once: errors, mixed-up results, slow sliders, memory that does not come back.

    python -m benchmarks.load --visitors 20 --minutes 5

starts the app on this machine and visits it as pages do: each visitor chooses a clip and a K,
segments, moves the frame slider all the while, checks that clip, K and pictures are their own, and
some leave in the middle. Whoever left is replaced by somebody new until the time is over. The exit
status is 0 where nothing was wrong and the memory came back.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.visitor import Page, Refused, Visitor

ROOT = Path(__file__).resolve().parents[1]
CLIPS = ("crossing", "orbit", "pause")
FRAMES = 16
"""Frames that a visitor reads, so that each of many gets their turn."""

MEMORY = 200
"""MiB that the server may have grown by when all have left."""

SETTLE = 120.0
"""Seconds for the last work to end and the sessions to close."""


@dataclass
class Findings:
    """What the visitors saw; safe between threads."""

    requests: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    sliders: list[float] = field(default_factory=list)
    results: int = 0
    left: int = 0
    pictures: dict[tuple[str, int, int], str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, request: str) -> None:
        """One more of these requests."""
        with self.lock:
            self.requests[request] += 1

    def picture(self, key: tuple[str, int, int], pictures: Mapping[str, str]) -> None:
        """Compare the pictures of a clip, a K and a frame with those that others got of it."""
        told = hashlib.sha256(pictures["board"].encode()).hexdigest()
        with self.lock:
            if self.pictures.setdefault(key, told) != told:
                self.wrong.append(f"the picture of {key} is not the one that another visitor got")


class Memory(threading.Thread):
    """Resident memory of a process, looked at twice a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self.peak, self.now = pid, 0.0, 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        """Look until told to end, or the process has ended."""
        while not self.ended.wait(0.5):
            try:
                self.look()
            except OSError:
                return

    def look(self) -> float:
        """MiB now."""
        pages = int(Path(f"/proc/{self._pid}/statm").read_text(encoding="ascii").split()[1])
        self.now = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        self.peak = max(self.peak, self.now)
        return self.now


def visit(page: Page, findings: Findings, chance: random.Random, until: float) -> None:
    """One visitor after the other, until the time is over."""
    while time.monotonic() < until:
        try:
            visitor = Visitor(page)
        except httpx.HTTPError as error:
            with findings.lock:
                findings.errors.append(f"arriving: {error!r}")
            time.sleep(1)
            continue
        scrubbing = threading.Thread(
            target=_scrub, args=(visitor, findings, random.Random(chance.random()))
        )
        try:
            visitor.arrive()
            findings.count("arrive")
            scrubbing.start()
            for _ in range(chance.randint(1, 3)):
                if time.monotonic() >= until or visitor.left:
                    break
                _segment(visitor, findings, chance)
        except (Refused, httpx.HTTPError, RuntimeError) as error:
            if not visitor.left:
                with findings.lock:
                    findings.errors.append(repr(error))
                time.sleep(1)
        finally:
            visitor.close()
            if scrubbing.ident is not None:
                scrubbing.join()


def _segment(visitor: Visitor, findings: Findings, chance: random.Random) -> None:
    index, k = chance.randrange(len(CLIPS)), chance.randint(2, 8)
    said = {"K, number of segments": k, "Frames to read": FRAMES}
    visitor.last = 1  # a slider goes no further than its clip
    _call(visitor, findings, "pick", said, {"key": f"0-{index}"})
    _call(visitor, findings, "announce", said)
    leave_after = chance.randint(0, 3) if chance.random() < 0.25 else None
    answer = _call(visitor, findings, "segment_1", said, None, leave_after)
    if visitor.left:
        with findings.lock:
            findings.left += 1
        return
    status = re.sub(r"<[^>]*>", "", str(answer[0]))
    with findings.lock:
        findings.results += 1
        if f"{CLIPS[index]}: {FRAMES} frames" not in status or f"K = {k}." not in status:
            findings.wrong.append(f"{CLIPS[index]} with K = {k} was asked for, and told: {status}")
    visitor.last = FRAMES - 1
    for frame in (0, FRAMES // 2, FRAMES - 1):
        findings.picture((CLIPS[index], k, frame), visitor.move(frame))


def _call(visitor: Visitor, findings: Findings, event: str, *rest: Any) -> Any:
    findings.count(event)
    return visitor.call(event, *rest)


def _scrub(visitor: Visitor, findings: Findings, chance: random.Random) -> None:
    """Move the frame slider until the visitor has left."""
    while not visitor.left:
        begun = time.perf_counter()
        try:
            visitor.move(chance.randint(0, visitor.last))
        except (Refused, httpx.HTTPError, RuntimeError) as error:
            if not visitor.left:
                with findings.lock:
                    findings.errors.append(f"slider: {error!r}")
                time.sleep(1)
            continue
        with findings.lock:
            findings.requests["look"] += 1
            findings.sliders.append(time.perf_counter() - begun)
        time.sleep(chance.uniform(0.5, 2.0))


def start(folder: Path) -> tuple[subprocess.Popen[bytes], str, Path]:
    """The app in a process of its own, with its example finished; its address and its log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "tmp").mkdir()
    own = {"TMPDIR": str(folder / "tmp"), "STSEG_CACHE": str(folder / "cache")}
    log = folder / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "app.py", "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, **own},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    address, begun = f"http://127.0.0.1:{port}/", time.monotonic()
    while process.poll() is None and time.monotonic() - begun < 600:
        told = log.read_text(encoding="utf-8")
        if "what=example" in told and "Open http" in told:
            return process, address, log
        time.sleep(0.2)
    process.kill()
    sys.exit(f"The app did not start:\n{log.read_text(encoding='utf-8')}")


def settle(address: str) -> dict[str, Any]:
    """Wait until nobody is there and nothing runs; the last answer of /healthz."""
    begun = time.monotonic()
    while True:
        health: dict[str, Any] = httpx.get(f"{address}healthz", timeout=30).json()
        idle = not health["visitors"] and not health["queue"] and health["busy_seconds"] is None
        if idle or time.monotonic() - begun > SETTLE:
            return health
        time.sleep(0.5)


def report(findings: Findings, memory: tuple[float, float, float], health: dict[str, Any]) -> int:
    """Print what was found; the exit status."""
    before, peak, after = memory
    print(f"requests: {sum(findings.requests.values())} {dict(findings.requests)}")
    print(f"results: {findings.results} whole, {findings.left} visitors left in the middle")
    print(f"errors: {len(findings.errors)}", *findings.errors[:5], sep="\n  ")
    print(f"wrong results: {len(findings.wrong)}", *findings.wrong[:5], sep="\n  ")
    if findings.sliders:
        middle, slow = np.percentile(findings.sliders, (50, 95))
        print(f"slider: p50 {1000 * middle:.0f} ms, p95 {1000 * slow:.0f} ms")
    print(f"memory: {before:.0f} MiB at the start, {peak:.0f} at its peak, {after:.0f} at the end")
    print(f"left behind: {health['visitors']} visitors, {health['queue']} in the queue")
    clean = not findings.errors and not findings.wrong and not health["visitors"]
    return 0 if clean and findings.results and after - before <= MEMORY else 1


def main() -> int:
    """Start, visit, leave, report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--visitors", type=int, default=20, help="at the same time, at most 50")
    parser.add_argument("--minutes", type=float, default=5, help="of visits, at most 30")
    parser.add_argument("--seed", type=int, default=0, help="of what the visitors do")
    arguments = parser.parse_args()
    if not (1 <= arguments.visitors <= 50 and 0 < arguments.minutes <= 30):
        parser.error("at most 50 visitors for at most 30 minutes")
    with tempfile.TemporaryDirectory(prefix="stseg-load-") as name:
        process, address, log = start(Path(name))
        memory = Memory(process.pid)
        try:
            page, findings = Page.of(address), Findings()
            before = memory.look()
            memory.start()
            until = time.monotonic() + 60 * arguments.minutes
            visits = [
                threading.Thread(
                    target=visit,
                    args=(page, findings, random.Random(f"{arguments.seed}-{number}"), until),
                )
                for number in range(arguments.visitors)
            ]
            for thread in visits:
                thread.start()
            for thread in visits:
                thread.join()
            health = settle(address)
            status = report(findings, (before, memory.peak, memory.look()), health)
            trouble = [line for line in log.read_text("utf-8").splitlines() if "trace=" in line]
            print(f"traces in the log: {len(trouble)}", *trouble[:2], sep="\n  ")
            return status or bool(trouble)
        finally:
            memory.ended.set()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    sys.exit(main())
