"""Pictures of a ``Segmentation``: overlays, flow in HSV, the grid of four."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import Literal

import cv2
import flow_vis
import numpy as np
import PIL.Image
from jaxtyping import Bool, Float32, Int64, UInt8

from stseg.records import Segmentation

Image = UInt8[np.ndarray, "H W 3"]

COLOURS = (
    (90, 90, 90),  # label 0 is the largest at first, mostly the background: neutral
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
)
"""RGB of each label: Okabe and Ito's set, told apart with every common colour vision."""

GRID_TILE = 480
"""Longest side of one picture of the grid, in pixels."""

_CAPTION, _CAPTION_WIDTH = 26, 190

# One entry a gray value, as OpenCV wants it: ten times as fast as indexing with NumPy.
_TABLE = np.zeros((256, 1, 3), np.uint8)
_TABLE[: len(COLOURS), 0] = COLOURS


def palette() -> UInt8[np.ndarray, "8 3"]:
    """RGB of each label."""
    return np.array(COLOURS, np.uint8)


def colour_labels(labels: UInt8[np.ndarray, "H W"]) -> Image:
    """Labels in their colours; black where there is none for a label."""
    return np.asarray(cv2.applyColorMap(labels, _TABLE), np.uint8)


def outlines(labels: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """1 at sites that border another label, else 0."""
    edge = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return (edge > 0).astype(np.uint8)


def overlay(
    image: Image,
    labels: UInt8[np.ndarray, "H W"],
    opacity: float = 0.5,
    style: Literal["fill", "outline"] = "fill",
    hidden: Collection[int] = (),
) -> Image:
    """The frame with its labels over it.

    Args:
        image: the frame.
        labels: linked labels of the same size.
        opacity: 0 shows the frame alone, 1 the labels alone.
        style: whole segments, or only their outlines, as wide as the picture needs.
        hidden: labels that are not drawn.
    """
    shown = np.ones(256, np.uint8)
    shown[list(hidden)] = 0
    colours = colour_labels(labels)
    visible = np.asarray(cv2.LUT(labels, shown), np.uint8)
    edges = outlines(labels)
    if style == "outline":
        visible = visible & _thick(edges)
        # A thin line is only seen when it is drawn in full; opacity 0 still takes it away.
        mixed = colours if opacity > 0 else image
    else:
        mixed = cv2.addWeighted(colours, opacity, _paled(image, labels, opacity), 1 - opacity, 0)
        # Segments end in a line of their own colour, so that they read at low opacity too.
        cv2.copyTo(colours if opacity > 0 else image, edges & visible, mixed)
    out: np.ndarray = cv2.copyTo(mixed, visible, image.copy())
    return out


def spotlight(
    image: Image,
    labels: UInt8[np.ndarray, "H W"],
    lit: Collection[int],
    opacity: float = 0.5,
) -> Image:
    """The frame as it is where some labels are, framed in their colours, and dim elsewhere.

    Args:
        image: the frame.
        labels: linked labels of the same size.
        lit: the labels that are seen as they are.
        opacity: of the darkness over all others: 0 shows the frame alone, 1 nothing of them.
    """
    shown = np.zeros(256, np.uint8)
    shown[list(lit)] = 1
    visible = np.asarray(cv2.LUT(labels, shown), np.uint8)
    paler = _paled(image, 1 - visible, opacity)
    out = np.asarray(cv2.convertScaleAbs(paler, alpha=1 - opacity), np.uint8)
    cv2.copyTo(image, visible, out)
    if opacity > 0:
        cv2.copyTo(colour_labels(labels), visible & _thick(outlines(labels)), out)
    return out


def _thick(edges: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """Outlines as wide as a picture of this size needs."""
    side = max(2, round(max(edges.shape) / 250))
    return np.asarray(cv2.dilate(edges, np.ones((side, side), np.uint8)), np.uint8)


def _paled(image: Image, labels: UInt8[np.ndarray, "H W"], opacity: float) -> Image:
    """The frame, gray under all labels but 0: a green over something purple would be a blue.

    At little opacity it keeps some of its colours.
    """
    share = min(2 * opacity, 1.0)
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    paler = cv2.addWeighted(gray, share, image, 1 - share, 0)
    return np.asarray(cv2.copyTo(paler, labels, image.copy()), np.uint8)


def flow_scale(segmentation: Segmentation, samples: int = 32) -> float:
    """Magnitude (px a frame) that is drawn in full colour: the 99th percentile over the clip.

    Args:
        segmentation: the clip; at most ``samples`` of its frames are looked at.
        samples: how many frames are looked at.
    """
    chosen = np.unique(np.linspace(0, len(segmentation) - 1, samples).round().astype(int))
    return flow_scale_of(*(segmentation.motion(int(index)) for index in chosen))


def flow_scale_of(*fields: Float32[np.ndarray, "2 h w"]) -> float:
    """The same for these fields alone, at least 0.1 pixels a frame: one scale for all of them."""
    magnitudes = [np.hypot(*field).ravel() for field in fields]
    return max(float(np.percentile(np.concatenate(magnitudes), 99)), 0.1)


def flow_colours(
    flow: Float32[np.ndarray, "2 h w"], scale: float, size: tuple[int, int] | None = None
) -> Image:
    """Flow in HSV: hue is the direction, saturation the magnitude (by flow-vis).

    Args:
        flow: vectors in pixels a frame.
        scale: magnitude in full colour; longer vectors are drawn like this one.
        size: (H, W) to enlarge to; None keeps the size.
    """
    if size is not None:
        flow = np.stack([cv2.resize(part, (size[1], size[0])) for part in flow])
    u, v = flow / scale
    over = np.maximum(np.hypot(u, v), 1)
    colours: np.ndarray = flow_vis.flow_uv_to_colors(u / over, v / over)
    return colours


def colour_wheel(side: int = 96) -> Image:
    """Legend of ``flow_colours``: the colour of each direction, on white."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    wheel = flow_colours(np.stack([u, v]), 1.0)
    wheel[np.hypot(u, v) > 1] = 255
    return wheel


def soft_mask(mask: Float32[np.ndarray, "h w"], label: int, size: tuple[int, int]) -> Image:
    """One soft mask as brightness of its label's colour, at ``size`` (H, W)."""
    large = cv2.resize(mask, (size[1], size[0]))
    return cv2.merge([cv2.convertScaleAbs(large, alpha=part) for part in COLOURS[label]])


def grid(
    image: Image,
    flow: Float32[np.ndarray, "2 h w"],
    segments: UInt8[np.ndarray, "H W"],
    labels: UInt8[np.ndarray, "H W"],
    scale: float,
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Frame, flow in HSV, per-frame masks and linked labels, two by two with captions.

    Args:
        image: the frame.
        flow: its motion on the network's grid.
        segments: the network's own segments.
        labels: linked labels.
        scale: see ``flow_colours``.
    """
    height, width = image.shape[:2]
    # A small frame is enlarged until its captions have room.
    ratio = min(GRID_TILE / max(height, width), max(1.0, _CAPTION_WIDTH / width))
    size = (max(2, round(height * ratio / 2) * 2), max(2, round(width * ratio / 2) * 2))
    wh = (size[1], size[0])
    reduced = cv2.INTER_AREA if ratio <= 1 else cv2.INTER_NEAREST
    small = cv2.resize(image, wh, interpolation=reduced)
    tiles = [
        (small, "frame"),
        (flow_colours(flow, scale, size), "optical flow"),
        (_nearest(segments, wh), "masks, frame by frame"),
        (overlay(small, cv2.resize(labels, wh, interpolation=cv2.INTER_NEAREST)), "linked labels"),
    ]
    pictures = [captioned(tile, caption) for tile, caption in tiles]
    return np.vstack([np.hstack(pictures[:2]), np.hstack(pictures[2:])])


def occluded_sites(segmentation: Segmentation, index: int, eta: float) -> Bool[np.ndarray, "h w"]:
    """Sites that eq. 5 leaves out of L_c between frame ``index`` and the next, on the grid.

    They are the fraction ``eta`` with the largest L1 change of the flow between the two frames.
    Exactly round(η n) of the n sites, ties broken by position; the last frames, which have no
    later flow to compare with, show the last pair that has. A clip with one field has no change.

    Args:
        segmentation: the clip.
        index: number of the frame.
        eta: fraction of the sites, 0 to 1.
    """
    first = max(0, min(index, len(segmentation.flow) - 2))
    flow = segmentation.motion(first)
    change = np.abs(segmentation.motion(first + 1) - flow).sum(axis=0)
    hidden = np.zeros(change.size, bool)
    if len(segmentation.flow) > 1:
        hidden[_largest(change.ravel(), round(eta * change.size))] = True
    return hidden.reshape(change.shape)


def _largest(values: Float32[np.ndarray, " n"], count: int) -> Int64[np.ndarray, " count"]:
    """Where the ``count`` largest are, of equal ones the first: a partition, not a sort."""
    if count == 0:
        return np.zeros(0, np.int64)
    least = np.partition(values, len(values) - count)[len(values) - count]
    above, equal = np.flatnonzero(values > least), np.flatnonzero(values == least)
    return np.concatenate([above, equal[: count - len(above)]])


def occlusion_picture(segmentation: Segmentation, index: int, eta: float, image: Image) -> Image:
    """The frame, pale and gray, with the sites that η discards (eq. 5) in vermilion.

    Args:
        segmentation: the clip.
        index: number of the frame.
        eta: fraction of the sites, 0 to 1.
        image: the frame, at the size that is wanted.
    """
    sites = occluded_sites(segmentation, index, eta).astype(np.uint8)
    wh = (image.shape[1], image.shape[0])
    large = cv2.resize(sites, wh, interpolation=cv2.INTER_NEAREST).astype(bool)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) // 2 + 64
    out: np.ndarray = cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)
    out[large] = COLOURS[7]
    return out


def heat(values: Float32[np.ndarray, "h w"], top: float) -> UInt8[np.ndarray, "h w 3"]:
    """Values from 0 (dark blue) to ``top`` and beyond (yellow), in the colours of cividis.

    Cividis reads the same with every common colour vision, and leaves vermilion free for marks.
    """
    levels = np.clip(values * (255 / top), 0, 255).astype(np.uint8)
    return _swapped(cv2.applyColorMap(levels, cv2.COLORMAP_CIVIDIS))


def segment_flow(
    flow: Float32[np.ndarray, "2 h w"],
    inside: Bool[np.ndarray, "h w"],
    scale: float,
    label: int,
) -> UInt8[np.ndarray, "h w 3"]:
    """A motion model in HSV: in full colour inside its segment, pale outside, with its outline.

    Gray where the segment is nowhere.

    Args:
        flow: of the model at every site.
        inside: sites of the segment.
        scale: see ``flow_colours``.
        label: whose colour the outline has.
    """
    if not inside.any():
        return np.full((*inside.shape, 3), 225, np.uint8)
    colours = flow_colours(flow, scale)
    pale = (colours.astype(np.uint16) + 3 * 225) // 4
    out = np.where(inside[..., None], colours, pale).astype(np.uint8)
    out[outlines(inside.astype(np.uint8)).astype(bool)] = COLOURS[label]
    return out


def shrink(image: Image, longest: int) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with its longer side at most ``longest`` pixels; a small one is left alone."""
    ratio = longest / max(image.shape[:2])
    if ratio >= 1:
        return image
    wh = (max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio)))
    return np.asarray(cv2.resize(image, wh, interpolation=cv2.INTER_AREA), np.uint8)


def jpeg(image: Image, quality: int = 88) -> UInt8[np.ndarray, " n"]:
    """The picture as the bytes of a JPEG file: for photographs, never for labels."""
    _, data = cv2.imencode(".jpg", _swapped(image), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(data, np.uint8).ravel()


def from_jpeg(data: UInt8[np.ndarray, " n"]) -> Image:
    """The picture that ``jpeg`` encoded."""
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def png(image: Image) -> bytes:
    """The picture as the bytes of a PNG file, without loss."""
    _, data = cv2.imencode(".png", _swapped(image), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return bytes(data)


def label_png(labels: UInt8[np.ndarray, "H W"]) -> bytes:
    """Labels as the bytes of an indexed PNG file in the colours of the screen."""
    picture = PIL.Image.fromarray(labels)
    picture.putpalette([value for colour in COLOURS for value in colour])
    file = io.BytesIO()
    picture.save(file, "png", compress_level=1)
    return file.getvalue()


def _swapped(image: Image) -> Image:
    """RGB of BGR or the other way round; a view with a negative stride is copied slowly."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)


def _nearest(labels: np.ndarray, wh: tuple[int, int]) -> np.ndarray:
    return colour_labels(cv2.resize(labels, wh, interpolation=cv2.INTER_NEAREST))


def captioned(tile: Image, caption: str) -> UInt8[np.ndarray, "h w 3"]:
    """The picture below a dark bar with a caption in ASCII."""
    bar = np.full((_CAPTION, tile.shape[1], 3), 24, np.uint8)
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.5
    cv2.putText(bar, caption, (8, 18), font, size, (235, 235, 235), 1, cv2.LINE_AA)
    return np.vstack([bar, tile])
