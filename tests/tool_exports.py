"""Exports of annotation tools, as miniatures in the tools' documented forms.

Every form holds three pictures: one without an orientation tag, and two with 3 and 6. The tools
draw on the turned or on the stored picture; what is written must be upright and fit.
"""

import base64
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from PIL import Image

from paddleseg_ext.images.orientation import turn_upright

WIDTH, HEIGHT = 30, 20  # of the upright pictures
TAGS = {"a": 1, "b": 3, "c": 6}
BACK = {1: 1, 3: 3, 6: 8}  # the tag that undoes another
# In the canvas, as shares: a road, a car on it that covers a part, and the car's window.
ROAD = np.array([[0, 0.51], [1, 0.38], [1, 1], [0, 1]])
CAR = np.array([[0.22, 0.31], [0.61, 0.27], [0.74, 0.83], [0.13, 0.77]])
WINDOW = np.array([[0.3, 0.4], [0.5, 0.4], [0.5, 0.6], [0.3, 0.6]])
CLASSES = ["background", "car", "road"]


def filled(points: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """An independent rasteriser, at the pixels' centres."""
    x, y = np.meshgrid(np.arange(size_wh[0]) + 0.5, np.arange(size_wh[1]) + 0.5)
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    return Outline(points * size_wh).contains_points(centres).reshape(size_wh[::-1])


def truth(size_wh: tuple[int, int], classes: list[str], window: bool = False) -> np.ndarray:
    label = np.zeros(size_wh[::-1], np.uint8)
    label[filled(ROAD, size_wh)] = classes.index("road")
    car = filled(CAR, size_wh)
    if window:
        car &= ~filled(WINDOW, size_wh)
    label[car] = classes.index("car")
    return label


def upright_pixels(name: str) -> np.ndarray:
    return np.random.default_rng(ord(name)).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def write_picture(folder: Path, name: str, upright: bool) -> tuple[str, tuple[int, int]]:
    """Write a picture; returns its file name and the size that the tool draws on."""
    orientation = TAGS[name]
    stored = turn_upright(upright_pixels(name), BACK[orientation])
    exif = Image.Exif()
    if orientation > 1:
        exif[0x0112] = orientation
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(stored).save(folder / f"{name}.png", exif=exif)
    canvas = (WIDTH, HEIGHT) if upright else (stored.shape[1], stored.shape[0])
    return f"{name}.png", canvas


def points(share: np.ndarray, size_wh: tuple[int, int]) -> list[list[float]]:
    return (share * size_wh).tolist()


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def labelme(root: Path) -> None:
    for name in TAGS:
        file, size = write_picture(root, name, upright=True)
        shapes = [
            {"label": label, "points": points(share, size), "shape_type": "polygon"}
            for label, share in (("road", ROAD), ("car", CAR))
        ]
        shapes.append({"label": "car", "points": [[1, 1]], "shape_type": "point"})
        content = {"version": "5.5.0", "shapes": shapes, "imagePath": file, "imageData": None}
        content |= {"imageWidth": size[0], "imageHeight": size[1]}
        (root / f"{name}.json").write_text(json.dumps(content))


def cvat(root: Path) -> None:
    pytest.importorskip("defusedxml")
    images = []
    for number, name in enumerate(TAGS):
        file, size = write_picture(root / "images", name, upright=True)
        text = {
            label: ";".join(f"{x},{y}" for x, y in points(share, size))
            for label, share in (("road", ROAD), ("car", CAR))
        }
        images.append(
            f'<image id="{number}" name={quoteattr(file)} width="{size[0]}" height="{size[1]}">'
            f'<polygon label="car" points="{text["car"]}" z_order="1"/>'
            f'<polygon label="road" points="{text["road"]}" z_order="0"/>'
            '<polyline label="car" points="1,1;2,2"/></image>'
        )
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("road", "car"))
    (root / "annotations.xml").write_text(
        f'<?xml version="1.0"?><annotations><version>1.1</version><meta><task><labels>{labels}'
        f"</labels></task></meta>{''.join(images)}</annotations>"
    )


def counts_of(mask: np.ndarray) -> list[int]:
    """COCO's run lengths, written without its library."""
    flat = mask.T.ravel().astype(np.int8)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    return np.diff(np.concatenate([[0], changes])).tolist()


def coco(root: Path) -> None:
    images: list[dict] = []
    annotations: list[dict] = []
    for number, name in enumerate(TAGS):
        file, size = write_picture(root / "images", name, upright=False)
        images.append({"id": number, "file_name": file, "width": size[0], "height": size[1]})
        road = [(ROAD * size).ravel().tolist()]
        car: Any = {"size": [size[1], size[0]], "counts": counts_of(filled(CAR, size))}
        for category, area in ((7, road), (3, car)):
            entry = {"id": len(annotations), "image_id": number, "category_id": category}
            annotations.append(entry | {"segmentation": area, "iscrowd": 0})
    categories = [{"id": 7, "name": "road"}, {"id": 3, "name": "car"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations").mkdir()
    (root / "annotations/instances_default.json").write_text(json.dumps(content))


def supervisely(root: Path) -> None:
    """Areas as bitmaps, which the tool's brush makes."""
    for name in TAGS:
        file, size = write_picture(root / "ds/img", name, upright=False)
        objects = []
        for label, share in (("road", ROAD), ("car", CAR)):
            mask = filled(share, size)
            top, left = (int(np.flatnonzero(mask.any(axis=axis))[0]) for axis in (1, 0))
            data = base64.b64encode(zlib.compress(png(mask[top:, left:]))).decode()
            bitmap = {"data": data, "origin": [left, top]}
            objects.append({"classTitle": label, "geometryType": "bitmap", "bitmap": bitmap})
        content = {"size": {"width": size[0], "height": size[1]}, "objects": objects}
        (root / "ds/ann").mkdir(exist_ok=True)
        (root / f"ds/ann/{file}.json").write_text(json.dumps(content))
    classes = [{"title": "car", "shape": "bitmap"}, {"title": "road", "shape": "any"}]
    (root / "meta.json").write_text(json.dumps({"classes": classes}))


def packed(mask: np.ndarray) -> list[int]:
    """Label Studio's brush, by the documented layout: one run or single words per change."""
    values = np.repeat((mask.ravel() * 255).astype(np.uint8), 4)
    sizes = [3, 8, 12, 16]
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    edges = np.flatnonzero(np.diff(values.astype(int))) + 1
    for start, end in zip([0, *edges], [*edges, len(values)], strict=True):
        run = end - start
        kind = next(i for i, size in enumerate(sizes) if run <= 1 << size)
        repeated = run > 4
        words = [values[start]] if repeated else values[start:end]
        bits += f"{int(repeated)}{kind:02b}{run - 1:0{sizes[kind]}b}"
        bits += "".join(f"{word:08b}" for word in words)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def label_studio(root: Path) -> None:
    tasks = []
    for number, name in enumerate(TAGS):
        file, size = write_picture(root / "upload", name, upright=True)
        common = {"original_width": size[0], "original_height": size[1]}
        road = {"points": (ROAD * 100).tolist(), "polygonlabels": ["road"]}
        car = {"format": "rle", "rle": packed(filled(CAR, size)), "brushlabels": ["car"]}
        result = [
            common | {"type": "polygonlabels", "value": road},
            common | {"type": "brushlabels", "value": car},
            {"type": "choices", "value": {"choices": ["day"]}},
        ]
        image = {"image": f"/data/upload/1/0a1b2c3d-{file}"}
        done = [{"was_cancelled": True, "result": []}, {"result": result}]
        tasks.append({"id": number, "data": image, "annotations": done})
    (root / "export.json").write_text(json.dumps(tasks))


def yolo(root: Path) -> None:
    for name in TAGS:
        write_picture(root / "images/train", name, upright=True)
        (root / "labels/train").mkdir(parents=True, exist_ok=True)
        lines = [
            " ".join([str(number), *(f"{n:.9f}" for n in share.ravel())])
            for number, share in ((1, ROAD), (0, CAR))
        ]
        (root / f"labels/train/{name}.txt").write_text("\n".join(lines) + "\n")
    (root / "data.yaml").write_text("names: {0: car, 1: road}\ntrain: images/train\n")


FORMS: dict[str, tuple[Callable[[Path], None], bool]] = {
    "labelme": (labelme, True),
    "cvat": (cvat, True),
    "coco": (coco, False),
    "supervisely": (supervisely, False),
    "label_studio": (label_studio, True),
    "yolo": (yolo, True),
}


def expected(form: str, name: str, classes: list[str]) -> np.ndarray:
    """The upright label of a picture."""
    if FORMS[form][1]:
        return truth((WIDTH, HEIGHT), classes)
    size = (HEIGHT, WIDTH) if TAGS[name] >= 5 else (WIDTH, HEIGHT)
    return turn_upright(truth(size, classes), TAGS[name])
