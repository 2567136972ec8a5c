"""What several test files share: the data folder, a rendered clip, an untrained network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before torch is there: several processes share the cores here, the app's and the browser's too,
# and threads that wait by spinning take from each other what both need (half as long without).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pytest
import torch
from aside import Aside
from hypothesis import settings

from stseg.checkpoint import load_checkpoint, save_checkpoint
from stseg.device import Device
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.pipeline import SegmentationRun
from stseg.records import Clip, Segmentation, Settings
from stseg.synthetic import RenderedClip, SceneSettings, render
from stseg.synthetic_files import write_clip
from stseg.video import probe

# The same examples at every run, and no time limit on one: the machine may be busy.
settings.register_profile("stseg", deadline=None, max_examples=30, derandomize=True, database=None)
settings.load_profile("stseg")

torch.set_num_threads(1)  # tensors are small here: threads would wait more than they work


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests, and the processes that they start, leave the user's cache folder alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STSEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def all_aside(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    own_cache_folder: None,
) -> Iterator[Aside]:
    """Begun before the first test, for the tests that want it."""
    shares = hasattr(request.config, "workerinput")  # the other core is another worker's
    begun = Aside([] if shares else request.session.items, tmp_path_factory.mktemp)
    yield begun
    begun.close()


@pytest.fixture
def aside(request: pytest.FixtureRequest, all_aside: Aside) -> Any:
    """What the work of the test's mark ``aside`` returned."""
    return all_aside[request.node.get_closest_marker("aside").kwargs["work"]]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def chance() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def cpu() -> Device:
    """The CPU in float32: the same numbers on every machine, but for rounding."""
    return Device(torch.device("cpu"), bfloat16=False, name="CPU, float32")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data sets and weights that lies beside the repository, where it does."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"the data folder {folder} is not on this machine")
    return folder


@pytest.fixture(scope="session")
def rendered() -> RenderedClip:
    """A small clip with its exact flow and labels."""
    return render(SceneSettings(size=(64, 96), frames=9, objects=2, seed=3, speed=2.0))


@pytest.fixture(scope="session")
def clip(rendered: RenderedClip, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """The same clip as a video file."""
    return probe(write_clip(rendered, tmp_path_factory.mktemp("clip"), "small"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a small network that nobody has trained."""
    torch.manual_seed(0)
    network = SegmentationNetwork(NetworkSettings(levels=2, features=8, ks=(4, 2, 3)))
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(path, network, {"note": "untrained"})
    return path


@pytest.fixture
def tiny_network(tiny_model: Path) -> SegmentationNetwork:
    return load_checkpoint(tiny_model).network


@pytest.fixture(scope="session")
def results(clip: Clip, tiny_model: Path) -> dict[int, Segmentation]:
    """Results of the small clip by K, of one run."""
    settings = Settings(k=3, model=str(tiny_model), device="cpu")
    run = SegmentationRun(clip, settings, also=(2, 4))
    for _ in run.frames():
        pass
    return {k: run.result(k) for k in run.ks}
