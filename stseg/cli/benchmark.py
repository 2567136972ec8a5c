"""``python -m stseg benchmark``: how fast this machine is, as ratios to plain versions."""

from __future__ import annotations

import argparse
import json
import sys

from stseg.cli.given import a_path

NAME = "benchmark"
HELP = "Measure the speed of every part on this machine against its plain version."

LINES = (
    ("network, plain float32, one at a time", "network.plain_triplets_per_s", "{:.2f} triplets/s"),
    ("network as it ships", "network.fast_triplets_per_s", "{:.2f} triplets/s"),
    ("  against plain, one at a time", "network.speedup", "{:.1f} x"),
    ("  against plain, in batches of 4", "network.speedup_batched", "{:.1f} x"),
    ("  labels that agree with plain", "network.label_agreement", "{:.2%}"),
    ("segment with DIS, all files", "job.seconds", "{:.1f} s"),
    ("  frames of 854x480", "job.frames", "{:.0f}"),
    ("  peak resident memory", "job.peak_rss_mib", "{:.0f} MiB"),
    ("RAFT against plain float32, whole pairs", "raft.speedup", "{:.1f} x"),
    ("motion fit against L-BFGS", "fit.speedup", "{:.0f} x"),
    ("  objective above it", "fit.objective_gap", "{:.2%}"),
    ("training step against plain", "train.speedup", "{:.1f} x"),
    ("python -m stseg --help", "start.help_s", "{:.2f} s"),
    ("import stseg, beyond torch", "start.import_s", "{:.2f} s"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", type=a_path, default=None, help="also write the figures here")
    parser.add_argument(
        "--root", type=a_path, default=None, help="DAVIS2016 to measure on; else a rendered clip"
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, print a table, and write the figures.

    Raises:
        InputError: the data is not there, or the file cannot be written.
    """
    from stseg.benchmarking import measure
    from stseg.files import check_place, write_atomically

    if arguments.json is not None:
        check_place(arguments.json)

    def tell(text: str) -> None:
        print(f"measuring: {text} …", file=sys.stderr, flush=True)

    figures = measure(arguments.root, tell)
    print(figures["machine"])
    for title, name, form in LINES:
        print(f"{title:42}{form.format(figures[name]):>18}")
    if arguments.json is not None:
        text = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
        write_atomically(arguments.json, text.encode())
