"""Labels of one result in the names of another."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from stseg.naming import Naming, matching, matching_at
from stseg.records import Segmentation, label_map


def renamed(result: Segmentation, names: list[int]) -> Segmentation:
    return replace(result, assignment=np.array(names, np.uint8)[result.assignment])


def test_matching_undoes_other_names(results: dict[int, Segmentation]) -> None:
    one = results[3]
    other = renamed(one, [2, 0, 1])
    found = matching(one, other)
    for index in range(len(one)):
        np.testing.assert_array_equal(found[other.labels_on_grid(index)], one.labels_on_grid(index))


def test_masks_of_one_frame_are_matched_as_they_are_linked(
    results: dict[int, Segmentation],
) -> None:
    one = renamed(results[3], [2, 0, 1])
    found = matching_at(one, 4, one.soft_masks(4))
    segments = label_map(one.soft_masks(4), one.labels_on_grid(4).shape)
    np.testing.assert_array_equal(found[segments], one.labels_on_grid(4))


@pytest.mark.parametrize(("first", "second"), [(3, 2), (2, 4), (4, 3)])
def test_no_two_labels_share_a_name(
    results: dict[int, Segmentation], first: int, second: int
) -> None:
    found = matching(results[first], results[second])
    assert len(set(found.tolist())) == second
    assert found.max() < max(first, second)


@pytest.mark.parametrize(("shown", "other"), [(3, 3), (3, 2), (2, 4), (4, 3)])
def test_a_table_of_names_is_a_permutation(
    results: dict[int, Segmentation], shown: int, other: int
) -> None:
    table = Naming().table(results[shown], results[other])
    np.testing.assert_array_equal(np.sort(table), np.arange(256))
    # The eight that have colours stay among themselves.
    np.testing.assert_array_equal(np.sort(table[:8]), np.arange(8))
    np.testing.assert_array_equal(table[:other], matching(results[shown], results[other]))


def test_names_follow_what_is_shown(results: dict[int, Segmentation]) -> None:
    naming, other = Naming(), results[3]
    for names in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        shown = renamed(other, names)
        for _ in range(2):
            table = naming.table(shown, other)
            np.testing.assert_array_equal(table[other.labels(4)], shown.labels(4))


def test_names_keep_no_result(results: dict[int, Segmentation]) -> None:
    naming, shown = Naming(), renamed(results[3], [2, 0, 1])
    naming.table(shown, results[3])
    gone = weakref.ref(shown)
    del shown
    gc.collect()
    assert gone() is None


def test_ground_truth_takes_the_names_of_the_labels_that_it_overlaps(
    results: dict[int, Segmentation],
) -> None:
    shown = results[3]
    codes = np.array([0, 2, 1], np.uint8)  # of labels 0, 1 and 2

    def truths(index: int, size: tuple[int, int]) -> np.ndarray | None:
        labels = shown.labels_on_grid(index)
        assert size == labels.shape
        return codes[labels] if index % 2 == 0 else None  # every second frame is annotated

    table = Naming().of_truth(shown, range(len(shown)), truths)
    np.testing.assert_array_equal(table[codes], [0, 1, 2])
    assert sorted(table) == list(range(256))


def test_ground_truth_of_one_frame_is_enough(results: dict[int, Segmentation]) -> None:
    """FBMS-59 has a mask of every twentieth frame, also of frames that no run has come to."""
    shown = results[3]
    last = len(shown) - 1

    def truths(index: int, _: tuple[int, int]) -> np.ndarray:
        assert index == last
        return np.array([2, 0, 1], np.uint8)[shown.labels_on_grid(index)]

    table = Naming().of_truth(shown, [last, last + 20], truths)
    np.testing.assert_array_equal(table[[2, 0, 1]], [0, 1, 2])


def test_names_of_the_ground_truth_are_looked_up_once(results: dict[int, Segmentation]) -> None:
    asked: list[int] = []

    def truths(index: int, _: tuple[int, int]) -> None:
        asked.append(index)

    naming, shown = Naming(), results[3]
    table = naming.of_truth(shown, range(len(shown)), truths)
    np.testing.assert_array_equal(table, np.arange(256))  # nobody knows any
    count = len(asked)
    assert 0 < count <= 12
    naming.of_truth(shown, range(len(shown)), truths)
    assert len(asked) == count
    naming.of_truth(replace(shown), range(len(shown)), truths)  # another result
    assert len(asked) == 2 * count


def test_objects_that_no_label_is_left_for_have_names_of_their_own(
    results: dict[int, Segmentation],
) -> None:
    shown = results[2]

    def truths(index: int, _: tuple[int, int]) -> np.ndarray:
        objects = shown.labels_on_grid(index) * 2
        objects[:, ::3] += 1  # each label is two objects
        return objects

    names = Naming().of_truth(shown, range(len(shown)), truths)[:4]
    assert len(set(names.tolist())) == 4
    assert set(names.tolist()) == {0, 1, 2, 3}
