"""Similarity of segments: matrices, the map, and merging, also under any relabelling."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine

from stseg.errors import InputError
from stseg.latents import join
from stseg.records import Clip, Segmentation, Settings
from stseg.similarity import (
    across_time,
    compare,
    linked_latents,
    mean_latents,
    merge,
    merged,
    plane,
)
from stseg.spool import Spool

seeds = st.integers(0, 2**32 - 1)


def random_clip(seed: int, n: int = 6, k: int = 4, c: int = 8, absent: bool = True) -> Segmentation:
    """A result whose segments have χ of their own, with some noise; the last one is often away."""
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(k, c))
    masks, flow = Spool(), Spool()
    latents = np.zeros((n, k, c), np.float32)
    assignment = np.stack([rng.permutation(k) for _ in range(n)]).astype(np.uint8)
    for index in range(n):
        here = k - 1 if absent and index % 2 else k
        linked = rng.integers(0, here, (8, 10))
        linked.flat[:here] = np.arange(here)
        place = np.argsort(assignment[index])  # network's segment of each label
        masks.append(np.where(place[linked] == np.arange(k)[:, None, None], 200, 10).astype("u1"))
        latents[index, place[:here]] = (looks + rng.normal(scale=0.1, size=(k, c)))[:here]
        if index:
            flow.append(np.zeros((2, 8, 10), np.float16))
    clip = Clip(Path("a.mp4"), "a", (16, 20), 24.0, n)
    return Segmentation(clip, Settings(k=k), flow, masks, assignment, latents=latents)


def relabelled(segmentation: Segmentation, names: np.ndarray) -> Segmentation:
    return replace(segmentation, assignment=names.astype(np.uint8)[segmentation.assignment])


def whole_clip(segmentation: Segmentation, measure: str = "cosine") -> np.ndarray:
    """Label against label by their means over the clip."""
    means = mean_latents(linked_latents(segmentation), segmentation.areas())
    return compare(means, measure)


def at_frame(segmentation: Segmentation, index: int, measure: str = "cosine") -> np.ndarray:
    """Label against label in one frame."""
    return compare(linked_latents(segmentation)[index], measure)


# --- matrices ------------------------------------------------------------------------------------


def test_compare_by_hand() -> None:
    latents = np.array([[3, 4], [4, 3], [-3, -4], [0, 0]], np.float32)
    nan = float("nan")
    expected = [[1, 0.96, -1, nan], [0.96, 1, -0.96, nan], [-1, -0.96, 1, nan], [nan] * 4]
    np.testing.assert_allclose(compare(latents), expected, atol=1e-6)
    dots = [[12.5, 12, -12.5, nan], [12, 12.5, -12, nan], [-12.5, -12, 12.5, nan], [nan] * 4]
    np.testing.assert_allclose(compare(latents, "dot"), dots, atol=1e-5)


def test_an_unknown_measure_gets_a_sentence() -> None:
    with pytest.raises(InputError) as error:
        compare(np.ones((2, 3), np.float32), "euclid")
    assert str(error.value) == "There is no similarity 'euclid'. Choose one of cosine, dot."


@given(seeds)
def test_cosines_are_symmetric_bounded_and_blind_to_scale(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(5, 7)).astype(np.float32)
    found = compare(rows)
    np.testing.assert_array_equal(found, found.T)
    assert np.abs(found).max() <= 1
    np.testing.assert_array_equal(np.diag(found), 1)
    scaled = compare(rows * rng.uniform(0.1, 9, (5, 1)).astype(np.float32))
    np.testing.assert_allclose(scaled, found, atol=1e-6)
    angles = [[1 - cosine(one, other) for other in rows] for one in rows]  # that of SciPy
    np.testing.assert_allclose(found, angles, atol=1e-6)


def test_join_weighs_by_sites() -> None:
    latents = np.array([[1, 0], [0, 1], [5, 5]], np.float32)
    found = join(latents, np.array([3, 1, 0]), np.array([1, 1, 0], np.uint8))
    np.testing.assert_allclose(found, [[0, 0], [0.75, 0.25], [0, 0]])


@given(seeds)
def test_every_matrix_follows_a_relabelling(seed: int) -> None:
    one = random_clip(seed)
    names = np.random.default_rng(seed + 1).permutation(one.k)
    other = relabelled(one, names)
    for measure in ("cosine", "dot"):
        for matrix in (
            lambda s, m=measure: whole_clip(s, m),
            lambda s, m=measure: at_frame(s, 1, m),
        ):
            np.testing.assert_allclose(
                matrix(other)[np.ix_(names, names)], matrix(one), atol=1e-6, equal_nan=True
            )
    before, after = linked_latents(one), linked_latents(other)
    np.testing.assert_allclose(
        across_time(after, int(names[3])), across_time(before, 3), atol=1e-6, equal_nan=True
    )


def test_what_is_absent_has_no_similarity() -> None:
    one = random_clip(0)
    assert np.isnan(at_frame(one, 1)[3]).all()  # label 3 is away in odd frames
    assert not np.isnan(at_frame(one, 0)).any()
    over_time = across_time(linked_latents(one), 3)
    np.testing.assert_array_equal(np.isnan(np.diag(over_time)), np.arange(6) % 2 == 1)
    assert not np.isnan(whole_clip(one)).any()


def test_a_segment_is_most_similar_to_itself_over_time() -> None:
    linked = linked_latents(random_clip(1, c=32))
    for label in range(3):
        assert across_time(linked, label).min() > 0.9


def test_the_mean_over_the_clip_is_weighted_by_area() -> None:
    linked = np.array([[[1, 0]], [[0, 1]]], np.float32)
    found = mean_latents(linked, np.array([[0.3], [0.1]], np.float32))
    np.testing.assert_allclose(found, [[0.75, 0.25]], rtol=1e-6)
    assert not mean_latents(linked, np.zeros((2, 1), np.float32)).any()


# --- the map -------------------------------------------------------------------------------------


@given(seeds)
def test_the_map_keeps_what_lies_in_a_plane(seed: int) -> None:
    rng = np.random.default_rng(seed)
    flat = rng.normal(size=(5 * 4, 2)) * [3, 1]
    axes, _ = np.linalg.qr(rng.normal(size=(9, 2)))
    points = plane((flat @ axes.T + 1).reshape(5, 4, 9).astype(np.float32)).reshape(-1, 2)

    def distances(x: np.ndarray) -> np.ndarray:
        return np.linalg.norm(x[:, None] - x[None], axis=-1)

    np.testing.assert_allclose(distances(points), distances(flat), atol=1e-3)
    assert points[:, 0].var() >= points[:, 1].var() * 0.999
    assert (points.max(0) >= -points.min(0) - 1e-4).all()  # signs are not left to chance


def test_the_map_follows_a_relabelling_and_has_no_place_for_the_absent() -> None:
    linked = linked_latents(random_clip(2))
    found = plane(linked)
    assert found.shape == (6, 4, 2)
    np.testing.assert_array_equal(np.isnan(found).all(2), ~linked.any(2))
    names = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(plane(linked[:, names]), found[:, names], atol=1e-4)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, 4), (2, 3, 0), (3, 2, 1)])
def test_the_map_of_nothing_is_empty(shape: tuple[int, int, int]) -> None:
    found = plane(np.zeros(shape, np.float32))
    assert found.shape == (*shape[:2], 2)
    assert np.isnan(found).all()


# --- merging -------------------------------------------------------------------------------------


def cosine_matrix(seed: int, k: int) -> np.ndarray:
    return compare(np.random.default_rng(seed).normal(size=(k, 6)).astype(np.float32))


@given(st.integers(2, 8), seeds)
def test_the_ends_of_the_threshold(k: int, seed: int) -> None:
    matrix = cosine_matrix(seed, k)
    assert merge(matrix, 1.0).tolist() == list(range(k))
    assert merge(matrix, -1.0).tolist() == [0] * k
    assert merge(np.ones((k, k), np.float32), 1.0).tolist() == list(range(k))


@given(st.integers(2, 8), seeds, st.floats(-1, 1))
def test_the_lowest_label_names_a_group_of_the_alike(k: int, seed: int, threshold: float) -> None:
    matrix = cosine_matrix(seed, k)
    found = merge(matrix, threshold)
    assert found.dtype == np.uint8
    for name in np.unique(found):
        members = np.flatnonzero(found == name)
        assert members[0] == name
    pairs = matrix - 2 * np.eye(k, dtype=np.float32)
    if pairs.max() > threshold > -1:
        assert len(np.unique(found)) < k  # the two most similar ones at least
    elif pairs.max() < threshold:
        assert len(np.unique(found)) == k


@given(st.integers(2, 8), seeds, st.floats(-0.99, 0.99))
def test_merging_follows_a_relabelling(k: int, seed: int, threshold: float) -> None:
    matrix = cosine_matrix(seed, k)
    names = np.random.default_rng(seed + 1).permutation(k)
    one, other = merge(matrix, threshold), merge(matrix[np.ix_(names, names)], threshold)
    together = one[:, None] == one[None]
    np.testing.assert_array_equal(other[:, None] == other[None], together[np.ix_(names, names)])


@given(st.integers(2, 8), seeds, st.floats(-1, 1), st.floats(-1, 1))
def test_a_lower_threshold_merges_no_less(k: int, seed: int, one: float, other: float) -> None:
    matrix = cosine_matrix(seed, k)
    low, high = merge(matrix, min(one, other)), merge(matrix, max(one, other))
    together = high[:, None] == high[None]
    assert (low[:, None] == low[None])[together].all()


def test_labels_that_were_never_seen_stay_by_themselves() -> None:
    matrix = compare(np.array([[1, 0], [0, 0], [1, 0.1], [0, 1]], np.float32))
    assert merge(matrix, 0.9).tolist() == [0, 1, 0, 3]
    assert merge(matrix, -1.0).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("threshold", [-1.5, 1.01, float("nan")])
def test_a_threshold_out_of_range_gets_a_sentence(threshold: float) -> None:
    with pytest.raises(InputError, match="a similarity is from -1 to 1"):
        merge(np.eye(3, dtype=np.float32), threshold)


def test_merging_is_fast() -> None:
    matrix = cosine_matrix(0, 8)
    merge(matrix, 0.1)
    best = min(_seconds(lambda: merge(matrix, 0.1)) for _ in range(20))
    assert best < 0.01


def _seconds(work: object) -> float:
    assert callable(work)
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def test_a_merged_result_has_fewer_labels_and_says_so() -> None:
    one = random_clip(4)
    matrix = whole_clip(one)
    pairs = np.sort(matrix[np.triu_indices(4, 1)])
    threshold = float(pairs[-2:].mean())  # the most similar pair alone
    first, second = np.argwhere(np.triu(matrix, 1) == pairs[-1])[0]
    found = merged(one, threshold)
    assert found.settings == replace(one.settings, merge=threshold)
    assert found.masks is one.masks
    for index in range(len(one)):
        labels, expected = found.labels(index), one.labels(index)
        expected[expected == second] = first
        np.testing.assert_array_equal(labels, expected)
    np.testing.assert_allclose(found.areas().sum(1), 1, atol=1e-6)
    assert not found.areas()[:, second].any()
    assert len(np.unique(merged(one, -1.0).assignment)) == 1


def test_each_sub_sequence_merges_its_own_labels() -> None:
    """Beyond a border the same segments have other labels, and still the two alike are fused."""
    one = random_clip(4, absent=False)
    matrix = whole_clip(one)
    pairs = np.sort(matrix[np.triu_indices(4, 1)])
    threshold = float(pairs[-2:].mean())
    first, second = np.argwhere(np.triu(matrix, 1) == pairs[-1])[0]
    names = np.array([2, 0, 3, 1], np.uint8)
    assignment = one.assignment.copy()
    assignment[3:] = names[assignment[3:]]
    settings = replace(one.settings, subsequence=3)
    found = merged(replace(one, settings=settings, assignment=assignment), threshold)
    assert found.settings == replace(settings, merge=threshold)
    for index in range(len(one)):
        own = np.arange(4, dtype=np.uint8) if index < 3 else names
        alike = own[[first, second]]
        expected = own[one.labels(index)]
        expected[expected == alike.max()] = alike.min()
        np.testing.assert_array_equal(found.labels(index), expected)


def test_merging_nothing_gives_nothing() -> None:
    one = random_clip(0)
    empty = replace(one, assignment=one.assignment[:0], latents=one.latents[:0])
    assert len(merged(empty, 0.5)) == 0
