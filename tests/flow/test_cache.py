"""Computed flow is kept: across runs, within its bound, for two processes at once."""

import errno
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stseg import flow as estimators
from stseg.clip_flow import read_fields
from stseg.device import Device
from stseg.flow import FlowSettings
from stseg.flow.cache import FlowCache, content_key
from stseg.flow.dis import DIS
from stseg.network import SegmentationNetwork
from stseg.pipeline import SegmentationRun, flow_key
from stseg.records import Clip, Settings
from stseg.result_keys import clip_key
from stseg.spool import Spool
from stseg.volume import FlowFields


def fields(value: float, n: int = 3) -> FlowFields:
    made = FlowFields()
    for index in range(n):
        made.forward.append(np.full((2, 8, 8), value + index, np.float16))
    return made


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    cache = FlowCache(tmp_path)
    assert cache.load("k", False) is None
    cache.store("k", fields(1))
    got = FlowCache(tmp_path).load("k", False)
    assert got is not None
    assert [float(field[0, 0, 0]) for field in got.forward] == [1, 2, 3]
    assert cache.load("k", True) is None  # backward flow was never computed


def test_the_oldest_goes_first(tmp_path: Path) -> None:
    cache = FlowCache(tmp_path, limit=3 * 1000)  # a file has 3 x 2 x 8 x 8 x 2 bytes and a header
    for age, key in ((30, "a"), (20, "b"), (10, "c")):
        cache.store(key, fields(0))
        path = tmp_path / f"{key}-forward.npy"
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    assert cache.load("a", False) is not None  # used now: no longer the oldest
    cache.store("d", fields(0))
    assert cache.load("b", False) is None
    assert cache.load("a", False) is not None


def test_a_damaged_file_is_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = FlowCache(tmp_path)
    cache.store("k", fields(0))
    path = tmp_path / "k-forward.npy"
    path.write_bytes(path.read_bytes()[:-9])
    assert cache.load("k", False) is None
    assert "unusable" in caplog.text
    assert not path.exists()


def test_a_full_disk_elsewhere_does_not_cost_a_good_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FlowCache(tmp_path)
    cache.store("k", fields(0))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(Spool, "append", full)
        cache.load("k", False)
    with monkeypatch.context() as patch:
        patch.setattr(np, "load", full)
        assert cache.load("k", False) is None
    assert cache.load("k", False) is not None


def test_a_video_that_changes_while_it_is_read_is_not_kept(
    clip: Clip, tiny_network: SegmentationNetwork, tmp_path: Path
) -> None:
    source = tmp_path / "v.mp4"
    source.write_bytes(clip.source.read_bytes())
    changing, cache = replace(clip, source=source), FlowCache(tmp_path / "cache")
    settings = Settings(k=2, device="cpu")
    run = SegmentationRun(changing, settings, tiny_network, cache=cache)
    for steps in (run.frames(), read_fields(changing, settings, cache)):
        source.write_bytes(clip.source.read_bytes())
        for _ in steps:
            source.write_bytes(clip.source.read_bytes() + b"other")  # it could be another video
        assert not list((tmp_path / "cache").glob("*"))


def test_a_cache_that_can_only_be_read_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    FlowCache(tmp_path).store("k", fields(1))

    def denied(*_: object) -> None:  # root may write everything
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "utime", denied)
    assert FlowCache(tmp_path).load("k", False) is not None
    assert caplog.text == ""


def test_the_key_is_content_not_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"film")
    (tmp_path / "b").write_bytes(b"film")
    (tmp_path / "c").write_bytes(b"other")
    key = content_key(tmp_path / "a", ["dis"])
    assert key == content_key(tmp_path / "b", ["dis"])
    assert key != content_key(tmp_path / "c", ["dis"])
    assert key != content_key(tmp_path / "a", ["raft"])


def _store(folder: str) -> int:
    cache = FlowCache(Path(folder), limit=4000)
    wrong = 0
    for turn in range(40):
        cache.store(f"k{turn % 6}", fields(turn % 6))
        got = cache.load(f"k{(turn + 3) % 6}", False)
        wrong += got is not None and float(got.forward[0][0, 0, 0]) != (turn + 3) % 6
    return wrong


def test_two_processes_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2) as pool:
        assert list(pool.map(_store, [str(tmp_path)] * 2)) == [0, 0]
    assert not list(tmp_path.glob(".part-*"))
    assert sum(path.stat().st_size for path in tmp_path.glob("*.npy")) <= 4000


def test_a_second_run_estimates_nothing(
    clip: Clip,
    tiny_network: SegmentationNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def labels(settings: Settings) -> np.ndarray:
        run = SegmentationRun(clip, settings, tiny_network, cache=FlowCache(tmp_path))
        shown = [frame.image.shape for frame in run.frames()]
        assert shown == [(*clip.size, 3)] * len(shown)
        return np.stack([run.result().labels(index) for index in range(len(shown))])

    settings = Settings(k=3, device="cpu")
    first = labels(settings)
    pairs = []
    between = DIS.between
    monkeypatch.setattr(
        DIS, "between", lambda self, *words: pairs.append(1) or between(self, *words)
    )
    assert (labels(settings) == first).all()
    labels(replace(settings, k=2, eta=0.5, linkage="greedy"))
    assert pairs == []
    labels(replace(settings, taus=(-1,)))  # backward flow is computed only when asked for
    assert len(pairs) == 2 * (clip.frames - 1)


def test_flow_of_other_weights_in_the_same_file_is_other_flow(clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    settings = Settings(flow="raft-sintel", weights=str(path), device="cpu")
    path.write_bytes(b"one")
    before = flow_key(clip, settings), clip_key(clip, None, settings)
    path.write_bytes(b"two")
    after = flow_key(clip, settings), clip_key(clip, None, settings)
    assert all(one != two for one, two in zip(before, after, strict=True))
    path.rename(tmp_path / "renamed.pth")
    moved = replace(settings, weights=str(tmp_path / "renamed.pth"))
    assert (flow_key(clip, moved), clip_key(clip, None, moved)) == after
    published = replace(settings, weights=None)
    assert flow_key(clip, published) not in (before[0], after[0])


def test_flow_of_another_correction_is_other_flow(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that ship in a new version must not meet the flow of the old ones."""
    path = tmp_path / "correction.safetensors"
    monkeypatch.setattr(estimators, "WEIGHTS", path)
    corrected = Settings(flow="dis", device="cpu")
    plain = replace(corrected, flow="dis-plain")

    def keys(settings: Settings) -> tuple[str, str]:
        return flow_key(clip, settings), clip_key(clip, None, settings)

    path.write_bytes(b"one")
    before = keys(corrected), keys(plain)
    path.write_bytes(b"two")
    after = keys(corrected), keys(plain)
    assert all(one != two for one, two in zip(before[0], after[0], strict=True))
    assert before[1] == after[1]


def test_flow_of_another_precision_is_other_flow(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the cache may be shared by machines of which one has bfloat16."""

    def on(bfloat16: bool) -> list[str]:
        device = Device(torch.device("cpu"), bfloat16, "cpu")
        monkeypatch.setattr(estimators, "choose_device", lambda name: device)
        return [flow_key(clip, Settings(flow=name)) for name in ("dis", "raft", "dis-plain")]

    assert [one == two for one, two in zip(on(True), on(False), strict=True)] == [0, 0, 1]


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with both devices, as far as a key asks."""

    def chosen(name: str) -> Device:
        return Device(torch.device("cpu" if name == "cpu" else "cuda"), False, name)

    monkeypatch.setattr(estimators, "choose_device", chosen)


@pytest.mark.usefixtures("with_gpu")
def test_all_that_decides_the_flow_is_in_its_key(
    clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    dis = Settings(device="cpu")
    raft = replace(dis, flow="raft-sintel")
    # The grid turns with the clip, whose size is what a reader makes of the content.
    turned = replace(clip, size=clip.size[::-1])
    keys = [
        flow_key(clip, dis),
        flow_key(clip, replace(dis, max_frames=5)),
        flow_key(turned, dis),
        flow_key(clip, raft),
        flow_key(clip, replace(raft, flow="raft-small")),
        flow_key(clip, replace(raft, iterations=3)),
        flow_key(clip, replace(raft, max_frames=5)),
        flow_key(turned, raft),
        flow_key(clip, replace(raft, device="cuda")),  # its sums are not in the same order
    ]
    monkeypatch.setattr(estimators, "FLOW_VERSION", (*estimators.FLOW_VERSION, 1))
    keys += [flow_key(clip, dis), flow_key(clip, raft)]
    assert len(set(keys)) == len(keys)


@pytest.mark.usefixtures("with_gpu")
def test_what_does_not_decide_the_flow_costs_no_second_estimate(clip: Clip) -> None:
    dis = Settings(device="cpu")
    for same in (
        replace(dis, device="cuda", iterations=3, weights="w.pth"),  # these are of RAFT
        replace(dis, k=2, taus=(-1, 2), eta=0.5, linkage="greedy", model="other"),
        replace(dis, subsequence=5, merge=0.5, refine=True, similarity_weight=2.0),
    ):
        assert flow_key(clip, same) == flow_key(clip, dis)
    raft = replace(dis, flow="raft-sintel", device="auto")
    assert flow_key(clip, raft) == flow_key(clip, replace(raft, device="cuda"))  # what is used


def test_results_of_computed_flow_have_its_origin_in_their_key(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(device="cpu")
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.source.read_bytes() + b"other")
    keys = [
        clip_key(clip, None, settings),
        clip_key(clip, None, replace(settings, flow="raft-sintel")),
        clip_key(replace(clip, source=other), None, settings),
        clip_key(replace(clip, size=clip.size[::-1]), None, settings),
        clip_key(replace(clip, frames=5), None, settings),
        clip_key(replace(clip, name="other"), None, settings),
    ]
    monkeypatch.setattr(estimators, "FLOW_VERSION", (*estimators.FLOW_VERSION, 1))
    keys.append(clip_key(clip, None, settings))
    assert len(set(keys)) == len(keys)


def test_a_short_name_is_resolved_where_settings_are_made(clip: Clip) -> None:
    """Every door (command line, app, Python, a settings file) goes through the records."""
    short, long = Settings(flow="raft", device="cpu"), Settings(flow="raft-sintel", device="cpu")
    assert short == long
    assert flow_key(clip, short) == flow_key(clip, long)
    assert FlowSettings("raft") == FlowSettings("raft-sintel")
    assert replace(Settings(), flow="raft").flow == "raft-sintel"
    assert Settings(flow="my/raft").flow == "my/raft"
