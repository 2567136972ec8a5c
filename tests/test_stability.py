"""Temporal consistency on a moving square whose labels, flow and motion are known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stseg.records import Clip, Segmentation, Settings
from stseg.selection import label_counts
from stseg.spool import Spool
from stseg.stability import (
    LongTerm,
    Switches,
    carried_counts,
    carried_labels,
    flicker,
    identity_switches,
    joined,
    linked_pairs,
    long_term,
    transitions,
)

H, W, N, K = 32, 48, 12, 3
GRID_STEP = 2  # pixels of the source for one site, so that a mistake in the units shows
SIDE, SPEED = 10, 2  # sites


def square(index: int) -> np.ndarray:
    """Label 1 on a square that moves by two sites a frame; label 2 on the left edge, at rest."""
    labels = np.zeros((H, W), np.uint8)
    labels[:, :6] = 2
    labels[8 : 8 + SIDE, 10 + SPEED * index : 10 + SIDE + SPEED * index] = 1
    return labels


def square_flow(index: int) -> np.ndarray:
    flow = np.zeros((2, H, W), np.float16)
    flow[0, square(index) == 1] = SPEED * GRID_STEP
    return flow


def made(
    frames: int = N,
    settings: Settings | None = None,
    labels: Callable[[int], np.ndarray] = square,
    assignment: Callable[[int], tuple[int, ...]] = lambda index: (0, 1, 2),
) -> Segmentation:
    flow, masks = Spool(), Spool()
    for index in range(frames):
        masks.append((np.arange(K)[:, None, None] == labels(index)).astype(np.uint8) * 255)
        if index < frames - 1:
            flow.append(square_flow(index))
    clip = Clip(Path("x.mp4"), "x", (H * GRID_STEP, W * GRID_STEP), 24.0, frames)
    rows = np.array([assignment(index) for index in range(frames)], np.uint8)
    return Segmentation(clip, settings or Settings(k=K), flow, masks, rows)


def large(labels: np.ndarray) -> np.ndarray:
    return labels.repeat(GRID_STEP, 0).repeat(GRID_STEP, 1)


def swapped(index: int) -> tuple[int, ...]:
    """Labels 0 and 1 change places at every other frame."""
    return (1, 0, 2) if index % 2 else (0, 1, 2)


def test_exact_labels_do_not_flicker_and_occlusions_are_left_out() -> None:
    perfect = made()
    assert flicker(carried_counts(perfect)) == 0.0
    assert identity_switches(carried_counts(perfect)).count == 0
    # What the front of the square covers and what its back uncovers are two columns each.
    left_out = 2 * SPEED * SIDE
    assert transitions(perfect, 0).sum() == H * W - left_out
    assert np.diag(transitions(perfect, 0)).tolist() == [
        H * (W - 6) - SIDE * SIDE - SPEED * SIDE,
        SIDE * (SIDE - SPEED),
        H * 6,
    ]


def test_carrying_needs_the_flow_in_sites_of_the_grid() -> None:
    carried, visible = carried_labels(square(0), square_flow(0).astype(np.float32), (64, 96), K)
    np.testing.assert_array_equal(carried[visible], square(1)[visible])
    wrong = carried_labels(square(0), square_flow(0).astype(np.float32), (H, W), K)[0]
    assert (wrong != carried).any()


def test_what_comes_into_the_frame_does_not_count() -> None:
    flow = np.zeros((2, H, W), np.float32)
    flow[0] = 3  # everything goes right by three sites
    visible = carried_labels(square(0), flow, (H, W), K)[1]
    assert not visible[:, :3].any()
    assert visible[:, 3:].all()


def test_a_slight_zoom_is_no_occlusion() -> None:
    y, x = np.mgrid[:H, :W].astype(np.float32)
    flow = np.stack([x - W / 2, y - H / 2]) * -0.05
    visible = carried_labels(square(0), flow, (H, W), K)[1]
    assert visible[3:-3, 3:-3].all()


def test_labels_swapped_at_every_other_frame_flicker_where_they_are() -> None:
    # All visible sites but those of label 2 change, at every pair.
    counts = transitions(made(), 0)
    expected = (counts[0, 0] + counts[1, 1]) / counts.sum()
    got = made(assignment=swapped)
    assert flicker(carried_counts(got)) == pytest.approx(expected)
    # Labels 0 and 1 switch at each of the 10 pairs that count, label 2 never does.
    assert identity_switches(carried_counts(got)) == Switches(20, 30)
    assert identity_switches(carried_counts(got)).rate == pytest.approx(2 / 3)


def test_one_swap_in_the_middle_is_one_pair_of_all() -> None:
    once = made(assignment=lambda index: (1, 0, 2) if index >= 5 else (0, 1, 2))
    counts = transitions(made(), 0)
    share = (counts[0, 0] + counts[1, 1]) / counts.sum()
    assert flicker(carried_counts(once)) == pytest.approx(share / (N - 2))
    assert identity_switches(carried_counts(once)).count == 2


def test_noise_flickers_as_chance_says(rng: np.random.Generator) -> None:
    noise = rng.integers(0, K, (N, H, W)).astype(np.uint8)
    assert flicker(carried_counts(made(labels=lambda index: noise[index]))) == pytest.approx(
        2 / 3, abs=0.02
    )


def test_pairs_that_cannot_disagree_or_need_not_agree_are_left_out() -> None:
    assert linked_pairs(made(5)) == [0, 1, 2]  # frame 4 takes its masks from frame 3
    assert linked_pairs(made(5, Settings(k=K, taus=(-1,)))) == [1, 2, 3]
    assert linked_pairs(made(8, Settings(k=K, subsequence=3))) == [0, 1, 3, 4]
    assert linked_pairs(made(2)) == [0]
    assert np.isnan(flicker(carried_counts(made(1))))


def test_small_labels_count_and_specks_do_not() -> None:
    # A thousandth of 64 x 96 pixels are 6.1: label 2 has 8 of them, or 4.
    def small(width: int) -> Callable[[int], np.ndarray]:
        def labels(index: int) -> np.ndarray:
            found = (square(index) == 1).astype(np.uint8)
            found[H - 1, :width] = 2
            return found

        return labels

    pairs = len(linked_pairs(made()))
    assert identity_switches(carried_counts(made(labels=small(2)))).chances == 3 * pairs
    assert identity_switches(carried_counts(made(labels=small(1)))).chances == 2 * pairs
    for sites, switches in ((10, Switches(1, 2)), (9, Switches(0, 1))):
        counts = np.array([[10_000 - sites, 0, 0], [sites, 0, 0], [0, 0, 0]])
        assert identity_switches([counts]) == switches


def test_a_new_subsequence_is_no_switch() -> None:
    renamed = made(
        settings=Settings(k=K, subsequence=6),
        assignment=lambda index: (1, 0, 2) if index >= 6 else (0, 1, 2),
    )
    assert flicker(carried_counts(renamed)) == 0.0
    assert identity_switches(carried_counts(renamed)).count == 0


@pytest.mark.parametrize("linkage", ["one-to-one", "greedy"])
def test_parts_are_joined_where_linkage_started_anew(linkage: str) -> None:
    names = [(0, 1, 2), (1, 2, 0), (2, 1, 0)]
    parted = made(
        settings=Settings(k=K, subsequence=4, linkage=linkage),
        assignment=lambda index: names[index // 4],
    )
    whole = joined(parted)
    np.testing.assert_array_equal(whole.assignment, np.tile(np.arange(K), (N, 1)))
    assert whole.settings.subsequence == 0
    assert flicker(carried_counts(whole)) == 0.0
    assert joined(made()).assignment.tolist() == made().assignment.tolist()


@pytest.mark.parametrize("linkage", ["one-to-one", "greedy"])
def test_labels_that_nobody_sees_at_a_seam_stay_apart(linkage: str) -> None:
    """Where the picture is cut, all that there was has left the frame."""
    parted = made(settings=Settings(k=K, subsequence=4, linkage=linkage))
    flow = Spool()
    for index in range(N - 1):
        flow.append(square_flow(index) + np.float16(10 * W * GRID_STEP if index == 3 else 0))
    parted = replace(parted, flow=flow)
    assert transitions(parted, 3).sum() == 0
    whole = joined(parted)
    assert [sorted(row) for row in whole.assignment.tolist()] == [list(range(K))] * N


def test_choosing_once_costs_what_the_lost_identity_is_worth() -> None:
    def stability(segmentation: Segmentation, length: int) -> LongTerm:
        scored = range(1, N - 1)
        truths = (large(square(index) == 1) for index in scored)
        counts = [
            label_counts(segmentation.labels(t), truth, K)
            for t, truth in zip(scored, truths, strict=True)
        ]
        return long_term(np.stack(counts), scored, N, length)

    kept = stability(made(), 10)
    assert (kept.whole, kept.parts, kept.loss) == (1.0, 1.0, 0.0)
    # From frame 6 on, the square has label 0 and the ground label 1.
    lost = made(assignment=lambda index: (1, 0, 2) if index >= 6 else (0, 1, 2))
    got = stability(lost, 6)
    assert got.parts == 1.0
    # Label 1 in frames 1 to 5 is right; in frames 6 to 10 it is the ground. The best single choice
    # is {1} or {0, 1}: by hand, from the areas of the square, of label 2 and of the rest.
    area, ground = SIDE * SIDE, H * (W - 6) - SIDE * SIDE
    union = 10 * area + 5 * ground
    assert 5 * area / union < 10 * area / (10 * (area + ground))
    assert got.whole == pytest.approx(area / (area + ground))


def test_golden_values_of_noisy_labels(rng: np.random.Generator) -> None:
    noisy = [np.where(rng.random((H, W)) < 0.1, 2, square(i)).astype(np.uint8) for i in range(N)]
    got = made(labels=lambda index: noisy[index])
    # Each site outside label 2 (5/6 of them all) changes when one of two frames is wrong: 0.18.
    assert flicker(carried_counts(got)) == pytest.approx(0.18 * 42 / 48, abs=0.01)
    assert flicker(carried_counts(got)) == pytest.approx(0.161364, abs=1e-6)
    assert identity_switches(carried_counts(got)) == Switches(0, 30)
