"""The same work through ``gradio_client``."""

from __future__ import annotations

import inspect
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_process import Served
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from layout import in_blocks
from PIL import Image

from stseg.checkpoint import load_checkpoint
from stseg.records import Clip
from stseg.ui.api import ENDPOINTS, EndpointFile
from stseg.ui.sessions import Sessions
from stseg.video import probe


@pytest.fixture
def client(served: Served, tmp_path: Path) -> Client:
    return Client(served.address, verbose=False, download_files=tmp_path, analytics_enabled=False)


def test_segment(client: Client, clip: Clip) -> None:
    grid, labels, summary = client.predict(
        video=handle_file(str(clip.source)),
        k=3,
        tau=[1],
        eta=1.0,
        api_name="/segment",
    )
    assert probe(grid).frames == clip.frames
    with zipfile.ZipFile(labels) as archive:
        pictures = sorted(archive.namelist())
    assert pictures == ["labels/", *(f"labels/{each:05d}.png" for each in range(clip.frames))]
    assert summary["settings"]["k"] == 3
    assert summary["settings"]["eta"] == 0.01
    assert summary["clip"]["source"] == clip.source.name
    assert len(summary["segments"]) == 3


def test_segments_that_move_alike_are_fused(client: Client, clip: Clip, tmp_path: Path) -> None:
    _, labels, summary = client.predict(
        video=handle_file(str(clip.source)),
        k=3,
        max_frames=5,
        merge=-1,
        stride=2,
        also=["foreground", "motion", "settings"],
        refine=True,
        api_name="/segment",
    )
    assert summary["settings"]["stride"] == 2
    assert summary["settings"]["merge"] == -1
    assert summary["settings"]["refine"] is True
    assert "--merge -1" in summary["command"]
    with zipfile.ZipFile(labels) as archive:
        archive.extractall(tmp_path / "labels")
    names = ["foreground", "labels", "motion.csv", "settings.json"]
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == names
    assert len(list((tmp_path / "labels" / "foreground").iterdir())) == 5
    assert json.loads((tmp_path / "labels" / "settings.json").read_text())["merge"] == -1
    pictures = sorted((tmp_path / "labels" / "labels").iterdir())
    assert len(pictures) == 5
    assert all(len(np.unique(Image.open(path))) == 1 for path in pictures)
    with pytest.raises(AppError, match="a similarity is from -1 to 1"):
        client.predict(video=handle_file(str(clip.source)), merge=2, api_name="/segment")


def test_a_mistake_is_a_sentence(client: Client, clip: Clip) -> None:
    with pytest.raises(AppError, match="K is 9, but the number of segments is from 2 to 8"):
        client.predict(video=handle_file(str(clip.source)), k=9, api_name="/segment")
    for k in ("a", 2.7):
        with pytest.raises(AppError, match=f"k is {k!r}, but it is a whole number"):
            client.predict(video=handle_file(str(clip.source)), k=k, api_name="/segment")


@pytest.mark.parametrize("choice", [{"flow": "/etc/passwd"}, {"model": "x.safetensors"}])
def test_no_file_of_the_server_is_opened(
    client: Client, clip: Clip, choice: dict[str, str]
) -> None:
    with pytest.raises(AppError, match=r"here\. Choose one of"):
        client.predict(video=handle_file(str(clip.source)), api_name="/segment", **choice)


def test_stable_names(client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert list(named) == [f"/{file.NAME}" for file in ENDPOINTS]
    names = [each["parameter_name"] for each in named["/segment"]["parameters"]]
    assert names[:8] == ["video", "k", "tau", "eta", "flow", "model", "linkage", "max_frames"]
    assert names[8:] == ["subsequence", "merge", "stride", "also", "refine"]
    assert all(each["parameter_has_default"] for each in named["/segment"]["parameters"][1:])


@pytest.mark.parametrize("file", ENDPOINTS, ids=lambda file: str(file.NAME))
def test_every_endpoint_describes_its_parameters(file: EndpointFile, tmp_path: Path) -> None:
    sessions = Sessions()
    endpoint = in_blocks(lambda: file.build(sessions))
    sessions.close_all()
    described = inspect.getdoc(endpoint.call)
    assert described is not None
    for component in endpoint.inputs:
        assert f"    {component.label}: " in described
    assert "Returns:" in described
    names = list(inspect.signature(endpoint.call).parameters)
    assert names == [*(component.label for component in endpoint.inputs), "request"]


def test_the_example_of_the_readme(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = Path(__file__).resolve().parents[2]
    _, code = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(root)
    address = f'"{served.address}", download_files={str(tmp_path)!r}'
    names: dict[str, Any] = {}
    exec(code.replace('"http://127.0.0.1:7860"', address), names)
    assert probe(names["grid"]).frames == names["summary"]["clip"]["frames"]
    assert [row["settings"]["k"] for row in names["table"]] == [4, 2]
    assert len(names["alike"]["merged"]) == 3
    assert len(names["losses"]["steps"]) == 2
    assert load_checkpoint(Path(names["checkpoint"])).network.settings.ks
    assert list(names["scores"]["sequences"]) == ["pause"]
