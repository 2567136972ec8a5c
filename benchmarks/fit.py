"""What a fit on the clip gains: ``python -m benchmarks.fit --root ../shared/davis16``.

Prints J and F of each sequence before and after a fit on its own flow, without labels, and their
means: with cached RAFT flow, with DIS flow of the MP4 frames, or both.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stseg.adaptation import Adaptation, AdaptationSettings
from stseg.checkpoint import load_checkpoint
from stseg.clip_flow import read_fields
from stseg.device import choose_device
from stseg.files import write_atomically
from stseg.flow.cache import FlowCache
from stseg.known_flow import cached_flow, flow_of
from stseg.layouts import find_clips
from stseg.pipeline import SegmentationRun, load_network
from stseg.records import Clip, Settings
from stseg.scoring import score
from stseg.variants import model_path
from stseg.volume import FlowFields

SUBSEQUENCE = 10
CACHED = "flows/raft-sintel"


def fields_of(clip: Clip, flow: str, root: Path) -> FlowFields:
    """Flow of a sequence: "cached" (RAFT) or the name of an estimator."""
    if flow == "cached":
        return cached_flow(flow_of(root / CACHED, clip.name), clip)
    reading = read_fields(clip, Settings(flow=flow), FlowCache())
    while True:
        try:
            next(reading)
        except StopIteration as ended:
            fields: FlowFields = ended.value
            return fields


def scores(clip: Clip, fields: FlowFields, model: str, k: int) -> tuple[float, float]:
    """J and F in percent, as Sec. 4.2 has it."""
    settings = Settings(k=k, model=model, linkage="greedy", subsequence=SUBSEQUENCE)
    run = SegmentationRun(clip, settings, load_network(model), fields)
    for _ in run.frames():
        pass
    result = score(run.result(), SUBSEQUENCE).to_json()
    return 100 * result["J"], 100 * result["F"]


def measured(
    clip: Clip, fields: FlowFields, model: str, fit: AdaptationSettings, at: Sequence[int]
) -> dict[str, object]:
    """Scores before the fit, at some steps on the way, and after it; losses and seconds."""
    found: dict[str, object] = {"0": scores(clip, fields, model, fit.k)}
    with tempfile.TemporaryDirectory(prefix="stseg-") as folder:
        path = Path(folder) / "fitted.safetensors"
        work = Adaptation(model, clip, fields, fit)
        begun, cpu = time.perf_counter(), time.process_time()
        losses: list[float] = []
        for progress in work.run(every=fit.steps):
            if progress.clip_losses is not None:
                losses.append(progress.clip_losses["loss"])
            if progress.step in at and progress.step < fit.steps:
                work.save(path)
                found[str(progress.step)] = scores(clip, fields, str(path), fit.k)
        seconds, used = time.perf_counter() - begun, time.process_time() - cpu
        work.save(path)
        found[str(fit.steps)] = scores(clip, fields, str(path), fit.k)
    return {"scores": found, "losses": losses, "seconds": seconds, "cpu_seconds": used}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of DAVIS2016")
    parser.add_argument("--sequences", nargs="+", default=None, help="else those of dev-val")
    parser.add_argument("--flow", nargs="+", default=["cached", "dis"], help="cached, dis, ...")
    parser.add_argument("--model", default="full", help="variant or checkpoint to start from")
    parser.add_argument("--k", type=int, default=4, help="number of segments")
    parser.add_argument("--beta", type=float, default=1.0, help="weight of L_c")
    parser.add_argument("--steps", type=int, default=AdaptationSettings.steps)
    parser.add_argument("--rate", type=float, default=AdaptationSettings.learning_rate)
    parser.add_argument("--size", type=int, nargs=2, default=AdaptationSettings.size)
    parser.add_argument("--at", type=int, nargs="*", default=[], help="steps to score at, too")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here, too")
    arguments = parser.parse_args()
    root = arguments.root
    names = arguments.sequences or (root / "splits" / "dev-val.txt").read_text().split()
    clips = {clip.name: clip for clip in find_clips(root)}
    fit = replace(
        AdaptationSettings(k=arguments.k, beta=arguments.beta, size=tuple(arguments.size)),
        steps=arguments.steps,
        learning_rate=arguments.rate,
    )
    card = load_checkpoint(model_path(arguments.model)).card
    print(f"{choose_device().name}, torch {torch.__version__}, {arguments.model}", end=" ")
    print(f"of {card.get('date')}, {fit}")
    kept: dict[str, dict[str, object]] = {}
    for flow in arguments.flow:
        means: dict[str, list[tuple[float, float]]] = {}
        for name in names:
            fields = fields_of(clips[name], flow, root)
            result = measured(clips[name], fields, arguments.model, fit, arguments.at)
            kept[f"{flow}/{name}"] = result
            told = result["scores"]
            assert isinstance(told, dict)
            for step, pair in told.items():
                means.setdefault(step, []).append(pair)
            line = ", ".join(f"step {s}: J {j:.1f} F {f:.1f}" for s, (j, f) in told.items())
            print(f"{flow:7s} {name:16s} {line}; L {result['losses']}", end="; ")
            print(f"{result['seconds']:.0f} s ({result['cpu_seconds']:.0f} s of CPU)", flush=True)
        for step, pairs in means.items():
            j, f = np.mean(pairs, axis=0)
            print(f"{flow}: mean of {len(pairs)} sequences at step {step}: J {j:.1f} F {f:.1f}")
    if arguments.json is not None:
        write_atomically(arguments.json, (json.dumps(kept, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
