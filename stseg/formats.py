"""A ``Segmentation`` in the formats of others: COCO masks, soft masks, flow, motion, settings."""

from __future__ import annotations

import csv
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image
from pycocotools import mask as coco

from stseg.flow import write_flow_file
from stseg.foreground import foreground_masks
from stseg.kinematics import UNITS
from stseg.masks import gathered
from stseg.records import Segmentation
from stseg.segment_motion import SegmentMotion
from stseg.settings_file import write_settings

Check = Callable[[], None]
"""Called between frames; it raises to stop the work."""


@dataclass(frozen=True)
class Source:
    """What the writers take their files from.

    Attributes:
        segmentation: the clip.
        motion: its motion models; what others have asked of them is not computed again.
    """

    segmentation: Segmentation
    motion: SegmentMotion


@dataclass(frozen=True)
class Extra:
    """A file that is written where it is asked for.

    Attributes:
        file: its name.
        hint: what it holds, in one sentence.
        write: writes it, given a path and what to call between frames.
    """

    file: str
    hint: str
    write: Callable[[Source, Path, Check], None]


@contextmanager
def streamed_array(
    path: Path, name: str, shape: tuple[int, ...]
) -> Iterator[Callable[[np.ndarray], None]]:
    """An ``.npz`` with one uint8 array, written part by part: its first axis need not fit."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)

        def add(part: np.ndarray) -> None:
            member.write(part.tobytes())

        yield add


def write_soft_masks(source: Source, path: Path, check: Check) -> None:
    """``soft-masks.npz``: ``masks`` (n, k, h, w) uint8 by linked label on the network's grid."""
    segmentation = source.segmentation
    n, k = len(segmentation), segmentation.k
    with streamed_array(path, "masks", (n, k, *segmentation.masks[0].shape[1:])) as add:
        for index in range(n):
            check()
            soft = segmentation.masks[index].astype(np.uint16)
            linked = gathered(soft, segmentation.assignment[index])
            add(np.minimum(linked, 255).astype(np.uint8))  # rounding may pass 255 by a few


def write_flow(source: Source, path: Path, check: Check) -> None:
    """``flow.npz``: the flow that was segmented, to the bit, as ``segment --flow`` takes it."""
    segmentation = source.segmentation

    def fields() -> Iterator[np.ndarray]:
        for index in range(len(segmentation) - 1):
            check()
            yield segmentation.flow[index]

    write_flow_file(path, fields(), segmentation.clip.size, step=0.0)


def write_motion(source: Source, path: Path, check: Check) -> None:
    """``motion.csv``: the fitted motion of each linked label in each frame, in plain terms.

    A line a frame and label: the terms of ``stseg.kinematics.MotionOverTime.readable``, a frame of
    the clip, and L_r (eq. 3) of the frame's triplet. Cells are empty where a label is too small to
    tell. Labels that are fused are one, and called "1 + 3".
    """
    terms = [f"{name} ({unit} a frame)" for name, unit in UNITS.items()]
    frame = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["frame", "segment", *terms, "L_r of the frame"])
        for part in source.motion.parts():
            check()
            values = np.stack([part.readable()[name] for name in UNITS], axis=-1)  # (b, k, terms)
            for rows, loss in zip(values, part.reconstruction, strict=True):
                for label, name in source.segmentation.called.items():
                    table.writerow([frame, name, *map(_cell, rows[label]), _cell(loss)])
                frame += 1


def _cell(value: np.floating[Any]) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def write_settings_json(source: Source, path: Path, check: Check) -> None:
    """``settings.json``: the settings, as ``segment --settings`` takes them."""
    write_settings(source.segmentation.settings, path)


def run_length(mask: Bool[np.ndarray, "H W"]) -> dict[str, Any]:
    """A mask as COCO's compressed run-length encoding, with text for JSON."""
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}


def write_coco(source: Source, path: Path, check: Check) -> None:
    """``masks-coco.json``: a mask for each frame and linked label that has a pixel.

    Images are the frames, numbered from 1; category c is linked label c - 1, since 0 is nothing to
    many readers. ``track_id`` is the same number: labels are linked through the video.
    """
    segmentation = source.segmentation
    clip, n = segmentation.clip, len(segmentation)
    height, width = clip.size
    frames = [
        {"id": index + 1, "file_name": f"{index:05d}.png", "height": height, "width": width}
        for index in range(n)
    ]
    kinds = [
        {"id": label + 1, "name": f"segment {name}", "supercategory": "motion"}
        for label, name in segmentation.called.items()
    ]
    start = json.dumps({"info": {"description": clip.name}, "images": frames, "categories": kinds})
    count = 0
    with path.open("w", encoding="utf-8") as file:
        file.write(start[:-1] + ', "annotations": [')
        for index in range(n):
            check()
            labels = segmentation.labels(index)
            for label in np.flatnonzero(np.bincount(labels.ravel(), minlength=segmentation.k)):
                code = run_length(labels == label)
                count += 1
                one = {
                    "id": count,
                    "image_id": index + 1,
                    "category_id": int(label) + 1,
                    "track_id": int(label) + 1,
                    "segmentation": code,
                    "area": int(coco.area(code)),
                    "bbox": [float(value) for value in coco.toBbox(code)],
                    "iscrowd": 0,
                }
                file.write(("," if count > 1 else "") + "\n" + json.dumps(one))
        file.write("\n]}\n")


def write_foreground(source: Source, path: Path, check: Check) -> None:
    """``foreground/00000.png`` ...: 255 on what moves on its own, at the size of the video.

    The labels are chosen without ground truth, once per sub-sequence; where linkage has none, once
    per ``stseg.foreground.CHOICE`` frames.
    """
    segmentation = source.segmentation
    path.mkdir()
    for index, mask in enumerate(foreground_masks(segmentation)):
        check()
        Image.fromarray(mask.astype(np.uint8) * 255).save(path / f"{index:05d}.png")


EXTRAS: Mapping[str, Extra] = {
    "coco": Extra(
        "masks-coco.json", "Masks of each frame and label as COCO run lengths.", write_coco
    ),
    "soft": Extra(
        "soft-masks.npz", "Soft masks by linked label on the network's grid.", write_soft_masks
    ),
    "flow": Extra("flow.npz", "The optical flow, to segment again without estimating.", write_flow),
    "foreground": Extra(
        "foreground", "Masks of what moves on its own, chosen without labels.", write_foreground
    ),
    "motion": Extra(
        "motion.csv",
        "How each segment moves in each frame, as the tab Motion has it.",
        write_motion,
    ),
    "settings": Extra("settings.json", "All settings, to load again.", write_settings_json),
}
"""Files beyond those that every result has."""
