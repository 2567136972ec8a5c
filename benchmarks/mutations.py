"""Good files of every kind that is read, and seeded ways to break them."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from stseg.checkpoint import save_checkpoint
from stseg.flow import write_flow_file, write_flow_folder
from stseg.network import NetworkSettings, SegmentationNetwork

SIZE = (48, 64)
FRAMES = 6

VIDEOS: Mapping[str, tuple[str, str, str]] = {
    "mp4": (".mp4", "libx264", "yuv420p"),
    "webm": (".webm", "libvpx-vp9", "yuv420p"),
    "gif": (".gif", "gif", "rgb8"),
    "avi": (".avi", "mjpeg", "yuvj420p"),
}
FLOWS = ("npz", "zip", "flo")
KINDS = (*VIDEOS, "png-folder", *FLOWS, "safetensors", "pth")

EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 100_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def good_files(rng: np.random.Generator, folder: Path) -> dict[str, dict[str, bytes]]:
    """For each kind, the files that belong together, by name; a video is one file.

    Args:
        rng: decides what the pictures show.
        folder: where they may be made.
    """
    frames = [rng.integers(0, 255, (*SIZE, 3), np.uint8) for _ in range(FRAMES)]
    flow = rng.normal(0, 3, (FRAMES - 1, 2, *SIZE)).astype(np.float32)
    good = {
        kind: {f"a{suffix}": _video(folder / f"a{suffix}", frames, codec, pix_fmt)}
        for kind, (suffix, codec, pix_fmt) in VIDEOS.items()
    }
    good["png-folder"] = {
        f"{index}.png": cv2.imencode(".png", frame)[1].tobytes()
        for index, frame in enumerate(frames)
    }
    write_flow_file(folder / "a.npz", flow, SIZE)
    good["npz"] = {"a.npz": (folder / "a.npz").read_bytes()}
    write_flow_folder(folder / "flo", flow, "flo")
    good["flo"] = {path.name: path.read_bytes() for path in sorted((folder / "flo").iterdir())}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in good["flo"].items():
            archive.writestr(name, data)
    good["zip"] = {"a.zip": packed.getvalue()}
    torch.manual_seed(int(rng.integers(2**31)))
    network = SegmentationNetwork(NetworkSettings(levels=2, features=4, ks=(4, 2)))
    save_checkpoint(folder / "a.safetensors", network, {"note": "untrained"})
    good["safetensors"] = {"a.safetensors": (folder / "a.safetensors").read_bytes()}
    weights = {"module.fnet.conv1.weight": torch.randn(4, 3, 3, 3)}
    torch.save(weights, folder / "a.pth")
    good["pth"] = {"a.pth": (folder / "a.pth").read_bytes()}
    return good


def _video(path: Path, frames: list[np.ndarray], codec: str, pix_fmt: str) -> bytes:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *SIZE, pix_fmt
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path.read_bytes()


def truncated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The file breaks off."""
    return data[: int(rng.integers(len(data)))]


def flipped(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """1 to 64 bits are wrong, anywhere."""
    changed = bytearray(data)
    for place in rng.integers(len(data), size=int(rng.integers(1, 65))):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def edited(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A number near the start or the end, where headers are, is an extreme one."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        span = min(len(data) - 4, 1024)
        place = int(rng.integers(span))
        place = place if rng.random() < 0.7 else len(data) - 4 - place
        order = "<I" if rng.random() < 0.5 else ">I"
        changed[place : place + 4] = struct.pack(order, EXTREMES[rng.integers(len(EXTREMES))])
    return bytes(changed)


def spliced(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The start of one file and the end of another, perhaps of another kind."""
    return data[: int(rng.integers(len(data)))] + other[int(rng.integers(len(other))) :]


def blanked(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A stretch is zeros, or is there twice."""
    start, end = sorted(int(place) for place in rng.integers(len(data), size=2))
    middle = bytes(end - start) if rng.random() < 0.5 else 2 * data[start:end]
    return data[:start] + middle + data[end:]


MUTATIONS: tuple[Callable[[bytes, bytes, np.random.Generator], bytes], ...] = (
    truncated,
    flipped,
    edited,
    spliced,
    blanked,
)


def broken(
    good: Mapping[str, Mapping[str, bytes]], number: int, rng: np.random.Generator
) -> tuple[str, str, dict[str, bytes]]:
    """The kind, the mutation and the files of broken file ``number``: kinds and ways take turns."""
    kind = KINDS[number % len(KINDS)]
    mutation = MUTATIONS[(number // len(KINDS)) % len(MUTATIONS)]
    files = dict(good[kind])
    others = [data for each in good.values() for data in each.values()]
    name = sorted(files)[int(rng.integers(len(files)))]
    files[name] = mutation(files[name], others[int(rng.integers(len(others)))], rng)
    return kind, mutation.__name__, files
