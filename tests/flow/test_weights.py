"""Weights: fetched from a local server, checked, and read without executing anything."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from stseg.cli import main
from stseg.errors import InputError
from stseg.flow import FlowSettings, available_estimators, estimator
from stseg.flow.raft import LARGE, SMALL, Raft, RaftNetwork, RaftSize
from stseg.flow.weights import (
    PUBLISHED,
    Published,
    fetch_weights,
    load_raft_weights,
    weights_path,
)

CONTENT = b"weights " * 1000


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STSEG_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Address of a local server, and the files that it has."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = files.get(self.path)
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Length", str(len(data or b"") + self.path.count("short")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *words: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", files
    running.shutdown()
    running.server_close()


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, server: tuple[str, dict[str, bytes]]) -> str:
    """``raft-test``, published at the local server as a member of an archive."""
    address, files = server
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("models/raft-test.pth", CONTENT)
    files["/models.zip"] = archive.getvalue()
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    entry = Published(f"{address}/models.zip", sha256, "models/raft-test.pth", "test")
    monkeypatch.setitem(PUBLISHED, "raft-test", entry)
    return address


def test_fetch_checks_and_stores(published: str) -> None:
    told: list[tuple[int, int]] = []
    path = fetch_weights("raft-test", report=lambda done, total: told.append((done, total)))
    assert path == weights_path("raft-test")
    assert path.read_bytes() == CONTENT
    assert told[-1][0] == told[-1][1] > 0
    assert os.listdir(path.parent) == ["raft-test.pth"]


def test_a_local_file_is_taken_too(published: str, tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(CONTENT)
    assert fetch_weights("raft-test", tmp_path / "mine.pth").read_bytes() == CONTENT


def test_what_is_there_already_needs_no_network(published: str, tmp_path: Path) -> None:
    weights_path("raft-test").parent.mkdir(parents=True)
    weights_path("raft-test").write_bytes(CONTENT)  # put there by other means
    entry = replace(PUBLISHED["raft-test"], url="http://127.0.0.1:9/none")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PUBLISHED, "raft-test", entry)
        assert fetch_weights("raft-test") == weights_path("raft-test")
        weights_path("raft-test").write_bytes(CONTENT[:-1])
        with pytest.raises(InputError, match="cannot be reached"):
            fetch_weights("raft-test")


def test_a_damaged_archive_is_named(published: str, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("models/raft-test.pth", CONTENT)
    data = bytearray(archive.getvalue())
    data[60] ^= 255
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"bad\.zip is a damaged archive"):
        fetch_weights("raft-test", str(tmp_path / "bad.zip"))


def test_raft_small_is_not_made_of_other_weights(shared: Path) -> None:
    settings = FlowSettings("raft-small", str(shared / "weights" / "raft-sintel.pth"))
    with pytest.raises(InputError, match="has weights of RAFT large"):
        estimator(settings)


def test_another_file_is_refused(published: str, tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(CONTENT + b"!")
    with pytest.raises(InputError, match="are not those that were published: their sha-256"):
        fetch_weights("raft-test", tmp_path / "mine.pth")
    with pytest.raises(InputError, match=r"give the file itself to .*: --weights FILE"):
        fetch_weights("raft-test", tmp_path / "mine.pth")
    with pytest.raises(InputError, match=r"absent\.pth cannot be read: .* leave --source out"):
        fetch_weights("raft-test", tmp_path / "absent.pth")
    assert not weights_path("raft-test").exists()


def test_no_network_names_the_address_and_the_folder(
    published: str, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "http://127.0.0.1:9/models.zip"  # nobody listens there
    assert main(["weights", "raft-test", "--source", address]) == 2
    told = capsys.readouterr().err
    assert address in told
    assert str(weights_path("raft-test")) in told
    assert "Traceback" not in told


def test_an_address_that_is_none_is_named(
    published: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "raft-test", "--source", "http://bad host/x"]) == 2
    assert "http://bad host/x cannot be reached (URL can't contain" in capsys.readouterr().err


def test_an_answer_that_is_cut_is_refused(
    published: str, server: tuple[str, dict[str, bytes]]
) -> None:
    server[1]["/short"] = CONTENT
    with pytest.raises(InputError, match=r"cannot be reached|sent 8000 of 8001 bytes"):
        fetch_weights("raft-test", f"{server[0]}/short")


def test_the_command_fetches(published: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "raft-test"]) == 0
    assert str(weights_path("raft-test")) in capsys.readouterr().out
    assert main(["weights", "nobody"]) == 2


def test_raft_is_a_short_name(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shared / "weights" / "raft-sintel.pth"
    assert main(["weights", "raft", "--source", str(path)]) == 0
    assert weights_path("raft") == weights_path("raft-sintel")
    assert weights_path("raft-sintel").read_bytes() == path.read_bytes()
    assert str(weights_path("raft-sintel")) in capsys.readouterr().out
    assert "raft" not in available_estimators()  # one line in the app, not two


def test_an_estimator_without_its_weights_is_not_offered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert available_estimators() == ["dis", "dis-plain"]


def test_the_published_hash_is_that_of_the_file(shared: Path) -> None:
    path = fetch_weights("raft-sintel", shared / "weights" / "raft-sintel.pth")
    assert path.read_bytes() == (shared / "weights" / "raft-sintel.pth").read_bytes()
    assert "raft-sintel" in available_estimators()


class Trap:
    """Unpickling this would make a file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("trapped",))


def test_code_in_a_weight_file_is_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"fnet.conv1.weight": Trap()}, tmp_path / "trap.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Trap()))
    for name in ("trap.pth", "plain.pth"):
        with pytest.raises(InputError, match="damaged, or holds more than tensors"):
            load_raft_weights(tmp_path / name)
    assert not (tmp_path / "trapped").exists()


def test_unusable_weights_are_named(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="another architecture than RAFT"):
        load_raft_weights(tmp_path / "other.pth")
    whole = (tmp_path / "other.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_raft_weights(tmp_path / "cut.pth")
    # A file of PyTorch's earlier format, which cannot tell that a part of it is missing.
    torch.save(
        {"layer.weight": torch.zeros(3)}, tmp_path / "a", _use_new_zipfile_serialization=False
    )
    old = (tmp_path / "a").read_bytes()
    for cut in range(1, len(old), 3):
        (tmp_path / "cut.pth").write_bytes(old[:cut] + old[cut + 1 :])
        with pytest.raises(InputError):
            load_raft_weights(tmp_path / "cut.pth")
    torch.save({0: torch.zeros(3)}, tmp_path / "numbers.pth")
    with pytest.raises(InputError, match="no table of tensors"):
        load_raft_weights(tmp_path / "numbers.pth")
    torch.save({"fnet.conv1.weight": torch.tensor(1.0)}, tmp_path / "flat.pth")
    with pytest.raises(InputError, match="do not fit RAFT"):
        Raft(tmp_path / "flat.pth")
    with pytest.raises(InputError, match="There is no weight file"):
        load_raft_weights(tmp_path / "absent.pth")


def torchvision_name(name: str, size: RaftSize) -> str | None:
    """How torchvision calls a weight of the authors, written down from its module tree."""
    if ".norm3." in name and not size.small and ".norm3.0" not in name:
        return None  # torchvision names the norm of a downsampling once
    name = name.replace("fnet.", "feature_encoder.").replace("cnet.", "context_encoder.")
    for encoder in ("feature_encoder", "context_encoder"):
        if name.startswith(f"{encoder}.conv1."):
            return name.replace(f"{encoder}.conv1", f"{encoder}.convnormrelu.0")
        if name.startswith(f"{encoder}.norm1."):
            return name.replace(f"{encoder}.norm1", f"{encoder}.convnormrelu.1")
        if name.startswith(f"{encoder}.conv2."):
            return name.replace(f"{encoder}.conv2", f"{encoder}.conv")
    if "_encoder.layer" in name and ".downsample." not in name:
        for digit in "123":
            name = name.replace(f".conv{digit}.", f".convnormrelu{digit}.0.")
            name = name.replace(f".norm{digit}.", f".convnormrelu{digit}.1.")
        return name
    if name.startswith("update_block.encoder."):
        name = name.replace("update_block.encoder.", "update_block.motion_encoder.")
        for short, long in (("convc", "convcorr"), ("convf", "convflow")):
            for digit in "12":
                name = name.replace(f".{short}{digit}.", f".{long}{digit}.0.")
        return name.replace("motion_encoder.conv.", "motion_encoder.conv.0.")
    if name.startswith("update_block.gru.conv"):
        gate = name.removeprefix("update_block.gru.conv")
        number = gate[1] if gate[1] in "12" else "1"
        return f"update_block.recurrent_block.convgru{number}.conv{gate[0]}.{name.split('.')[-1]}"
    if name.startswith("update_block.mask.0."):
        return name.replace("update_block.mask.0.", "mask_predictor.convrelu.0.")
    if name.startswith("update_block.mask.2."):
        return name.replace("update_block.mask.2.", "mask_predictor.conv.")
    return name


@pytest.mark.parametrize("size", [LARGE, SMALL])
def test_torchvisions_names_are_understood(size: RaftSize, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = RaftNetwork(size).state_dict()
    renamed = {
        new: tensor for name, tensor in state.items() if (new := torchvision_name(name, size))
    }
    torch.save(renamed, tmp_path / "tv.pth")
    got = load_raft_weights(tmp_path / "tv.pth")
    RaftNetwork(size).load_state_dict(got)  # key for key
    assert all(torch.equal(got[name], tensor) for name, tensor in state.items())
