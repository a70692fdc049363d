"""YOLO polygons: `images/.../NAME.jpg`, `labels/.../NAME.txt` and the classes in a `data.yaml`.

A line is `class x1 y1 x2 y2 ...`, shares of width and height. An image without a text is an image
without objects, as Ultralytics documents it. Ultralytics turns pictures by their orientation tag.
Lines are drawn in the file's order.
"""

from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.yml import read_sections
from paddleseg_ext.data.prepare.export import Export, ImageFiles, Picture, split_of
from paddleseg_ext.data.prepare.shapes import Shape, outline

SETTINGS = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt")


def read(source: Path, files: ImageFiles) -> Export:
    """The images of the export; the classes are those of `data.yaml` or `classes.txt`."""
    names = _names(source)
    export = Export(upright=True, classes=list(names.values()))
    texts = {path for path in source.rglob("[!.]*.txt") if "labels" in path.parts}
    for path in files.all():
        text = _text_of(path)
        if text is None:
            continue
        texts.discard(text)
        files.used.add(path)
        try:
            shapes = _shapes(text, names) if text.is_file() else ()
        except DataError as error:
            export.problems.append(str(error))
            continue
        folders = path.relative_to(files.root).parts[:-1]
        split = next((s for folder in folders if (s := split_of(folder))), "")
        export.pictures.append(Picture(path, shapes, str(text), split))
    lonely = sorted(str(path.relative_to(source)) for path in texts)
    export.left_out["annotations without their image"] += lonely
    export.left_out["images outside of images/, not converted"] += files.unused()
    return export


def _text_of(image: Path) -> Path | None:
    """The text of an image: the last folder `images` of its path becomes `labels`."""
    parts = list(image.parts)
    if "images" not in parts:
        return None
    place = len(parts) - 1 - parts[::-1].index("images")
    return Path(*parts[:place], "labels", *parts[place + 1 :]).with_suffix(".txt")


def _names(source: Path) -> dict[int, str]:
    """The classes by number."""
    folder = source if source.is_dir() else source.parent
    given = [source] if source.is_file() else [folder / name for name in SETTINGS]
    path = next((path for path in given if path.is_file()), None)
    if path is None:
        raise UsageError(f"--from: '{source}' has none of {', '.join(SETTINGS)} with the classes")
    if path.suffix == ".txt":
        text = path.read_text(encoding="utf-8", errors="replace")
        names: Any = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        names = read_sections(path, "a yml with 'names:'").get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(isinstance(k, int) for k in names):
        raise UsageError(f"{path}: 'names', a list of the classes, is expected")
    return {number: str(name) for number, name in sorted(names.items())}


def _shapes(path: Path, names: dict[int, str]) -> tuple[Shape, ...]:
    shapes = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        where = f"{path}: line {number}"
        try:
            values = [float(field) for field in fields]
        except ValueError:
            raise DataError(f"{where}: numbers are expected, got '{line[:40]}'") from None
        if len(values) == 5:
            raise DataError(f"{where}: a box; polygons of a segmentation export are expected")
        if values[0] not in names or len(values) % 2 == 0:
            raise DataError(f"{where}: 'class x1 y1 x2 y2 ...' is expected, got '{line[:40]}'")
        points = outline(values[1:], where)
        if points.min() < -0.01 or points.max() > 1.01:
            raise DataError(f"{where}: shares of 0 to 1 are expected, got '{line[:40]}'")
        shapes.append(Shape(names[int(values[0])], (points,), relative=True))
    return tuple(shapes)
