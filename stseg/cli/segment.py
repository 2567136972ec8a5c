"""``python -m stseg segment``: a video in, linked labels and pictures out."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from stseg.cli.given import a_name, a_path
from stseg.errors import InputError

NAME = "segment"
HELP = "Segment a video into K motions and write labels, videos and a summary."

UNSAID = argparse.SUPPRESS
"""Default of what is a setting: what nobody says comes from --settings, or has its default."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("video", type=a_path, help="video file, GIF, or folder of frames")
    parser.add_argument("--out", type=a_path, required=True, help="folder for the results")
    parser.add_argument(
        "--settings",
        type=a_path,
        default=None,
        help="settings.json or summary.json of an earlier result; other options overrule it",
    )
    parser.add_argument("--k", type=int, default=UNSAID, help="number of segments, 2 to 8 (4)")
    parser.add_argument(
        "--tau",
        type=int,
        nargs="+",
        default=UNSAID,
        dest="taus",
        help="temporal steps of the triplets, 1 to 8 or -1 to -8 (1); negative ones run backwards; "
        "the first is the reference, the others are averaged with it",
    )
    parser.add_argument(
        "--eta",
        type=float,
        default=UNSAID,
        help="fraction of sites that count as occluded, 0 to 1 (0.01); it is kept with the result, "
        "for the loss and the pictures of it: the labels do not depend on it",
    )
    parser.add_argument(
        "--flow",
        type=a_name,
        default=UNSAID,
        help="optical flow estimator (dis, raft, ...), or your own flow: an .npz file, or a folder "
        "or .zip of .flo or KITTI .png fields (dis)",
    )
    parser.add_argument(
        "--weights", type=a_name, default=UNSAID, help="weight file of the estimator"
    )
    parser.add_argument("--iterations", type=int, default=UNSAID, help="refinements of RAFT (12)")
    parser.add_argument("--no-cache", action="store_true", help="compute the flow anew")
    parser.add_argument(
        "--model",
        type=a_name,
        default=UNSAID,
        help="name of a variant, or a checkpoint file (several)",
    )
    parser.add_argument(
        "--linkage",
        default=UNSAID,
        help="one-to-one, greedy (the paper), or either with +similarity (one-to-one)",
    )
    parser.add_argument(
        "--similarity-weight",
        type=float,
        default=UNSAID,
        help="weight of the similarity of motion beside the overlap, for +similarity (1)",
    )
    parser.add_argument(
        "--merge",
        type=float,
        default=UNSAID,
        help="fuse segments whose motion over the clip (or the sub-sequence) is more similar than "
        "this, -1 to 1: groups, while the mean cosine between their segments is above it",
    )
    parser.add_argument(
        "--subsequence",
        type=int,
        default=UNSAID,
        help="link anew every so many frames (0: never)",
    )
    parser.add_argument(
        "--stride",
        type=int,
        default=UNSAID,
        help="frames from one triplet to the next: 1 as the paper has it, or 2 in half the time, "
        "for one tau of 1 or -1 (2 where tau allows it)",
    )
    parser.add_argument(
        "--refine",
        action=argparse.BooleanOptionalAction,
        default=UNSAID,
        help="refine the masks by the flow: sharper borders, which the paper does not have (no)",
    )
    parser.add_argument("--device", default=UNSAID, help="auto, cpu or cuda (auto)")
    parser.add_argument(
        "--frames",
        type=int,
        default=UNSAID,
        dest="max_frames",
        help="read no more than this many (all)",
    )
    parser.add_argument(
        "--also",
        nargs="+",
        default=[],
        metavar="FILE",
        help="extra files: coco, soft, flow, motion, foreground, settings",
    )
    parser.add_argument(
        "--foreground",
        action="store_true",
        help="also write foreground/*.png: 255 on what moves on its own, chosen without labels",
    )


def run(arguments: argparse.Namespace) -> None:
    """Segment and export.

    Raises:
        InputError: something given is unusable.
    """
    from dataclasses import fields, replace

    from tqdm import tqdm

    from stseg.export import check_folder, export_all, outputs
    from stseg.flow import ESTIMATORS, check_options
    from stseg.flow.cache import FlowCache
    from stseg.linkage import SIMILARITY, uses_similarity
    from stseg.memory import give_back
    from stseg.pipeline import SegmentationRun
    from stseg.records import Settings, flow_name
    from stseg.settings_file import read_settings
    from stseg.video import probe

    start = time.perf_counter()
    base = read_settings(arguments.settings) if arguments.settings else Settings()
    names = {each.name for each in fields(Settings)}
    said = {name: value for name, value in vars(arguments).items() if name in names}
    if "taus" in said:
        said["taus"] = tuple(said["taus"])
    if flow_name(said.get("flow", base.flow)) != base.flow:
        base = replace(base, weights=None)  # they are those of the other estimator
    settings = replace(base, **said)
    if "similarity_weight" in said and not uses_similarity(settings.linkage):
        raise InputError(
            f"--similarity-weight does nothing with the linkage {settings.linkage}. Choose "
            f"{settings.linkage}{SIMILARITY}, or leave it out."
        )
    given = [f"--{name}" for name in ("weights", "iterations") if name in said]
    check_options(settings.flow, given)
    also = [*arguments.also, *(["foreground"] if arguments.foreground else [])]
    outputs(also)
    clip = probe(arguments.video)
    read = [arguments.video, *([arguments.settings] if arguments.settings else [])]
    read += [Path(settings.flow)] if settings.flow not in ESTIMATORS else []
    check_folder(arguments.out, also, read)
    cache = None if arguments.no_cache else FlowCache()
    work = SegmentationRun(clip, settings, cache=cache)
    expected = min(clip.frames or 10**9, settings.max_frames or 10**9)
    total = expected if expected < 10**9 else None
    with tqdm(total=total, desc="segmenting", unit="frame") as bar:
        for _ in work.frames():
            bar.update()
    segmentation, notes = work.result(), work.notes
    del work  # the network's memory is free for the encoders of the videos
    give_back()
    with tqdm(total=len(segmentation), desc="writing", unit="frame") as bar:
        export_all(
            segmentation,
            arguments.out,
            lambda done, _: bar.update(done - bar.n),
            also=also,
        )
    seconds = time.perf_counter() - start
    print(
        f"{clip.name}: {len(segmentation)} frames in {seconds:.1f} s "
        f"({segmentation.made_with['device']}); results in {arguments.out}"
    )
    for note in notes:
        print(note)
