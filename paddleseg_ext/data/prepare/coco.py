"""COCO: JSON with `images`, `annotations` and `categories`; also Roboflow's and others' exports.

Objects are drawn in the file's order, crowds beneath. Coordinates belong to the stored pixels, as
pycocotools and detectron2 read them; the size in the file decides where it fits the turned
picture only. Areas have pycocotools' own forms: polygons, run lengths, compressed run lengths.
"""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.data.prepare.export import (
    Export,
    ImageFiles,
    Picture,
    checked_form,
    entry,
    read_json,
    split_of,
)
from paddleseg_ext.data.prepare.shapes import Shape, coco_counts, outline, runs


def read(source: Path, files: ImageFiles) -> Export:
    """The objects of every COCO file of the export."""
    export = Export(upright=False, classes=[])
    found = False
    for path in sorted(source.rglob("[!.]*.json") if source.is_dir() else [source]):
        with export.collecting(str(path)):
            content = read_json(path)
            sections = set(content) if isinstance(content, dict) else set()
            if {"images", "annotations", "categories"} <= sections:
                found = True
                _add_file(export, path, content, files)
    if not found and not export.problems:
        raise UsageError(
            f"--from: no JSON in '{source}' has images, annotations and categories, as COCO's has"
        )
    export.left_out["images without an annotation, not converted"] += files.unused()
    return export


def _add_file(export: Export, path: Path, content: dict, files: ImageFiles) -> None:
    where = str(path)
    for part in ("categories", "images"):  # what refers to a number would be of the last alone
        numbers = Counter(
            entry(each, "id", int, where) for each in entry(content, part, list, where)
        )
        twice = [number for number, count in numbers.items() if count > 1]
        if twice:
            raise DataError(f"{where}: {part}: several have the id {twice[0]}; number them anew")
    names = {each["id"]: entry(each, "name", str, where) for each in content["categories"]}
    assert export.classes is not None
    export.classes += [name for _, name in sorted(names.items()) if name not in export.classes]
    shapes: dict[int, list[Shape]] = {}
    broken: dict[int, str] = {}
    for each in entry(content, "annotations", list, where):
        number = entry(each, "image_id", int, where)
        here = f"{path}: annotation {each.get('id')}"
        try:
            with checked_form(here):
                shape = _shape(each, names, here)
            shapes.setdefault(number, []).append(shape)
        except DataError as error:
            broken.setdefault(number, str(error))
    export.problems += broken.values()
    split = _split(path)
    for image in entry(content, "images", list, where):
        number, name = entry(image, "id", int, where), entry(image, "file_name", str, where)
        if number in broken:
            continue
        size_wh = (entry(image, "width", int, where), entry(image, "height", int, where))
        try:
            file = files.find(f"{path.parent.name}/{name}", path.parent)
        except DataError as error:
            export.problems.append(f"{path}: {error}")
            continue
        if file is None:
            export.left_out["annotations without their image"].append(name)
        else:
            here = f"{path}: image '{name}'"
            own = tuple(shapes.pop(number, ()))
            export.pictures.append(Picture(file, own, here, split, size_wh))
    known = {image["id"] for image in content["images"]}
    export.left_out["objects of images that are not in the file"] += [
        f"image_id {number}" for number in shapes if number not in known
    ]


def _split(path: Path) -> str:
    """Of `instances_train2017.json`, or of the folder, as in Roboflow's exports."""
    words = [*path.stem.replace(".", "_").split("_")[::-1], path.parent.name]
    return next((split for word in words if (split := split_of(word))), "")


def _shape(values: Any, names: dict[int, str], where: str) -> Shape:
    number = entry(values, "category_id", int, where)
    if number not in names:
        raise DataError(f"{where}: category {number} is none of the file's")
    area = entry(values, "segmentation", (list, dict), where)
    order = -1 if values.get("iscrowd") else 0
    if isinstance(area, list):
        if not area:
            raise DataError(f"{where}: its segmentation is empty (a box alone has no area)")
        return Shape(names[number], tuple(outline(each, where) for each in area), order=order)
    counts = entry(area, "counts", (list, str), where)
    size = entry(area, "size", list, where)
    if len(size) != 2 or not all(isinstance(side, int) for side in size):
        raise DataError(f"{where}: size: [height, width] expected, got {size}")
    bitmap = partial(_bitmap, counts, (size[1], size[0]), f"annotation {values.get('id')}")
    return Shape(names[number], bitmap=bitmap, order=order)


def _bitmap(
    counts: Any, size_wh: tuple[int, int], where: str, image_wh: tuple[int, int]
) -> np.ndarray:
    try:
        numbers = coco_counts(counts) if isinstance(counts, str) else counts
        return runs(numbers, size_wh, image_wh, by_column=True)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
