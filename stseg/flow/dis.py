"""Dense inverse search (Kroeger et al., ECCV 2016) by OpenCV: optical flow without weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from stseg.flow.candidates import Candidates, Field, Plane, difference, frame_motion, turned_back
from stseg.flow.correction import Correction
from stseg.flow.edge_aware import confidence, fill_in, texture
from stseg.records import grid_for

MAX_SIDE = 427
SMOOTHNESS = 100.0
REFINEMENTS = 3
PATCH_STRIDE = 6
BLUR = 0.7


@dataclass(frozen=True, eq=False)
class Frame:
    """What the search needs of a frame.

    Attributes:
        gray: the frame, reduced where it is large, and slightly blurred.
        guide: its colours from 0 to 1, on the network's grid (a smaller frame keeps its size).
        texture: how far there is anything to be found (``edge_aware.texture``).
    """

    gray: UInt8[np.ndarray, "H W"]
    guide: Float32[np.ndarray, "3 h w"]
    texture: Float32[np.ndarray, "h w"]


@dataclass(frozen=True, eq=False)
class _Found:
    """What the search found, there and back, in pixels of the grid; how far to believe it."""

    there: Float32[np.ndarray, "h w 2"]
    back: Float32[np.ndarray, "h w 2"]
    confidence: Float32[np.ndarray, "h w"]


class DIS:
    """OpenCV's DIS in both directions, believed where they agree, filled in and corrected.

    Frames are reduced to a longer side of 427 pixels, and the flow is on the network's grid: finer
    detail is not kept. What it is good for is the border of what moves, where the bare search
    spreads the motion over what is hidden or without texture.

    Everything here is measured; ``benchmarks/README.md`` has the tables. The search takes 6 pixels
    between patches, 3 refinements at each scale and a smoothness of 100 (OpenCV's preset "medium":
    3, 5 and 20): ten refinements are closer to RAFT by themselves, but hardly so when what cannot
    be believed is filled in. The way back only has to tell what to believe, and is not refined. A
    blur of 0.7 pixels takes off what compression adds.

    Args:
        correction: what makes one flow of the candidates (``stseg.flow.correction``); None takes
            what is filled in.
    """

    def __init__(self, correction: Correction | None = None) -> None:
        self._there, self._back = _search(REFINEMENTS), _search(0)
        self._aside = ThreadPoolExecutor(1, "stseg-dis")
        self._correction = correction

    def prepare(self, image: UInt8[np.ndarray, "H W 3"]) -> Frame:
        """What ``between`` needs of one frame."""
        grid = grid_for((image.shape[0], image.shape[1]))
        longest = max(image.shape[:2])
        if longest > MAX_SIDE:
            height, width = (max(16, round(s * MAX_SIDE / longest)) for s in image.shape[:2])
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        gray = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), BLUR)
        height, width = (min(sides) for sides in zip(grid, gray.shape, strict=True))
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        guide = np.ascontiguousarray(small.transpose(2, 0, 1), np.float32) / 255
        return Frame(gray, guide, texture(gray, (height, width)))

    def between(
        self, first: Frame, second: Frame, size: tuple[int, int]
    ) -> Float32[np.ndarray, "h w 2"]:
        """Motion from the first prepared frame to the second, in pixels of a frame of ``size``."""
        if self._correction is None:
            found = self._searched(first, second)
            flow = fill_in(found.there, found.confidence, first.guide)
        else:
            flow = self._correction(self.candidates(first, second))
        return flow * np.array([size[1] / flow.shape[1], size[0] / flow.shape[0]], np.float32)

    def candidates(self, first: Frame, second: Frame) -> Candidates:
        """What the correction chooses from, for one pair of prepared frames."""
        found = self._searched(first, second)
        gray = first.gray, second.gray

        def of_the_frame() -> tuple[Field, Plane, Plane]:
            frame = frame_motion(found.there, found.confidence)
            return frame, difference(found.there, *gray), difference(frame, *gray)

        aside = self._aside.submit(of_the_frame)
        filled = fill_in(found.there, found.confidence, first.guide)
        back = turned_back(found.back, filled)
        beside = difference(filled, *gray), difference(back, *gray)
        frame, for_there, for_frame = aside.result()
        return Candidates(
            np.stack([field.transpose(2, 0, 1) for field in (found.there, filled, frame, back)]),
            found.confidence,
            np.stack([for_there, beside[0], for_frame, beside[1]]),
            first.guide,
        )

    def _searched(self, first: Frame, second: Frame) -> _Found:
        height, width = first.guide.shape[1:]
        sites = np.divide((width, height), first.gray.shape[::-1], dtype=np.float32)
        other = self._aside.submit(_motion, self._back, second.gray, first.gray)
        there, back = (
            cv2.resize(each, (width, height), interpolation=cv2.INTER_AREA) * sites
            for each in (_motion(self._there, first.gray, second.gray), other.result())
        )
        looks = (frame.guide.mean(axis=0) for frame in (first, second))
        return _Found(there, back, confidence(there, back, *looks) * first.texture)


def _search(refinements: int) -> cv2.DISOpticalFlow:
    """OpenCV's search, which keeps its memory from pair to pair: one for each direction."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    search.setPatchStride(PATCH_STRIDE)
    search.setVariationalRefinementAlpha(SMOOTHNESS)
    search.setVariationalRefinementIterations(refinements)
    return search


def _motion(
    search: cv2.DISOpticalFlow, first: UInt8[np.ndarray, "H W"], second: UInt8[np.ndarray, "H W"]
) -> Float32[np.ndarray, "H W 2"]:
    return np.asarray(search.calc(first, second, np.zeros((*first.shape, 2), np.float32)))
