"""Checkpoints: what is written comes back, whole or not at all, and nothing else is accepted."""

from __future__ import annotations

import io
import json
import pickle
import resource
import struct
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from stseg.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from stseg.errors import InputError
from stseg.files import write_atomically
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.tensor_files import read_tensors, write_tensors
from stseg.unet import ARCHITECTURES

SMALL = NetworkSettings(levels=2, features=4, ks=(4, 2))


def saved(path: Path, settings: NetworkSettings = SMALL) -> SegmentationNetwork:
    torch.manual_seed(0)
    network = SegmentationNetwork(settings).channels_last()
    save_checkpoint(path, network, {"data": "none", "steps": 3, "rows": [1.5, None]})
    return network


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON header that a file of ours carries, as somebody with an editor could."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    outer = json.loads(data[8 : 8 + length])
    inner = json.loads(outer["__metadata__"]["stseg"])
    change(inner)
    outer["__metadata__"]["stseg"] = json.dumps(inner)
    text = json.dumps(outer).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("relative", [False, True])
@torch.no_grad()
def test_a_network_comes_back_as_it_was(architecture: str, relative: bool, tmp_path: Path) -> None:
    settings = NetworkSettings(architecture, levels=2, features=4, ks=(4, 2), relative=relative)
    network = saved(tmp_path / "a.safetensors", settings)
    checkpoint = load_checkpoint(tmp_path / "a.safetensors")
    assert checkpoint.network.settings == settings
    assert not checkpoint.network.training
    weights = network.state_dict()
    assert list(checkpoint.network.state_dict()) == list(weights)
    for name, tensor in checkpoint.network.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    x = torch.randn(1, 2, 3, 8, 12)
    assert torch.equal(checkpoint.network(x, 2), network.eval()(x, 2))


def test_the_card_is_kept(tmp_path: Path) -> None:
    saved(tmp_path / "a.safetensors")
    card = load_checkpoint(tmp_path / "a.safetensors").card
    assert card == {"data": "none", "steps": 3, "rows": [1.5, None]}


def test_a_folder_is_made_and_no_part_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.safetensors"
    saved(path)
    assert [file.name for file in path.parent.iterdir()] == ["a.safetensors"]


def test_writing_again_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    saved(path, NetworkSettings(levels=1, features=4))
    saved(path)
    assert load_checkpoint(path).network.settings == SMALL
    assert len(list(tmp_path.iterdir())) == 1


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"old")

    class FullDisk(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(bytes(data)[:1])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda self, mode: FullDisk(self, mode))
    with pytest.raises(InputError, match=r"a\.bin cannot be written: No space left on device\."):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("place", ["file/a.safetensors", "folder"])
def test_an_impossible_place_gets_a_sentence(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(InputError, match=r"cannot be written: .* Choose another place\."):
        write_atomically(tmp_path / place, b"data")
    assert not list(tmp_path.rglob("*.part"))


def test_tensors_of_every_kind_come_back(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d),
        "b": torch.tensor(3.0),
        "c": torch.arange(5, dtype=torch.uint8),
        "d": torch.randn(3, 4, requires_grad=True).T,
        "e": torch.randn(4).bfloat16(),
    }
    write_tensors(tmp_path / "t", tensors, {"step": 4})
    read, header = read_tensors(tmp_path / "t")
    assert header == {"step": 4}
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor.detach()), name


def test_a_missing_file_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no file .*none\.safetensors\. Check the path"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="There is no file"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.2, 0.9, 0.999])
def test_a_truncated_file_gets_a_sentence(kept: float, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    saved(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(InputError, match=r"a\.safetensors is not a whole safetensors file .*again"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content", [b"", b"words\n" * 40, b"\xff" * 500, b"PK\x03\x04" + b"0" * 90]
)
def test_other_files_get_a_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a whole safetensors file"):
        load_checkpoint(path)


def test_a_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (mark,))

    for name, write in (
        ("a.safetensors", lambda p: torch.save({"weight": Evil()}, p)),
        ("b.safetensors", lambda p: p.write_bytes(pickle.dumps(Evil()))),
    ):
        path = tmp_path / name
        write(path)
        with pytest.raises(InputError, match="is not a whole safetensors file"):
            load_checkpoint(path)
    assert not mark.exists()


def test_a_safetensors_file_of_others_gets_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
        with pytest.raises(InputError, match=r"is not a checkpoint of STSeg: its header has no"):
            load_checkpoint(path)


def test_a_state_of_training_is_not_a_checkpoint(tmp_path: Path) -> None:
    write_tensors(tmp_path / "state", {"network.a": torch.zeros(2)}, {"settings": {}, "step": 3})
    with pytest.raises(InputError, match="has format None, and this version reads 1"):
        load_checkpoint(tmp_path / "state")


@pytest.mark.parametrize("number", [FORMAT + 1, 0, "1"])
def test_another_format_gets_a_sentence(number: object, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    saved(path)
    edited(path, lambda header: header.update(format=number))
    with pytest.raises(InputError, match=f"has format {number}, .* reads {FORMAT}. Update STSeg"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("levels", 3),
        ("features", 8),
        ("ks", [4]),
        ("ks", [4, 2, 3]),
        ("architecture", "attention"),
        ("architecture", "predecessor"),
    ],
)
def test_settings_that_do_not_fit_the_weights_get_a_sentence(
    name: str, value: object, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    saved(path)
    edited(path, lambda header: header["network"].update({name: value}))
    with pytest.raises(InputError, match=r"do not fit the network .* damaged or was edited"):
        load_checkpoint(path)


NONSENSE: dict[str, Callable[[dict[str, Any]], object]] = {
    "other architecture": lambda header: header["network"].update(architecture="other"),
    "no K": lambda header: header["network"].update(ks=[]),
    "K is a number": lambda header: header["network"].update(ks=4),
    "K is a word": lambda header: header["network"].update(ks=["a"]),
    "0 levels": lambda header: header["network"].update(levels=0),
    "-1 levels": lambda header: header["network"].update(levels=-1),
    "levels are a word": lambda header: header["network"].update(levels="2"),
    "0 features": lambda header: header["network"].update(features=0),
    "-4 features": lambda header: header["network"].update(features=-4),
    "unknown setting": lambda header: header["network"].update(surprise=1),
    "K missing": lambda header: header["network"].pop("ks"),
    "network missing": lambda header: header.pop("network"),
    "network is a list": lambda header: header.update(network=[]),
    "card missing": lambda header: header.pop("card"),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_settings_that_mean_nothing_get_a_sentence(what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    saved(path)
    edited(path, NONSENSE[what])
    with pytest.raises(InputError):
        load_checkpoint(path)


@pytest.mark.parametrize("header", ["", "{", "[]", "3", '"text"'])
def test_a_header_that_is_not_ours_gets_a_sentence(header: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata={"stseg": header})
    with pytest.raises(InputError):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "change", [{"features": 10**9}, {"levels": 60}, {"ks": [4, 10**9]}, {"ks": [4, 1]}]
)
def test_no_memory_is_taken_for_what_a_file_claims(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    saved(path)
    edited(path, lambda header: header["network"].update(change))
    with pytest.raises(InputError, match=r"that STSeg does not make|describes no network"):
        load_checkpoint(path)


def test_weights_that_are_not_numbers_get_a_sentence(tmp_path: Path) -> None:
    network = SegmentationNetwork(SMALL)
    with torch.no_grad():
        network.heads["2"].weight[0] = torch.nan
    save_checkpoint(tmp_path / "a.safetensors", network, {})
    with pytest.raises(InputError, match=r"weights that are not numbers \(heads\.2\.weight\)"):
        load_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"levels": True},
        {"relative": 1},
        {"levels": 2.0},
        {"features": float("nan")},
        {"features": float("inf")},
        {"ks": [4, 2, 2]},
        {"ks": [4, 2] * 10**5},
        {"ks": [4.0, 2]},
        {"ks": "42"},
        {"ks": {"4": 2}},
    ],
)
def test_numbers_of_another_kind_get_a_short_sentence(
    change: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    saved(path)
    edited(path, lambda header: header["network"].update(change))
    with pytest.raises(InputError, match=r"does not make|describes no network") as error:
        load_checkpoint(path)
    assert len(str(error.value)) < 600


def test_a_header_of_a_million_brackets_gets_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata={"stseg": "[" * 10**6})
    with pytest.raises(InputError, match="its header has no settings"):
        load_checkpoint(path)


def test_no_weight_is_read_before_its_shape_is_known(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    network = SegmentationNetwork(SMALL)
    header = {"format": FORMAT, "network": asdict(SMALL), "card": {}}
    many = {**network.state_dict(), "more": torch.full((2**24,), torch.nan)}  # 64 MiB
    write_tensors(path, many, header)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    with pytest.raises(InputError, match="do not fit the network"):
        load_checkpoint(path)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults * resource.getpagesize() < 2**25  # half of it


def test_a_file_too_large_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    saved(path)
    with path.open("r+b") as file:
        file.truncate(2**31 + 1)
    with pytest.raises(InputError, match=r"has 2,048 MiB, but a checkpoint has at most 2,048"):
        load_checkpoint(path)
