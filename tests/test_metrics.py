"""J and F against what can be counted by hand, and against independent implementations.

``vos-benchmark`` 0.1.0 (MIT; it carries the code of davis2017-evaluation) is the oracle. It asks
for ``opencv-python``, which would overwrite the headless OpenCV of this project, so that it is no
requirement: its answers are kept here, and asked for again where it is installed
(``pip install --no-deps vos-benchmark==0.1.0 scikit-image``).
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
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


def published_f(mask: np.ndarray, truth: np.ndarray) -> float:
    """F as the official code of DAVIS 2016 defines it, with SciPy's dilation.

    Written anew from its definition (``db_eval_boundary``, ``seg2bmap``), with nothing of
    ``stseg.metrics``: a boundary site differs from its right, lower or lower right neighbour; in
    the last row only the right one counts, in the last column only the lower one.
    """

    def boundary(seg: np.ndarray) -> np.ndarray:
        found = np.zeros_like(seg)
        found[:-1, :-1] = (
            (seg[:-1, :-1] != seg[:-1, 1:])
            | (seg[:-1, :-1] != seg[1:, :-1])
            | (seg[:-1, :-1] != seg[1:, 1:])
        )
        found[-1, :-1] = seg[-1, :-1] != seg[-1, 1:]
        found[:-1, -1] = seg[:-1, -1] != seg[1:, -1]
        return found

    radius = int(np.ceil(0.008 * np.linalg.norm(mask.shape)))
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk = x**2 + y**2 <= radius**2
    ours, theirs = boundary(mask), boundary(truth)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    precision = (ours & ndimage.binary_dilation(theirs, disk)).sum() / ours.sum()
    recall = (theirs & ndimage.binary_dilation(ours, disk)).sum() / theirs.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@given(st.integers(0, 10**6), st.floats(1, 12), st.booleans())
def test_f_agrees_with_the_published_definition_on_random_masks(
    seed: int, smooth: float, near: bool
) -> None:
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(100, 240)), int(rng.integers(100, 320)))  # radius 2 to 4
    first = ndimage.gaussian_filter(rng.normal(size=size), smooth)
    other = ndimage.gaussian_filter(rng.normal(size=size), smooth)
    mask, truth = first > 0, (0.8 * first + 0.2 * other if near else other) > 0
    assert contour_accuracy(mask, truth) == pytest.approx(published_f(mask, truth), abs=1e-6)


CLIPS = Path(__file__).parents[1] / "assets" / "clips"

# (J, F) of the pairs below, by vos-benchmark 0.1.0.
ORACLE_RANDOM = [
    (0.700813312644, 0.677397959184),
    (0.673879589209, 0.710862373462),
    (0.677826402126, 0.669218507715),
    (0.714731569807, 0.665275141703),
    (0.724397126732, 0.655768747711),
    (0.713699602872, 0.685245678724),
]
ORACLE_REAL = [
    (0.571724137931, 0.339445107530),
    (0.457552370452, 0.357267609107),
    (0.290182998287, 0.169302537262),
    (0.268974948716, 0.184556105056),
    (0.182693297642, 0.187526904864),
    (0.149389494387, 0.101436614250),
]


def random_pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blobs of 240x427, the second a disturbed copy of the first."""
    rng = np.random.default_rng(seed)
    base = ndimage.gaussian_filter(rng.normal(size=(240, 427)), 12)
    noise = ndimage.gaussian_filter(rng.normal(size=(240, 427)), 3 + seed)
    level = 0.5 * base.std()
    return base > level, base + noise * (base.std() / noise.std()) * 0.4 > level


def real_pair(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks of the shipped clips, some frames apart."""
    name = ("crossing", "orbit", "pause")[number % 3]
    paths = sorted((CLIPS / name).glob("*.png"))
    first, second = (np.array(Image.open(paths[at])) > 0 for at in (number, 3 + 3 * number))
    return first, second


PAIRS = [
    *((random_pair, number, gold) for number, gold in enumerate(ORACLE_RANDOM)),
    *((real_pair, number, gold) for number, gold in enumerate(ORACLE_REAL)),
]


@pytest.mark.parametrize(("pair", "number", "gold"), PAIRS)
def test_j_and_f_are_those_of_the_oracle(pair, number: int, gold: tuple[float, float]) -> None:
    mask, truth = pair(number)
    got = region_similarity(mask, truth), contour_accuracy(mask, truth)
    assert got == pytest.approx(gold, abs=1e-6)
    assert got[1] == pytest.approx(published_f(mask, truth), abs=1e-6)
    assert got[1] < 1


def oracle(mask: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    from vos_benchmark.evaluator import Evaluator

    evaluator = Evaluator()
    evaluator.feed_frame(mask.astype(np.uint8), truth.astype(np.uint8))
    j, f = evaluator.conclude()
    return j[1] / 100, f[1] / 100


@pytest.mark.skipif(
    importlib.util.find_spec("vos_benchmark") is None,
    reason="vos-benchmark is not installed; its kept answers are compared above",
)
def test_the_kept_answers_are_those_of_the_oracle() -> None:
    for pair, number, gold in PAIRS:
        assert oracle(*pair(number)) == pytest.approx(gold, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [("bmx-trees", 20, 23), ("libby", 3, 9), ("soapbox", 40, 41), ("camel", 0, 89)],
)
def test_real_masks_of_davis_at_full_size(shared: Path, name: str, first: int, second: int) -> None:
    folder = shared / "davis16/Annotations/480p" / name
    mask, truth = (
        np.array(Image.open(folder / f"{at:05d}.png").convert("L")) > 0 for at in (first, second)
    )
    got = contour_accuracy(mask, truth)
    assert 0 < got < 1
    assert got == pytest.approx(published_f(mask, truth), abs=1e-6)


def test_real_masks_of_davis_against_distances(shared: Path) -> None:
    folder = shared / "davis16/Annotations/480p/bmx-trees"
    masks = [np.array(Image.open(folder / f"{at:05d}.png").convert("L")) > 0 for at in (20, 23)]
    masks = [mask[120:360, 200:627] for mask in masks]  # the reference is slow
    assert contour_accuracy(*masks) == pytest.approx(reference_f(*masks), abs=1e-6)


def test_statistics_of_a_falling_score() -> None:
    got = statistics(np.linspace(1, 0, 9))
    assert got.mean == pytest.approx(0.5)
    assert got.recall == pytest.approx(4 / 9)
    # Quarters 0-2 and 6-8 of the nine: means 0.875 and 0.125.
    assert got.decay == pytest.approx(0.75)


def test_statistics_of_nothing_is_no_number() -> None:
    assert np.isnan(statistics(np.array([])).mean)
