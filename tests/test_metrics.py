"""J and F against what can be counted by hand, and against an independent implementation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from stseg.metrics import contour, contour_accuracy, region_similarity, statistics


def square(top: int, left: int, side: int, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_region_similarity_of_shifted_squares() -> None:
    # Two 10x10 squares that share 10x5: 50 of 150 sites.
    assert region_similarity(square(5, 5, 10), square(5, 10, 10)) == pytest.approx(50 / 150)


def test_empty_masks() -> None:
    empty, full = np.zeros((9, 9), bool), square(2, 2, 4, (9, 9))
    assert region_similarity(empty, empty) == 1 == contour_accuracy(empty, empty)
    assert region_similarity(empty, full) == 0 == contour_accuracy(empty, full)
    assert contour_accuracy(full, empty) == 0


def test_a_small_shift_costs_no_contour_and_a_large_one_all() -> None:
    # The diagonal is 100, so that contours match within ceil(0.8) = 1 site.
    truth = square(20, 20, 15)
    assert contour_accuracy(square(21, 20, 15), truth) == 1
    assert contour_accuracy(square(40, 60, 15), truth) == 0


def test_the_last_row_and_column_are_no_contour() -> None:
    assert contour(np.ones((7, 9), bool)).sum() == 0


def reference_contour(mask: np.ndarray) -> np.ndarray:
    """The definition, site by site."""
    h, w = mask.shape
    edge = np.zeros_like(mask)
    for y in range(h):
        for x in range(w):
            right = mask[y, min(x + 1, w - 1)]
            below = mask[min(y + 1, h - 1), x]
            corner = mask[min(y + 1, h - 1), min(x + 1, w - 1)]
            edge[y, x] = mask[y, x] != right or mask[y, x] != below or mask[y, x] != corner
    return edge


def reference_f(mask: np.ndarray, truth: np.ndarray) -> float:
    """F by distances instead of dilations."""
    radius = np.ceil(0.008 * np.hypot(*mask.shape))
    ours, theirs = reference_contour(mask), reference_contour(truth)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    precision = (ndimage.distance_transform_edt(~theirs)[ours] <= radius).mean()
    recall = (ndimage.distance_transform_edt(~ours)[theirs] <= radius).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@given(st.integers(0, 10**6), st.floats(0.5, 4))
def test_f_agrees_with_an_independent_one_on_random_blobs(seed: int, smooth: float) -> None:
    rng = np.random.default_rng(seed)
    mask, truth = (
        ndimage.gaussian_filter(rng.normal(size=(37, 53)), smooth) > 0.02 for _ in range(2)
    )
    assert contour_accuracy(mask, truth) == pytest.approx(reference_f(mask, truth), abs=1e-6)


def test_statistics_of_a_falling_score() -> None:
    got = statistics(np.linspace(1, 0, 9))
    assert got.mean == pytest.approx(0.5)
    assert got.recall == pytest.approx(4 / 9)
    # Quarters 0-2 and 6-8 of the nine: means 0.875 and 0.125.
    assert got.decay == pytest.approx(0.75)


def test_statistics_of_nothing_is_no_number() -> None:
    assert np.isnan(statistics(np.array([])).mean)
