"""The protocol: perfect labels score 1, shifted ones what theory says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stseg.errors import InputError
from stseg.evaluation import cached_flow, report, score
from stseg.flow import write_flow_file
from stseg.records import Clip, Segmentation, Settings
from stseg.spool import Spool

H, W, N, K = 32, 48, 12, 3


def truth_labels(index: int) -> np.ndarray:
    labels = np.zeros((H, W), np.uint8)
    labels[8:24, 10 + index : 26 + index] = 1
    return labels


@pytest.fixture
def annotated(tmp_path: Path) -> Clip:
    for index in range(N):
        Image.fromarray(truth_labels(index) * 255).save(tmp_path / f"{index:05d}.png")
    return Clip(tmp_path / "x.mp4", "x", (H, W), 24.0, N, tmp_path)


def segmentation(clip: Clip, shift: int = 0, swap_at: int = N) -> Segmentation:
    """The ground truth as a result, moved sideways; labels change places from ``swap_at`` on."""
    flow, masks = Spool(), Spool()
    assignment = np.tile(np.arange(K, dtype=np.uint8), (N, 1))
    assignment[swap_at:, :2] = [1, 0]
    for index in range(N):
        labels = np.roll(truth_labels(index), shift, axis=1)
        masks.append((np.arange(K)[:, None, None] == labels).astype(np.uint8) * 255)
        if index < N - 1:
            flow.append(np.zeros((2, H, W), np.float16))
    return Segmentation(clip, Settings(k=K), flow, masks, assignment)


def test_perfect_labels_score_one(annotated: Clip) -> None:
    got = score(segmentation(annotated), 10)
    assert len(got.j) == len(got.f) == N - 2  # the first and the last frame are left out
    assert set(got.j) == set(got.f) == {1.0}
    assert list(got.chosen) == [(1,), (1,)]


def test_a_shift_by_half_scores_a_third(annotated: Clip) -> None:
    # 16 wide squares moved by 8: 8 of 24 columns are common.
    got = score(segmentation(annotated, shift=8), 10)
    assert got.to_json()["J"] == pytest.approx(1 / 3)


def test_the_foreground_is_chosen_once_per_subsequence(annotated: Clip) -> None:
    swapped = segmentation(annotated, swap_at=10)
    assert score(swapped, 10).to_json()["J"] == 1.0
    assert score(swapped, 0).to_json()["J"] < 1.0


def test_means_are_of_sequences_not_of_frames(annotated: Clip) -> None:
    perfect = score(segmentation(annotated), 10)
    shifted = replace(score(segmentation(annotated, shift=8), 10), name="y")
    shifted = replace(shifted, j=shifted.j[:2], f=shifted.f[:2])
    mean = report([perfect, shifted], Settings(), {"model": "m"})["mean"]
    assert mean["J"] == pytest.approx((1 + 1 / 3) / 2)


def test_without_ground_truth_it_says_so(annotated: Clip) -> None:
    with pytest.raises(InputError, match="no ground truth"):
        score(segmentation(replace(annotated, truth=None)), 10)


def test_a_mask_of_another_size_is_named(annotated: Clip) -> None:
    assert annotated.truth is not None
    Image.new("L", (9, 9)).save(annotated.truth / "00003.png")
    with pytest.raises(InputError, match=r"00003\.png is 9x9, but its video is 48x32"):
        score(segmentation(annotated), 10)


def test_flow_of_another_video_is_refused(annotated: Clip, tmp_path: Path) -> None:
    write_flow_file(tmp_path / "f.npz", np.zeros((N - 1, 2, 8, 8), np.float32), (99, 99))
    with pytest.raises(InputError, match="99x99, but x has 48x32"):
        cached_flow(tmp_path / "f.npz", annotated)
