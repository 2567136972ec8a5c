"""Small pieces of the long work, and what must hold of their files after a kill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from stseg import cli
from stseg.checkpoint import save_checkpoint
from stseg.datasets import read_training_flows
from stseg.device import choose_device
from stseg.flow import weights
from stseg.flow.cache import FlowCache
from stseg.network import NetworkSettings, SegmentationNetwork
from stseg.spool import Spool
from stseg.synthetic import SceneSettings, render
from stseg.synthetic_files import write_clip
from stseg.tensor_files import read_tensors
from stseg.train_settings import Stage, TrainSettings
from stseg.training import Trainer
from stseg.video import probe, read_frames
from stseg.volume import FlowFields

WEIGHTS = b"weights " * 65536


@dataclass(frozen=True)
class Work:
    """A piece of work in a folder of its own.

    Attributes:
        run: does it; doing it again after a kill must succeed.
        results: what came out, for comparison with an undisturbed run.
    """

    run: Callable[[Path], None]
    results: Callable[[Path], Mapping[str, object]]


def prepare(data: Path) -> None:
    """Make what all work starts from: clips with truth, a tiny model, flow to train on."""
    for seed in (1, 2):
        scene = SceneSettings(size=(64, 96), frames=6, objects=2, seed=seed, speed=2.0)
        write_clip(render(scene), data / "clips", f"clip{seed}")
    network = SegmentationNetwork(NetworkSettings(levels=2, features=8, ks=(2, 3)))
    save_checkpoint(data / "tiny.safetensors", network, {"note": "untrained"})
    (data / "weights.pth").write_bytes(WEIGHTS)


def command(*words: str) -> None:
    """A command line, in this process. Raises RuntimeError where it does not succeed."""
    status = cli.main(words)
    if status:
        raise RuntimeError(f"{words} ended with status {status}")


def works(data: Path, server: str) -> dict[str, Work]:
    """All of them; ``data`` is what ``prepare`` filled, ``server`` where its weights are."""
    clip, model = data / "clips" / "clip1.mp4", str(data / "tiny.safetensors")
    flow = data / "clips" / "clip1.npz"

    def segment(folder: Path) -> None:
        words = ("segment", str(clip), "--out", str(folder / "out"), "--model", model, "--k", "2")
        command(*words, "--also", "coco", "soft", "flow", "settings", "foreground")

    def segmented(folder: Path) -> Mapping[str, object]:
        out = folder / "out"
        labels = sorted((out / "labels").glob("*.png"))
        return {
            "labels": np.load(out / "labels.npz")["labels"].tobytes(),
            "pictures": [np.asarray(Image.open(path)).tobytes() for path in labels],
            "overlay": sum(1 for _ in read_frames(probe(out / "overlay.mp4"))),
        }

    def fit(folder: Path) -> None:
        size = ("--size", "32", "32", "--steps", "2", "--batch", "1", "--k", "2")
        (folder / "fitted.safetensors").unlink(missing_ok=True)  # a fit replaces none
        command("fit", str(clip), "--out", str(folder), "--model", model, *size)

    def evaluate(folder: Path) -> None:
        words = ("evaluate", "--root", str(data / "clips"), "--flow", "dis", "--model", model)
        command(*words, "--k", "2", "--json", str(folder / "scores.json"))

    def scores(folder: Path) -> Mapping[str, object]:
        report = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        return {
            name: {key: value for key, value in score.items() if key != "seconds"}
            for name, score in report["sequences"].items()
        }

    def train(folder: Path) -> None:
        base = TrainSettings(network=NetworkSettings(levels=2, features=8, ks=(2,)))
        stages = (Stage((24, 32), 6, 5e-4),)
        settings = replace(base, stages=stages, batch=1, validate_every=2)
        sequences = read_training_flows([data / "clips"])
        device = choose_device("cpu", bfloat16=False)
        for _ in Trainer(settings, sequences, folder / "run", device, save_seconds=0).run():
            pass

    def fetch(folder: Path) -> None:
        digest = hashlib.sha256(WEIGHTS).hexdigest()
        weights.PUBLISHED["tiny"] = weights.Published(server, digest, None, "made here")
        weights.fetch_weights("tiny")

    def keep(folder: Path) -> None:
        fields, cache = _fields(flow), FlowCache(folder / "cache")
        for key in ("one", "two", "three"):
            cache.store(key, fields)

    def kept(folder: Path) -> Mapping[str, object]:
        found = {key: FlowCache(folder / "cache").load(key, False) for key in ("one", "three")}
        return {key: None if f is None else _bytes(f.forward) for key, f in found.items()}

    return {
        "train": Work(train, lambda f: _tensors(f / "run" / "best.safetensors")),
        "fit": Work(fit, lambda f: _tensors(f / "fitted.safetensors")),
        "segment": Work(segment, segmented),
        "evaluate": Work(evaluate, scores),
        "weights": Work(fetch, lambda f: {"w": _only(f / "cache" / "weights").read_bytes()}),
        "cache": Work(keep, kept),
    }


def broken(folder: Path) -> list[str]:
    """Files under their final names that are not whole; empty where all is well."""
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            try:
                _read(path)
            except Exception as error:  # noqa: BLE001 - whatever a half-written file causes
                found.append(f"{path.relative_to(folder)}: {error!r}")
    return found


def unfinished(folder: Path) -> list[Path]:
    """What was in the making when the kill came: hidden files and folders."""
    return [path for path in folder.rglob(".*") if not path.name.startswith(".stseg-key")]


def _read(path: Path) -> None:
    if path.suffix == ".safetensors":
        read_tensors(path)
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            for name in arrays.files:
                assert arrays[name].size
    elif path.suffix == ".npy":
        np.load(path).tobytes()
    elif path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".png":
        Image.open(path).load()
    elif path.suffix == ".mp4":
        clip = probe(path)
        assert sum(1 for _ in read_frames(clip)) == clip.frames > 0
    elif path.suffix == ".pth":
        assert path.read_bytes() == WEIGHTS
    elif path.suffix == ".csv":
        assert path.read_text(encoding="utf-8").endswith("\n")


def _tensors(path: Path) -> dict[str, object]:
    return {name: tensor.numpy().tobytes() for name, tensor in read_tensors(path)[0].items()}


def _fields(path: Path) -> FlowFields:
    fields = FlowFields()
    for field in np.load(path)["flow"]:
        fields.forward.append(field.astype(np.float16))
    return fields


def _bytes(spool: Spool) -> bytes:
    return b"".join(field.tobytes() for field in spool)


def _only(folder: Path) -> Path:
    (path,) = folder.glob("*.pth")
    return path
