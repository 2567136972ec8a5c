"""A small network that corrects DIS: of what a site may do, it chooses (ours)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from stseg.device import Device, choose_device
from stseg.errors import InputError
from stseg.flow.candidates import KINDS, Candidates
from stseg.tensor_files import SHIPPED, read_tensors, write_tensors

WEIGHTS = SHIPPED / "dis-correction.safetensors"

FEATURES = (32, 48, 64, 64)
"""Channels at a half, a quarter, an eighth and a sixteenth of the grid."""

_FILLED = KINDS.index("filled")
_FRAME = KINDS.index("frame")
_INPUTS = 2 * (len(KINDS) - 1) + 1 + len(KINDS) + 3 + 2

_LEAST = 0.02
"""Sites: smaller distances between the candidates are rounding."""

_REACH = 0.3
"""What is added to the choice, in mean distances of the frame's motion from what is filled in."""

_FORMAT = 1


class _Block(nn.Module):
    """Two convolutions, the second one beside a skip."""

    def __init__(self, channels_in: int, channels_out: int, halve: bool = False) -> None:
        super().__init__()
        kernel, stride = (4, 2) if halve else (3, 1)
        self.a = nn.Conv2d(channels_in, channels_out, kernel, stride, 1)
        self.b = nn.Conv2d(channels_out, channels_out, 3, 1, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d g v"]:
        x = F.leaky_relu(self.a(x), 0.1)
        return x + F.leaky_relu(self.b(x), 0.1)


class CorrectionNetwork(nn.Module):
    """How much each choice counts at each site, and what is added to the choice.

    A U-net of 2D convolutions that works at half of the grid's resolution and below, and tells the
    four sites of each place at the end. It sees how the candidates differ, so that it knows little
    of the motion of the camera.
    """

    def __init__(self) -> None:
        super().__init__()
        finer = list(pairwise(FEATURES))
        self.stem = _Block(_INPUTS, FEATURES[0], halve=True)
        self.down = nn.ModuleList(_Block(fine, coarse, halve=True) for fine, coarse in finer)
        self.up = nn.ModuleList(_Block(fine + coarse, fine) for fine, coarse in finer)
        self.head = nn.Conv2d(FEATURES[0], 4 * (len(KINDS) + 2), 3, 1, 1)

    def begin(self) -> None:
        """Start near what is filled in along edges: the head is small, its bias chooses that."""
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            bias = self.head.bias
            if bias is not None:
                bias.zero_()
                bias.view(-1, 4)[_FILLED] = 2.0

    def channels_last(self) -> CorrectionNetwork:
        """Lay out the weights for channels-last convolutions, the fast layout; returns itself."""
        for parameter in self.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.to(memory_format=torch.channels_last)
        return self

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n h w"]:
        """Logits of the choices, then two channels of what is added."""
        height, width = x.shape[2:]
        whole = 2 ** len(FEATURES)
        if height % whole or width % whole:
            x = F.pad(x, (0, -width % whole, 0, -height % whole), mode="replicate")
        kept = [self.stem(x)]
        for down in self.down:
            kept.append(down(kept[-1]))
        coarse = kept.pop()
        for up in reversed(self.up):
            fine = kept.pop()
            coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
            coarse = up(torch.cat([fine, coarse], dim=1))
        return F.pixel_shuffle(self.head(coarse), 2)[..., :height, :width]


@dataclass(frozen=True, eq=False)
class Offered:
    """``Candidates`` of a batch of pairs, as tensors; ``correct`` wants float32."""

    flows: Float[Tensor, "b 4 2 h w"]
    confidence: Float[Tensor, "b h w"]
    differences: Float[Tensor, "b 4 h w"]
    guide: Float[Tensor, "b 3 h w"]


def correct(
    network: CorrectionNetwork, offered: Offered, device: Device
) -> Float32[Tensor, "b 2 h w"]:
    """The flow that the network makes of what is offered, in pixels of the grid."""
    flows, guide = offered.flows, offered.guide
    filled = flows[:, _FILLED]
    apart = flows - filled.unsqueeze(1)
    size = filled.abs().sum(dim=1).mean(dim=(1, 2))
    spread = apart[:, _FRAME].abs().sum(dim=1).mean(dim=(1, 2)) + _LEAST * size
    scale = (spread + _LEAST).view(-1, 1, 1, 1)
    others = [kind for kind in range(len(KINDS)) if kind != _FILLED]
    unlike = apart[:, others].flatten(1, 2) / scale
    colours = (guide - guide.mean(dim=(2, 3), keepdim=True)) / 0.25
    known = torch.stack([scale.flatten(), size + 0.05], dim=1).log()[..., None, None]
    seen = torch.cat(
        [
            unlike.sign() * unlike.abs().log1p(),
            offered.confidence.unsqueeze(1),
            offered.differences / 0.05,
            colours,
            known.expand(-1, -1, *filled.shape[2:]),
        ],
        dim=1,
    ).to(network.head.weight.dtype, memory_format=torch.channels_last)
    with device.autocast():
        told = network(seen)
    told = told.float()
    weights = told[:, : len(KINDS)].softmax(dim=1).unsqueeze(2)
    added = _REACH * spread.view(-1, 1, 1, 1) * told[:, len(KINDS) :]
    return (weights * flows).sum(dim=1) + added


class Correction:
    """The network with its weights, for NumPy and one pair at a time; safe between threads.

    Raises:
        InputError: the weights are not there, damaged, or those of another network.
    """

    def __init__(self, path: Path = WEIGHTS) -> None:
        self._device = choose_device("cpu")
        network = load_correction(path)
        # As autocast has them, once instead of for each pair.
        self._network = network.bfloat16() if self._device.bfloat16 else network

    def __call__(self, candidates: Candidates) -> Float32[np.ndarray, "h w 2"]:
        """The corrected flow of a pair, in pixels of the grid."""
        parts = candidates.flows, candidates.confidence, candidates.differences, candidates.guide
        offered = Offered(*(torch.from_numpy(part)[None] for part in parts))
        with torch.inference_mode():
            flow = correct(self._network, offered, self._device)[0]
        return np.ascontiguousarray(flow.permute(1, 2, 0).numpy())


def load_correction(path: Path = WEIGHTS) -> CorrectionNetwork:
    """The network with the weights of a file of ``save_correction``.

    Raises:
        InputError: the file is missing, damaged, or of another network.
    """
    tensors, header = read_tensors(path)
    network = CorrectionNetwork()
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    fits = header.get("format") == _FORMAT and found == expected
    if not fits or not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise InputError(
            f"{path} does not hold the weights that correct DIS. Fetch it again, or choose "
            "dis-plain, which needs none."
        )
    network.load_state_dict(tensors)
    return network.channels_last().eval()


def save_correction(path: Path, network: CorrectionNetwork, card: Mapping[str, Any]) -> None:
    """Write weights and card to ``path`` (.safetensors), atomically."""
    write_tensors(path, network.state_dict(), {"format": _FORMAT, "card": dict(card)})
