"""Volume of optical flow → K soft masks, and the latent features that they are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stseg.errors import InputError
from stseg.global_motion import relative_flow
from stseg.unet import ARCHITECTURES, UNet
from stseg.unet.conv import Conv3d

FLOW_CHANNELS = 2
MIN_MAGNITUDE = 1e-3


@dataclass(frozen=True)
class NetworkSettings:
    """What defines a network.

    Attributes:
        architecture: name in ``stseg.unet.ARCHITECTURES``.
        levels: levels of the U-net.
        features: channels of its top level.
        ks: the numbers of segments it can give; each has a 1x1x1 head on the shared trunk.
        relative: it sees flow without the frame's global motion (``stseg.global_motion``; ours).

    Raises:
        InputError: for an unknown architecture, fewer than one level or feature, no K, or one
            below 2.
    """

    architecture: str = "paper"
    levels: int = 3
    features: int = 32
    ks: tuple[int, ...] = (4,)
    relative: bool = False

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise InputError(
                f"There is no architecture {self.architecture!r}. Choose one of "
                f"{', '.join(ARCHITECTURES)}."
            )
        if self.levels < 1 or self.features < 1:
            raise InputError(
                f"A network needs at least 1 level and 1 feature, not {self.levels} and "
                f"{self.features}."
            )
        if not self.ks or min(self.ks) < 2:
            given = ", ".join(map(str, self.ks)) or "none"
            raise InputError(
                f"A network tells at least 2 segments apart, but K is {given}. Give 2 or more."
            )

    def __str__(self) -> str:
        """What it is, in words."""
        return ", ".join(
            [
                f"the architecture {self.architecture}",
                f"{self.levels} levels",
                f"{self.features} features",
                f"K = {', '.join(map(str, self.ks))}",
                *(["flow without the global motion"] if self.relative else []),
            ]
        )


def normalise_flow(flow: Float[Tensor, "b 2 t h w"]) -> Float[Tensor, "b 2 t h w"]:
    """Flow divided by its mean magnitude over the volume: the network is blind to the scale.

    The divisor is at least 0.001 px, so that a volume without any motion stays one of zeros.
    """
    magnitude = torch.hypot(flow[:, :1], flow[:, 1:])  # much faster than a norm over two channels
    return flow / magnitude.mean(dim=(2, 3, 4), keepdim=True).clamp_min(MIN_MAGNITUDE)


class SegmentationNetwork(nn.Module):
    """The space-time network of Sec. 3.5: trunk, then one head for each K.

    With the default settings it is the paper's network of 1,335,940 parameters.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        blocks = ARCHITECTURES[settings.architecture]
        self.trunk = UNet(blocks, FLOW_CHANNELS, settings.features, settings.levels)
        self.heads = nn.ModuleDict(
            {str(k): Conv3d(settings.features, k, (1, 1, 1)) for k in settings.ks}
        )

    def channels_last(self) -> SegmentationNetwork:
        """Lay out the weights for channels-last convolutions, the fast layout; returns itself."""
        for parameter in self.parameters():
            if parameter.dim() == 5:
                parameter.data = parameter.data.to(memory_format=torch.channels_last_3d)
        return self

    def renew_head(self, k: int) -> None:
        """Draw the head for ``k`` anew; it can be trained then, whatever is frozen beside it."""
        head = self.heads[str(k)]
        assert isinstance(head, Conv3d)
        head.reset_parameters()
        head.requires_grad_()

    def spread_heads(self, factor: float, ks: Sequence[int]) -> None:
        """Multiply weights and biases of heads, for a start from which segments differ at once."""
        with torch.no_grad():
            for k in ks:
                for parameter in self.heads[str(k)].parameters():
                    parameter.mul_(factor)

    def features(self, volume: Float[Tensor, "b 2 t h w"]) -> Float[Tensor, "b c t h w"]:
        """Last-layer features of every site; ``volume`` is flow in any unit."""
        if self.settings.relative:
            volume = relative_flow(volume)
        out: Tensor = self.trunk(normalise_flow(volume))
        return out

    def masks(self, features: Float[Tensor, "b c t h w"], k: int) -> Float[Tensor, "b k t h w"]:
        """Soft masks, summing to 1 over k, in float32.

        Raises:
            InputError: when the network has no head for ``k``.
        """
        if str(k) not in self.heads:
            raise InputError(
                f"This network gives K = {', '.join(map(str, self.settings.ks))} segments, "
                f"not {k}. Choose one of these, or another model."
            )
        return torch.softmax(self.heads[str(k)](features).float(), dim=1)

    def logits(self, features: Float[Tensor, "b c t h w"]) -> dict[int, Float[Tensor, "b _ t h w"]]:
        """What the softmax takes, from every head at once: (b, k, t, h, w) for each K.

        One matrix product serves all heads, and its cost is a few hundredths of the trunk's.
        """
        ks = self.settings.ks
        heads = dict(self.heads.named_parameters())
        weight = torch.cat([heads[f"{k}.weight"] for k in ks]).flatten(1)
        bias = torch.cat([heads[f"{k}.bias"] for k in ks])
        sites = features.movedim(1, -1).flatten(1, 3)  # (b, s, c): free for channels-last
        planes = weight @ sites.mT + bias[:, None].to(features.dtype)  # (b, sum of ks, s)
        volumes = planes.unflatten(2, features.shape[2:])
        return dict(zip(ks, volumes.split(ks, dim=1), strict=True))

    def forward(self, volume: Float[Tensor, "b 2 t h w"], k: int) -> Float[Tensor, "b k t h w"]:
        """Soft masks of a volume of flow."""
        return self.masks(self.features(volume), k)
