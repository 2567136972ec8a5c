"""What the network says of a few triplets, for several K from one pass of its trunk."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor

from stseg.device import Device, Frugal
from stseg.network import SegmentationNetwork
from stseg.refinement import refined_masks
from stseg.timeline import BATCH, Predict, Prediction, Triplet
from stseg.volume import Motion

_EPSILON = 1e-6


def quantised_masks(logits: Float[Tensor, "b k t h w"]) -> UInt8[Tensor, "b k t h w"]:
    """Softmax over k in steps of 1/255, as ``stseg.records.quantise`` has them."""
    # Volume by volume on a CPU, so that each stays in the cache between the steps.
    parts = logits.split(1) if logits.device.type == "cpu" else (logits,)
    soft = (torch.softmax(part.float(), dim=1) for part in parts)
    return torch.cat([part.mul_(255).round_().to(torch.uint8) for part in soft])


def best_segment(masks: UInt8[Tensor, "b k t h w"]) -> UInt8[Tensor, "b t h w"]:
    """The first k of the largest mask at each site: ``argmax``, but 50 times as fast on a CPU."""
    best = masks[:, 0]
    segments = torch.zeros_like(best)
    for index in range(1, masks.shape[1]):
        plane = masks[:, index]
        above = (plane > best).view(torch.uint8)
        segments = torch.maximum(segments, above * index)
        best = torch.maximum(best, plane)
    return segments


def latent_vectors(
    features: Float[Tensor, "b c t h w"],
    segments: Sequence[UInt8[Tensor, "b t h w"]],
    ks: list[int],
) -> list[Float32[Tensor, "b t _ c"]]:
    """The latent representation χ of each segment at each instant, for several partitions.

    χ is the mean over the sites of the segment of the last-layer features, after each channel was
    given zero mean and unit variance over its volume (all sites of all instants). Segments without
    a site get zeros.

    Args:
        features: last-layer features of the trunk.
        segments: a partition of the sites for each entry of ``ks``.
        ks: numbers of segments of the partitions.
    """
    found: list[list[Tensor]] = [[] for _ in ks]
    for index, volume in enumerate(features):
        sites = volume.movedim(0, -1).flatten(1, 2).float()  # (t, s, c)
        mean = sites.mean((0, 1))
        norm = torch.linalg.vector_norm(sites - mean, dim=(0, 1))  # one pass, not three
        deviation = norm / (sites.shape[0] * sites.shape[1]) ** 0.5 + _EPSILON
        # One product for each K, so that no K depends on which others are asked for.
        for each, k, partition in zip(found, ks, segments, strict=True):
            weights = _members(partition[index], k).float()
            areas = weights.sum(-1, keepdim=True)  # (t, k, 1)
            means = weights @ sites / areas.clamp_min(1)
            each.append(torch.where(areas > 0, (means - mean) / deviation, 0.0))
    return [torch.stack(each) for each in found]


def _members(segments: UInt8[Tensor, "t h w"], k: int) -> Bool[Tensor, "t k s"]:
    names = torch.arange(k, dtype=torch.uint8, device=segments.device)
    return segments.flatten(1)[:, None] == names[:, None]


def one_at_a_time(device: Device) -> bool:
    """Whether volumes go through the network singly.

    On a CPU a batch is not faster, and the first picture and a stop would wait for all of it.
    """
    return device.torch.type == "cpu"


class Predictor:
    """Runs the network on triplets of one clip, and shares what it finds between several K.

    The timelines of the K ask in lockstep for the same triplets. The first one to ask makes the
    trunk run, and the heads of all; the others take what was made for them, once each, so that
    nothing piles up.

    Args:
        network: in evaluation mode, on the device.
        device: where it runs.
        flow: of the clip; it grows.
        ks: the numbers of segments that will be asked for.
        check: called before every pass; it may raise.
        latents: whether anybody looks at χ; without, they have no channel.
        refine: whether masks are refined by the flow.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        device: Device,
        flow: Motion,
        ks: Sequence[int],
        check: Callable[[], None],
        latents: bool = True,
        refine: bool = False,
    ) -> None:
        self._network = network
        slow = one_at_a_time(device)
        self.batch = 1 if slow else BATCH
        """Triplets to ask for at a time."""
        self._frugal = Frugal(device, lambda to: network.to(to.torch), most=1 if slow else None)
        self._flow = flow
        self._ks = tuple(ks)
        self._check = check
        self._latents = latents
        self._refine = refine
        self._waiting: dict[tuple[tuple[Triplet, ...], bool], dict[int, Prediction]] = {}
        self.seconds = 0.0
        """Time spent in the network so far."""

    @property
    def notes(self) -> list[str]:
        """What had to be changed because memory ran out, as sentences."""
        return self._frugal.notes

    def of(self, k: int) -> Predict:
        """The predictions for one K."""
        return partial(self._take, k)

    def _take(self, k: int, triplets: Sequence[Triplet], backward: bool) -> Prediction:
        self._check()
        key = (tuple(triplets), backward)
        made = self._waiting.get(key, {})
        if k not in made:
            made = self._waiting[key] = self._predict(triplets, backward)
        taken = made.pop(k)
        if not made:
            del self._waiting[key]
        return taken

    def _predict(self, triplets: Sequence[Triplet], backward: bool) -> dict[int, Prediction]:
        start = time.perf_counter()
        parts = self._frugal.run(triplets, partial(self._pass, backward))
        made = (
            parts[0] if len(parts) == 1 else {k: _joined([p[k] for p in parts]) for k in self._ks}
        )
        self.seconds += time.perf_counter() - start
        return made

    def _pass(
        self, backward: bool, triplets: Sequence[Triplet], device: Device
    ) -> dict[int, Prediction]:
        self._check()
        volumes = np.stack([self._flow.volume(frames, backward) for frames in triplets])
        with torch.inference_mode():
            batch = torch.from_numpy(volumes).to(device.torch)
            with device.autocast():
                features = self._network.features(batch)
                logits = self._network.logits(features)
            masks = [
                refined_masks(logits[k], batch) if self._refine else quantised_masks(logits[k])
                for k in self._ks
            ]
            segments = [best_segment(each) for each in masks]
            seen = features if self._latents else features[:, :0]
            latents = latent_vectors(seen, segments, list(self._ks))
            return {
                k: Prediction(_numpy(m.transpose(1, 2)), _numpy(s), _numpy(x))
                for k, m, s, x in zip(self._ks, masks, segments, latents, strict=True)
            }


def _joined(parts: Sequence[Prediction]) -> Prediction:
    """The predictions of a batch that may have been made in parts."""
    if len(parts) == 1:
        return parts[0]
    columns = zip(*((each.masks, each.segments, each.latents) for each in parts), strict=True)
    return Prediction(*(np.concatenate(column) for column in columns))


def _numpy(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.cpu().numpy()
    return array
