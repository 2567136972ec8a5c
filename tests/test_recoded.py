"""Clips coded anew: the same frames, some of them twice, and fewer bytes with less quality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.correction_data import sequence_pairs
from benchmarks.recoded import DARKEST, dusk, recode
from stseg.records import Clip
from stseg.video import probe, read_frames


@pytest.mark.parametrize(
    ("twice", "expected"),
    [
        (0, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (4, [0, 1, 2, 3, 3, 4, 5, 6, 7, 7, 8]),
        (1, [each // 2 for each in range(18)]),
    ],
)
def test_each_frame_is_the_one_that_is_said(
    clip: Clip, tmp_path: Path, twice: int, expected: list[int]
) -> None:
    place = tmp_path / "new.mp4"
    assert recode(clip.source, place, 12, twice) == expected
    coded = probe(place)
    assert coded.fps == pytest.approx(clip.fps * len(expected) / 9, rel=0.05)
    before = list(read_frames(clip))
    frames = list(read_frames(coded))
    assert len(frames) == len(expected)
    for frame, index in zip(frames, expected, strict=True):
        far = [np.abs(frame.astype(int) - each).mean() for each in before]
        assert int(np.argmin(far)) == index


def test_less_quality_takes_fewer_bytes(clip: Clip, tmp_path: Path) -> None:
    sizes = []
    for crf in (18, 28, 38):
        recode(clip.source, tmp_path / f"{crf}.mp4", crf)
        sizes.append((tmp_path / f"{crf}.mp4").stat().st_size)
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("seed", range(4))
def test_a_dusk_leaves_half_of_the_frame_in_the_dark_and_has_no_edge(seed: int) -> None:
    light = dusk((480, 854), seed)
    assert light.shape == (480, 854, 1)
    assert DARKEST <= light.min() < 0.3
    assert 0.9 < light.max() <= 1
    assert 0.45 < (light < (1 + DARKEST) / 2).mean() < 0.55
    assert max(np.abs(np.diff(light, axis=axis)).max() for axis in (0, 1)) < 0.03
    assert (light == dusk((480, 854), seed)).all()
    assert (light != dusk((480, 854), seed + 1)).any()


def test_a_dusk_falls_on_all_frames_alike(clip: Clip, tmp_path: Path) -> None:
    recode(clip.source, tmp_path / "dark.mp4", 12, night=1)
    light = dusk(clip.size, 1)
    for before, after in zip(
        read_frames(clip), read_frames(probe(tmp_path / "dark.mp4")), strict=True
    ):
        assert np.abs(before * light - after).mean() < 4


def test_a_sequence_coded_anew_is_measured_against_the_flow_of_its_source(shared: Path) -> None:
    plain, coded = (sequence_pairs(shared / "davis16", "car-shadow", crf) for crf in (None, 32))
    assert plain.lengths == coded.lengths
    assert (plain.target == coded.target).all()
    found = [pairs.offered.flows[:, 0].float() for pairs in (plain, coded)]
    assert (found[0] - found[1]).abs().mean() > 0.02
    alike = np.corrcoef(found[0].numpy().ravel(), found[1].numpy().ravel())[0, 1]
    assert alike > 0.5  # the same motion, found less well
