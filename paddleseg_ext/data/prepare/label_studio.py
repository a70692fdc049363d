"""Label Studio: its JSON export, and the images beside it or in `--images`.

Coordinates are percentages of the picture as the browser shows it, turned by its orientation tag.
Of several annotations of a task the ground truth, else the first that was not cancelled, counts.
Regions are drawn in the file's order.
Source: Label Studio's documentation of its JSON; brushes are packed as thi.ng/rle-pack does.
"""

import re
from functools import partial
from pathlib import Path
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
from paddleseg_ext.data.prepare.shapes import Shape, ellipse, outline, rectangle, turned

NO_AREA = ("keypointlabels", "choices", "textarea", "rating", "relation", "vectorlabels")
# The prefix of files that were uploaded through the browser.
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


def read(source: Path, files: ImageFiles) -> Export:
    """The annotations of every JSON file of the export."""
    export = Export(upright=True)
    for path in sorted(source.rglob("[!.]*.json") if source.is_dir() else [source]):
        try:
            tasks = read_json(path)
        except DataError as error:
            export.problems.append(str(error))
            continue
        for number, task in enumerate(tasks if isinstance(tasks, list) else [tasks]):
            if isinstance(task, dict) and "annotations" in task:
                where = f"{path}: task {task.get('id', number)}"
                with export.collecting(where):
                    _add(export, where, task, files)
    export.left_out["images without an annotation, not converted"] += files.unused()
    return export


def _add(export: Export, where: str, task: dict, files: ImageFiles) -> None:
    values = entry(task, "data", dict, where).values()
    names = [value for value in values if isinstance(value, str)]
    found = [file for file in (_find(name, files) for name in names) if file is not None]
    if not found:
        export.left_out["annotations without their image"].append(", ".join(names) or where)
        return
    annotations = [each for each in task["annotations"] if not each.get("was_cancelled")]
    if not annotations:
        files.used.discard(found[0])
        return
    if len(annotations) > 1:
        export.left_out["tasks with several annotations, of which one counts"].append(where)
    annotation = next((each for each in annotations if each.get("ground_truth")), annotations[0])
    shapes, sizes = [], set()
    for region in entry(annotation, "result", list, where):
        kind = entry(region, "type", str, where)
        if not kind.endswith("labels") or kind in NO_AREA:
            export.left_out["regions without an area"].append(where)
            continue
        size = region.get("original_width"), region.get("original_height")
        if all(isinstance(side, int) for side in size):
            sizes.add(size)
        shapes.append(_shape(region, kind, size, where))
    if len(sizes) > 1:
        raise DataError(f"{where}: regions of several image sizes: {sorted(sizes)}")
    size_wh = next(iter(sizes), None)
    export.pictures.append(Picture(found[0], tuple(shapes), where, size_wh=size_wh))


def _find(name: str, files: ImageFiles) -> Path | None:
    """The file of `/data/upload/1/1a2b3c4d-NAME`, `/data/local-files/?d=PATH` or a URL."""
    path = name.split("?d=", 1)[-1]
    folder, _, base = path.rpartition("/")
    return files.find(path) or files.find(f"{folder}/{UPLOAD_PREFIX.sub('', base)}")


def _shape(region: dict, kind: str, size: tuple[Any, Any], where: str) -> Shape:
    value = entry(region, "value", dict, where)
    labels = entry(value, kind, list, where)
    if len(labels) != 1:
        raise DataError(f"{where}: a region with {len(labels)} labels: {labels}")
    label = str(labels[0])
    if kind == "polygonlabels":
        points = entry(value, "points", list, where)
        return Shape(label, (outline(points, where) / 100,), relative=True)
    if kind == "brushlabels":
        packed = entry(value, "rle", list, where)
        return Shape(label, bitmap=partial(_brush, packed, where))
    if not all(isinstance(side, int) for side in size):
        raise DataError(f"{where}: original_width and original_height are expected")
    # Turned in pixels, not in percentages.
    scale = np.array(size, np.float64) / 100
    place = np.array([entry(value, key, (int, float), where) for key in ("x", "y")]) * scale
    turn = value.get("rotation") or 0
    if kind == "rectanglelabels":
        extent = [entry(value, key, (int, float), where) for key in ("width", "height")] * scale
        corners = rectangle(place.tolist(), (place + extent).tolist())
        return Shape(label, (turned(corners, place, turn),))
    if kind == "ellipselabels":
        axes = [entry(value, key, (int, float), where) for key in ("radiusX", "radiusY")]
        radii = np.array(axes) * scale
        return Shape(label, (ellipse(place.tolist(), radii.tolist(), turn),))
    raise DataError(f"{where}: unknown region '{kind}'")


def _brush(packed: list, where: str, image_wh: tuple[int, int]) -> np.ndarray:
    width, height = image_wh
    pixels = unpack(packed, width * height * 4, where)
    return pixels.reshape(height, width, 4)[:, :, 3] > 0


def unpack(packed: list, length: int, where: str) -> np.ndarray:
    """The `length` bytes that a brush holds: RGBA, pixel by pixel.

    Layout, in bits: 32 length, 5 bits a word - 1, four times 4 bits a run's length - 1; then runs:
    1 whether a word is repeated, 2 which of the four lengths, the run's length - 1, and one word,
    or one per place.

    Raises:
        DataError: the data are damaged, or of another length.
    """
    try:
        bits = np.unpackbits(np.array(packed, np.uint8))
    except (ValueError, OverflowError, TypeError):
        raise DataError(f"{where}: rle: bytes are expected") from None
    weights = 1 << np.arange(31, -1, -1, dtype=np.int64)
    place = 0

    def take(count: int) -> int:
        nonlocal place
        if place + count > len(bits):
            raise DataError(f"{where}: rle: the data end early")
        value = int(bits[place : place + count] @ weights[32 - count :])
        place += count
        return value

    found = take(32)
    if found != length:
        raise DataError(f"{where}: rle of {found} bytes; its image has {length}")
    word = take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    result = np.zeros(length, np.uint8)
    start = 0
    while start < length:
        repeated = take(1)
        end = start + 1 + take(sizes[take(2)])
        if repeated:
            result[start:end] = take(word) & 255
        else:
            words = bits[place : place + (end - start) * word]
            if len(words) < (end - start) * word:
                raise DataError(f"{where}: rle: the data end early")
            place += len(words)
            values = words.reshape(-1, word) @ weights[32 - word :]
            result[start:end] = (values & 255)[: length - start]
        start = end
    return result
