"""Rendered clips with exact flow and exact masks: textured objects over a moving background.

A scene is a pile of layers. Layer 0 is the background, layer l the object with label l, drawn over
the lower labels. Each layer has a texture in its own coordinates, whose origin is its centre, and
for every frame t an affine transform A_t from there to pixels. So a point p seen at frame t goes
to A_{t+1} A_t^{-1} p: the flow is known to rounding, whatever the picture looks like.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from stseg.errors import InputError

PATHS = ("orbit", "cross")
RANGES = {
    "height": (64, 2160),
    "width": (64, 2160),
    "number of frames": (2, 300),
    "number of objects": (2, 5),
    "seed": (0, 2**32 - 1),
    "speed": (0.5, 16),
    "frame rate": (1, 120),
}
STOP_FRAMES = 12
"""A clip with a stop has at least this many frames."""

PALETTE = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128))
"""Colour of each label in the mask files, as in DAVIS."""

_RAMP = 4  # frames over which the stopping object brakes and starts again
_EDGE = 1.6  # width in pixels of the soft edge of an object
_ANGLES = np.linspace(-np.pi, np.pi, 1440, endpoint=False)

# Dark, middle and light colour of a texture: muted for the ground, vivid for the objects.
_GROUNDS = (
    ((52, 66, 44), (104, 120, 74), (168, 170, 118)),  # meadow
    ((92, 76, 60), (158, 138, 108), (212, 198, 168)),  # sand
    ((54, 62, 72), (104, 114, 122), (172, 176, 174)),  # slate
)
_SKINS = (
    ((96, 22, 20), (206, 68, 46), (250, 160, 110)),  # coral
    ((16, 50, 96), (38, 116, 188), (150, 208, 240)),  # lagoon
    ((110, 62, 8), (230, 160, 30), (255, 226, 130)),  # amber
    ((60, 20, 80), (142, 66, 168), (220, 168, 232)),  # plum
    ((6, 66, 62), (22, 152, 134), (150, 228, 204)),  # jade
)

_Colours = tuple[tuple[int, int, int], ...]
_Series = Float64[np.ndarray, " n"]
_Transforms = Float64[np.ndarray, "n 3 3"]
_Outline = Float64[np.ndarray, " angles"]
_Points = Float64[np.ndarray, "3 h w"]
_Plane = Float64[np.ndarray, "h w"]
_Picture = Float64[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class SceneSettings:
    """What a rendered clip contains; equal settings give equal clips.

    Attributes:
        size: (H, W) in pixels.
        frames: number of frames n.
        objects: number of objects, 2 to 5.
        seed: of every random choice.
        speed: own speed of the objects in pixels per frame, to some 20 %; the camera pans at
            about half of it and adds a slight zoom and rotation.
        stop: the front object (the highest label) halts for the middle third of the clip, see
            ``stop_steps``. It halts in the world: it then moves with the background.
        fps: frames per second of the video file.
        paths: "orbit", objects turn about the middle of the frame; "cross", they pass through
            the middle at about the same time and occlude one another.

    Raises:
        InputError: when a value is out of its range.
    """

    size: tuple[int, int] = (270, 480)
    frames: int = 24
    objects: int = 3
    seed: int = 0
    speed: float = 4.0
    stop: bool = False
    fps: float = 24.0
    paths: str = "orbit"

    def __post_init__(self) -> None:
        values = (*self.size, self.frames, self.objects, self.seed, self.speed, self.fps)
        for (what, (low, high)), value in zip(RANGES.items(), values, strict=True):
            if not low <= value <= high:  # refuses NaN too
                raise InputError(
                    f"The {what} of a rendered clip is from {low} to {high}, not {value}. "
                    "Choose a value in this range."
                )
        if self.stop and self.frames < STOP_FRAMES:
            raise InputError(
                f"A clip with a stop has at least {STOP_FRAMES} frames, not {self.frames}. "
                "Ask for more frames or for no stop."
            )
        if self.paths not in PATHS:
            raise InputError(f"There are no paths {self.paths!r}. Choose {' or '.join(PATHS)}.")


@dataclass(frozen=True)
class RenderedClip:
    """A rendered clip and its ground truth.

    Attributes:
        frames: RGB frames.
        flow: exact motion from frame t to t+1 of the surface seen at each pixel of frame t, in
            pixels, channels (u right, v down), also where that surface is hidden at t+1.
        labels: 0 for the background, then one label an object, the same for the whole clip; a
            higher label is nearer to the camera.
        settings: how it was asked for.
    """

    frames: UInt8[np.ndarray, "n H W 3"]
    flow: Float32[np.ndarray, "n-1 2 H W"]
    labels: UInt8[np.ndarray, "n H W"]
    settings: SceneSettings


@dataclass(frozen=True)
class _Layer:
    """A texture, the radius of its outline by angle (None: no end), and every A_t."""

    texture: UInt8[np.ndarray, "h w 3"]
    outline: _Outline | None
    motion: _Transforms


SHIPPED: tuple[tuple[str, SceneSettings], ...] = (
    ("orbit", SceneSettings(seed=17, objects=3)),
    ("crossing", SceneSettings(seed=6, objects=3, speed=5.0, paths="cross")),
    ("pause", SceneSettings(seed=26, objects=2, stop=True, frames=30)),
)
"""Name and settings of the clips that come with the project, in ``assets/clips``."""


def stop_steps(settings: SceneSettings) -> range:
    """Every t for which the front object has no motion of its own from frame t to t+1."""
    third = settings.frames // 3
    return range(third, 2 * third) if settings.stop else range(0)


def render(settings: SceneSettings) -> RenderedClip:
    """Draw a scene and its ground truth.

    Args:
        settings: what to draw.

    Returns:
        n frames (n, H, W, 3), flow (n - 1, 2, H, W) in pixels per frame, labels (n, H, W).
    """
    layers = _layers(settings, np.random.default_rng(settings.seed))
    n, size = settings.frames, settings.size
    frames = np.empty((n, *size, 3), np.uint8)
    labels = np.empty((n, *size), np.uint8)
    flow = np.empty((n - 1, 2, *size), np.float32)
    rows, columns = np.indices(size, np.float64)
    points = np.stack([columns, rows, np.ones(size)])
    for t in range(n):
        frames[t], labels[t] = _draw(layers, t, points)
        for label, layer in enumerate(layers if t < n - 1 else []):
            step = layer.motion[t + 1] @ np.linalg.inv(layer.motion[t]) - np.eye(3)
            seen = labels[t] == label
            flow[t][:, seen] = step[:2] @ points[:, seen]
    return RenderedClip(frames, flow, labels, settings)


def _similarity(x: _Series, y: _Series, angle: _Series, scale: _Series) -> _Transforms:
    """Transforms that scale and turn about the origin, then move it to (x, y)."""
    matrices = np.tile(np.eye(3), (len(x), 1, 1))
    matrices[:, 0, 0] = matrices[:, 1, 1] = scale * np.cos(angle)
    matrices[:, 1, 0] = scale * np.sin(angle)
    matrices[:, 0, 1] = -matrices[:, 1, 0]
    matrices[:, 0, 2], matrices[:, 1, 2] = x, y
    return matrices


def _own_time(settings: SceneSettings, still: range) -> _Series:
    """Time in frames, 0 in the middle of the clip, that stands in ``still`` and eases about it."""
    steps = np.arange(settings.frames - 1)
    away = np.maximum(np.maximum(still.start - steps, steps - still.stop + 1), 0)
    ramp = np.minimum(away / _RAMP, 1) if still else np.ones(len(steps))
    time = np.concatenate([[0.0], np.cumsum(ramp * ramp * (3 - 2 * ramp))])
    return time - time[settings.frames // 2]


def _camera(settings: SceneSettings, rng: np.random.Generator) -> _Transforms:
    """From the world, whose origin is the middle of the view at half time, to pixels."""
    height, width = settings.size
    time = _own_time(settings, range(0))
    reach = 0.2 * width  # the sine keeps the objects in view however long the clip
    pan = reach * np.sin(0.5 * settings.speed * time / reach)
    heading = rng.uniform(-np.pi, np.pi)
    turn, zoom = rng.choice([-1, 1], 2) * rng.uniform(0.03, 0.045, 2)
    swing = np.sin(2 * np.pi * time / 90)
    x, y = (width - 1) / 2 + pan * np.cos(heading), (height - 1) / 2 + pan * np.sin(heading)
    return _similarity(x, y, turn * swing, np.exp(zoom * swing))


def _path(
    index: int, base: float, settings: SceneSettings, rng: np.random.Generator
) -> _Transforms:
    """From the coordinates of object ``index`` to the world: along an ellipse at a steady rate."""
    short, width = min(settings.size), settings.size[1]
    front = index == settings.objects - 1
    time = _own_time(settings, stop_steps(settings) if front else range(0))
    place = base + 2 * np.pi * (index + rng.uniform(-0.15, 0.15)) / settings.objects
    if settings.paths == "orbit":
        x, y = 0.27 * width * np.cos(place), 0.23 * settings.size[0] * np.sin(place)
        heading, reach, bend = place + np.pi / 2 + rng.uniform(-0.3, 0.3), 0.3 * short, 1.0
    else:
        aim = 0.09 * np.array([-np.sin(place), np.cos(place)]) + rng.uniform(-0.04, 0.04, 2)
        x, y = aim * short  # a little beside the middle, lest all hide behind the front one
        heading, reach, bend = place, 0.5 * short, rng.uniform(0.1, 0.3)
    phase = settings.speed * rng.uniform(0.85, 1.2) * time / reach
    along, aside = reach * np.sin(phase), bend * reach * (1 - np.cos(phase))
    spin = rng.choice([-1, 1]) * rng.uniform(0.008, 0.025)
    return _similarity(
        x + along * np.cos(heading) - aside * np.sin(heading),
        y + along * np.sin(heading) + aside * np.cos(heading),
        rng.uniform(-np.pi, np.pi) + spin * time,
        np.exp(0.08 * np.sin(2 * np.pi * time / 70 + rng.uniform(-np.pi, np.pi))),
    )


def _noise(rng: np.random.Generator, size: tuple[int, int], cell: float) -> _Plane:
    """Noise of unit deviation whose features measure from ``cell`` down to about 3 pixels."""
    total = np.zeros(size)
    weight = 1.0
    while cell >= 3:
        coarse = rng.standard_normal((int(size[0] / cell) + 3, int(size[1] / cell) + 3))
        total += weight * cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        weight, cell = 0.62 * weight, cell / 2
    return (total - total.mean()) / total.std()


def _texture(
    rng: np.random.Generator, size: tuple[int, int], cell: float, colours: _Colours
) -> _Picture:
    """Veined, mottled material in a scale of three colours, 0 to 255."""
    rows, columns = np.indices(size, np.float64)
    # Noise bent by noise has veins, where plain noise is cloudy.
    x, y = (at + 0.6 * cell * _noise(rng, size, 2 * cell) for at in (columns, rows))
    tone = np.clip(0.5 + 0.26 * _sample(_noise(rng, size, cell), x, y), 0, 1)
    channels = [np.interp(tone, [0, 0.5, 1], scale) for scale in zip(*colours, strict=True)]
    picture = np.stack(channels, axis=-1)
    return picture * (1 + 0.07 * _noise(rng, size, 6.0))[..., None]


def _sample(image: np.ndarray, x: _Plane, y: _Plane) -> np.ndarray:
    """``image`` at the points (x, y), in its own pixels; it is reflected beyond its borders."""
    return cv2.remap(
        image,
        x.astype(np.float32),
        y.astype(np.float32),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _outline(rng: np.random.Generator, kind: int) -> _Outline:
    """Radius by angle, 1 at most: a blob, an ellipse or a rounded polygon."""
    if kind == 0:
        waves = np.arange(2, 6)[:, None]
        heights = rng.uniform(0.1, 0.35, (4, 1)) / waves
        radius = 1 + (heights * np.cos(waves * _ANGLES + rng.uniform(-3, 3, (4, 1)))).sum(0)
    elif kind == 1:
        radius = 1 / np.hypot(np.cos(_ANGLES), rng.uniform(1.3, 1.6) * np.sin(_ANGLES))
    else:
        sides = np.linspace(0, 2 * np.pi, int(rng.integers(4, 7)), endpoint=False)[:, None]
        radius = (np.maximum(np.cos(_ANGLES - sides), 0) ** 8).sum(0) ** (-1 / 8)
    return radius / radius.max()


def _radius(outline: _Outline, x: _Plane, y: _Plane) -> _Plane:
    """Radius of the outline in the direction of each point."""
    return np.interp(np.arctan2(y, x), _ANGLES, outline, period=2 * np.pi)


def _layers(settings: SceneSettings, rng: np.random.Generator) -> list[_Layer]:
    """The background, then the objects from the farthest to the nearest."""
    height, width = settings.size
    camera = _camera(settings, rng)
    ground = _GROUNDS[rng.integers(len(_GROUNDS))]
    # What the pan shows beyond this size is its reflection.
    picture = _texture(rng, (int(1.5 * height), int(1.5 * width)), 0.2 * height, ground)
    layers = [_Layer(np.clip(picture, 0, 255).astype(np.uint8), None, camera)]
    base = rng.uniform(-np.pi, np.pi)
    skins, kinds = rng.permutation(len(_SKINS)).tolist(), rng.permutation(3).tolist()
    for index in range(settings.objects):
        radius = rng.uniform(0.145, 0.165) * min(height, width)
        outline = radius * _outline(rng, kinds[index % 3])
        picture = _skin(rng, outline, _SKINS[skins[index]])
        layers.append(_Layer(picture, outline, camera @ _path(index, base, settings, rng)))
    return layers


def _skin(
    rng: np.random.Generator, outline: _Outline, colours: _Colours
) -> UInt8[np.ndarray, "s s 3"]:
    """Texture of an object that looks round: lit from one side, darker towards its outline."""
    side = 2 * int(outline.max()) + 9
    y, x = np.indices((side, side)) - (side - 1) / 2
    outward = np.clip(np.hypot(x, y) / _radius(outline, x, y), 0, 1)
    light = 1.08 - 0.4 * outward**4 - 0.16 * (x + y) / outline.max()
    picture = _texture(rng, (side, side), 0.6 * outline.max(), colours)
    return np.clip(picture * light[..., None], 0, 255).astype(np.uint8)


def _draw(
    layers: list[_Layer], t: int, points: _Points
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """Frame t and its labels: a pixel has the label of the nearest outline about its centre."""
    frame = np.zeros((*points.shape[1:], 3))
    labels = np.zeros(points.shape[1:], np.uint8)
    for label, layer in enumerate(layers):
        window = _window(layer, t)
        x, y, _ = np.tensordot(np.linalg.inv(layer.motion[t]), points[:, *window], axes=1)
        if not x.size:
            continue
        middle_y, middle_x = (np.array(layer.texture.shape[:2]) - 1) / 2
        painted = _sample(layer.texture, x + middle_x, y + middle_y)
        inside = np.full(x.shape, _EDGE)
        if layer.outline is not None:
            scale = np.sqrt(np.linalg.det(layer.motion[t]))
            inside = scale * (_radius(layer.outline, x, y) - np.hypot(x, y))
        cover = np.clip(0.5 + inside / _EDGE, 0, 1)
        frame[window] += cover[..., None] * (painted - frame[window])
        labels[window][cover > 0.5] = label
    return np.rint(frame).astype(np.uint8), labels


def _window(layer: _Layer, t: int) -> tuple[slice, slice]:
    """Rows and columns that a layer can touch: drawing no more than these saves most time."""
    if layer.outline is None:
        return slice(None), slice(None)
    x, y = layer.motion[t, :2, 2]
    reach = np.sqrt(np.linalg.det(layer.motion[t])) * layer.outline.max() + 2
    rows, columns = (slice(max(int(c - reach), 0), max(int(c + reach) + 2, 0)) for c in (y, x))
    return rows, columns
