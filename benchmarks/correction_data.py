"""What the correction of DIS is trained on: pairs of frames, what DIS offers, and the flow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from benchmarks.collages import collage
from benchmarks.recoded import recode
from stseg.flow import to_grid
from stseg.flow.candidates import Candidates
from stseg.flow.correction import Offered
from stseg.flow.dis import DIS
from stseg.flow.files import read_flow_file
from stseg.records import GRID
from stseg.synthetic import PATHS, SceneSettings, render
from stseg.video import probe, read_frames

SCENE_FRAMES, FIRST_SEED = 4, 1000
FIRST_COLLAGE = 50_000
PICTURES = 5
"""Frames of each sequence that collages are cut out of."""

Field = Float[np.ndarray, "2 h w"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Candidates and the flow that they are measured against, of n pairs, in pixels of the grid.

    Attributes:
        offered: what DIS offers.
        target: what it should be.
        lengths: pairs of each clip, one after the other.
    """

    offered: Offered
    target: Float[Tensor, "n 2 h w"]
    lengths: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.target)

    def triplets(self) -> Int64[Tensor, " m"]:
        """The first of every three pairs that follow one another in a clip."""
        ends = np.cumsum(self.lengths)
        firsts = [
            torch.arange(end - length, end - 2)
            for length, end in zip(self.lengths, ends, strict=True)
            if length > 2
        ]
        return torch.cat(firsts) if firsts else torch.empty(0, dtype=torch.int64)


def pairs_of(offered: list[Candidates], targets: list[Field]) -> Pairs:
    """Stack the pairs of one clip, in half precision: there are thousands."""
    stacked = [
        torch.from_numpy(np.stack([getattr(each, part.name) for each in offered])).half()
        for part in fields(Offered)
    ]
    target = torch.from_numpy(np.stack(targets)).half()
    return Pairs(Offered(*stacked), target, (len(target),))


def joined(parts: Sequence[Pairs]) -> Pairs:
    """All pairs of several clips."""
    names = [part.name for part in fields(Offered)]
    stacked = [torch.cat([getattr(part.offered, name) for part in parts]) for name in names]
    lengths = tuple(length for part in parts for length in part.lengths)
    return Pairs(Offered(*stacked), torch.cat([part.target for part in parts]), lengths)


def sequence_pairs(
    root: Path, name: str, crf: int | None = None, night: int | None = None
) -> Pairs:
    """Every pair of a sequence of ``davis16``, with its cached RAFT flow.

    Args:
        root: folder of the data set.
        name: of the sequence.
        crf: code the video anew with this quality of x264; the flow stays that of the source.
        night: seed of the dusk that falls on what is coded anew (``recoded.dusk``); None: none.
    """
    cached, size = read_flow_file(root / f"flows/raft-sintel/{name}.npz")
    sites = np.divide(GRID, size, dtype=np.float32)[::-1].reshape(2, 1, 1)
    video = root / f"videos/{name}.mp4"
    with TemporaryDirectory() as folder:
        if crf is not None:
            recode(video, Path(folder) / f"{name}.mp4", crf, night=night)
            video = Path(folder) / f"{name}.mp4"
        offered = _offered(read_frames(probe(video)))
    return pairs_of(offered, [field.astype(np.float32) * sites for field in cached])


def scene_pairs(index: int) -> Pairs:
    """Every pair of a short rendered clip, noisy and coded as JPEG, with its exact flow."""
    rng = np.random.default_rng(index)
    size, fastest = ((480, 854), 14.0) if index % 2 else ((240, 427), 7.0)
    settings = SceneSettings(
        size=size,
        frames=SCENE_FRAMES,
        objects=int(rng.integers(2, 6)),
        seed=FIRST_SEED + index,
        speed=float(np.exp(rng.uniform(0, np.log(fastest)))),
        paths=PATHS[index // 2 % 2],
    )
    clip = render(settings)
    noise, quality = rng.uniform(0, 4), int(rng.integers(60, 97))
    frames = (_coded(frame + rng.normal(0, noise, frame.shape), quality) for frame in clip.frames)
    sites = np.divide(GRID, size, dtype=np.float32)[::-1].reshape(2, 1, 1)
    targets = [to_grid(field.transpose(1, 2, 0), GRID) * sites for field in clip.flow]
    return pairs_of(_offered(frames), targets)


def pictures(root: Path, names: Sequence[str]) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Some frames of sequences of ``davis16``, all of the size of the first."""
    chosen: list[UInt8[np.ndarray, "h w 3"]] = []
    for name in names:
        frames = list(read_frames(probe(root / f"videos/{name}.mp4")))
        which = np.linspace(0, len(frames) - 1, PICTURES).astype(int)
        chosen += [frames[index] for index in which]
    return [each for each in chosen if each.shape == chosen[0].shape]


def collage_pairs(index: int, cut_from: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Pairs:
    """Every pair of a collage, noisy and coded as JPEG, with its exact flow."""
    rng = np.random.default_rng(FIRST_COLLAGE + index)
    frames, flow = collage(rng, cut_from)
    noise, quality = rng.uniform(0, 3), int(rng.integers(55, 97))
    coded = (_coded(frame + rng.normal(0, noise, frame.shape), quality) for frame in frames)
    size = cut_from[0].shape[:2]
    sites = np.divide(GRID, size, dtype=np.float32)[::-1].reshape(2, 1, 1)
    return pairs_of(_offered(coded), [to_grid(field, GRID) * sites for field in flow])


def _coded(frame: Float[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "h w 3"]:
    whole = np.clip(np.rint(frame), 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", whole, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def _offered(frames: Iterator[UInt8[np.ndarray, "h w 3"]]) -> list[Candidates]:
    dis, before, offered = DIS(), None, []
    for frame in frames:
        now = dis.prepare(frame)
        if before is not None:
            offered.append(dis.candidates(before, now))
        before = now
    return offered


def sample(
    pairs: Pairs,
    own: Float[Tensor, "n h w"],
    which: Int64[Tensor, " b"],
    window: tuple[int, int],
    generator: torch.Generator,
) -> tuple[Offered, Tensor, Tensor]:
    """One window of some pairs, mirrored now and then, with other colours and contrast.

    Args:
        pairs: of all clips.
        own: how far each site moves by itself.
        which: the pairs.
        window: rows and columns, at most.
        generator: draws the rest.

    Returns:
        What is offered, the target, and how far each site moves by itself.
    """

    def up_to(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    height, width = pairs.target.shape[2:]
    rows, columns = min(window[0], height), min(window[1], width)
    top, left = up_to(height - rows + 1), up_to(width - columns + 1)

    def seen(of: Tensor) -> Tensor:
        return of[which][..., top : top + rows, left : left + columns].float()

    flows, believed, changed, guide = (
        seen(getattr(pairs.offered, part.name)) for part in fields(Offered)
    )
    target, moves = seen(pairs.target), seen(own)
    for axis, share in ((-1, 0.5), (-2, 0.3)):  # u turns round with columns, v with rows
        if torch.rand((), generator=generator) >= share:
            continue
        signs = torch.tensor([-1.0, 1.0] if axis == -1 else [1.0, -1.0]).view(2, 1, 1)
        flows, target = flows.flip(axis) * signs, target.flip(axis) * signs
        believed, changed, guide, moves = (
            each.flip(axis) for each in (believed, changed, guide, moves)
        )
    contrast = math.exp(float(torch.rand((), generator=generator)) - 0.5)
    guide = guide[:, torch.randperm(3, generator=generator)] * contrast
    return Offered(flows, believed, changed * contrast, guide), target, moves
