"""Supervisely: a project's folder with `meta.json`, `DATASET/img/*` and `DATASET/ann/NAME.json`.

Objects are drawn in the file's order. Points are numbers of pixels, and a polygon's own border is
part of it, as in the tool's SDK: the outline is drawn with OpenCV, holes likewise. Coordinates
belong to the stored pixels unless the size in the file says otherwise.
Source: supervisely/geometry/polygon.py, bitmap.py.
"""

import zlib
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.data.prepare.export import (
    Export,
    ImageFiles,
    Picture,
    entry,
    read_json,
    split_of,
)
from paddleseg_ext.data.prepare.labelme import unpacked
from paddleseg_ext.data.prepare.shapes import Shape, outline

NO_AREA = ("line", "point", "multipoint", "graph", "cuboid", "any_shape")
MAX_BITMAP_BYTES = 1 << 28


def read(source: Path, files: ImageFiles) -> Export:
    """The annotations of a project, in the order of its classes."""
    if not (source / "meta.json").is_file():
        raise UsageError(f"--from: '{source}' has no meta.json; a Supervisely project is expected")
    where = str(source / "meta.json")
    classes = entry(read_json(source / "meta.json"), "classes", list, where)
    export = Export(upright=False, classes=[entry(c, "title", str, where) for c in classes])
    for path in sorted(source.rglob("ann/[!.]*.json")):
        with export.collecting(str(path)):
            _add(export, path, files)
    export.left_out["images without an annotation, not converted"] += files.unused()
    return export


def _add(export: Export, path: Path, files: ImageFiles) -> None:
    where = str(path)
    content = read_json(path)
    dataset = path.parent.parent
    image = files.find(f"{dataset.name}/img/{path.stem}", dataset / "img")
    if image is None:
        export.left_out["annotations without their image"].append(path.stem)
        return
    size = entry(content, "size", dict, where)
    size_wh = (entry(size, "width", int, where), entry(size, "height", int, where))
    shapes = []
    for values in entry(content, "objects", list, where):
        kind = entry(values, "geometryType", str, where)
        if kind in NO_AREA:
            export.left_out["points and lines, which have no area"].append(path.stem)
        else:
            shapes.append(_shape(values, kind, where))
    split = split_of(dataset.name)
    export.pictures.append(Picture(image, tuple(shapes), where, split, size_wh))


def _shape(values: Any, kind: str, where: str) -> Shape:
    label = entry(values, "classTitle", str, where)
    if kind == "bitmap":
        stored = entry(values, "bitmap", dict, where)
        origin = entry(stored, "origin", list, where)
        if len(origin) != 2 or not all(isinstance(place, int) for place in origin):
            raise DataError(f"{where}: origin: [x, y] expected, got {origin}")
        bitmap = partial(_bitmap, entry(stored, "data", str, where), where)
        return Shape(label, bitmap=bitmap, corner_xy=(origin[0], origin[1]))
    points = entry(values, "points", dict, where)
    exterior = entry(points, "exterior", list, where)
    if kind == "rectangle" and len(exterior) == 2:
        (x0, y0), (x1, y1) = exterior
        exterior = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
    elif kind != "polygon":
        raise DataError(f"{where}: a shape of kind '{kind}' with {len(exterior)} points")
    outlines = [_pixels(exterior, where)]
    outlines += [_pixels(hole, where) for hole in points.get("interior") or []]
    return Shape(label, bitmap=partial(_filled, outlines))


def _pixels(points: Any, where: str) -> np.ndarray:
    return np.rint(outline(points, where)).clip(-(1 << 20), 1 << 20).astype(np.int32)


def _filled(outlines: list[np.ndarray], image_wh: tuple[int, int]) -> np.ndarray:
    area = np.zeros(image_wh[::-1], np.uint8)
    for number, points in enumerate(outlines):
        cv2.fillPoly(area, [points], 1 if number == 0 else 0)
    return area > 0


def _bitmap(text: str, where: str, image_wh: tuple[int, int]) -> np.ndarray:
    """A PNG, compressed once more; what is not transparent, or not black, is the area."""
    try:
        content = zlib.decompressobj().decompress(unpacked(text, where), MAX_BITMAP_BYTES)
    except zlib.error as error:
        raise DataError(f"{where}: the bitmap is damaged: {error}") from None
    stored = np.frombuffer(content, np.uint8)
    image = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED) if stored.size else None
    if image is None:
        raise DataError(f"{where}: the bitmap is no PNG")
    return (image if image.ndim == 2 else image[:, :, -1]) > 0
