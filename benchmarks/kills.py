"""kill -9 at random moments: nothing half-written is taken for whole, and the next start works.

    python -m benchmarks.kills --count 50 --seed 0

Train, fit, segment, evaluate, weights and cache, tiny ones, each in a forked process, so that a
kill costs no start of Python. Every second kill comes by the clock, the others at a random file
operation (open to write, rename, remove). After each: every file under its final name is read to
its end; the same work is done again, must succeed, and must give what an undisturbed run gives;
and what the kill left unfinished is swept away once it is old.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import torch

import stseg.adaptation
import stseg.evaluation
import stseg.export
import stseg.loss_chart  # noqa: F401 - warm before the forks
from benchmarks.workloads import Work, broken, prepare, unfinished, works

OLD = 2 * 3600
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")


class Counter:
    """Counts what changes files in this process, and ends it at a chosen one."""

    def __init__(self, last: int | None = None) -> None:
        self.count, self._last = 0, last
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE
        if writes or event in CHANGES:
            self.count += 1
            if self.count == self._last:
                os.kill(os.getpid(), signal.SIGKILL)


def forked(task: Callable[[], None], log: Path) -> int:
    """Begin ``task`` in a forked process; its number. It ends with status 0 where that succeeds."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        with log.open("a") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            try:
                task()
                status = 0
            except BaseException:  # noqa: BLE001 - the parent reads it in the log
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(status)


def ended(child: int, patience: float = 300) -> int:
    """Wait for a process; its exit status, negative for a signal."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise TimeoutError("the work does not end")


def alone(work: Work, folder: Path, count: Path, last: int | None = None) -> Callable[[], None]:
    """The work as a forked process does it; it tells how many file operations it made."""

    def task() -> None:
        os.environ["STSEG_CACHE"] = str(folder / "cache")
        tempfile.tempdir = str(folder.parent)
        torch.set_num_threads(1)
        counter = Counter(last)
        work.run(folder)
        made = counter.count
        count.write_text(str(made), encoding="ascii")

    return task


def age(folder: Path) -> None:
    """Make what lies unfinished old enough to be swept away."""
    for path in unfinished(folder):
        with contextlib.suppress(FileNotFoundError):
            os.utime(path, (time.time() - OLD,) * 2)


class Trial:
    """Kills of one kind of work.

    Args:
        name: of the kind.
        work: see ``benchmarks.workloads``.
        room: folder for what it writes.
    """

    def __init__(self, name: str, work: Work, room: Path) -> None:
        self.name, self._work, self._room = name, work, room
        self._log, self._count = room / f"{name}.log", room / f"{name}.count"
        whole = room / f"{name}-whole"
        whole.mkdir()
        begun = time.monotonic()
        if ended(forked(alone(work, whole, self._count), self._log)):
            raise RuntimeError(f"{name} fails undisturbed:\n{self._log.read_text()}")
        self._seconds = time.monotonic() - begun
        self._operations = int(self._count.read_text(encoding="ascii"))
        self._expected = work.results(whole)
        self.killed = 0

    def kill(self, number: int, chance: random.Random) -> list[str]:
        """One kill and what comes after it: what was wrong, empty where all is well."""
        folder = self._room / f"{self.name}-{number}"
        folder.mkdir()
        by_clock = number % 2 == 0
        last = None if by_clock else chance.randint(1, max(1, self._operations))
        child = forked(alone(self._work, folder, self._count, last), self._log)
        if by_clock:
            time.sleep(chance.uniform(0, self._seconds))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.killed += ended(child) == -signal.SIGKILL
        wrong = broken(folder)
        age(folder)
        if ended(forked(alone(self._work, folder, self._count), self._log)):
            wrong.append(f"the next start fails:\n{self._log.read_text()[-2000:]}")
        else:
            wrong += broken(folder)
            if self._work.results(folder) != self._expected:
                wrong.append("the next start gives something else than an undisturbed run")
            wrong += [f"{path.name} is never swept away" for path in unfinished(folder)]
        shutil.rmtree(folder)
        return [f"{self.name}, kill {number}: {each}" for each in wrong]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A process that serves a folder on this machine only; the address of the weights."""
    code = "import sys; from benchmarks.kills import serve; serve(sys.argv[1])"  # no thread here
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/weights.pth"
    finally:
        process.kill()
        process.wait()


def serve(folder: str) -> None:
    """Serve ``folder`` and print the port."""

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=folder)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def kills(count: int, seed: int, names: list[str] | None = None) -> tuple[int, list[str]]:
    """So many kills, in turn over the kinds of work; how many fell, and what was wrong."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    assert threading.active_count() == 1, "a fork would lose the other threads"
    chance, wrong = random.Random(seed), []
    with tempfile.TemporaryDirectory(prefix="stseg-kills-") as name:
        room = Path(name)
        data = room / "data"
        data.mkdir()
        if ended(forked(lambda: prepare(data), room / "prepare.log")):
            raise RuntimeError((room / "prepare.log").read_text(encoding="utf-8"))
        with serving(data) as server:
            all_works = works(data, server)
            trials = [Trial(each, all_works[each], room) for each in names or all_works]
            for number in range(count):
                found = trials[number % len(trials)].kill(number // len(trials), chance)
                print(f"{number + 1} of {count}", *found, sep="\n", flush=True)
                wrong += found
    for trial in trials:
        print(f"{trial.name}: {trial.killed} killed", flush=True)
    return sum(trial.killed for trial in trials), wrong


def main() -> int:
    """Kill, look, report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], allow_abbrev=False)
    parser.add_argument("--count", type=int, default=54, help="kills in all, at most 2000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=None, help="kinds of work, such as train")
    arguments = parser.parse_args()
    begun = time.monotonic()
    killed, wrong = kills(min(arguments.count, 2000), arguments.seed, arguments.only)
    print(f"{arguments.count} runs, {killed} killed before their end, {len(wrong)} not survived")
    print(f"{time.monotonic() - begun:.0f} s", *wrong[:10], sep="\n")
    return bool(wrong) or killed < arguments.count / 2


if __name__ == "__main__":
    sys.exit(main())
