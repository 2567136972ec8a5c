"""Loss curves: running means by hand, and pictures that can be read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stseg.loss_chart import Curve, loss_chart, running_mean


def test_running_mean_by_hand() -> None:
    assert running_mean([1.0, 3.0, 5.0, 7.0], 2).tolist() == [1, 2, 4, 6]
    assert running_mean([2.0, 4.0], 5).tolist() == [2, 3]
    np.testing.assert_array_equal(running_mean([np.nan, 2.0, 4.0], 2), [np.nan, 2, 3])


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.4, np.nan, 0.3]])
def test_the_chart_is_a_picture(values: list[float]) -> None:
    curve = Curve("L", list(range(len(values))), values, "#ff0000")
    data = loss_chart([curve, Curve("held out", [1], [0.2], "#00ff00", True)], "title")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (400, 800, 3)
    green = (picture == (0, 255, 0)).all(axis=2)
    assert green.any()
