"""Checkpoints: weights as safetensors, with the card that says how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from stseg.errors import InputError
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.records import K_RANGE
from stseg.tensor_files import MOST_HEADER, opened, write_tensors

FORMAT = 1

MOST_LEVELS = 8
MOST_FEATURES = 1024
"""Of a network that a file may ask for."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and its card.

    Attributes:
        network: the network, on the CPU, in evaluation mode.
        card: settings, data, loss, date and figures, as JSON values.
    """

    network: SegmentationNetwork
    card: Mapping[str, Any]


def save_checkpoint(path: Path, network: SegmentationNetwork, card: Mapping[str, Any]) -> None:
    """Write the weights of ``network`` and ``card`` to ``path`` (.safetensors), atomically."""
    header = {"format": FORMAT, "network": asdict(network.settings), "card": dict(card)}
    write_tensors(path, network.state_dict(), header)


def load_checkpoint(path: Path, header: int = MOST_HEADER) -> Checkpoint:
    """Read a checkpoint of ``save_checkpoint``.

    Args:
        path: the file.
        header: bytes that its header may have.

    Raises:
        InputError: missing or truncated file, another format, or weights that are not finite or
            do not fit the network that the header describes.
    """
    with opened(path, header) as (file, said):
        settings = _described(path, said)
        _check_shapes(path, settings, {name: file.get_slice(name) for name in file.keys()})  # noqa: SIM118
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise InputError(
            f"{path} has weights that are not numbers ({broken[0]}). Fetch or train it again."
        )
    network = SegmentationNetwork(settings)
    network.load_state_dict(tensors)
    return Checkpoint(network.channels_last().eval(), said["card"])


def _described(path: Path, header: Mapping[str, Any]) -> NetworkSettings:
    """The network that a header describes. Raises InputError where it is none that STSeg makes."""
    if "format" not in header and {"step", "rows"} <= header.keys():
        best = path.with_name("best.safetensors")
        raise InputError(
            f"{path} is the state of a training run, with which `stseg train` goes on, not a "
            "checkpoint. "
            + (f"Give {best}." if best.is_file() else f"Train on until there is {best}.")
        )
    if header.get("format") != FORMAT:
        raise InputError(
            f"{path} has format {str(header.get('format'))[:40]}, and this version reads "
            f"{FORMAT}. "
            "Update STSeg, or train the model again."
        )
    try:
        described = header["network"]
        if not isinstance(header["card"], dict):
            raise TypeError("its card is no table")
        settings = NetworkSettings(**{**described, "ks": tuple(described["ks"])})
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"The header of {path} describes no network ({str(error)[:200]}). "
            "The file is damaged or was edited; fetch or train it again."
        ) from error
    numbers = (settings.levels, settings.features, *settings.ks)
    whole = all(type(each) is int for each in numbers)  # True is no number of levels
    whole = whole and type(settings.relative) is bool
    heads = len(set(settings.ks)) == len(settings.ks) and max(settings.ks) <= K_RANGE[1]
    if not whole or not heads or numbers[0] > MOST_LEVELS or numbers[1] > MOST_FEATURES:
        raise InputError(
            f"{path} describes a network that STSeg does not make ({str(settings)[:200]}). "
            "The file is damaged or was edited; fetch or train it again."
        )
    return settings


def _check_shapes(path: Path, settings: NetworkSettings, found: Mapping[str, Any]) -> None:
    """Whether the weights in the file are those of that network, before any of them is read.

    Args:
        path: the file.
        settings: of the network.
        found: for each name, the slice of the file.

    Raises:
        InputError: they are not.
    """
    with torch.device("meta"):
        expected = SegmentationNetwork(settings).state_dict()
    shapes = {name: tuple(piece.get_shape()) for name, piece in found.items()}
    floating = all(piece.get_dtype() in ("F32", "F16", "BF16") for piece in found.values())
    if not floating or shapes != {name: tuple(tensor.shape) for name, tensor in expected.items()}:
        raise InputError(
            f"The weights in {path} do not fit the network it describes ({settings}). "
            "The file is damaged or was edited; fetch or train it again."
        )
