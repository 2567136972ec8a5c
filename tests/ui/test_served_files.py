"""Nothing but what is meant for visitors can be read through the server, whatever is asked for."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from app_process import ROOT, Served
from gradio_client import Client, handle_file

from stseg.records import Clip

SECRET = "the secret of somebody else"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.txt"
    path.write_text(SECRET)
    return path


@pytest.fixture
def connection(served: Served) -> Iterator[http.client.HTTPConnection]:
    place = urlsplit(served.address)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
    yield connection
    connection.close()


def scratch(served: Served) -> Path:
    (folder,) = served.temporary.glob("stseg-app-*")
    return folder


def answer(connection: http.client.HTTPConnection, path: str, method: str = "GET") -> bytes | None:
    """What the server gives for ``path`` exactly as it stands; None where it refuses."""
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
    except ConnectionError:  # closed by the server: it does not bear this spelling
        connection.close()
        return None
    return body if response.status < 300 else None


DOORS = (
    "/gradio_api/file=",
    "/gradio_api/file/",
    "/file=",
    "/file/",
    "/static/",
    "/assets/",
    "/theme.css/",
    "/gradio_api/stream/",
    "/gradio_api/proxy=",
    "/custom_component/x/client/x/",
)


def spellings(path: Path, served: Path) -> list[str]:
    """The usual ways to point at ``path`` from outside, and from within the served folder."""
    plain, up = str(path), "../" * 12
    climbs = ["..", "%2e%2e", "%252e%252e", "%c0%ae%c0%ae", quote("．．"), "....", "..;", ".%00."]
    dots = [up.replace("..", climb) for climb in climbs]
    dots += [
        up.replace("../", climb) for climb in ("..%2f", "%2e%2e%2f", "..\\", "..%5c", "....//")
    ]
    return [
        plain,
        "/" + plain,
        quote(plain, safe=""),
        plain.replace("/", "//"),
        plain + "%00.png",
        "file://" + plain,
        "file:" + plain,
        *(each + plain.lstrip("/") for each in dots),
        *(f"{served}/{each}{plain.lstrip('/')}" for each in dots[:4]),
        f"{served}/x/../../../{plain.lstrip('/')}",
    ]


@pytest.mark.parametrize("door", DOORS)
def test_no_spelling_reaches_another_file(
    door: str, served: Served, connection: http.client.HTTPConnection, secret: Path
) -> None:
    targets = {secret: SECRET, Path("/etc/passwd"): "root:", ROOT / "app.py": "def main"}
    folder = scratch(served)
    targets[folder / ".owner"] = "\0"
    for target, mark in targets.items():
        for spelling in spellings(target, folder / "served"):
            for method in ("GET", "HEAD"):
                body = answer(connection, f"{door}{spelling}", method)
                if method == "GET" and body is not None:
                    assert mark.encode() not in body, f"{door}{spelling}"
                if door == "/gradio_api/file=":
                    assert body is None, spelling


def test_a_link_in_the_served_folder_leads_nowhere(
    served: Served, connection: http.client.HTTPConnection, secret: Path
) -> None:
    folder = scratch(served) / "served" / "links"
    folder.mkdir()
    (folder / "plain.txt").write_text("meant for visitors")
    (folder / "file.txt").symlink_to(secret)
    (folder / "folder").symlink_to(secret.parent)
    door = f"/gradio_api/file={folder}"
    assert answer(connection, f"{door}/plain.txt") == b"meant for visitors"
    assert answer(connection, f"{door}/file.txt") is None
    assert answer(connection, f"{door}/folder/secret.txt") is None
    assert answer(connection, f"{door}/") is None  # no list of a folder
    for path in (*folder.iterdir(), folder):
        path.unlink() if not path.is_dir() or path.is_symlink() else path.rmdir()


def test_uploads_of_others_cannot_be_read(
    served: Served, connection: http.client.HTTPConnection
) -> None:
    folder = scratch(served) / "stseg-private-somebody"
    folder.mkdir()
    (folder / "theirs.mp4").write_text(SECRET)
    assert answer(connection, f"/gradio_api/file={folder}/theirs.mp4") is None
    served_folder = scratch(served) / "served"
    climbed = f"/gradio_api/file={served_folder}/../stseg-private-somebody/theirs.mp4"
    assert answer(connection, climbed) is None
    (folder / "theirs.mp4").unlink()
    folder.rmdir()


def test_a_path_in_place_of_an_upload_is_refused(
    served: Served, connection: http.client.HTTPConnection, clip: Clip, secret: Path
) -> None:
    shipped = ROOT / "assets" / "clips" / "pause.mp4"
    theirs = scratch(served) / "served" / "result-of-somebody.mp4"
    theirs.write_bytes(clip.source.read_bytes())
    own = scratch(served) / ".owner"
    for path in (secret, Path("/etc/passwd"), shipped, clip.source, theirs, own):
        given = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
        body = json.dumps({"data": [given, 3, [1], 1.0, "dis", "full", "one-to-one", 0, 0]})
        kind = {"Content-Type": "application/json"}
        connection.request("POST", "/gradio_api/call/segment", body, kind)
        event = json.loads(connection.getresponse().read())["event_id"]
        told = answer(connection, f"/gradio_api/call/segment/{event}")
        assert told is not None
        assert told.startswith(b"event: error"), path
        assert SECRET.encode() not in told
        assert path.exists(), "the server gave away a file of its own"
    theirs.unlink()


def test_names_of_uploads_stay_in_their_folder(
    served: Served, connection: http.client.HTTPConnection, clip: Clip
) -> None:
    names = ["../../../evil.mp4", "/etc/evil.mp4", "..\\..\\evil.mp4", "a\nb.mp4", "🎞️.mp4"]
    edge = "edge-of-parts"
    for name in [*names, "x" * 400]:
        told = f'form-data; name="files"; filename="{name.replace(chr(10), "%0A")}"'
        head = f"--{edge}\r\nContent-Disposition: {told}\r\n\r\n"
        body = head.encode() + clip.source.read_bytes() + f"\r\n--{edge}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        connection.request("POST", "/gradio_api/upload", body, kind)
        response = connection.getresponse()
        text = response.read()
        assert response.status == 200, name
        (path,) = json.loads(text)
        assert Path(path).resolve().is_relative_to(served.temporary.resolve() / "gradio"), name
    assert not list(served.temporary.parent.rglob("evil.mp4")) or all(
        path.is_relative_to(served.temporary / "gradio")
        for path in served.temporary.parent.rglob("evil.mp4")
    )


def test_a_file_beyond_the_limit_does_not_come_in(
    served: Served, clip: Clip, tmp_path: Path
) -> None:
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.write(clip.source.read_bytes())
        file.truncate(513 * 2**20)
    client = Client(served.address, verbose=False, download_files=tmp_path, analytics_enabled=False)
    with pytest.raises(Exception, match=r"413|[Ss]ize"):
        client.predict(video=handle_file(str(large)), api_name="/segment")
