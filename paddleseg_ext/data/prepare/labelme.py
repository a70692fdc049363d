"""LabelMe: a JSON file per image, beside it.

The tool shows pictures turned by their orientation tag. Shapes are drawn in the file's order;
`__ignore__` is 255 and `_background_` class 0, as in its own examples.
Source: labelme/label_file.py, labelme/utils/shape.py.
"""

import base64
import binascii
import math
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.data.prepare.export import (
    Export,
    ImageFiles,
    Picture,
    entry,
    read_json,
)
from paddleseg_ext.data.prepare.shapes import Shape, ellipse, outline, rectangle
from paddleseg_ext.images.reading import decode_label_values

NO_AREA = ("line", "point", "linestrip", "points")


def read(source: Path, files: ImageFiles) -> Export:
    """The annotations below a folder."""
    export = Export(upright=True)
    for path in sorted(source.rglob("[!.]*.json") if source.is_dir() else [source]):
        with export.collecting(str(path)):
            content = read_json(path)
            if isinstance(content, dict) and "shapes" in content:
                _add(export, path, content, files)
    export.left_out["images without an annotation, not converted"] += files.unused()
    return export


def _add(export: Export, path: Path, content: dict, files: ImageFiles) -> None:
    where = str(path)
    named = entry(content, "imagePath", str, where)
    name = PureWindowsPath(named).name  # of either system
    image = files.find(f"{path.parent.name}/{name}", path.parent)
    embedded = content.get("imageData")
    if image is None and not embedded:
        export.left_out["annotations without their image"].append(f"{path.name} ({named})")
        return
    shapes = []
    for shape in entry(content, "shapes", list, where):
        kind = shape.get("shape_type") or "polygon" if isinstance(shape, dict) else None
        if kind in NO_AREA:
            export.left_out["points and lines, which have no area"].append(path.name)
        else:
            shapes.append(_shape(shape, kind, where))
    width, height = content.get("imageWidth"), content.get("imageHeight")
    size_wh = (width, height) if isinstance(width, int) and isinstance(height, int) else None
    export.pictures.append(
        Picture(
            image or path.with_name(name),
            tuple(shapes),
            where,
            size_wh=size_wh,
            content=None if image else partial(unpacked, str(embedded), where),
        )
    )


def _shape(shape: Any, kind: Any, where: str) -> Shape:
    label, points = entry(shape, "label", str, where), entry(shape, "points", list, where)
    if kind == "polygon":
        return Shape(label, (outline(points, where),))
    pairs = np.asarray(points, np.float64)
    if kind not in ("rectangle", "circle", "mask") or pairs.shape != (2, 2):
        raise DataError(f"{where}: a shape of kind '{kind}' with {len(points)} points")
    if kind == "rectangle":
        return Shape(label, (rectangle(*pairs),))
    if kind == "circle":
        return Shape(label, (ellipse(pairs[0], (math.dist(*pairs),) * 2),))
    corner = (round(pairs[0, 0]), round(pairs[0, 1]))
    bitmap = partial(_bitmap, entry(shape, "mask", str, where), where)
    return Shape(label, bitmap=bitmap, corner_xy=corner)


def _bitmap(text: str, where: str, image_wh: tuple[int, int]) -> np.ndarray:
    return decode_label_values(unpacked(text, where), where) > 0


def unpacked(text: str, where: str) -> bytes:
    """The bytes of a base64 text.

    Raises:
        DataError: it is none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DataError(f"{where}: base64 is expected, got '{text[:20]}...'") from None
