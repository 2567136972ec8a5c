"""Sec. 3.4: overlaps by hand, and labels that survive any renaming by the network."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stseg.linkage import Linker, Partition, match, overlap, similarity, uses_similarity
from stseg.records import LINKAGES

BOTH: tuple[str, ...] = ("one-to-one", "greedy")
BY_SIMILARITY = tuple(how for how in LINKAGES if uses_similarity(how))


def as_map(*rows: list[int]) -> np.ndarray:
    return np.array([rows], np.uint8)


def moving(k: int, frames: int, h: int = 24, w: int = 60, step: int = 1) -> np.ndarray:
    """Labels (frames, h, w): k stripes of falling width that slide over the frame together."""
    widths = np.arange(k, 0, -1) + 2
    borders = np.cumsum(widths) * w / widths.sum()
    columns = np.arange(w)
    return np.stack(
        [
            np.tile(np.searchsorted(borders, (columns + t * step) % w, side="right"), (h, 1))
            for t in range(frames)
        ]
    ).astype(np.uint8)


def test_overlap_by_hand() -> None:
    known = as_map([0, 0, 0, 1], [0, 0, 1, 1])
    new = as_map([1, 1, 0, 0], [1, 1, 0, 2])
    expected = [
        [1 / 7, 4 / 5, 0 / 6],  # label 0: 5 sites
        [2 / 4, 0 / 7, 1 / 3],  # label 1: 3 sites
        [0 / 3, 0 / 4, 0 / 1],  # label 2: none
    ]
    np.testing.assert_allclose(overlap(known, new, 3), expected, atol=1e-12)


def test_overlap_sums_over_the_instants() -> None:
    rng = np.random.default_rng(0)
    known, new = rng.integers(0, 4, (2, 3, 8, 9)).astype(np.uint8)
    each = [overlap(known[i : i + 1], new[i : i + 1], 4) for i in range(3)]
    np.testing.assert_allclose(overlap(known, new, 4), np.sum(each, axis=0))


def test_a_segment_overlaps_itself_fully_and_empty_ones_count_as_the_same() -> None:
    labels = as_map([0, 0, 2, 2])
    scores = overlap(labels, labels, 4)
    np.testing.assert_array_equal(np.diag(scores), np.ones(4))
    assert scores[0, 2] == scores[2, 0] == 0
    assert scores[1, 3] == 1


@pytest.mark.parametrize("how", BOTH)
def test_what_is_missing_at_an_instant_is_not_called_like_an_unused_label(how: str) -> None:
    """Segment 1 is out of sight at the second instant, where label 3 is unused, too."""
    without = as_map([0, 0, 0, 0, 0, 0, 2, 2])
    known = np.concatenate((as_map([0, 0, 0, 1, 1, 1, 2, 2]), without))
    new = np.concatenate((as_map([0, 0, 0, 0, 1, 1, 2, 2]), without))
    scores = overlap(known, new, 4)
    assert scores[1, 1] == pytest.approx(2 / 3)
    assert scores[3, 1] == scores[1, 3] == 0
    assert scores[3, 3] == 2
    assert match(scores, how).tolist() == [0, 1, 2, 3]


def test_overlap_is_symmetric_in_its_arguments() -> None:
    rng = np.random.default_rng(1)
    known, new = rng.integers(0, 3, (2, 2, 7, 5)).astype(np.uint8)
    np.testing.assert_allclose(overlap(known, new, 3), overlap(new, known, 3).T)


def test_greedy_may_merge_and_one_to_one_does_not() -> None:
    scores = np.array([[0.9, 0.6, 0.0], [0.1, 0.5, 0.0], [0.0, 0.0, 0.2]])
    assert match(scores, "greedy").tolist() == [0, 0, 2]
    assert match(scores, "one-to-one").tolist() == [0, 1, 2]


def test_one_to_one_takes_the_best_sum_not_the_best_pair() -> None:
    # The pair (0, 0) is the best one, but then (1, 1) adds nothing.
    scores = np.array([[0.9, 0.8], [0.7, 0.0]])
    assert match(scores, "one-to-one").tolist() == [1, 0]


@given(st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_one_to_one_is_always_a_permutation(k: int, seed: int) -> None:
    scores = np.random.default_rng(seed).random((k, k)).round(1)
    assert sorted(match(scores, "one-to-one").tolist()) == list(range(k))


@given(st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_greedy_takes_the_best_label_of_each_segment(k: int, seed: int) -> None:
    scores = np.random.default_rng(seed).random((k, k))
    labels = match(scores, "greedy")
    for segment, label in enumerate(labels):
        assert scores[label, segment] == scores[:, segment].max()


@pytest.mark.parametrize("how", BOTH)
@pytest.mark.parametrize("tau", [1, 2, 4])
@given(k=st.integers(2, 8), seed=st.integers(0, 2**32 - 1))
def test_linking_undoes_any_renaming(how: str, tau: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = moving(k, 10 + 2 * tau)
    linker = Linker(k, how, tau)
    naming = None
    for centre in range(tau, len(truth) - tau):
        three = truth[[centre - tau, centre, centre + tau]]
        names = rng.permutation(k).astype(np.uint8)  # what the network happens to call them
        assignment = linker.follow(names[three])
        labels = assignment[names]  # linked label of each true one
        naming = labels if naming is None else naming
        np.testing.assert_array_equal(labels, naming)
    assert naming is not None
    assert sorted(naming.tolist()) == list(range(k))


@pytest.mark.parametrize("how", BOTH)
def test_the_first_triplet_names_by_area(how: str) -> None:
    segments = np.array([[[2, 2, 2, 0], [2, 2, 0, 3]]] * 3, np.uint8)  # 1 is empty
    assert Linker(4, how).follow(segments).tolist() == [1, 3, 0, 2]


def test_equal_areas_keep_the_networks_order() -> None:
    segments = np.array([[[0, 1, 2, 3]]] * 3, np.uint8)
    assert Linker(4, "one-to-one").follow(segments).tolist() == [0, 1, 2, 3]


def halves(*names: int) -> np.ndarray:
    """A triplet of one row of 8 sites in equal parts of these names, the same at each instant."""
    row = np.repeat(np.array(names, np.uint8), 8 // len(names))
    return np.tile(row, (3, 1, 1))


def test_a_segment_that_splits_is_merged_by_greedy_alone() -> None:
    for how, expected in (("greedy", [0, 1, 0]), ("one-to-one", None)):
        linker = Linker(3, how)
        linker.follow(halves(0, 0, 0, 1))
        labels = linker.follow(halves(0, 0, 2, 1))
        if expected:
            assert labels.tolist() == expected
        else:
            assert sorted(labels.tolist()) == [0, 1, 2]
            assert labels[:2].tolist() == [0, 1]


def test_triplets_of_tau_1_are_compared_on_the_frames_they_share() -> None:
    a = np.array([[0, 0, 0, 1]] * 4, np.uint8)
    first, second = np.stack([1 - a, a, a]), np.stack([1 - a, 1 - a, a])
    linker = Linker(2, "one-to-one")
    assert linker.follow(first).tolist() == [0, 1]
    # Instants 1 and 2 of the first are instants 0 and 1 of the second: swapped in both.
    assert linker.follow(second).tolist() == [1, 0]
    # Instant by instant they would look alike.
    assert match(overlap(first, second, 2), "one-to-one").tolist() == [0, 1]


def test_every_second_triplet_is_compared_on_the_one_frame_that_they_share() -> None:
    a = np.array([[0, 0, 0, 1]] * 4, np.uint8)
    linker = Linker(2, "one-to-one")
    assert linker.follow(np.stack([1 - a, 1 - a, a])).tolist() == [1, 0]  # a: label 1 is larger
    # Its first instant is the last one of the triplet before; the others are of no account.
    assert linker.follow(np.stack([1 - a, a, a]), frames=2).tolist() == [0, 1]
    assert linker.follow(np.stack([a, 1 - a, 1 - a]), frames=2).tolist() == [0, 1]


def test_triplets_of_a_larger_tau_are_compared_instant_by_instant() -> None:
    """Three scenes far apart: only the same instant of the next triplet looks alike."""
    scenes = np.array(
        [
            [[0, 0, 0, 1]] * 4,
            [[1, 0, 0, 0]] * 4,
            [[0, 0, 1, 0]] * 4,
        ],
        np.uint8,
    )
    linker = Linker(2, "one-to-one", tau=5)
    assert linker.follow(scenes).tolist() == [0, 1]
    assert linker.follow(1 - scenes).tolist() == [1, 0]
    # As triplets of τ = 1 these would be compared shifted by one instant, and lose the trace.
    shifted = overlap(scenes[1:], (1 - scenes)[:2], 2)
    assert shifted[0, 1] < overlap(scenes, 1 - scenes, 2)[0, 1]


def test_a_label_whose_segment_vanishes_comes_back_one_to_one() -> None:
    present, gone = halves(0, 0, 0, 1), halves(0, 0, 0, 0)
    linker = Linker(2, "one-to-one")
    assert linker.follow(present).tolist() == [0, 1]
    assert linker.follow(gone).tolist() == [0, 1]
    assert linker.follow(present).tolist() == [0, 1]


# --- overlap and similarity ----------------------------------------------------------------------


def test_every_rule_has_its_twin_by_similarity() -> None:
    assert BY_SIMILARITY == ("one-to-one+similarity", "greedy+similarity")
    scores = np.array([[0.9, 0.6], [0.1, 0.5]])
    for how in BOTH:
        assert match(scores, how).tolist() == match(scores, f"{how}+similarity").tolist()


def test_similarity_by_hand() -> None:
    known = np.array([[[1, 0], [0, 2]], [[1, 1], [0, 0]]], np.float32)
    new = np.array([[[0, 3], [-1, 0]], [[2, 2], [1, 0]]], np.float32)
    expected = [
        [(0 + 1) / 2, (-1 + 2**-0.5) / 2],
        [(1 + 0) / 2, 0],  # a label without a site is similar to nothing
    ]
    np.testing.assert_allclose(similarity(known, new), expected, atol=1e-7)


@pytest.mark.parametrize("how", BY_SIMILARITY)
@pytest.mark.parametrize("tau", [1, 3])
@given(k=st.integers(2, 8), seed=st.integers(0, 2**32 - 1))
def test_linking_by_similarity_undoes_any_renaming(how: str, tau: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = moving(k, 10 + 2 * tau)
    looks = rng.normal(size=(k, 8)).astype(np.float32)  # χ of each true segment
    linker = Linker(k, how, tau)
    naming = None
    for centre in range(tau, len(truth) - tau):
        three = truth[[centre - tau, centre, centre + tau]]
        names = rng.permutation(k).astype(np.uint8)
        latents = np.empty((3, k, 8), np.float32)
        latents[:, names] = looks + rng.normal(scale=0.05, size=(3, k, 8))
        labels = linker.follow(names[three], latents)[names]
        naming = labels if naming is None else naming
        np.testing.assert_array_equal(labels, naming)


def looking(*first: float) -> np.ndarray:
    """χ (3, k, 2), the same at each instant: a unit vector of this first component each."""
    rows = [[each, (1 - each * each) ** 0.5] for each in first]
    return np.tile(np.array(rows, np.float32), (3, 1, 1))


@pytest.mark.parametrize("how", BY_SIMILARITY)
def test_similarity_decides_where_overlap_is_ambiguous(how: str) -> None:
    """Two halves; then the scene jumps, and each new segment overlaps each label as much."""
    before, after = halves(0, 0, 1, 1), halves(0, 1, 0, 1)
    alone = how.removesuffix("+similarity")
    for looks, expected in ((looking(1, 0), [0, 1]), (looking(0, 1), [1, 0])):
        linker = Linker(2, how)
        assert linker.follow(before, looking(1, 0)).tolist() == [0, 1]
        assert linker.follow(after, looks).tolist() == expected
        blind = Linker(2, alone)
        blind.follow(before)
        assert len(set(overlap(before, after, 2).ravel().tolist())) == 1  # overlap cannot tell
        unmoved = blind.follow(after).tolist()
        assert unmoved == ([0, 1] if alone == "one-to-one" else [0, 0])


def test_the_weight_says_how_much_similarity_counts() -> None:
    """Places say that nothing changed, χ says that the two changed places."""
    for weight, expected in ((0.0, [0, 1]), (1.0, [0, 1]), (3.0, [1, 0])):
        linker = Linker(2, "one-to-one+similarity", weight=weight)
        linker.follow(halves(0, 1), looking(1, 0))
        assert linker.follow(halves(0, 1), looking(0, 1)).tolist() == expected


def test_segments_that_share_a_label_are_looked_at_together() -> None:
    """χ of a label is the mean over all its sites: 6 of one segment, 2 of the other."""
    segments = np.array([[[0, 0, 0, 0, 0, 0, 1, 1]]], np.uint8)
    latents = np.array([[[1, 0], [0, 4], [9, 9]]], np.float32)
    named = Partition(segments, latents).named(np.array([2, 2, 0], np.uint8))
    assert named.holders.ravel().tolist() == [2] * 8
    np.testing.assert_allclose(named.latents, [[[0, 0], [0, 0], [0.75, 1.0]]])


def test_a_linkage_by_similarity_needs_latents() -> None:
    with pytest.raises(ValueError, match="needs the latent vectors"):
        Linker(2, "greedy+similarity").follow(halves(0, 1))
