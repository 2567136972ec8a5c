"""Pictures: colours mean what they say."""

from itertools import combinations
from typing import Literal

import cv2
import numpy as np
import pytest

from stseg.records import K_RANGE
from stseg.render import (
    COLOURS,
    colour_labels,
    colour_wheel,
    flow_colours,
    from_jpeg,
    grid,
    jpeg,
    outlines,
    overlay,
    palette,
    png,
    soft_mask,
    spotlight,
)

LABELS = np.zeros((20, 30), np.uint8)
LABELS[5:15, 10:20] = 1
IMAGE = np.full((20, 30, 3), 100, np.uint8)

# Machado et al. (2009), severity 1, on linear RGB.
DEFICIENCIES = {
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}


@pytest.mark.parametrize("kind", DEFICIENCIES)
def test_colours_are_told_apart_without_red_or_green(kind: str) -> None:
    linear = (palette() / 255) ** 2.2
    seen = np.clip(linear @ np.array(DEFICIENCIES[kind]).T, 0, 1) ** (1 / 2.2) * 255
    nearest = min(np.linalg.norm(a - b) for a, b in combinations(seen, 2))
    assert nearest > 45


# The same source, with all its digits, and what it says of the third deficiency.
SIMULATED = {
    "none": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}

XYZ = [
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.119192, 0.9503041],
]
WHITE = (0.95047, 1, 1.08883)


def cielab(linear: np.ndarray) -> np.ndarray:
    """L*a*b* under D65 of linear sRGB (n, 3) from 0 to 1."""
    ratio = linear @ np.array(XYZ).T / np.array(WHITE)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


@pytest.mark.parametrize("kind", SIMULATED)
def test_no_two_labels_look_alike(kind: str) -> None:
    """A difference of 2.3 in CIE L*a*b* is just noticed; the nearest two are 16 apart."""
    colours = palette()[: K_RANGE[1]] / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = cielab(np.clip(linear @ np.array(SIMULATED[kind]).T, 0, 1))
    nearest = min(np.linalg.norm(a - b) for a, b in combinations(seen, 2))
    assert nearest > 15


def test_there_is_a_colour_for_every_label() -> None:
    assert len(set(COLOURS)) == K_RANGE[1]
    assert (colour_labels(LABELS)[7, 12] == COLOURS[1]).all()


def test_overlay_mixes_by_opacity_and_hides_labels() -> None:
    assert (overlay(IMAGE, LABELS, opacity=0.0) == IMAGE).all()
    assert (overlay(IMAGE, LABELS, opacity=1.0) == colour_labels(LABELS)).all()
    half = overlay(IMAGE, LABELS, opacity=0.5)
    assert np.abs(half[10, 15].astype(int) - (np.array(COLOURS[1]) + 100) // 2).max() <= 1
    hidden = overlay(IMAGE, LABELS, opacity=1.0, hidden=(1,))
    assert (hidden[10, 15] == 100).all()
    assert (hidden[1, 1] == COLOURS[0]).all()


def test_outline_touches_only_borders() -> None:
    drawn = overlay(IMAGE, LABELS, opacity=1.0, style="outline")
    changed = (drawn != IMAGE).any(-1)
    assert changed.any()
    assert not changed[8:12, 13:17].any()
    assert not changed[:3].any()
    assert outlines(LABELS).sum() < LABELS.size / 4


@pytest.mark.parametrize("lit", [[], [1], [0, 1]])
def test_the_spotlight_leaves_what_is_lit_as_it_is(
    lit: list[int], rng: np.random.Generator
) -> None:
    image = rng.integers(0, 256, IMAGE.shape).astype(np.uint8)
    assert (spotlight(image, LABELS, lit, opacity=0.0) == image).all()
    dark = spotlight(image, LABELS, lit, opacity=1.0)
    on = np.isin(LABELS, lit)
    assert not dark[~on].any()
    framed = on & (dark != image).any(axis=-1)
    assert (dark[framed] == colour_labels(LABELS)[framed]).all()
    assert framed.any() == bool(lit)
    assert not framed[8:12, 13:17].any()  # a line, not a filling
    half = spotlight(image, LABELS, lit, opacity=0.5)[~on].astype(int)
    assert (np.ptp(half, axis=-1) == 0).all()  # gray, so that only what is lit has colours
    assert half.max(initial=0) <= 128


def test_flow_colours_hue_is_direction_and_saturation_magnitude() -> None:
    def colour(u: float, v: float, scale: float = 4.0) -> np.ndarray:
        return flow_colours(np.full((2, 1, 1), [[[u]], [[v]]], np.float32), scale)[0, 0].astype(int)

    assert (colour(0, 0) == 255).all()  # nothing moves: white
    assert np.abs(colour(4, 0) - colour(-4, 0)).max() > 100
    assert (colour(40, 0) == colour(4, 0)).all()  # beyond the scale: full colour
    assert colour(1, 0).min() > colour(4, 0).min()


def test_wheel_is_white_outside_its_disk() -> None:
    wheel = colour_wheel(64)
    assert (wheel[0, 0] == 255).all()
    assert wheel[32, 60].min() < 100


def test_soft_mask_is_brightness() -> None:
    picture = soft_mask(np.array([[0, 1]], np.float32), 1, (1, 2))
    assert (picture[0, 0] == 0).all()
    assert (picture[0, 1] == COLOURS[1]).all()


@pytest.mark.parametrize("size", [(480, 854), (854, 480), (37, 51)])
def test_grid_has_an_even_size_for_the_encoder(size: tuple[int, int]) -> None:
    labels = np.zeros(size, np.uint8)
    image = np.zeros((*size, 3), np.uint8)
    picture = grid(image, np.zeros((2, 16, 28), np.float32), labels, labels, 1.0)
    assert picture.shape[0] % 2 == 0 == picture.shape[1] % 2
    assert max(picture.shape) < 2 * 480 + 100


def plain_overlay(
    image: np.ndarray, labels: np.ndarray, opacity: float, style: str, hidden: list[int]
) -> np.ndarray:
    """``overlay`` said with NumPy alone, but for the mixture."""
    colours = palette()[labels]
    visible = ~np.isin(labels, hidden)
    edges = outlines(labels).astype(bool)
    if style == "outline":
        thick = cv2.dilate(edges.astype(np.uint8), np.ones((2, 2), np.uint8)).astype(bool)
        drawn = colours if opacity > 0 else image
        return np.where((visible & thick)[..., None], drawn, image)
    gray = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    paler = cv2.addWeighted(gray, min(2 * opacity, 1), image, 1 - min(2 * opacity, 1), 0)
    under = np.where((labels == 0)[..., None], image, paler)
    mixed = cv2.addWeighted(colours, opacity, under, 1 - opacity, 0)
    line = (edges & visible)[..., None]
    mixed = np.where(line, colours if opacity > 0 else image, mixed)
    return np.where(visible[..., None], mixed, image)


@pytest.mark.parametrize("style", ["fill", "outline"])
@pytest.mark.parametrize("opacity", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("hidden", [[], [1], [0, 3, 7]])
def test_the_fast_pictures_are_the_plain_ones(
    style: Literal["fill", "outline"], opacity: float, hidden: list[int], rng: np.random.Generator
) -> None:
    coarse = rng.integers(0, K_RANGE[1], (6, 9)).astype(np.uint8)
    labels = cv2.resize(coarse, (61, 43), interpolation=cv2.INTER_NEAREST)
    image = rng.integers(0, 256, (43, 61, 3)).astype(np.uint8)
    np.testing.assert_array_equal(colour_labels(labels), palette()[labels])
    np.testing.assert_array_equal(
        overlay(image, labels, opacity, style, hidden),
        plain_overlay(image, labels, opacity, style, hidden),
    )


@pytest.mark.parametrize("label", range(1, K_RANGE[1]))
def test_a_filled_segment_has_the_hue_of_its_label_whatever_is_below(label: int) -> None:
    below = np.array(COLOURS[1:], np.uint8)[None].repeat(4, axis=0)  # the colours of the others
    over = overlay(below, np.full(below.shape[:2], label, np.uint8))
    hues = [
        cv2.cvtColor(colours.astype(np.uint8), cv2.COLOR_RGB2HSV)[..., 0].astype(int)
        for colours in (over, palette()[None, label : label + 1])
    ]
    assert np.abs(hues[0] - hues[1]).max() <= 4  # of 180


@pytest.mark.parametrize("label", range(K_RANGE[1]))
def test_the_fast_soft_mask_is_the_plain_one(label: int, rng: np.random.Generator) -> None:
    mask = rng.random((9, 13)).astype(np.float32)
    large = cv2.resize(mask, (26, 18))[..., None]
    plain = np.rint(large * palette()[label]).astype(np.uint8)
    np.testing.assert_array_equal(soft_mask(mask, label, (18, 26)), plain)


def test_encoded_pictures_keep_their_colours(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (12, 20, 3)).astype(np.uint8)
    decoded = cv2.imdecode(np.frombuffer(png(image), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded[..., ::-1], image)
    vermilion = np.full((16, 16, 3), COLOURS[7], np.uint8)
    assert np.abs(from_jpeg(jpeg(vermilion)).astype(int) - COLOURS[7]).max() <= 3


def test_the_captions_of_the_grid_have_room_on_the_smallest_clip() -> None:
    image = np.zeros((20, 32, 3), np.uint8)
    labels = np.zeros((20, 32), np.uint8)
    picture = grid(image, np.zeros((2, 16, 28), np.float32), labels, labels, 1.0)
    bar = picture[:26] > 24
    columns = np.flatnonzero(bar.any(axis=(0, 2)))
    half = picture.shape[1] // 2
    assert not bar[:, [half - 1, -1]].any()  # no letter touches the end of its picture
    assert columns.min() < half < columns.max()
    third = picture[picture.shape[0] // 2 :][:26] > 24
    assert not third[:, [half - 1, -1]].any()
