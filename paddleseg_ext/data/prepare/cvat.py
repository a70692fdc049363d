"""CVAT's "CVAT for images 1.1": annotations.xml, and the images unless they were left out.

CVAT turns pictures by their orientation tag. Shapes are drawn by `z_order`, then in the file's
order. Its mask export ("Segmentation mask 1.1") is the form `voc`.
Source: CVAT's documentation of its XML format; masks are runs along the rows of their box.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.data.prepare.export import Export, ImageFiles, Picture, split_of
from paddleseg_ext.data.prepare.shapes import Shape, ellipse, outline, rectangle, runs
from paddleseg_ext.images.reading import read_file

NO_AREA = ("polyline", "points", "cuboid", "skeleton")


def read(source: Path, files: ImageFiles) -> Export:
    """The annotations of `annotations.xml`, or of every XML file of the export."""
    with optional_imports("data prepare cvat", "prepare"):
        from defusedxml.common import DefusedXmlException
        from defusedxml.ElementTree import ParseError, fromstring
    export = Export(upright=True, classes=[])
    for path in sorted(source.rglob("[!.]*.xml") if source.is_dir() else [source]):
        try:
            root = fromstring(read_file(path))
        except DataError as error:
            export.problems.append(str(error))
            continue
        except (ParseError, DefusedXmlException, ValueError) as error:
            export.problems.append(f"{path}: no XML can be read: {error}")
            continue
        if root.find("track") is not None:
            raise UsageError(f"{path}: tracks of a video; export 'CVAT for images 1.1' of the task")
        assert export.classes is not None
        for label in root.iterfind("meta//labels/label/name"):
            if label.text and label.text not in export.classes:
                export.classes.append(label.text)
        for image in root.iterfind("image"):
            with export.collecting(f"{path}: image '{image.get('name')}'"):
                _add(export, path, image, files)
    export.left_out["images without an annotation, not converted"] += files.unused()
    return export


def _add(export: Export, path: Path, image: Any, files: ImageFiles) -> None:
    name = image.get("name", "")
    where = f"{path}: image '{name}'"
    file = files.find(name)
    if file is None:
        export.left_out["annotations without their image"].append(name)
        return
    shapes = []
    for element in image:
        if element.tag in NO_AREA:
            export.left_out["points and lines, which have no area"].append(name)
        elif element.tag != "tag":
            try:
                shapes.append(_shape(element, where))
            except (KeyError, ValueError) as error:
                raise DataError(f"{where}: <{element.tag}>: {error!r}") from None
    known = export.classes or []
    export.classes = known + sorted({s.label for s in shapes} - set(known))
    split = split_of(image.get("subset", ""))
    try:
        size_wh = (int(image.attrib["width"]), int(image.attrib["height"]))
    except (KeyError, ValueError):
        raise DataError(f"{where}: width and height are expected") from None
    export.pictures.append(Picture(file, tuple(shapes), where, split, size_wh))


def _shape(element: Any, where: str) -> Shape:
    values = element.attrib

    def number(key: str, default: float | None = None) -> float:
        return float(values.get(key, default) if default is not None else values[key])

    label, order = values["label"], number("z_order", 0)
    turn = number("rotation", 0)
    if element.tag == "polygon":
        points = [[float(n) for n in pair.split(",")] for pair in values["points"].split(";")]
        return Shape(label, (outline(points, where),), order=order)
    if element.tag == "box":
        corners = (number("xtl"), number("ytl")), (number("xbr"), number("ybr"))
        return Shape(label, (rectangle(*corners, turn),), order=order)
    if element.tag == "ellipse":
        area = ellipse((number("cx"), number("cy")), (number("rx"), number("ry")), turn)
        return Shape(label, (area,), order=order)
    if element.tag == "mask":
        counts = [int(n) for n in values["rle"].split(",")]
        size_wh = (int(values["width"]), int(values["height"]))
        corner = (int(values["left"]), int(values["top"]))
        return Shape(label, bitmap=partial(_bitmap, counts, size_wh), corner_xy=corner, order=order)
    raise DataError(f"{where}: unknown shape <{element.tag}>")


def _bitmap(counts: list[int], size_wh: tuple[int, int], image_wh: tuple[int, int]) -> np.ndarray:
    return runs(counts, size_wh, image_wh)
