"""A stranger's checkpoint looked through before anybody works with it."""

from __future__ import annotations

from pathlib import Path

import torch

from stseg.adaptation import trained_with
from stseg.checkpoint import load_checkpoint
from stseg.errors import InputError
from stseg.limits import Limits
from stseg.network import FLOW_CHANNELS

HEADER = 2**20
"""Bytes of a header; those of the models that ship have some thousands."""

LEVELS, FEATURES = 5, 64
"""Of a network: four times the work of the paper's, which has 3 and 32."""

_SIZE = (32, 56)


def vetted_model(path: Path, limits: Limits) -> tuple[int, ...]:
    """The K that a checkpoint gives, if it serves for segmenting and for a fit.

    It is read in this process: safetensors are made for files of strangers.

    Raises:
        InputError: it is no checkpoint of STSeg, is beyond a limit, tells of no training that can
            go on, or gives masks that are not numbers.
    """
    limits.check_weights(path.stat().st_size, path.name)
    checkpoint = load_checkpoint(path, HEADER)
    network = checkpoint.network
    settings = network.settings
    if settings.levels > LEVELS or settings.features > FEATURES:
        raise InputError(
            f"The network of {path.name} has {settings.levels} levels and {settings.features} "
            f"features, but at most {LEVELS} and {FEATURES} are taken here. Give a smaller one, or "
            "run STSeg on your own machine."
        )
    instants = trained_with(checkpoint).instants
    chance = torch.Generator().manual_seed(0)
    flow = torch.randn(1, FLOW_CHANNELS, instants, *_SIZE, generator=chance)
    with torch.no_grad():
        logits = network.logits(network.features(flow))
    if not all(each.isfinite().all() for each in logits.values()):
        raise InputError(
            f"The weights of {path.name} give masks that are not numbers. Fetch or train it again."
        )
    return settings.ks
