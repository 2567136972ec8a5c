"""``python -m stseg segment``: a video in, linked labels and pictures out."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

NAME = "segment"
HELP = "Segment a video into K motions and write labels, videos and a summary."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("video", type=Path, help="video file, GIF, or folder of frames")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--k", type=int, default=4, help="number of segments, 2 to 8")
    parser.add_argument(
        "--tau",
        type=int,
        nargs="+",
        default=[1],
        help="temporal steps of the triplets; negative ones run backwards; the first is the "
        "reference, the others are averaged with it",
    )
    parser.add_argument(
        "--eta", type=float, default=0.01, help="fraction of sites that count as occluded, 0 to 1"
    )
    parser.add_argument(
        "--flow",
        default="dis",
        help="optical flow estimator (dis, raft-sintel, ...), or your own flow: an .npz file, or a "
        "folder of .flo or KITTI .png fields",
    )
    parser.add_argument("--weights", default=None, help="weight file of the estimator")
    parser.add_argument("--iterations", type=int, default=12, help="refinements of RAFT")
    parser.add_argument("--no-cache", action="store_true", help="compute the flow anew")
    parser.add_argument("--model", default="full", help="name of a variant, or a checkpoint file")
    parser.add_argument("--linkage", default="one-to-one", help="one-to-one, or greedy (the paper)")
    parser.add_argument(
        "--subsequence", type=int, default=0, help="link anew every so many frames; 0 never"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--frames", type=int, default=None, help="read no more than this many")


def run(arguments: argparse.Namespace) -> None:
    """Segment and export.

    Raises:
        InputError: something given is unusable.
    """
    from tqdm import tqdm

    from stseg.export import check_folder, export_all
    from stseg.flow.cache import FlowCache
    from stseg.pipeline import SegmentationRun
    from stseg.records import Settings
    from stseg.video import probe

    start = time.perf_counter()
    settings = Settings(
        k=arguments.k,
        taus=tuple(arguments.tau),
        eta=arguments.eta,
        flow=arguments.flow,
        weights=arguments.weights,
        iterations=arguments.iterations,
        model=arguments.model,
        linkage=arguments.linkage,
        device=arguments.device,
        subsequence=arguments.subsequence,
        max_frames=arguments.frames,
    )
    clip = probe(arguments.video)
    check_folder(arguments.out)
    cache = None if arguments.no_cache else FlowCache()
    work = SegmentationRun(clip, settings, cache=cache)
    expected = min(clip.frames or 10**9, settings.max_frames or 10**9)
    total = expected if expected < 10**9 else None
    with tqdm(total=total, desc="segmenting", unit="frame") as bar:
        for _ in work.frames():
            bar.update()
    segmentation = work.result()
    with tqdm(total=len(segmentation), desc="writing", unit="frame") as bar:
        export_all(segmentation, arguments.out, lambda done, _: bar.update(done - bar.n))
    seconds = time.perf_counter() - start
    print(
        f"{clip.name}: {len(segmentation)} frames in {seconds:.1f} s "
        f"({segmentation.made_with['device']}); results in {arguments.out}"
    )
