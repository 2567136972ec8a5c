"""The same work through ``gradio_client``."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from app_process import Served
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from stseg.records import Clip
from stseg.video import probe


@pytest.fixture
def client(served: Served, tmp_path: Path) -> Client:
    return Client(served.address, verbose=False, download_files=tmp_path, analytics_enabled=False)


def test_segment(client: Client, clip: Clip) -> None:
    grid, labels, summary = client.predict(
        video=handle_file(str(clip.source)), k=3, tau=[1], eta=1.0, api_name="/segment"
    )
    assert probe(grid).frames == clip.frames
    with zipfile.ZipFile(labels) as archive:
        pictures = [name for name in archive.namelist() if name.endswith(".png")]
    assert len(pictures) == clip.frames
    assert summary["settings"]["k"] == 3
    assert summary["settings"]["eta"] == 0.01
    assert summary["clip"]["source"] == clip.source.name
    assert len(summary["segments"]) == 3


def test_a_mistake_is_a_sentence(client: Client, clip: Clip) -> None:
    with pytest.raises(AppError, match="K is 9, but the number of segments is from 2 to 8"):
        client.predict(video=handle_file(str(clip.source)), k=9, api_name="/segment")


@pytest.mark.parametrize("choice", [{"flow": "/etc/passwd"}, {"model": "x.safetensors"}])
def test_no_file_of_the_server_is_opened(
    client: Client, clip: Clip, choice: dict[str, str]
) -> None:
    with pytest.raises(AppError, match=r"here\. Choose one of"):
        client.predict(video=handle_file(str(clip.source)), api_name="/segment", **choice)


def test_one_public_name(client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert list(named) == ["/segment"]
    names = [each["parameter_name"] for each in named["/segment"]["parameters"]]
    assert names == ["video", "k", "tau", "eta", "flow", "model", "linkage", "max_frames"]
