"""Optical flow between frames of a film: how steady its label maps are, and averages along it.

Flow is OpenCV's DIS (Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016),
once from each frame to the one before and once back. A pixel has a counterpart in the frame before
where the two ways agree (Sundaram, Brox, Keutzer, ECCV 2010, whose bounds these are), its place is
inside, and its brightness is alike: what was hidden has none.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

AGREEMENT = (0.01, 0.5)  # of the two ways: share of their squared lengths, and squared pixels
LEAST_SIDE = 12  # in pixels, that DIS takes
MOST_CHANGE = 25  # of the brightness of a pixel and its counterpart, 8-bit steps

Grey = NDArray[np.uint8]


@dataclass(frozen=True)
class Counterparts:
    """Where each pixel of a frame was in the frame before.

    Attributes:
        x, y: (H, W) float32 columns and rows there.
        exist: (H, W) bool; elsewhere `x` and `y` mean nothing.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    exist: NDArray[np.bool_]

    def resized(self, size_hw: tuple[int, int]) -> "Counterparts":
        """The same for frames of another size; half-pixel centres."""
        height, width = self.x.shape
        if size_hw == (height, width):
            return self
        scale_y, scale_x = size_hw[0] / height, size_hw[1] / width
        size_wh = size_hw[::-1]
        x, y = (
            cv2.resize(each, size_wh, interpolation=cv2.INTER_AREA) for each in (self.x, self.y)
        )
        exist = cv2.resize(self.exist.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST)
        return Counterparts((x + 0.5) * scale_x - 0.5, (y + 0.5) * scale_y - 0.5, exist > 0)

    def fetch(self, plane: NDArray[Any], nearest: bool = False) -> NDArray[Any]:
        """A plane of the frame before at the places of this one's pixels; the border goes on."""
        way = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        return cv2.remap(plane, self.x, self.y, way, borderMode=cv2.BORDER_REPLICATE)


def find_counterparts(before: Grey, now: Grey) -> Counterparts:
    """Where the pixels of a frame were in the one before; (H, W) uint8 both.

    In frames of fewer than `LEAST_SIDE` pixels a side nothing is found.
    """
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)  # of this thread alone
    height, width = now.shape
    columns, rows = np.meshgrid(np.arange(width, dtype="f4"), np.arange(height, dtype="f4"))
    if min(height, width) < LEAST_SIDE:
        return Counterparts(columns, rows, np.zeros(now.shape, bool))
    before, now = np.ascontiguousarray(before), np.ascontiguousarray(now)
    back, forth = dis.calc(now, before, None), dis.calc(before, now, None)
    x, y = columns + back[..., 0], rows + back[..., 1]
    there = cv2.remap(forth, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    length = (back**2).sum(axis=2) + (there**2).sum(axis=2)
    apart = ((back + there) ** 2).sum(axis=2)
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    alike = cv2.absdiff(cv2.remap(before, x, y, cv2.INTER_LINEAR), now) <= MOST_CHANGE
    share, pixels = AGREEMENT
    return Counterparts(x, y, inside & alike & (apart <= share * length + pixels))


class TemporalConsistency:
    """Counts the pixels whose class is that of their counterpart in the frame before."""

    def __init__(self) -> None:
        self.kept = self.compared = self.pixels = 0
        self._before: tuple[Grey, NDArray[np.uint8]] | None = None

    def add(self, image: NDArray[np.uint8], label_map: NDArray[np.uint8]) -> None:
        """Count a frame; the first one, and one of another size, are only remembered.

        Args:
            image: (H, W, 3) uint8 RGB.
            label_map: (H, W) uint8 class ids.
        """
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if self._before is not None and self._before[0].shape == grey.shape:
            counterparts = find_counterparts(self._before[0], grey)
            same = counterparts.fetch(self._before[1], nearest=True) == label_map
            self.kept += int(np.count_nonzero(same & counterparts.exist))
            self.compared += int(np.count_nonzero(counterparts.exist))
            self.pixels += grey.size
        self._before = (grey, label_map)

    def repeat(self) -> None:
        """Count a frame that equals the one before: each pixel is found and keeps its class."""
        assert self._before is not None
        size = self._before[0].size
        self.kept += size
        self.compared += size
        self.pixels += size

    @property
    def share(self) -> float | None:
        """Share of the compared pixels that keep their class; None where there are none."""
        return self.kept / self.compared if self.compared else None

    @property
    def compared_share(self) -> float | None:
        """Share of the pixels that were compared; None where there are none."""
        return self.compared / self.pixels if self.pixels else None

    def why_none(self) -> str:
        """Why there is no consistency; empty where there is one."""
        if self.compared:
            return ""
        if not self.pixels:
            return "there is no pair of frames of one size to compare"
        return "optical flow finds no pixel of a frame again in the next one"
