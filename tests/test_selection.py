"""The choice of the foreground with the ground truth."""

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stseg.selection import label_counts, oracle_foreground, subsequences


def test_subsequences_cover_the_video_once() -> None:
    assert [list(part) for part in subsequences(5, 2)] == [[0, 1], [2, 3], [4]]
    assert list(subsequences(5, 0)) == [range(5)]


def test_no_label_is_chosen_where_there_is_no_foreground() -> None:
    """The background would be taken otherwise: all choices have an IoU of 0."""
    assert oracle_foreground(np.array([[20000, 6000, 2000], [0, 0, 0]])) == ()


def test_void_sites_are_not_counted() -> None:
    labels = np.array([[0, 0, 1, 1]], np.uint8)
    truth = np.array([[False, True, True, False]])
    void = np.array([[True, False, False, False]])
    assert label_counts(labels, truth, 2, void).tolist() == [[0, 1], [1, 1]]
    assert label_counts(labels, truth, 2).tolist() == [[1, 1], [1, 1]]


@given(st.integers(0, 10**6), st.integers(2, 5))
def test_the_oracle_is_the_best_of_all_unions(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, (8, 9)).astype(np.uint8)
    truth = rng.random((8, 9)) < 0.4
    truth[0, 0] = True
    chosen = oracle_foreground(label_counts(labels, truth, k))

    def iou(subset: tuple[int, ...]) -> float:
        mask = np.isin(labels, subset)
        return (mask & truth).sum() / (mask | truth).sum()

    best = max(iou(s) for size in range(1, k + 1) for s in combinations(range(k), size))
    assert iou(chosen) == best
