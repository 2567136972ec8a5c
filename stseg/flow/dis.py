"""Dense inverse search (Kroeger et al., ECCV 2016) by OpenCV: optical flow without weights."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

MAX_SIDE = 427
SMOOTHNESS = 100.0
REFINEMENTS = 10
PATCH_STRIDE = 5


class DIS:
    """OpenCV's DIS, preset "medium", on gray frames whose longer side is at most 427 pixels.

    The preset is measured: on camel of DAVIS2016 against RAFT (mean end-point error, pairs a
    second at 854x480 on two cores) medium gives 0.40 px at 51/s, fast 0.59 px at 189/s and
    ultrafast 0.75 px at 276/s. So is the weight of the smoothness term, which OpenCV sets to 20:
    100 takes the mean L1 error relative to RAFT from 10.3 % to 9.2 % over 40 pairs of ten
    sequences (20 to 400 tried), at the same speed. And so are the number of refinements at each
    scale (OpenCV: 5) and the distance of the patches (4): ten, and five pixels, take that error
    from 22.8 % to 20.7 % over 45 pairs of fifteen training sequences, at 0.93 of the speed; twenty
    refinements take it to about 19 %, at 0.5.

    The preset leaves out the finest scale of full frames. Halving them first and using every scale
    is the same for a frame of 854x480, and cheaper; the network's grid is half as fine again.
    """

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._dis.setFinestScale(0)
        self._dis.setPatchStride(PATCH_STRIDE)
        self._dis.setVariationalRefinementAlpha(SMOOTHNESS)
        self._dis.setVariationalRefinementIterations(REFINEMENTS)

    def prepare(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w"]:
        """What ``between`` needs of one frame: gray, and reduced where it is large."""
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        longest = max(gray.shape)
        if longest > MAX_SIDE:
            size = [max(16, round(side * MAX_SIDE / longest)) for side in gray.shape]
            gray = cv2.resize(gray, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(gray)

    def between(
        self,
        first: UInt8[np.ndarray, "h w"],
        second: UInt8[np.ndarray, "h w"],
        size: tuple[int, int],
    ) -> Float32[np.ndarray, "h w 2"]:
        """Motion from the first prepared frame to the second, in pixels of a frame of ``size``."""
        flow = self._dis.calc(first, second, np.zeros((*first.shape, 2), np.float32))
        scale = np.array([size[1] / first.shape[1], size[0] / first.shape[0]], np.float32)
        return flow * scale
