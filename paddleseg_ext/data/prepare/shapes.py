"""Areas that annotation tools draw: polygons and bitmaps, and their rasterising.

Coordinates are in pixels, (0, 0) the corner of the first pixel, so that its centre is (.5, .5). A
pixel is inside of a polygon if its centre is.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import DataError

ELLIPSE_CORNERS = 360


@dataclass(frozen=True)
class Shape:
    """An area of one class.

    Attributes:
        label: the class's name in the tool.
        polygons: outlines, each `(N, 2)` float64; together they are the area. An outline that
            crosses itself follows the even-odd rule.
        holes: outlines of what is not part of it.
        bitmap: where the tool stores pixels: makes the area, `(h, w)` bool, for the image's (width,
            height), which bound it; picklable.
        corner_xy: the place of the bitmap's first pixel.
        relative: the outlines' coordinates are shares of width and height.
        order: shapes are drawn in ascending order, equal ones in the file's.
    """

    label: str
    polygons: tuple[np.ndarray, ...] = ()
    holes: tuple[np.ndarray, ...] = ()
    bitmap: Callable[[tuple[int, int]], np.ndarray] | None = None
    corner_xy: tuple[int, int] = (0, 0)
    relative: bool = False
    order: float = 0


def area_of(shape: Shape, size_wh: tuple[int, int]) -> np.ndarray:
    """The pixels of a shape, `(H, W)` bool.

    Raises:
        DataError: its bitmap is damaged or reaches beyond the image.
    """
    width, height = size_wh
    scale = np.array(size_wh if shape.relative else (1, 1), np.float64)
    area = union(shape.polygons, size_wh, scale)
    if shape.holes:
        area &= ~union(shape.holes, size_wh, scale)
    if shape.bitmap is not None:
        bitmap = shape.bitmap(size_wh)
        (left, top), (rows, columns) = shape.corner_xy, bitmap.shape
        if left < 0 or top < 0 or left + columns > width or top + rows > height:
            raise DataError(
                f"a bitmap of {columns}x{rows} at {left},{top} does not fit {width}x{height}"
            )
        area[top : top + rows, left : left + columns] |= bitmap
    return area


def union(
    outlines: Iterable[np.ndarray], size_wh: tuple[int, int], scale: np.ndarray
) -> np.ndarray:
    """The pixels whose centre is inside of one of the outlines, `(H, W)` bool."""
    area = np.zeros(size_wh[::-1], bool)
    for outline in outlines:
        area |= inside(outline * scale, size_wh)
    return area


def inside(outline: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """The pixels whose centre is inside of an outline, by the even-odd rule, `(H, W)` bool.

    In every row, each edge that crosses the line of the centres changes inside and outside from
    the first centre right of the crossing on.
    """
    width, height = size_wh
    changes = np.zeros((height, width + 1), bool)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        low, high = sorted((y0, y1))
        first = max(0, math.ceil(low - 0.5))
        rows = np.arange(first, max(first, min(height, math.ceil(high - 0.5))))
        if rows.size:
            crossings = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(np.int64)
            changes[rows, columns] ^= True
    return np.logical_xor.accumulate(changes, axis=1)[:, :width]


def outline(points: Any, where: str = "a polygon") -> np.ndarray:
    """`(N, 2)` float64 of a file's points.

    Args:
        points: pairs x, y, or x and y in turn.
        where: names them in the message.

    Raises:
        DataError: they are no finite numbers, or fewer than three points.
    """
    try:
        array = np.asarray(points, np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        array = np.zeros((0, 2))
    if len(array) < 3 or not np.isfinite(array).all():
        raise DataError(f"{where}: at least 3 points x, y are expected, got {str(points)[:80]}")
    return array


def rectangle(corner: Sequence[float], opposite: Sequence[float], degrees: float = 0) -> np.ndarray:
    """The outline of a rectangle, turned clockwise about its centre, `(4, 2)`."""
    (x0, y0), (x1, y1) = corner, opposite
    corners = outline([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], "a rectangle")
    return turned(corners, corners.mean(axis=0), degrees)


def ellipse(centre: Sequence[float], radii: Sequence[float], degrees: float = 0) -> np.ndarray:
    """The outline of an ellipse, turned clockwise about its centre, `(360, 2)`."""
    angles = np.linspace(0, 2 * math.pi, ELLIPSE_CORNERS, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return turned(outline(circle * radii + centre, "an ellipse"), centre, degrees)


def turned(points: np.ndarray, centre: Sequence[float] | np.ndarray, degrees: float) -> np.ndarray:
    """Points turned clockwise (y points down) about a centre."""
    if not degrees:
        return points
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (points - centre) @ np.array([[cos, sin], [-sin, cos]]) + centre


def runs(
    counts: Any, size_wh: tuple[int, int], image_wh: tuple[int, int], by_column: bool = False
) -> np.ndarray:
    """A bitmap `(h, w)` bool of run lengths that begin with the pixels outside.

    Args:
        counts: whole numbers.
        size_wh: of the bitmap.
        image_wh: of the image, which the bitmap must not exceed.
        by_column: the runs go down the columns, as in COCO; else along the rows, as in CVAT.

    Raises:
        DataError: the runs are not as long as the bitmap, or it is larger than the image.
    """
    width, height = size_wh
    if not 0 < width <= image_wh[0] or not 0 < height <= image_wh[1]:
        raise DataError(f"a bitmap of {width}x{height} in an image of {image_wh[0]}x{image_wh[1]}")
    array = np.asarray(counts)
    fits = array.ndim == 1 and array.dtype.kind in "iu" and (array >= 0).all()
    if not fits or array.sum(dtype=np.float64) != width * height:
        total = array.sum(dtype=np.float64) if fits else "other values"
        raise DataError(f"run lengths of {width}x{height} pixels expected, got {total}")
    values = np.repeat(np.arange(len(array)) % 2 == 1, array)
    return values.reshape(width, height).T if by_column else values.reshape(height, width)


def coco_counts(text: str) -> list[int]:
    """The run lengths of COCO's compressed form.

    Each number is written in groups of five bits, the lowest first, with a sixth bit where more
    follow; from the third on it is the difference to the one before the last.
    Our own: the reader of pycocotools writes beyond its memory for runs that are too long.
    Source: cocodataset/cocoapi common/maskApi.c, rleFrString.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 60:
            raise DataError("the compressed run lengths are damaged")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            if group & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise DataError("the compressed run lengths end early")
    return counts
