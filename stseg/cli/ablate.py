"""``python -m stseg ablate``: the variants of Table 1 and sweeps, on an annotated data set."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stseg.errors import InputError

if TYPE_CHECKING:
    from stseg.ablation import Figures, Row
    from stseg.ablation_tables import Line
    from stseg.layouts import DataSet, Entry
    from stseg.network import SegmentationNetwork
    from stseg.records import Clip, Settings
    from stseg.volume import FlowFields

NAME = "ablate"
HELP = "Compare the variants (Table 1) and sweep over K, τ, linkage and sub-sequences."
SWEEPS = ("k", "tau", "eta", "subsequence", "linkage")
CACHED = "cached"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--dataset", default="auto", help="its layout, as in evaluate")
    parser.add_argument("--split", default=None, help="a list of the data set; else all")
    parser.add_argument("--sequences", nargs="+", default=None, help="only these sequences")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the tables (JSON, CSV, Markdown, PNG)"
    )
    parser.add_argument(
        "--variants",
        nargs="*",
        default=["full", "spatial", "no-lc", "frame"],
        help="names of variants or checkpoint files to compare; none with no name after it",
    )
    parser.add_argument(
        "--sweep",
        nargs="*",
        default=["k", "tau", "subsequence", "linkage"],
        choices=SWEEPS,
        help="what to sweep over; nothing with no name after it",
    )
    parser.add_argument("--model", default="full", help="model of the sweeps")
    parser.add_argument(
        "--flow",
        default="dis",
        help="a flow estimator; 'cached' for the flow beside the data; or a folder of flow",
    )
    parser.add_argument("--k", type=int, default=4, help="number of segments, where not swept")
    parser.add_argument("--linkage", default="greedy", help="linkage, where not swept")
    parser.add_argument("--subsequence", type=int, default=10, help="frames, where not swept")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the tables and write them.

    Raises:
        InputError: something given is unusable.
    """
    from stseg.ablation import ETA_NOTE
    from stseg.ablation_tables import Line, as_text
    from stseg.layouts import open_data_set

    data_set = open_data_set(arguments.root, arguments.dataset)
    entries, absent = data_set.choose(arguments.split, arguments.sequences)
    if absent:
        print(f"Not on the disk: {', '.join(absent)}.", flush=True)
    rows = _rows(arguments)
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {arguments.out} cannot be made: {error.strerror}. Choose another."
        ) from error
    lines = [Line(row, {}) for row in rows]
    for name, figures in _measured(arguments, data_set, entries, rows):
        lines = [
            line
            if line.row.settings is None
            else Line(line.row, {**line.sequences, name: figures[line.row.settings]})
            for line in lines
        ]
        _write(arguments, lines)  # after each sequence: what is interrupted leaves its tables
        print(f"{name:24s} done", flush=True)
    print(f"\n{as_text(lines)}")
    if any(line.row.base for line in lines):
        print("\n* the settings of the other tables")
    if "eta" in arguments.sweep:
        print(f"\n{ETA_NOTE}")
    print(f"\nTables in {arguments.out}")


def _rows(arguments: argparse.Namespace) -> list[Row]:
    from stseg.ablation import sweep_rows, variant_rows
    from stseg.pipeline import load_network
    from stseg.records import Settings
    from stseg.variants import VARIANTS, model_path

    base = Settings(
        k=arguments.k,
        flow=arguments.flow,
        model=arguments.model,
        linkage=arguments.linkage,
        device=arguments.device,
        subsequence=arguments.subsequence,
    )

    def present(model: str) -> bool:
        return VARIANTS[model].path.is_file() if model in VARIANTS else bool(model_path(model))

    rows = variant_rows(base, list(dict.fromkeys(arguments.variants)), present)
    for row in rows:
        if row.settings is None:
            print(f"{row.value}: its checkpoint is missing; it is left out.", flush=True)
    swept = [name for name in dict.fromkeys(arguments.sweep) if name != "eta"]
    if swept:
        ks = load_network(arguments.model).settings.ks
        rows += [row for name in swept for row in sweep_rows(base, name, ks)]
    if not any(row.settings for row in rows):
        raise InputError(
            "There is nothing to measure: none of the variants has a checkpoint, and nothing is "
            "swept. Name a checkpoint file with --variants, or a sweep with --sweep."
        )
    return rows


def _measured(
    arguments: argparse.Namespace,
    data_set: DataSet,
    entries: Sequence[Entry],
    rows: Sequence[Row],
) -> Iterator[tuple[str, dict[Settings, Figures]]]:
    """Figures of every line, sequence by sequence."""
    from stseg.ablation import measure, same_pass, segment_all
    from stseg.layouts import open_clip
    from stseg.pipeline import load_network

    groups = same_pass([row.settings for row in rows if row.settings is not None])
    networks: dict[str, SegmentationNetwork] = {}
    folder = _flow_folder(arguments, data_set, entries)
    for entry in entries:
        clip = open_clip(entry)
        flow = _flow(arguments, folder, clip)
        found: dict[Settings, Figures] = {}
        for wanted in groups:
            model = wanted[0].model
            if model not in networks:
                networks[model] = load_network(model)
            made = segment_all(clip, wanted, networks[model], flow)
            found |= measure(clip, made, data_set.protocol)
            for each in made.values():
                each.masks.close()
        flow.close()
        yield entry.name, found


def _flow_folder(
    arguments: argparse.Namespace, data_set: DataSet, entries: Sequence[Entry]
) -> Path | None:
    """Where the flow lies; None where it is computed."""
    from stseg.flow import ESTIMATORS
    from stseg.known_flow import flow_folder

    if arguments.flow == CACHED:
        return flow_folder(data_set.root, [entry.name for entry in entries])
    if arguments.flow in ESTIMATORS:
        return None
    folder = Path(arguments.flow)
    if not folder.is_dir():
        raise InputError(
            f"{arguments.flow!r} is neither a flow estimator ({', '.join(ESTIMATORS)}) nor "
            f"{CACHED!r} nor a folder of flow."
        )
    return folder


def _flow(arguments: argparse.Namespace, folder: Path | None, clip: Clip) -> FlowFields:
    import numpy as np

    from stseg.flow import FlowSettings, clip_fields
    from stseg.known_flow import cached_flow, flow_of
    from stseg.records import grid_for
    from stseg.volume import FlowFields

    if folder is not None:
        return cached_flow(flow_of(folder, clip.name), clip)
    fields = FlowFields()
    settings = FlowSettings(arguments.flow, device=arguments.device)
    for field in clip_fields(clip, settings, grid_for(clip.size)):
        fields.forward.append(field.astype(np.float16))
    return fields


def _write(arguments: argparse.Namespace, lines: Sequence[Line]) -> None:
    import json

    from stseg.ablation_tables import as_csv, as_json, as_markdown, as_picture
    from stseg.files import write_atomically

    about = {
        "root": str(arguments.root),
        "split": arguments.split,
        "flow": arguments.flow,
        "model": arguments.model,
    }
    names = next((list(line.sequences) for line in lines if line.sequences), [])
    words = (
        f"Measured on {len(names)} sequences of {arguments.root.name} ({', '.join(names)}), flow: "
        f"{arguments.flow}, sweeps with model {arguments.model}. An asterisk marks the settings of "
        "the other tables."
    )
    result = json.dumps(as_json(lines, about), indent=1, ensure_ascii=False) + "\n"
    write_atomically(arguments.out / "ablation.json", result.encode())
    write_atomically(arguments.out / "ablation.csv", as_csv(lines).encode())
    write_atomically(arguments.out / "ablation.md", as_markdown(lines, words).encode())
    write_atomically(arguments.out / "ablation.png", as_picture(lines))
