"""/healthz, and what the log of a running app tells."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import urllib.request
from pathlib import Path

import pytest
from app_process import Served
from gradio_client import Client, handle_file

from stseg.records import Clip


def health(served: Served) -> dict[str, object]:
    with urllib.request.urlopen(f"{served.address}healthz", timeout=60) as answer:
        assert answer.headers["content-type"] == "application/json"
        told: dict[str, object] = json.load(answer)
        return told


def cpu_seconds(pid: int) -> float:
    """What the process has computed so far; its name, in brackets, may hold anything."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_an_app_that_nobody_uses_hardly_computes(served: Served) -> None:
    while health(served)["busy_seconds"] is not None:  # its example
        time.sleep(0.5)
    shares = []
    for _ in range(3):  # pages that tests before this left are still being put away
        begun, before = time.monotonic(), cpu_seconds(served.pid)
        time.sleep(3)
        shares.append((cpu_seconds(served.pid) - before) / (time.monotonic() - begun))
    assert min(shares) < 0.04  # Gradio's own: 0.08 to 0.1


def test_health(served: Served) -> None:
    told = health(served)
    assert told["status"] == "ok"
    assert set(told) == {
        *("status", "version", "device", "queue", "busy_seconds", "visitors"),
        *("uptime_seconds", "memory_mib"),
    }
    later = health(served)
    assert isinstance(later["uptime_seconds"], float)
    assert later["uptime_seconds"] >= float(str(told["uptime_seconds"]))


@pytest.mark.filterwarnings("ignore")
def test_the_log_tells_the_work_but_no_name(served: Served, clip: Clip, tmp_path: Path) -> None:
    mine, empty = tmp_path / "Annas-birthday.mp4", tmp_path / "Annas-diary.mp4"
    shutil.copy(clip.source, mine)
    empty.write_bytes(b"nothing")
    client = Client(served.address, verbose=False, download_files=False)
    client.predict(video=handle_file(mine), max_frames=3, api_name="/segment")
    with pytest.raises(Exception, match="diary"):  # the client itself is told the name
        client.predict(video=handle_file(empty), api_name="/segment")
    log = served.log.read_text(encoding="utf-8")
    assert "Annas" not in log
    done = [line for line in log.splitlines() if "what=/segment" in line]
    assert re.search(r"outcome=done waited_seconds=\S+ seconds=\S+ memory_mib=\d+$", done[-2])
    assert "outcome=refused" in done[-1]
