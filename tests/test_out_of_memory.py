"""Out of memory on the accelerator: smaller batches, then the CPU, and a line that says so."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stseg.device import Device, Frugal
from stseg.network import SegmentationNetwork
from stseg.pipeline import SegmentationRun
from stseg.records import Clip, Settings


def accelerator() -> Device:
    """A device of another type than the CPU that needs no hardware."""
    return Device(torch.device("meta"), bfloat16=False, name="CUDA: a fake")


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
