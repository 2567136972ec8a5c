"""RAFT (Teed and Deng, ECCV 2020), large and small, in plain torch.

Modules carry the names of the authors' code, so that their published weights load key for key.
What concerns one frame alone (the two encoders) runs once a frame, what concerns the context alone
once a pair, and the mask of the upsampling after the last iteration. ``RaftNetwork.fold`` rewrites
loaded weights into these sums of fewer operations; the result is the same but for rounding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stseg.device import Device, Frugal, choose_device
from stseg.errors import InputError
from stseg.flow.weights import load_raft_weights
from stseg.flow.winograd import Conv, Convolution, Direct, Winograd

MAX_PIXELS = 600_000
"""Larger frames are reduced to this area: the correlation volume grows with its square."""

STRIDE = 8


@dataclass(frozen=True)
class RaftSize:
    """What distinguishes RAFT large from RAFT small.

    Attributes:
        small: whether blocks are bottlenecks, GRUs 3x3, and upsampling bilinear.
        stem: channels after the first convolution.
        widths: channels of the three stages of the encoders.
        features: channels of the correlated features.
        hidden: channels of the recurrent state.
        context: channels of the context.
        radius: of the window in which correlations are looked up.
    """

    small: bool
    stem: int
    widths: tuple[int, int, int]
    features: int
    hidden: int
    context: int
    radius: int


LARGE = RaftSize(False, 64, (64, 96, 128), 256, 128, 128, 4)
SMALL = RaftSize(True, 32, (32, 64, 96), 128, 96, 64, 3)
LEVELS = 4


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "instance":  # as group norm it keeps the channels-last layout
        return nn.GroupNorm(channels, channels, affine=False)
    return nn.Identity()


def _fuse(module: nn.Module, conv: str, norm: str) -> None:
    """Take a batch normalisation into the convolution before it."""
    before, after = getattr(module, conv), getattr(module, norm)
    if isinstance(after, nn.BatchNorm2d):
        setattr(module, conv, fuse_conv_bn_eval(before, after))
        setattr(module, norm, nn.Identity())


class _Block(nn.Module):
    """Residual block; a bottleneck in RAFT small."""

    def __init__(
        self, channels_in: int, channels: int, norm: str, stride: int, small: bool
    ) -> None:
        super().__init__()
        kernels = (1, 3, 1) if small else (3, 3)
        middle = channels // 4 if small else channels
        self.count = len(kernels)
        before = channels_in
        for index, kernel in enumerate(kernels, start=1):
            after = channels if index == self.count else middle
            # The 3x3 convolution in the middle strides in a bottleneck, the first one elsewhere.
            step = stride if index == self.count - 1 else 1
            conv = nn.Conv2d(before, after, kernel, padding=kernel // 2, stride=step)
            setattr(self, f"conv{index}", conv)
            setattr(self, f"norm{index}", _norm(norm, after))
            before = after
        if stride > 1:
            last = _norm(norm, channels)
            setattr(self, f"norm{self.count + 1}", last)
            self.downsample = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride), last)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for index in range(1, self.count + 1):
            y = F.relu_(getattr(self, f"norm{index}")(getattr(self, f"conv{index}")(y)))
        if hasattr(self, "downsample"):
            x = self.downsample(x)
        return F.relu_(y.add_(x))

    def fold(self) -> None:
        """Take batch normalisations into the convolutions before them."""
        for index in range(1, self.count + 1):
            _fuse(self, f"conv{index}", f"norm{index}")
        if hasattr(self, "downsample"):
            _fuse(self.downsample, "0", "1")


class _Encoder(nn.Module):
    """Frame → features at 1/8 of its size."""

    def __init__(self, size: RaftSize, channels: int, norm: str) -> None:
        super().__init__()
        self.norm1 = _norm(norm, size.stem)
        self.conv1 = nn.Conv2d(3, size.stem, 7, 2, 3)
        before = size.stem
        for index, (width, stride) in enumerate(zip(size.widths, (1, 2, 2), strict=True), start=1):
            first = _Block(before, width, norm, stride, size.small)
            second = _Block(width, width, norm, 1, size.small)
            setattr(self, f"layer{index}", nn.Sequential(first, second))
            before = width
        self.conv2 = nn.Conv2d(before, channels, 1)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h8 w8"]:
        x = F.relu_(self.norm1(self.conv1(x)))
        for index in (1, 2, 3):
            x = getattr(self, f"layer{index}")(x)
        out: Tensor = self.conv2(x)
        return out

    def fold(self) -> None:
        """Take batch normalisations into the convolutions before them."""
        _fuse(self, "conv1", "norm1")
        for module in self.modules():
            if isinstance(module, _Block):
                module.fold()


class _MotionEncoder(nn.Module):
    """Looked-up correlations and flow so far → motion features."""

    def __init__(self, size: RaftSize) -> None:
        super().__init__()
        planes = LEVELS * (2 * size.radius + 1) ** 2
        correlation, flow, out = (96, (64, 32), 80) if size.small else (256, (128, 64), 126)
        self.convc1 = nn.Conv2d(planes, correlation, 1)
        if not size.small:
            self.convc2 = Conv(correlation, 192, 3, padding=1)
            correlation = 192
        self.small = size.small
        self.convf1 = nn.Conv2d(2, flow[0], 7, padding=3)
        self.convf2 = nn.Conv2d(flow[0], flow[1], 3, padding=1)
        self.conv = Conv(correlation + flow[1], out, 3, padding=1)

    def forward(self, flow: Tensor, correlation: Tensor) -> Tensor:
        seen = F.relu_(self.convc1(correlation))
        if not self.small:
            seen = F.relu_(self.convc2(seen))
        moved = F.relu_(self.convf2(F.relu_(self.convf1(flow))))
        out = F.relu_(self.conv(torch.cat([seen, moved], dim=1)))
        return torch.cat([out, flow.to(out.dtype)], dim=1)


@dataclass(frozen=True)
class _Pass:
    """Kernels of one pass of the GRU; z and r, which see the same picture, are joined.

    Attributes:
        method: how they are convolved.
        state: the part of z and r that sees the state.
        reset: the part of q that sees the state that r lets through.
        motion: the parts of z and r, and of q, that see the motion features.
        context: the part of z, r and q that sees the context, and their biases.
    """

    method: Convolution
    state: Tensor
    reset: Tensor
    motion: tuple[Tensor, Tensor]
    context: tuple[Tensor, Tensor]


class _GRU(nn.Module):
    """Convolutional GRU: one 3x3 pass in RAFT small, a 1x5 and a 5x1 pass in RAFT large.

    A convolution of joined pictures is a sum of one of each, and the context's stays the same
    through all iterations.
    """

    def __init__(self, hidden: int, context: int, motion: int, small: bool) -> None:
        super().__init__()
        self.channels = (hidden, context, motion)
        kernels = [(3, 3)] if small else [(1, 5), (5, 1)]
        self.suffixes = [""] if small else ["1", "2"]
        for suffix, kernel in zip(self.suffixes, kernels, strict=True):
            padding = (kernel[0] // 2, kernel[1] // 2)
            for gate in "zrq":
                conv = nn.Conv2d(sum(self.channels), hidden, kernel, padding=padding)
                setattr(self, f"conv{gate}{suffix}", conv)

    def fold(self, make: Callable[[tuple[int, int]], Convolution]) -> None:
        """Take the kernels apart by what they see."""
        hidden, self._passes = self.channels[0], []
        for suffix in self.suffixes:
            gates = [getattr(self, f"conv{gate}{suffix}") for gate in "zrq"]
            kernels = torch.cat([gate.weight for gate in gates])
            state, context, motion = kernels.split(self.channels, dim=1)
            bias = torch.cat([gate.bias for gate in gates])
            method = make(gates[0].kernel_size)
            both, q = slice(2 * hidden), slice(2 * hidden, None)
            self._passes.append(
                _Pass(
                    method,
                    method.weigh(state[both]),
                    method.weigh(state[q]),
                    (method.weigh(motion[both]), method.weigh(motion[q])),
                    (method.weigh(context), bias[:, None, None]),
                )
            )

    def seen(self, context: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What the gates (z and r, q) of each pass see of the context, once a pair."""
        out, size, hidden = [], (context.shape[2], context.shape[3]), self.channels[0]
        for each in self._passes:
            method, (weights, bias) = each.method, each.context
            product = method.multiply(method.spread(context), weights)
            gates = method.collect(product, size)
            z, q = (gates + bias.to(gates.dtype)).split([2 * hidden, hidden], dim=1)
            # Contiguous, since they are added in every iteration.
            last = torch.channels_last
            out.append((z.contiguous(memory_format=last), q.contiguous(memory_format=last)))
        return out

    def forward(self, h: Tensor, motion: Tensor, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
        size = (h.shape[2], h.shape[3])
        for each, (both, last) in zip(self._passes, seen, strict=True):
            method, moved = each.method, each.method.spread(motion)
            gates = method.multiply(moved, each.motion[0])
            gates = method.multiply(method.spread(h), each.state, gates)
            z, r = method.collect(gates, size).add_(both).sigmoid_().chunk(2, dim=1)
            q = method.multiply(moved, each.motion[1])
            q = method.multiply(method.spread(r * h), each.reset, q)
            h = torch.lerp(h, method.collect(q, size).add_(last).tanh_(), z)
        return h


class _FlowHead(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = Conv(channels, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(F.relu_(self.conv1(x)))
        return out


class _UpdateBlock(nn.Module):
    """One refinement: state, gates of the context, correlations, flow → state, flow's change."""

    def __init__(self, size: RaftSize) -> None:
        super().__init__()
        motion = 82 if size.small else 128
        self.encoder = _MotionEncoder(size)
        self.gru = _GRU(size.hidden, size.context, motion, size.small)
        self.flow_head = _FlowHead(size.hidden, 128 if size.small else 256)
        if not size.small:
            self.mask = nn.Sequential(
                nn.Conv2d(128, 256, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(256, STRIDE * STRIDE * 9, 1),
            )

    def forward(
        self, net: Tensor, seen: list[tuple[Tensor, Tensor]], correlation: Tensor, flow: Tensor
    ) -> tuple[Tensor, Tensor]:
        net = self.gru(net, self.encoder(flow, correlation), seen)
        return net, self.flow_head(net)


class _Correlation:
    """All pairs of features of two frames, at four scales of the second one.

    The authors reduce the correlations; here the features are, which is the same and cheaper.

    Args:
        first: features (1, c, h, w) of the first frame.
        second: features of the second frame.
        radius: of the window.
        before: correlations that are no longer used: their memory is, which new memory is slower
            than.
    """

    def __init__(
        self, first: Tensor, second: Tensor, radius: int, before: _Correlation | None = None
    ) -> None:
        channels = first.shape[1]
        self._radius = radius
        self._levels: list[tuple[Tensor, int, int]] = []
        rows = first[0].flatten(1).T / channels**0.5  # (h w, c)
        # Outside of the frame there are zeros, as the authors' bilinear sampling has it: a row
        # above, one below, and between two rows as many as a window can reach across.
        self._gap = gap = 2 * radius + 2
        for level in range(LEVELS):
            if level:
                second = F.avg_pool2d(second, 2)
            padded = F.pad(second, (0, gap, 1, 1))
            columns = padded[0].flatten(1)
            size = (rows.shape[0], columns.shape[1])
            volume = before._levels[level][0] if before else rows.new_empty(size)
            if volume.shape != size or volume.dtype != rows.dtype:
                volume = rows.new_empty(size)
            torch.mm(rows, columns, out=volume)
            self._levels.append((volume, second.shape[2], second.shape[3]))

    def look_up(self, coordinates: Float[Tensor, "2 h w"]) -> Float[Tensor, "1 c h w"]:
        """Bilinear samples of the window around each target, level by level.

        A window has one fraction of a pixel for all of its samples, so that it is one block of
        integer positions, blended four ways.
        """
        _, h, w = coordinates.shape
        radius, side = self._radius, 2 * self._radius + 1
        targets = coordinates.flatten(1)
        sites = torch.arange(h * w, device=targets.device)[:, None]
        down = torch.arange(-radius, radius + 2, device=targets.device)
        out = torch.empty(
            h * w, LEVELS, side, side, dtype=self._levels[0][0].dtype, device=targets.device
        )
        for level, (volume, rows, columns) in enumerate(self._levels):
            xy = targets / 2**level
            low = xy.floor()
            fx, fy = (xy - low).to(volume.dtype)[:, :, None, None]
            # Windows that lie outside see zeros alone, and may as well be near.
            left = low[0].long().clamp(-radius - 2, columns + radius) - radius
            row = (low[1, :, None].long() + down).clamp(-1, rows) + 1
            start = sites * volume.shape[1] + row * (columns + self._gap) + left[:, None]
            start = start.clamp_(min=0)  # the first row of the first site has no zeros before it
            # Every run of side + 1 neighbours in memory is a row of this view.
            runs = volume.view(-1).as_strided((volume.numel() - side, side + 1), (1, 1))
            block = runs.index_select(0, start.flatten()).view(-1, side + 1, side + 1)
            across = torch.lerp(block[:, :, :-1], block[:, :, 1:], fx)
            # The authors' windows run along x first.
            window = torch.lerp(across[:, :-1], across[:, 1:], fy)
            out[:, level] = window.transpose(1, 2)
        # Sites are rows: seen as a picture this is channels-last already.
        return out.view(1, h, w, -1).permute(0, 3, 1, 2)


class RaftNetwork(nn.Module):
    """RAFT from features of two frames to flow. See ``Raft`` for frames of any size.

    Args:
        size: ``LARGE`` or ``SMALL``.
    """

    def __init__(self, size: RaftSize = LARGE) -> None:
        super().__init__()
        self.size = size
        self.fnet = _Encoder(size, size.features, "instance")
        self.cnet = _Encoder(size, size.hidden + size.context, "none" if size.small else "batch")
        self.update_block = _UpdateBlock(size)
        self._correlation: _Correlation | None = None

    def fold(self, make: Callable[[tuple[int, int]], Convolution] = Direct) -> None:
        """Rewrite loaded weights for ``refine``: the network is for inference from here on.

        Args:
            make: method of convolution for a kernel (kh, kw), in the refinement.
        """
        self.eval()
        with torch.no_grad():
            self.cnet.fold()
            for module in self.modules():
                if isinstance(module, Conv | _GRU):
                    module.fold(make)
                elif isinstance(module, nn.Conv2d):
                    weight = module.weight.contiguous(memory_format=torch.channels_last)
                    module.weight = nn.Parameter(weight)

    def refine(
        self,
        first: Float[Tensor, "1 c h w"],
        second: Float[Tensor, "1 c h w"],
        context: Float[Tensor, "1 d h w"],
        iterations: int,
        start: Float[Tensor, "1 2 h w"] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> tuple[Float[Tensor, "1 2 h8 w8"], Float[Tensor, "1 2 h w"]]:
        """Flow at the full size, and at 1/8 of it, in pixels of each.

        Args:
            first: features of the first frame at 1/8 of its size.
            second: features of the second frame.
            context: output of the context encoder for the first frame.
            iterations: number of refinements.
            start: flow at 1/8 to start from; None starts from zero.
            check: called before each refinement; what it raises ends the work.
        """
        net, inside = context.split([self.size.hidden, self.size.context], dim=1)
        net, seen = torch.tanh(net), self.update_block.gru.seen(torch.relu(inside))
        correlation = _Correlation(first, second, self.size.radius, self._correlation)
        self._correlation = correlation
        h, w = first.shape[2:]
        y, x = torch.meshgrid(
            torch.arange(h, device=first.device, dtype=torch.float32),
            torch.arange(w, device=first.device, dtype=torch.float32),
            indexing="ij",
        )
        origin = torch.stack([x, y])
        flow = torch.zeros(1, 2, h, w, device=first.device) if start is None else start.float()
        for _ in range(iterations):
            check()
            found = correlation.look_up(origin + flow[0])
            net, change = self.update_block(net, seen, found, flow)
            flow = flow + change.float()
        if self.size.small:
            large = F.interpolate(flow, scale_factor=STRIDE, mode="bilinear", align_corners=True)
            return STRIDE * large, flow
        return self._upsample(flow, 0.25 * self.update_block.mask(net)), flow

    @staticmethod
    def _upsample(flow: Tensor, mask: Tensor) -> Tensor:
        """Convex combination of the 3x3 coarse neighbours of each fine site."""
        _, _, h, w = flow.shape
        weights = mask.float().view(1, 1, 9, STRIDE, STRIDE, h, w).softmax(dim=2)
        around = F.unfold(STRIDE * flow, 3, padding=1).view(1, 2, 9, 1, 1, h, w)
        fine = (weights * around).sum(dim=2)  # (1, 2, 8, 8, h, w)
        return fine.permute(0, 1, 4, 2, 5, 3).reshape(1, 2, STRIDE * h, STRIDE * w)


class _Prepared:
    """One frame, encoded; the context only when it is the first of a pair."""

    def __init__(self, raft: Raft, image: Tensor, size: tuple[int, int]) -> None:
        self.size = size  # (h, w) of the frame that the network sees, before padding
        self._raft = raft
        self._image = image

    def at(self, device: Device) -> None:
        """Be on this device; what was encoded on another one is encoded again."""
        if self._image.device.type != device.torch.type:
            self._image = self._image.to(device.torch)
            for name in ("features", "context"):
                self.__dict__.pop(name, None)

    @cached_property
    def features(self) -> Tensor:
        """Features that are correlated."""
        return self._raft.encode(self._raft.network.fnet, self._image)

    @cached_property
    def context(self) -> Tensor:
        """State and context that the refinement starts from."""
        return self._raft.encode(self._raft.network.cnet, self._image)


class Raft:
    """RAFT as a flow estimator.

    Frames of more than 600,000 pixels are reduced to that area (both sides by the same factor);
    vectors are reported in pixels of the source all the same. Sides are padded by replication to a
    multiple of 8, half on each side.

    Args:
        weights: a published weight file.
        iterations: refinements a pair; the authors use 12 to 32.
        device: where it runs.
        warm_start: start each pair from the flow of the pair before it, carried along itself to
            the frame where this pair begins, as the authors do on Sintel. A pair that does not go
            on from one of the last two (one for each direction) starts from zero.
        check: called before each encoder and each refinement; what it raises ends the work.

    Raises:
        InputError: the weights are not there, damaged, or of another architecture.
    """

    def __init__(
        self,
        weights: Path,
        iterations: int = 12,
        device: Device | None = None,
        warm_start: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        if iterations < 1:
            raise InputError(f"RAFT needs at least 1 iteration, not {iterations}.")
        self._device = device or choose_device()
        self._iterations = iterations
        self._warm_start = warm_start
        self._check = check
        self._last: deque[tuple[_Prepared, _Prepared, Tensor]] = deque(maxlen=2)
        self._weights = weights
        self._frugal = Frugal(self._device, self._move)
        self._move(self._device)

    def _move(self, device: Device) -> None:
        """Load the network anew: what is folded for one device does not serve another."""
        self._device = device
        state = load_raft_weights(self._weights)
        small = state["fnet.conv1.weight"].shape[:1] == (SMALL.stem,)
        self.network = RaftNetwork(SMALL if small else LARGE)
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(
                f"The weights in {self._weights} do not fit RAFT {'small' if small else 'large'}. "
                "Give one of the published files."
            ) from error
        self.network.to(device.torch)
        self.network.fold(self._method)

    def _method(self, kernel: tuple[int, int]) -> Convolution:
        """Winograd's convolutions where multiplications are slow and exact enough for them."""
        if self._device.torch.type == "cpu" and not self._device.bfloat16:
            return Winograd(kernel)
        return Direct(kernel, torch.bfloat16 if self._device.bfloat16 else torch.float32)

    def encode(self, encoder: nn.Module, image: Tensor) -> Tensor:
        """Run one encoder on a padded frame."""
        self._check()
        with torch.inference_mode(), self._device.autocast():
            out: Tensor = encoder(image)
            return out

    def prepare(self, image: UInt8[np.ndarray, "H W 3"]) -> Any:
        """One frame, reduced and padded; it is encoded when it is first needed."""
        height, width = image.shape[:2]
        scale = min(1.0, (MAX_PIXELS / (height * width)) ** 0.5)
        if scale < 1:
            height, width = (max(16, round(side * scale)) for side in (height, width))
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        tensor = torch.from_numpy(image).to(self._device.torch).permute(2, 0, 1)[None]
        tensor = 2 * (tensor.float() / 255) - 1
        padded = F.pad(tensor, _padding(height, width), mode="replicate")
        return _Prepared(
            self, padded.contiguous(memory_format=torch.channels_last), (height, width)
        )

    def between(
        self, first: Any, second: Any, size: tuple[int, int]
    ) -> Float32[np.ndarray, "h w 2"]:
        """Motion from the first prepared frame to the second, in pixels of a frame of ``size``."""
        start = self._start(first, second) if self._warm_start else None

        def refine(pair: Sequence[_Prepared], device: Device) -> tuple[Tensor, Tensor]:
            for frame in (first, second):
                frame.at(device)
            began = None if start is None else start.to(device.torch)
            with torch.inference_mode(), device.autocast():
                return self.network.refine(
                    first.features,
                    second.features,
                    first.context,
                    self._iterations,
                    began,
                    self._check,
                )

        ((flow, coarse),) = self._frugal.run([first], refine)
        if self._warm_start:
            self._last.append((first, second, coarse))
        height, width = first.size
        left, right, top, bottom = _padding(height, width)
        inside = flow[0, :, top : flow.shape[2] - bottom, left : flow.shape[3] - right]
        vectors = inside.permute(1, 2, 0).float().cpu().numpy()
        scale = np.array([size[1] / width, size[0] / height], np.float32)
        return vectors * scale

    def _start(self, first: _Prepared, second: _Prepared) -> Tensor | None:
        """Flow at 1/8 that the pair before tells of this one, or None."""
        for before, after, flow in self._last:
            if after is first and before is not second:
                return splat(flow, flow)  # what moved to a site moves on from there
            if before is second and after is not first:
                return splat(flow, -flow)  # backwards: the frame before this one was further on
        return None


def splat(
    flow: Float[Tensor, "1 2 h w"], along: Float[Tensor, "1 2 h w"]
) -> Float[Tensor, "1 2 h w"]:
    """Vectors carried ``along`` and scattered; each site takes the one that lands nearest to it.

    The authors' ``forward_interpolate``; a site is the pixel of the coarse flow.
    """
    _, _, h, w = flow.shape
    y, x = np.mgrid[:h, :w].astype(np.float32)
    sites = np.stack([x, y], axis=-1).reshape(-1, 2)
    vectors, moves = (
        each[0].permute(1, 2, 0).reshape(-1, 2).float().cpu().numpy() for each in (flow, along)
    )
    landed = sites + moves
    inside = ((landed > 0) & (landed < [w, h])).all(axis=1)
    if not inside.any():
        return torch.zeros_like(flow)
    _, nearest = cKDTree(landed[inside]).query(sites)
    carried = vectors[inside][nearest].reshape(h, w, 2).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(carried))[None].to(flow.device)


def _padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Left, right, top and bottom padding to a multiple of 8, and to at least 128 a side.

    The coarsest correlations are 1/64 of the frame: they need two sites a side.
    """
    columns = max(128, -(-width // STRIDE) * STRIDE) - width
    rows = max(128, -(-height // STRIDE) * STRIDE) - height
    return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2
