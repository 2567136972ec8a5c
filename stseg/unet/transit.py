"""Transits: what carries the features of one level from the left of the U to its right.

``Skip`` is the paper's. The others act at the bottleneck, where a site sees the most, and skip
elsewhere.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stseg.unet.blocks import Spec
from stseg.unet.conv import Conv3d
from stseg.unet.norms import InstanceNorm


class Skip(nn.Module):
    """The identity (the paper's transit)."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Return ``x``."""
        return x


class BottleneckAttention(nn.Module):
    """Self-attention over all sites and instants of the bottleneck, added to its input.

    Positions are not encoded: the convolutions around know where they are. The last layer starts
    at zero, so that a fresh network is the one with ``Skip``.
    """

    HEAD_CHANNELS = 32

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.active = spec.bottleneck
        if self.active:
            c = spec.channels_in
            self.heads = max(1, c // self.HEAD_CHANNELS)
            self.norm = InstanceNorm(c)
            self.to_qkv = Conv3d(c, 3 * c, (1, 1, 1))
            self.to_out = Conv3d(c, c, (1, 1, 1))
            nn.init.zeros_(self.to_out.weight)
            if self.to_out.bias is not None:
                nn.init.zeros_(self.to_out.bias)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Attend at the bottleneck; elsewhere return ``x``."""
        if not self.active:
            return x
        qkv = self.to_qkv(self.norm(x)).flatten(2)  # (b, 3c, n), n = t h w
        q, k, v = (
            part.unflatten(1, (self.heads, -1)).transpose(2, 3)  # (b, heads, n, d)
            for part in qkv.chunk(3, dim=1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        mixed = mixed.transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[2:])
        return x + self.to_out(mixed)


class BottleneckRecurrence(nn.Module):
    """Convolutional GRU that runs forwards over the instants of the bottleneck.

    Accepts any number of instants: the state is handed from one to the next (Cho et al., 2014;
    Ballas et al., 2016).
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.active = spec.bottleneck
        if self.active:
            c = spec.channels_in
            self.gates = Conv3d(2 * c, 2 * c, (1, 3, 3))
            self.candidate = Conv3d(2 * c, c, (1, 3, 3))

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Run over time at the bottleneck; elsewhere return ``x``."""
        if not self.active:
            return x
        state = torch.zeros_like(x[:, :, :1])
        states = []
        for now in x.split(1, dim=2):
            update, reset = self.gates(torch.cat((now, state), 1)).sigmoid().chunk(2, dim=1)
            candidate = self.candidate(torch.cat((now, reset * state), 1)).tanh()
            state = (1 - update) * state + update * candidate
            states.append(state)
        return x + torch.cat(states, 2)
