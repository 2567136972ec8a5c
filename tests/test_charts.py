"""Charts and heat maps: what is drawn is what is there."""

from __future__ import annotations

import re

import numpy as np
import pytest

from stseg.charts import label_trails, line_chart
from stseg.render import COLOURS, flow_colours, heat, segment_flow


def test_lines_pass_through_their_values_and_stop_at_gaps() -> None:
    nan = np.nan
    values = np.array([[0, 2], [nan, 4], [nan, nan], [-2, 6], [1, nan]], np.float32)
    chart = line_chart(values, ["first", "second"])
    assert [text for text, _ in chart.ticks] == ["-2", "0", "2", "4", "6"]
    np.testing.assert_allclose([y for _, y in chart.ticks], [1, 0.75, 0.5, 0.25, 0])
    lines = dict(re.findall(r'class="line (\w+)" d="([^"]*)"', chart.svg))
    # 5 columns of width 1; 100 high from 6 down to -2; a value alone between gaps is a dash.
    assert lines["first"] == "M0 75.00h1M3.5 100.00L4.5 62.50"
    assert lines["second"] == "M0.5 50.00L1.5 25.00M3 0.00h1"
    assert 'viewBox="0 0 5 100"' in chart.svg


@pytest.mark.parametrize("size", [3e-4, 0.02, 1.0, 7.3, 1234.0])
def test_the_scale_holds_all_values(size: float) -> None:
    values = np.array([[-size / 3], [size]], np.float32)
    ticks = line_chart(values, ["one"]).ticks
    assert 3 <= len(ticks) <= 9
    numbers = [float(text) for text, _ in ticks]
    assert numbers[0] <= -size / 3
    assert numbers[-1] >= size * (1 - 1e-6)
    assert 0 in numbers


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_chart_of_nothing_is_a_chart(value: float) -> None:
    chart = line_chart(np.full((4, 2), value, np.float32), ["a", "b"])
    assert next(text for text, _ in chart.ticks) == "0.0"
    assert "nan" not in chart.svg


def test_heat_grows_with_the_value_and_leaves_vermilion_free() -> None:
    ramp = heat(np.linspace(0, 1.2, 200, dtype=np.float32)[None], 1.0)[0].astype(int)
    brightness = ramp @ [299, 587, 114]
    assert (np.diff(brightness) >= -2000).all()
    assert brightness[0] < 0.25 * brightness[-1]
    np.testing.assert_array_equal(ramp[-1], ramp[-20])  # what is beyond the top is at the top
    assert np.abs(ramp - COLOURS[7]).sum(axis=1).min() > 100


def test_the_model_of_a_segment_is_bright_inside_it() -> None:
    flow = np.zeros((2, 20, 30), np.float32)
    flow[0] = 3
    inside = np.zeros((20, 30), bool)
    inside[5:15, 5:20] = True
    picture = segment_flow(flow, inside, 4.0, 3)
    full = flow_colours(flow, 4.0)
    np.testing.assert_array_equal(picture[8:12, 8:17], full[8:12, 8:17])
    assert (picture[5, 5:20] == COLOURS[3]).all()
    assert np.ptp(picture[0, 0]) < np.ptp(full[0, 0]) / 3
    assert (segment_flow(flow, np.zeros_like(inside), 4.0, 3) == 225).all()


def test_trails_stay_inside_and_the_present_frame_stands_out() -> None:
    points = np.array([[[0, 0], [5, 1]], [[1, 2], [np.nan, np.nan]], [[2, 4], [9, -3]]], np.float32)
    svg = label_trails(points, now=2)
    dots = re.findall(
        r'<circle class="point label-(\d)( now)?" cx="([\d.]+)" cy="([\d.]+)" r="[\d.]+" '
        r'data-frame="(\d)">',
        svg,
    )
    assert [(int(label), int(frame)) for label, _, _, _, frame in dots] == [
        *[(0, 0), (0, 1), (1, 0)],
        *[(0, 2), (1, 2)],  # the present frame is drawn last
    ]
    assert [bool(now) for _, now, _, _, _ in dots] == [False, False, False, True, True]
    x, y = np.array([(float(x), float(y)) for _, _, x, y, _ in dots]).T
    assert (x.min(), x.max(), y.min(), y.max()) == (14, 386, 14, 226)
    assert "nan" not in svg
    assert "circle" not in label_trails(np.full((3, 2, 2), np.nan, np.float32), now=0)
