"""Out of memory on the accelerator: smaller batches, then the CPU, and a line that says so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stseg.accumulation import accumulate_gradients
from stseg.adaptation import Adaptation, AdaptationSettings
from stseg.datasets import FlowSequence, FlowStore
from stseg.device import Device, Frugal
from stseg.flow.raft import SMALL, Raft, RaftNetwork
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.pipeline import SegmentationRun
from stseg.records import Clip, Settings
from stseg.train_settings import Stage, TrainSettings
from stseg.training import Progress, Trainer
from stseg.volume import FlowFields


class Fake(Device):
    """A device of another type than the CPU that needs no hardware."""

    def autocast(self) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.fixture(autouse=True)
def _float32_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes on on the CPU has the numbers of the ``cpu`` that it is compared with."""
    monkeypatch.setattr("stseg.device._cpu_has_bfloat16", lambda: False)


def accelerator() -> Device:
    return Fake(torch.device("meta"), bfloat16=False, name="CUDA: a fake")


@pytest.mark.parametrize(("fits", "parts"), [(8, [5]), (2, [2, 2, 1]), (1, [1, 1, 1, 1, 1])])
def test_batches_shrink_until_they_fit(
    fits: int, parts: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    def work(items: Sequence[int], device: Device) -> list[int]:
        if len(items) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(items)

    frugal = Frugal(accelerator(), lambda to: pytest.fail("it fits"))
    with caplog.at_level(logging.WARNING):
        found = frugal.run(range(5), work)
    assert [len(part) for part in found] == parts
    assert [item for part in found for item in part] == [0, 1, 2, 3, 4]
    assert frugal.run([5], work) == [[5]]  # and what was learnt stays
    assert all("out of memory" in note for note in frugal.notes)
    assert len(caplog.records) == len(frugal.notes) == (0 if fits == 8 else 1 if fits == 2 else 2)


def test_the_cpu_does_what_does_not_fit_at_all(caplog: pytest.LogCaptureFixture) -> None:
    moved: list[Device] = []

    def work(items: Sequence[int], device: Device) -> str:
        if device.torch.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return device.torch.type

    frugal = Frugal(accelerator(), moved.append)
    with caplog.at_level(logging.WARNING):
        assert set(frugal.run(range(2), work)) == {"cpu"}
    assert [each.torch.type for each in moved] == ["cpu"]
    assert "CUDA: a fake is out of memory: CPU" in caplog.text
    assert "does the rest" in caplog.text


def test_memory_that_the_cpu_lacks_is_an_error(cpu: Device) -> None:
    def work(items: Sequence[int], device: Device) -> None:
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError):
        Frugal(cpu, lambda to: None).run([1, 2], work)


def test_batches_shrink_on_the_cpu_which_calls_it_otherwise(cpu: Device) -> None:
    tried: list[int] = []

    def work(part: Sequence[int], device: Device) -> int:
        tried.append(len(part))
        if len(part) > 1:
            torch.empty(2**62, dtype=torch.uint8)  # what the allocator of the CPU says of it
        return sum(part)

    assert Frugal(cpu, lambda device: None).run([1, 2, 3, 4], work) == [1, 2, 3, 4]
    assert tried == [4, 2, 1, 1, 1, 1]
    with pytest.raises(RuntimeError, match="another"):
        Frugal(cpu, lambda device: None).run([1, 2], other_error)


def other_error(part: Sequence[int], device: Device) -> int:
    raise RuntimeError("another")


def test_a_clip_in_smaller_batches_is_the_same_and_says_so(
    clip: Clip, tiny_network: SegmentationNetwork, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(k=3, model=str(tiny_model), device="cpu")

    def labels() -> tuple[np.ndarray, SegmentationRun]:
        run = SegmentationRun(clip, settings, tiny_network)
        for _ in run.frames():
            pass
        result = run.result()
        return np.stack([result.labels(index) for index in range(len(result))]), run

    # As on a device that takes whole batches; a CPU without bfloat16 passes one at a time anyway.
    monkeypatch.setattr("stseg.prediction.one_at_a_time", lambda device: False)
    whole, quiet = labels()
    features = SegmentationNetwork.features

    def little(self: SegmentationNetwork, volume: Tensor) -> Tensor:
        if len(volume) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return features(self, volume)

    monkeypatch.setattr(SegmentationNetwork, "features", little)
    parts, run = labels()
    assert (parts == whole).all()
    assert quiet.notes == ()
    assert run.notes
    assert "out of memory" in run.notes[0]
    assert replace(settings) == run.result().settings


# --- training and fit ----------------------------------------------------------------------------


def sequences() -> list[FlowSequence]:
    flow = torch.randn(9, 2, 16, 28, generator=torch.Generator().manual_seed(0))
    flow[:, :, 4:12, 8:20] += 3
    return [FlowSequence("made", flow.half())]


SETTINGS = TrainSettings(
    network=NetworkSettings(levels=2, features=4, ks=(4, 2)),
    motion_model="affine",
    stages=(Stage((16, 28), 3, 1e-3),),
    batch=4,
    validate_every=3,
)


@dataclass
class Scarce:
    """A network's passes run out of memory, as on a device that holds ``most`` volumes."""

    most: int
    on: int = 0
    passes: int = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        features = SegmentationNetwork.features

        def limited(network: SegmentationNetwork, volume: Tensor) -> Tensor:
            self.passes += 1
            if self.passes > self.on and len(volume) > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return features(network, volume)

        monkeypatch.setattr(SegmentationNetwork, "features", limited)


def test_training_in_smaller_batches_is_the_same(
    tmp_path: Path, cpu: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def trained(name: str) -> list[Progress]:
        return list(Trainer(SETTINGS, sequences(), tmp_path / name, cpu).run())

    whole = trained("whole")
    Scarce(most=1, on=1).install(monkeypatch)  # the first step still fits
    with caplog.at_level(logging.WARNING):  # two of four, then one of two
        parts = trained("parts")
    for one, other in zip(whole, parts, strict=True):
        assert other.losses == pytest.approx(one.losses, rel=1e-4)
    assert parts[-1].validation == pytest.approx(whole[-1].validation, rel=1e-3)
    assert "out of memory: 1 at a time instead of 2" in caplog.text


def test_a_part_that_ran_out_of_memory_leaves_no_gradient(cpu: Device) -> None:
    """Memory may run out in the backward pass, when some gradients are already there."""
    layer = torch.nn.Linear(3, 1)
    data = torch.randn(4, 3)
    calls: list[int] = []

    def losses(part: Sequence[int], device: Device) -> tuple[Tensor, Tensor]:
        calls.append(len(part))
        total = layer(data[list(part)]).square().mean()
        if len(part) > 2:
            total.backward(retain_graph=True)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return total, total[None]

    told = accumulate_gradients(Frugal(cpu, lambda to: None), layer, range(4), losses)
    assert calls == [4, 2, 2]
    expected = torch.autograd.grad(layer(data).square().mean(), list(layer.parameters()))
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, expected[0])
    assert told.item() == pytest.approx(layer(data).square().mean().item())


def test_training_goes_on_on_the_cpu(
    tmp_path: Path, cpu: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one volume fits: network and optimiser move, and the run ends."""
    trainer = Trainer(SETTINGS, sequences(), tmp_path, cpu)
    moved: list[Device] = []
    move = trainer._move

    def seen(device: Device) -> None:
        moved.append(device)
        move(device)

    features = SegmentationNetwork.features

    def none(network: SegmentationNetwork, volume: Tensor) -> Tensor:
        if not moved:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return features(network, volume)

    monkeypatch.setattr(SegmentationNetwork, "features", none)
    trainer._frugal = Frugal(accelerator(), seen)
    monkeypatch.setattr(Tensor, "to", _stays(Tensor.to))
    steps = list(trainer.run())
    assert len(steps) == 3
    assert [each.torch.type for each in moved] == ["cpu"]
    assert trainer._frugal.notes[-1].startswith("CUDA: a fake is out of memory: CPU")


def test_a_fit_goes_on_on_the_cpu(
    clip: Clip, tiny_model: Path, cpu: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = FlowFields()
    for _ in range(5):
        flow.forward.append(np.ones((2, 128, 224), np.float16))
    settings = AdaptationSettings(k=2, steps=2, size=(16, 28), batch=2)
    plain = Adaptation(str(tiny_model), clip, flow, settings, cpu)
    expected = list(plain.run(every=1))
    fit = Adaptation(str(tiny_model), clip, flow, settings, cpu)
    features = SegmentationNetwork.features

    def none(network: SegmentationNetwork, volume: Tensor) -> Tensor:
        if not fit.notes:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return features(network, volume)

    monkeypatch.setattr(SegmentationNetwork, "features", none)
    monkeypatch.setattr(fit._frugal, "device", accelerator())
    monkeypatch.setattr(Tensor, "to", _stays(Tensor.to))
    found = list(fit.run(every=1))
    assert [each.losses for each in found] == [each.losses for each in expected]
    assert len(fit.notes) == 1
    assert "does the rest" in fit.notes[0]


def _stays(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``Tensor.to`` that leaves tensors where they are when the fake accelerator is asked for."""

    def to(tensor: Tensor, *where: object, **how: object) -> Tensor:
        if where and isinstance(where[0], torch.device) and where[0].type == "meta":
            return tensor
        return original(tensor, *where, **how)

    return to


def test_flow_that_does_not_fit_stays_in_main_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpu: Device, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(FlowStore):
        def __init__(
            self, sequences: Sequence[FlowSequence], device: torch.device | None = None
        ) -> None:
            if device is not None:
                raise torch.OutOfMemoryError("CUDA out of memory")
            super().__init__(sequences)

    monkeypatch.setattr("stseg.training.FlowStore", Full)
    with caplog.at_level(logging.WARNING):
        assert len(list(Trainer(SETTINGS, sequences(), tmp_path, cpu).run())) == 3
    assert "stays in main memory" in caplog.text


def test_optical_flow_goes_on_on_the_cpu(
    tmp_path: Path, cpu: Device, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    state = {f"module.{name}": each for name, each in RaftNetwork(SMALL).state_dict().items()}
    torch.save(state, tmp_path / "small.pth")
    images = [(rng.random((64, 96, 3)) * 255).astype(np.uint8) for _ in range(3)]

    def flow(raft: Raft) -> list[np.ndarray]:
        frames = [raft.prepare(image) for image in images]
        return [raft.between(a, b, (64, 96)) for a, b in pairwise(frames)]

    expected = flow(Raft(tmp_path / "small.pth", 2, cpu))
    raft = Raft(tmp_path / "small.pth", 2, cpu)
    refine = RaftNetwork.refine

    def none(network: RaftNetwork, *given: object) -> object:
        if not raft._frugal.notes:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return refine(network, *given)

    monkeypatch.setattr(RaftNetwork, "refine", none)
    monkeypatch.setattr(raft._frugal, "device", accelerator())
    monkeypatch.setattr(Tensor, "to", _stays(Tensor.to))
    for one, other in zip(flow(raft), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert len(raft._frugal.notes) == 1
    assert "does the rest" in raft._frugal.notes[0]
