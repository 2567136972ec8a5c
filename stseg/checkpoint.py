"""Checkpoints: weights as safetensors, with the card that says how they came about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stseg.errors import InputError
from stseg.files import write_atomically
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.records import K_RANGE

FORMAT = 1

MOST_LEVELS = 8
MOST_FEATURES = 1024
"""Of a network that a file may ask for."""

_KEY = "stseg"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and its card.

    Attributes:
        network: the network, on the CPU, in evaluation mode.
        card: settings, data, loss, date and figures, as JSON values.
    """

    network: SegmentationNetwork
    card: Mapping[str, Any]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header as one safetensors file, atomically."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(contiguous, metadata={_KEY: json.dumps(header)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON header of a file of ``write_tensors``. No pickle is involved.

    Raises:
        InputError: the file is missing, truncated, or not one of ours.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}. Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY)
            names = file.keys()  # the file itself cannot be iterated over
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({error}). Fetch or train it again."
        ) from error
    try:
        read = json.loads(header or "")
    except json.JSONDecodeError:
        read = None
    if not isinstance(read, dict):
        raise InputError(f"{path} is not a checkpoint of STSeg: its header has no settings.")
    return tensors, read


def save_checkpoint(path: Path, network: SegmentationNetwork, card: Mapping[str, Any]) -> None:
    """Write the weights of ``network`` and ``card`` to ``path`` (.safetensors), atomically."""
    header = {"format": FORMAT, "network": asdict(network.settings), "card": dict(card)}
    write_tensors(path, network.state_dict(), header)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of ``save_checkpoint``.

    Raises:
        InputError: missing or truncated file, another format, or weights that do not fit the
            network that the header describes.
    """
    tensors, header = read_tensors(path)
    if header.get("format") != FORMAT:
        raise InputError(
            f"{path} has format {header.get('format')}, and this version reads {FORMAT}. "
            "Update STSeg, or train the model again."
        )
    try:
        described = header["network"]
        if not isinstance(header["card"], dict):
            raise TypeError("its card is no table")
        settings = NetworkSettings(**{**described, "ks": tuple(described["ks"])})
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"The header of {path} describes no network ({error}). "
            "The file is damaged or was edited; fetch or train it again."
        ) from error
    _check_shapes(path, settings, tensors)
    network = SegmentationNetwork(settings)
    network.load_state_dict(tensors)
    return Checkpoint(network.channels_last().eval(), header["card"])


def _check_shapes(path: Path, settings: NetworkSettings, tensors: Mapping[str, Tensor]) -> None:
    """Whether these are the weights of that network, before any memory is taken for it.

    Raises:
        InputError: they are not, or one of them is not finite.
    """
    levels, features = settings.levels, settings.features
    heads = all(isinstance(k, int) and K_RANGE[0] <= k <= K_RANGE[1] for k in settings.ks)
    if not heads or levels > MOST_LEVELS or features > MOST_FEATURES:
        raise InputError(
            f"{path} describes a network that STSeg does not make ({settings}). "
            "The file is damaged or was edited; fetch or train it again."
        )
    with torch.device("meta"):
        expected = SegmentationNetwork(settings).state_dict()
    if {name: tensor.shape for name, tensor in expected.items()} != {
        name: tensor.shape for name, tensor in tensors.items()
    } or not all(tensor.is_floating_point() for tensor in tensors.values()):
        raise InputError(
            f"The weights in {path} do not fit the network it describes ({settings}). "
            "The file is damaged or was edited; fetch or train it again."
        )
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise InputError(
            f"{path} has weights that are not numbers ({broken[0]}). Fetch or train it again."
        )
