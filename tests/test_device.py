"""Where the network runs: the choice, its sentence, and when bfloat16 is on."""

from __future__ import annotations

import pytest
import torch

from stseg import device
from stseg.device import Device, choose_device
from stseg.errors import InputError


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def some_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU, as far as the choice asks."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H200")


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("name", ["auto", "cpu"])
@pytest.mark.parametrize("fast", [True, False])
def test_without_a_gpu_it_is_the_cpu(
    name: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda: fast)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    chosen = choose_device(name)
    precision = "bf16" if fast else "float32"
    assert chosen == Device(torch.device("cpu"), fast, f"CPU, {precision}, 2 threads")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert choose_device(name).name.endswith(", 1 thread")
    assert not choose_device(name, bfloat16=False).bfloat16


@pytest.mark.usefixtures("no_cuda")
def test_cuda_without_a_gpu_gets_a_sentence() -> None:
    with pytest.raises(InputError) as error:
        choose_device("cuda")
    assert str(error.value) == "PyTorch finds no CUDA device here. Choose auto or cpu."


@pytest.mark.usefixtures("some_cuda")
@pytest.mark.parametrize(("name", "kind"), [("auto", "cuda"), ("cuda", "cuda"), ("cpu", "cpu")])
def test_with_a_gpu_auto_takes_it(name: str, kind: str) -> None:
    chosen = choose_device(name)
    assert chosen.torch.type == kind
    assert chosen.name.startswith("CUDA: H200" if kind == "cuda" else "CPU, ")
    if kind == "cuda":
        assert chosen.bfloat16
        assert not choose_device(name, bfloat16=False).bfloat16


@pytest.mark.parametrize("name", ["", "tpu", "cuda:1", "CPU"])
def test_an_unknown_device_gets_a_sentence(name: str) -> None:
    with pytest.raises(InputError, match=f"no device '{name}'. Choose auto, cpu or cuda."):
        choose_device(name)


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"avx2": True}, False),
        ({}, False),
    ],
)
def test_bfloat16_needs_instructions_for_it(
    capabilities: dict[str, bool], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert device._cpu_has_bfloat16() is fast


def test_an_old_torch_does_not_tell_its_capabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert device._cpu_has_bfloat16() is False


@pytest.mark.parametrize("fast", [True, False])
def test_autocast_is_on_where_bfloat16_is_fast(fast: bool) -> None:
    x = torch.ones(4, 4)
    with Device(torch.device("cpu"), fast, "test").autocast():
        assert (x @ x).dtype == (torch.bfloat16 if fast else torch.float32)
    assert (x @ x).dtype == torch.float32
