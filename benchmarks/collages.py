"""Collages: pieces of pictures that move over a picture, with exact flow.

Rendered clips (``stseg.synthetic``) have exact flow and painted textures; real clips have real
textures and flow that somebody estimated. A collage has both: outlines are cut out of pictures,
some in joined parts that swing, and each moves over another picture by similarity transforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

FRAMES = 4

_Transform = Float64[np.ndarray, "3 3"]
_Points = Float64[np.ndarray, "n 2"]
_Picture = UInt8[np.ndarray, "h w 3"]

_ANGLES = np.linspace(-np.pi, np.pi, 180, endpoint=False)


@dataclass(frozen=True)
class _Layer:
    """A picture, what of it is seen (None: all), and its transform to the pixels of each frame."""

    picture: _Picture
    seen: UInt8[np.ndarray, "h w"] | None
    placed: Sequence[_Transform]


def collage(
    rng: np.random.Generator, pictures: Sequence[_Picture], frames: int = FRAMES
) -> tuple[list[Float64[np.ndarray, "h w 3"]], list[Float32[np.ndarray, "h w 2"]]]:
    """A short clip; equal seeds and pictures give equal clips.

    Args:
        rng: draws everything.
        pictures: RGB, of one size, at least one.
        frames: number of frames n.

    Returns:
        n frames, from 0 to 255 or a little beyond, and the n - 1 exact motions to the next frame of
        what each pixel shows, in pixels.
    """
    height, width = pictures[0].shape[:2]
    layers = _layers(rng, pictures, frames)
    shutter = rng.uniform(0.2, 0.8) if rng.random() < 0.5 else 0.0
    gains = 1 + rng.normal(0, 0.015, frames)
    soft = rng.uniform(0, 1.2)
    drawn, tops = [], []
    for t in range(frames):
        sharp, top = _draw(layers, t, (height, width))
        tops.append(top)
        moments = t + np.linspace(-shutter / 2, shutter / 2, 4) if shutter else []
        during = [_draw(layers, moment, (height, width))[0] for moment in moments]
        seen = (np.mean(during, axis=0) if during else sharp) * gains[t]
        drawn.append(cv2.GaussianBlur(seen, (0, 0), soft) if soft > 0.4 else seen)
    return drawn, [_flow(layers, top, t) for t, top in enumerate(tops[:-1])]


def _layers(rng: np.random.Generator, pictures: Sequence[_Picture], frames: int) -> list[_Layer]:
    """The background, then the objects, from the farthest on."""
    height, width = pictures[0].shape[:2]

    def picture() -> _Picture:
        chosen = pictures[rng.integers(len(pictures))]
        return np.ascontiguousarray(chosen[:, ::-1]) if rng.random() < 0.5 else chosen

    ground, zoom = picture(), np.exp(rng.uniform(0.05, 0.5))
    speed = np.exp(rng.uniform(np.log(0.2), np.log(25))) if rng.random() > 0.1 else 0.0
    steps = _steps(rng, speed, 0.004, 0.006, frames - 1)
    middle = _moved(width / 2, height / 2)
    camera = [middle @ step @ np.linalg.inv(middle) for step in steps]
    shift = rng.normal(0, 30), rng.normal(0, 20)
    start = middle @ _moved(*shift) @ _turned(rng.normal(0, 0.05), zoom) @ np.linalg.inv(middle)
    layers = [_Layer(ground, None, _carried(start, camera))]
    for _ in range(rng.integers(1, 5)):
        layers += _object(rng, picture(), camera, (height, width))
    return layers


def _object(
    rng: np.random.Generator,
    picture: _Picture,
    camera: Sequence[_Transform],
    size: tuple[int, int],
) -> list[_Layer]:
    """A thing of one to five parts that moves by itself, or as something near the camera does."""
    height, width = size
    extent = height * np.exp(rng.uniform(np.log(0.05), np.log(0.38)))
    place = rng.uniform(0.1, 0.9) * width, rng.uniform(0.15, 0.85) * height
    speed = np.exp(rng.uniform(np.log(0.5), np.log(24)))
    still = rng.random() < 0.2
    steps = _steps(
        rng, 0.4 * speed if still else speed, 0.003 if still else 0.02, 0.012, len(camera)
    )
    body = [_moved(*place) @ _turned(rng.uniform(0, 2 * np.pi))]
    for world, step in zip(camera, steps, strict=True):
        here = _moved(*body[-1][:2, 2])
        body.append(world @ here @ step @ np.linalg.inv(here) @ body[-1])
    layers = []
    for part in range(1 if rng.random() < 0.45 else rng.integers(2, 6)):
        reach = extent if part == 0 else extent * rng.uniform(0.25, 0.7)
        outline = _outline(rng) * reach
        joint, swing, angle = np.zeros(2), 0.0, 0.0
        if part:
            joint, swing = rng.normal(0, 0.7, 2) * extent, rng.normal(0, 0.06)
            angle = rng.uniform(0, 2 * np.pi)
        held = outline.max(axis=0) * (0.6 if part else 0.0)
        middle = rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height
        larger = np.exp(rng.uniform(-0.3, 0.5))
        seen = np.zeros((height, width), np.uint8)
        points = np.round((outline / larger + middle) * 16).astype(np.int32)
        cv2.fillPoly(seen, [points], 255, cv2.LINE_AA, shift=4)
        cut = _turned(0.0, larger) @ _moved(-middle[0], -middle[1])
        placed = [
            whole @ _moved(*joint) @ _turned(angle + swing * t) @ _moved(*held) @ cut
            for t, whole in enumerate(body)
        ]
        layers.append(_Layer(picture, seen, placed))
    return layers


def _outline(rng: np.random.Generator) -> _Points:
    """A blob, an ellipse (perhaps thin), a polygon or something jagged, about 1 in radius."""
    kind = rng.integers(4)
    if kind == 0:
        return _around(np.clip(1 + _waves(rng, 0.35, 1.0, range(1, 7)), 0.25, 2))
    if kind == 1:
        thin = np.exp(rng.uniform(0, 1.8))
        return _around(1 / np.hypot(np.cos(_ANGLES), np.sin(_ANGLES) * thin))
    if kind == 2:
        corners = rng.integers(3, 8)
        angles, radii = np.sort(rng.uniform(-np.pi, np.pi, corners)), rng.uniform(0.4, 1.2, corners)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    return _around(np.clip(1 + _waves(rng, 0.5, 0.7, range(2, 14)), 0.15, 2))


def _waves(
    rng: np.random.Generator, height: float, falls: float, numbers: range
) -> Float64[np.ndarray, " angles"]:
    waves = [
        rng.normal(0, height / k**falls) * np.cos(k * _ANGLES + rng.uniform(0, 2 * np.pi))
        for k in numbers
    ]
    return np.sum(waves, axis=0)


def _around(radius: Float64[np.ndarray, " angles"]) -> _Points:
    return np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1) * radius[:, None]


def _moved(x: float, y: float) -> _Transform:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def _turned(angle: float, scale: float = 1.0) -> _Transform:
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _steps(
    rng: np.random.Generator, speed: float, turn: float, zoom: float, count: int
) -> list[_Transform]:
    """Motion from each frame to the next, about an origin: a bent path at about one speed."""
    angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.15)
    turned = _turned(rng.normal(0, turn), float(np.exp(rng.normal(0, zoom))))
    lengths = speed * np.exp(rng.normal(0, 0.15, count))
    angles = angle + bend * np.arange(count)
    return [
        _moved(length * np.cos(way), length * np.sin(way)) @ turned
        for length, way in zip(lengths, angles, strict=True)
    ]


def _carried(start: _Transform, steps: Sequence[_Transform]) -> list[_Transform]:
    placed = [start]
    for step in steps:
        placed.append(step @ placed[-1])
    return placed


def _draw(
    layers: Sequence[_Layer], moment: float, size: tuple[int, int]
) -> tuple[Float64[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """What is seen at a moment, in frames from the first, and which layer each pixel shows."""
    last = len(layers[0].placed) - 1
    moment = float(np.clip(moment, 0, last))
    before = min(int(moment), last - 1)
    later = moment - before
    picture, top = np.zeros((*size, 3)), np.zeros(size, np.uint8)
    for number, layer in enumerate(layers):
        placed = (1 - later) * layer.placed[before] + later * layer.placed[before + 1]
        to = placed[:2], size[::-1]
        look = cv2.warpAffine(layer.picture, *to, borderMode=cv2.BORDER_REFLECT_101)
        if layer.seen is None:
            picture = look.astype(np.float64)
            continue
        share = cv2.warpAffine(layer.seen, *to).astype(np.float64) / 255
        picture += (look - picture) * share[..., None]
        top[share > 0.5] = number
    return picture, top


def _flow(
    layers: Sequence[_Layer], top: UInt8[np.ndarray, "h w"], t: int
) -> Float32[np.ndarray, "h w 2"]:
    rows, columns = np.indices(top.shape)
    flow = np.zeros((*top.shape, 2), np.float32)
    for number, layer in enumerate(layers):
        here = top == number
        points = np.stack([columns[here], rows[here], np.ones(int(here.sum()))])
        onwards = layer.placed[t + 1] @ np.linalg.inv(layer.placed[t])
        flow[here] = (onwards @ points - points)[:2].T
    return flow
