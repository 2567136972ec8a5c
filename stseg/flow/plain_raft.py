"""RAFT as the authors' code runs it, without any of the short cuts of ``stseg.flow.raft``.

Written from princeton-vl/RAFT (``core/raft.py``, ``update.py``, ``extractor.py``, ``corr.py``) as
functions on a table of weights: both frames of each pair through the encoders, correlations pooled
and sampled by ``grid_sample``, mask and upsampling in every iteration, also in their test mode
(torchvision's RAFT does the same), default layout, float32. It is what speed is compared with, and
what the fast network must equal.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]


def conv(w: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """The convolution of that name; all are padded to keep the size."""
    kernel = w[f"{name}.weight"]
    padding = (kernel.shape[2] // 2, kernel.shape[3] // 2)
    return F.conv2d(x, kernel, w[f"{name}.bias"], stride, padding)


def norm(w: Weights, name: str, x: Tensor) -> Tensor:
    """Instance norm in fnet; in cnet batch norm (RAFT large) or none (RAFT small)."""
    if name.startswith("fnet"):
        return F.instance_norm(x)
    if f"{name}.weight" not in w:
        return x
    mean, variance = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    return F.batch_norm(x, mean, variance, w[f"{name}.weight"], w[f"{name}.bias"])


def encode(w: Weights, name: str, x: Tensor) -> Tensor:
    """Frames → features at 1/8."""
    x = F.relu(norm(w, f"{name}.norm1", conv(w, f"{name}.conv1", x, 2)))
    for layer in "123":
        for block in "01":
            at = f"{name}.layer{layer}.{block}"
            stride = 2 if layer != "1" and block == "0" else 1
            small = f"{at}.conv3.weight" in w
            y = x
            for index in range(1, 4 if small else 3):
                step = stride if index == (2 if small else 1) else 1
                y = conv(w, f"{at}.conv{index}", y, step)
                y = F.relu(norm(w, f"{at}.norm{index}", y))
            if stride > 1:
                x = norm(w, f"{at}.downsample.1", conv(w, f"{at}.downsample.0", x, stride))
            x = F.relu(x + y)
    return conv(w, f"{name}.conv2", x)


def sample(pyramid: list[Tensor], coordinates: Tensor, radius: int) -> Tensor:
    """Correlations (1, c, h, w) around ``coordinates`` (1, 2, h, w)."""
    _, _, h, w = coordinates.shape
    window = torch.arange(-radius, radius + 1.0, device=coordinates.device)
    delta = torch.stack(torch.meshgrid(window, window, indexing="ij"), -1)
    out = []
    for level, volume in enumerate(pyramid):
        centre = coordinates.permute(0, 2, 3, 1).reshape(h * w, 1, 1, 2) / 2**level
        x, y = (centre + delta).unbind(-1)
        rows, columns = volume.shape[2:]
        places = torch.stack([2 * x / (columns - 1) - 1, 2 * y / (rows - 1) - 1], -1)
        found = F.grid_sample(volume, places, align_corners=True)
        out.append(found.view(1, h, w, -1))
    return torch.cat(out, -1).permute(0, 3, 1, 2).contiguous()


def update(w: Weights, net: Tensor, inside: Tensor, seen: Tensor, flow: Tensor) -> Tensor:
    """The next state."""
    at = "update_block.encoder"
    seen = F.relu(conv(w, f"{at}.convc1", seen))
    if f"{at}.convc2.weight" in w:
        seen = F.relu(conv(w, f"{at}.convc2", seen))
    moved = F.relu(conv(w, f"{at}.convf2", F.relu(conv(w, f"{at}.convf1", flow))))
    moved = F.relu(conv(w, f"{at}.conv", torch.cat([seen, moved], 1)))
    x = torch.cat([inside, moved, flow], 1)
    at = "update_block.gru.conv"
    for suffix in ("1", "2") if f"{at}z1.weight" in w else ("",):
        hx = torch.cat([net, x], 1)
        z = torch.sigmoid(conv(w, f"{at}z{suffix}", hx))
        r = torch.sigmoid(conv(w, f"{at}r{suffix}", hx))
        q = torch.tanh(conv(w, f"{at}q{suffix}", torch.cat([r * net, x], 1)))
        net = (1 - z) * net + z * q
    return net


def upsample(w: Weights, net: Tensor, flow: Tensor) -> Tensor:
    """Flow at 1/8 → flow at the full size."""
    at, (_, _, rows, columns) = "update_block.mask", flow.shape
    if f"{at}.0.weight" not in w:
        size = (8 * rows, 8 * columns)
        return 8 * F.interpolate(flow, size, mode="bilinear", align_corners=True)
    mask = 0.25 * conv(w, f"{at}.2", F.relu(conv(w, f"{at}.0", net)))
    mask = mask.view(1, 1, 9, 8, 8, rows, columns).softmax(2)
    around = F.unfold(8 * flow, 3, padding=1).view(1, 2, 9, 1, 1, rows, columns)
    fine = (mask * around).sum(2).permute(0, 1, 4, 2, 5, 3)
    return fine.reshape(1, 2, 8 * rows, 8 * columns)


@torch.inference_mode()
def plain_raft(
    w: Weights, first: Float[Tensor, "1 3 h w"], second: Float[Tensor, "1 3 h w"], iterations: int
) -> Float[Tensor, "1 2 h w"]:
    """Flow between frames in [-1, 1] whose sides are multiples of 8, at least 128.

    Args:
        w: weights by the names of the authors' code, on the device of the frames.
        first: a frame.
        second: the next one.
        iterations: refinements.
    """
    small = w["fnet.conv1.weight"].shape[0] == 32
    hidden, radius = (96, 3) if small else (128, 4)
    one, other = encode(w, "fnet", torch.cat([first, second])).split(1)
    _, channels, rows, columns = one.shape
    volume = one.flatten(2).transpose(1, 2) @ other.flatten(2) / channels**0.5
    pyramid = [volume.view(rows * columns, 1, rows, columns)]
    for _ in range(3):
        pyramid.append(F.avg_pool2d(pyramid[-1], 2))
    context = encode(w, "cnet", first)
    net, inside = torch.tanh(context[:, :hidden]), torch.relu(context[:, hidden:])
    sides = (torch.arange(side, device=first.device) for side in (rows, columns))
    y, x = torch.meshgrid(*sides, indexing="ij")
    origin = torch.stack([x, y])[None].float()
    flow = torch.zeros_like(origin)
    for _ in range(iterations):
        net = update(w, net, inside, sample(pyramid, origin + flow, radius), flow)
        at = "update_block.flow_head"
        flow = flow + conv(w, f"{at}.conv2", F.relu(conv(w, f"{at}.conv1", net)))
        full = upsample(w, net, flow)
    return full


def plain_flow(
    w: Weights,
    first: UInt8[np.ndarray, "h w 3"],
    second: UInt8[np.ndarray, "h w 3"],
    iterations: int,
) -> Float32[np.ndarray, "h w 2"]:
    """Flow between RGB frames of any size, in pixels, on the device of the weights.

    Sides are padded by replication to a multiple of 8, half on each side, as the authors do for
    Sintel; and to 128 where they are smaller, since the coarsest correlations need two sites.
    """
    h, width = first.shape[:2]
    below, right = (max(128, side + -side % 8) - side for side in (h, width))
    top, left = below // 2, right // 2
    sides = (left, right - left, top, below - top)
    device = w["fnet.conv1.weight"].device
    one, other = (
        F.pad(
            2 * (torch.from_numpy(image).to(device).permute(2, 0, 1)[None] / 255) - 1,
            sides,
            mode="replicate",
        ).contiguous()
        for image in (first, second)
    )
    flow = plain_raft(w, one, other, iterations)[0, :, top : top + h, left : left + width]
    return flow.permute(1, 2, 0).cpu().numpy()
