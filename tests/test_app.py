"""The options of ``app.py``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

_SPEC = spec_from_file_location("app", ROOT / "app.py")
assert _SPEC is not None
assert _SPEC.loader is not None
app = module_from_spec(_SPEC)
_SPEC.loader.exec_module(app)


def test_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    ran = subprocess.run(
        [sys.executable, "app.py", "--data", str(missing)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert ran.returncode == 2
    assert f"There is no folder {missing}" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(tmp_path.iterdir())


def test_data_folders_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STSEG_DATA", "a:b")
    assert app.parse([]).data == [Path("a"), Path("b")]
    assert app.parse(["--data", "c", "--data", "d"]).data == [Path("c"), Path("d")]
    monkeypatch.delenv("STSEG_DATA")
    assert app.parse([]).data == []


def test_limits_of_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STSEG_LIMITS", "frames=60,side=512")
    assert app.parse([]).limit == ["frames=60", "side=512"]
    assert app.parse(["--limit", "frames=9"]).limit == ["frames=9"]
    monkeypatch.delenv("STSEG_LIMITS")
    assert app.parse([]).limit == []


def test_unknown_option() -> None:
    with pytest.raises(SystemExit, match="2"):
        app.main(["--nonsense"])


@pytest.mark.parametrize("port", ["99999", "0", "-1"])
def test_a_port_that_cannot_be_is_one_sentence(port: str, caplog: pytest.LogCaptureFixture) -> None:
    assert app.main([f"--port={port}"]) == 2
    assert caplog.messages == [f"There is no port {port}. Choose one from 1 to 65535."]


@pytest.mark.parametrize("port", ["99999", "x", "-1", "²"])
def test_so_is_one_that_the_environment_names(
    port: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", port)
    assert app.main([]) == 2
    assert caplog.messages == [f"There is no port {port}. Choose one from 1 to 65535."]


def test_a_folder_without_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        app.main(["--data", ""])
    assert "--data: The name is empty. Give a name or a path." in capsys.readouterr().err


@dataclass(frozen=True)
class Run:
    """What the app did: its page's title, its exit status, its log, and where it wrote."""

    title: str
    status: int
    log: str
    here: list[Path]
    home: list[Path]
    left: list[Path]


def as_on_a_space(folder: Path) -> Run:
    """As on a Hugging Face Space: a folder that is not to be written, GRADIO_* variables alone."""
    here, home, temporary = (folder / name for name in ("here", "home", "tmp"))
    for each in (here, home, temporary):
        each.mkdir()
    here.chmod(0o555)
    home.chmod(0o555)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "STSEG_CACHE": str(folder / "cache"),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(temporary / "gradio"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.pop("STSEG_DATA", None)
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py")],
            cwd=here,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        while f"http://127.0.0.1:{port}" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/config", timeout=30) as answer:
            title = json.load(answer)["title"]
        # Until the example is segmented and its files are written.
        while not list(temporary.rglob("summary.json")):
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    finally:
        process.terminate()
        status = process.wait(timeout=60)
    return Run(
        title,
        status,
        log.read_text(),
        list(here.iterdir()),
        list(home.iterdir()),
        list(temporary.glob("stseg-*")),
    )


@pytest.mark.aside(work=as_on_a_space)
def test_it_writes_nowhere_but_to_temp_and_cache(aside: Run) -> None:
    assert aside.title.startswith("STSeg")
    assert aside.status == 0
    assert "Traceback" not in aside.log
    # Root may write there all the same, so that it is looked whether anything did.
    assert not [*aside.here, *aside.home]
    assert not aside.left
