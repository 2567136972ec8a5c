"""The benchmark: exactly the figures that were promised, from small material."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stseg import benchmarking
from stseg.benchmarking import Material, PlainTrainer, machine, material, measure, rivals
from stseg.checkpoint import save_checkpoint
from stseg.cli import main
from stseg.cli.benchmark import LINES
from stseg.datasets import FlowSequence
from stseg.device import Device
from stseg.errors import InputError
from stseg.flow.raft import SMALL, RaftNetwork
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.records import Clip
from stseg.synthetic import RenderedClip
from stseg.train_settings import Stage, TrainSettings
from stseg.training import Trainer

PROMISED = {
    "network.plain_triplets_per_s",
    "network.fast_triplets_per_s",
    "network.speedup",
    "network.speedup_batched",
    "network.label_agreement",
    "job.seconds",
    "job.frames",
    "job.peak_rss_mib",
    "raft.speedup",
    "fit.speedup",
    "fit.objective_gap",
    "train.speedup",
    "start.help_s",
    "start.import_s",
    "machine",
}


@pytest.fixture
def small(clip: Clip, rendered: RenderedClip, tiny_model: Path, tmp_path: Path) -> Material:
    """A clip of nine small frames, a tiny network and RAFT small."""
    torch.manual_seed(0)
    torch.save(RaftNetwork(SMALL).state_dict(), tmp_path / "raft.pth")
    return Material(clip, [rendered.flow], tiny_model, tmp_path / "raft.pth")


def test_all_promised_figures_and_no_others(
    small: Material, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    @contextmanager
    def given(root: Path | None = None) -> Iterator[Material]:
        yield small

    trained = TrainSettings(
        NetworkSettings(levels=2, features=8, ks=(3,)), stages=(Stage((16, 24), 9, 1e-4),), batch=2
    )
    monkeypatch.setattr(benchmarking, "material", given)
    monkeypatch.setattr(benchmarking, "TRAINING", trained)
    monkeypatch.setattr(benchmarking, "ROUNDS", 1)
    assert main(["benchmark", "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures) == PROMISED
    told = capsys.readouterr().out
    assert figures["machine"] in told
    assert {name for _, name, _ in LINES} == PROMISED - {"machine"}
    assert all(title in told for title, _, _ in LINES)
    assert figures["job.frames"] == 9
    assert 50 < figures["job.peak_rss_mib"] < 5000
    assert 0 <= figures["network.label_agreement"] <= 1
    for name in PROMISED - {"machine", "fit.objective_gap"}:
        assert figures[name] > 0, name
    rates = figures["network.fast_triplets_per_s"] / figures["network.plain_triplets_per_s"]
    assert figures["network.speedup"] == pytest.approx(rates)
    assert -1e-4 < figures["fit.objective_gap"] < 0.05


def test_rivals_take_turns_and_the_best_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarking, "ROUNDS", 3)
    order: list[str] = []
    took = {"a": [3.0, 1.0, 2.0], "b": [4.0, 6.0, 5.0]}
    now = 100.0

    def work(name: str) -> None:
        nonlocal now
        now += took[name][order.count(name)]
        order.append(name)

    monkeypatch.setattr(benchmarking, "time", SimpleNamespace(perf_counter=lambda: now))
    best = rivals({name: (lambda name=name: work(name)) for name in took})
    assert order == ["a", "b"] * 3
    assert best == {"a": 1.0, "b": 4.0}


def test_material_of_its_own_needs_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarking, "SIZE", (64, 96))
    monkeypatch.setattr(benchmarking, "FRAMES", 12)
    with material() as data:
        folder = data.clip.source.parent
        assert (data.clip.frames, data.clip.size) == (12, (64, 96))
        assert data.flows[0].shape == (6, 2, 128, 224)
        assert data.volumes(3).shape == (3, 2, 3, 128, 224)
        assert data.model.is_file()
        assert data.weights.is_file()
    assert not folder.exists()


def test_real_material(shared: Path, tmp_path: Path) -> None:
    with material(shared / "davis16") as data:
        assert len(data.flows) == 10
        assert data.clip.size == (480, 854)
        volumes = data.volumes(2)
        first = torch.from_numpy(data.flows[0].astype(np.float32))
        assert volumes.shape == (20, 2, 3, 128, 224)
        start = (len(first) - 3) // 4
        torch.testing.assert_close(volumes[0], first[start : start + 3].transpose(0, 1))
    with pytest.raises(InputError, match="Give a folder of DAVIS2016"), material(tmp_path):
        pass


def test_the_plain_trainer_learns_as_the_other_does(
    rendered: RenderedClip, tmp_path: Path, cpu: Device
) -> None:
    settings = TrainSettings(
        NetworkSettings(levels=2, features=8, ks=(3,)), stages=(Stage((16, 24), 9, 1e-3),), batch=2
    )
    flows = [FlowSequence("a", torch.from_numpy(rendered.flow))]
    fast = Trainer(settings, flows, tmp_path / "fast", cpu)
    slow = PlainTrainer(settings, flows, tmp_path / "slow", cpu)
    slow.plain_parts()
    for _ in range(3):
        losses = fast._train_step()["loss"], slow._train_step()["loss"]
        assert losses[0] == pytest.approx(losses[1], rel=0.03)
    both = zip(fast.network.parameters(), slow.network.parameters(), strict=True)
    apart = sum(float((a - b).detach().abs().sum()) for a, b in both)
    moved = 3e-3 * sum(each.numel() for each in fast.network.parameters())
    assert apart < 0.6 * moved


def test_the_machine_is_told() -> None:
    assert "core" in machine()
    assert torch.__version__ in machine()


def test_measure_takes_what_each_part_gives(
    small: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def given(root: Path | None = None) -> Iterator[Material]:
        assert root == Path("there")
        yield small

    monkeypatch.setattr(benchmarking, "material", given)
    monkeypatch.setattr(benchmarking, "PARTS", {"one": lambda *words: {"a": 1.0}})
    told: list[str] = []
    assert measure(Path("there"), told.append) == {"a": 1.0, "machine": machine()}
    assert told == ["clip", "one"]


def test_an_untrained_checkpoint_serves(tmp_path: Path, small: Material, cpu: Device) -> None:
    path = tmp_path / "other.safetensors"
    save_checkpoint(path, SegmentationNetwork(NetworkSettings(levels=1, features=4, ks=(2,))), {})
    other = Material(small.clip, small.flows, path, small.weights)
    figures = benchmarking.network_figures(other, cpu)
    assert figures["network.label_agreement"] > 0.99  # float32 against float32
