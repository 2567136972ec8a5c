"""Several objects: each takes the label that suits all of them best."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stseg.multiobject import assign, joint_counts, objects_iou


def test_counts_of_labels_and_objects() -> None:
    labels = np.array([[0, 1, 1], [2, 2, 0]], np.uint8)
    codes = np.array([[0, 9, 4], [4, 7, 0]], np.int32)  # 7 is not asked for: background
    counts = joint_counts(labels, codes, 3, [4, 9])
    assert counts.tolist() == [[2, 0, 0], [0, 1, 1], [1, 1, 0]]


def test_void_sites_are_not_counted() -> None:
    labels = np.array([[0, 1, 1]], np.uint8)
    codes = np.array([[-1, -1, 3]], np.int32)
    assert joint_counts(labels, codes, 2, [3]).tolist() == [[0, 0], [0, 1]]


def test_the_assignment_is_the_best_for_all_not_for_the_first() -> None:
    # Object 1 would rather have label 0, but object 2 has nothing else.
    joint = np.array([[0, 60, 50], [0, 40, 0]], np.int64)
    assert assign(joint) == {1: 1, 2: 0}


@given(st.integers(0, 10**6))
def test_no_other_assignment_is_better(seed: int) -> None:
    joint = np.random.default_rng(seed).integers(0, 30, (4, 4)).astype(np.int64)

    def iou(label: int, object_: int) -> float:
        inside = joint[label, object_]
        union = joint[label].sum() + joint[:, object_].sum() - inside
        return inside / union if union else 0.0

    best = max(
        sum(iou(label, object_) for object_, label in enumerate(order, 1))
        for order in itertools.permutations(range(4), 3)
    )
    got = assign(joint)
    assert sum(iou(label, object_) for object_, label in got.items()) == pytest.approx(best)


def test_labels_are_assigned_anew_in_each_subsequence() -> None:
    straight = np.array([[0, 10, 0], [0, 0, 10]], np.int64)
    swapped = straight[::-1].copy()
    assert objects_iou([[straight, straight], [swapped]]) == 1
    assert objects_iou([[straight, straight, swapped]]) == pytest.approx(2 / 3)


def test_more_objects_than_labels_and_absent_objects() -> None:
    one_label = np.array([[0, 10, 10]], np.int64)
    assert objects_iou([[one_label]]) == pytest.approx((0.5 + 0) / 2)
    absent = np.array([[5, 0, 0], [0, 10, 0]], np.int64)  # object 2 is nowhere, nor is its label
    assert objects_iou([[absent]]) == 1
    assert objects_iou([]) is None
    assert objects_iou([[], []]) is None
