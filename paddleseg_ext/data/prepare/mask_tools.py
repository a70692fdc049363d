"""Masks that annotation tools write beside their own files: EISeg, PaddleLabel, Segments.ai.

Values are the tool's numbers of the classes; 0 is unlabelled, `background`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.data.prepare.export import (
    Export,
    ImageFiles,
    entry,
    read_json,
    split_of,
)
from paddleseg_ext.data.prepare.label_files import (
    Pair,
    export_of_labels,
    folders_of,
    images_of,
    mapped_table,
    names_in,
)
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.images.reading import read_header

BACKGROUND = "background"
EISEG_LABELS = ("autosave_label.txt", "labels.txt", "label.txt")
EISEG_OTHERS = ("_pseudo", "_cutout")  # what the tool writes beside the grey mask
SEMANTIC = "_semantic.png"

Colour = tuple[int, int, int]


def _table(names: Mapping[int, str], colours: Mapping[str, Colour]) -> ClassTable:
    """The classes of numbers, in their order, with `background` for 0."""
    numbered = {0: names.get(0, BACKGROUND), **dict(sorted(names.items()))}
    different = list(dict.fromkeys(numbered.values()))
    return mapped_table(different, numbered, [], dict(colours) or None)


def eiseg(source: Path, files: ImageFiles) -> Export:
    """EISeg's grey masks in `label/`, with the classes that it saves there.

    The tool's OpenCV turns pictures by their orientation tag.
    Source: PaddleCV-SIG/EISeg eiseg/app.py saveLabel, eiseg/util/label.py.
    """
    folder = source / "label" if (source / "label").is_dir() else source
    places = [place / name for place in (folder, source) for name in EISEG_LABELS]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UsageError(
            f"--from: '{source}' has none of {', '.join(EISEG_LABELS)}, also not in label/; save "
            "the labels in EISeg (lines 'number name red green blue')"
        )
    names, colours = {}, {}
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        fields = line.split()
        if not fields:
            continue
        if not all(field.isdecimal() for field in [fields[0], *fields[2:]]) or len(fields) != 5:
            raise UsageError(f"{path}: 'number name red green blue' is expected, got '{line[:60]}'")
        red, green, blue = (int(field) for field in fields[2:])
        names[int(fields[0])] = fields[1]
        colours[fields[1]] = (red, green, blue)
    colours.setdefault(names.get(0, BACKGROUND), (0, 0, 0))
    stems = {path.stem for path in files.all() if path.suffix.lower() != ".png"}
    pairs: list[Pair] = []
    for image in files.all():
        beside = image.suffix == ".png" and (
            image.stem in stems or image.stem.endswith(EISEG_OTHERS)
        )
        if folder in image.parents and (folder != source or beside):
            continue  # a mask
        masks = [folder / f"{name}.png" for name in (image.stem, image.name)]
        found = next((mask for mask in masks if mask.is_file() and mask != image), None)
        pairs.append((image, found, ""))
    return export_of_labels(source, pairs, _table(names, colours), upright=True)


def paddlelabel(source: Path, files: ImageFiles) -> Export:
    """PaddleLabel's mask format: `JPEGImages`, `Annotations`, `labels.txt` and its lists.

    Source: PaddleCV-SIG/PaddleLabel doc/CN/manual/semantic_segmentation.md, task/base.py.
    """
    layout = "JPEGImages/*, Annotations/*.png, labels.txt, {train,val,test}_list.txt"
    (folder,) = folders_of(source, "JPEGImages", layout)
    path = source / "labels.txt"
    if not path.is_file():
        raise UsageError(f"--from: '{source}' has no labels.txt; expected: {layout}")
    names, colours = _paddlelabel_names(path)
    splits = {
        Path(name).stem: split
        for split in ("train", "val", "test")
        for name in names_in(source / f"{split}_list.txt")
    }
    pairs: list[Pair] = [
        (image, source / "Annotations" / f"{image.stem}.png", splits.get(image.stem, ""))
        for image in images_of(folder)
    ]
    table = _table(names, colours)
    masks = (label for _, label, _ in pairs if label is not None and label.is_file())
    if (first := next(masks, None)) is not None and read_header(first).mode in ("RGB", "RGBA"):
        if len(colours) < len(names):
            raise UsageError(f"{path}: colours 'name - red green blue' are expected: {first} has")
        mapping: dict[Any, Any] = {}
        for name in names.values():
            if mapping.setdefault(colours[name], name) != name:
                both = f"'{mapping[colours[name]]}' and '{name}'"
                raise UsageError(f"{path}: {both} have the same colour; give each its own")
        table = mapped_table(list(names.values()), mapping, [])
    return export_of_labels(source, pairs, table)


def _paddlelabel_names(path: Path) -> tuple[dict[int, str], dict[str, Colour]]:
    """Names by number and colours by name, of lines `name [number|-] [red green blue] [// ...]`."""
    names: dict[int, str] = {}
    colours: dict[str, Colour] = {}
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for line in filter(str.strip, lines):
        fields = line.partition("//")[0].split()
        number = fields[1] if len(fields) > 1 else "-"
        rest = fields[2:]
        if not (number == "-" or number.isdecimal()) or not all(n.isdecimal() for n in rest):
            raise UsageError(f"{path}: 'name number red green blue' is expected: '{line[:60]}'")
        names[len(names) if number == "-" else int(number)] = fields[0]
        if len(rest) == 3:
            colours[fields[0]] = (int(rest[0]), int(rest[1]), int(rest[2]))
    if not names:
        raise UsageError(f"{path}: no class is in it")
    if colours:
        colours.setdefault(names.get(0, BACKGROUND), (0, 0, 0))
    return names, colours


def segments_ai(source: Path, files: ImageFiles) -> Export:
    """Segments.ai: a release's JSON, and what its SDK's `export_dataset(..., "semantic")` writes.

    Masks `NAME_label_LABELSET_semantic.png` hold category ids. The SDK turns pictures by their
    orientation tag.
    Source: segments-ai/segments-ai src/segments/{export,dataset,utils}.py.
    """
    release = next(
        (r for path in sorted(source.rglob("[!.]*.json")) if (r := _release(path))), None
    )
    if release is None:
        raise UsageError(
            f"--from: no JSON of a Segments.ai release in '{source}' (dataset.task_attributes with "
            "categories, dataset.samples); download it beside the masks that the SDK exports"
        )
    where, content = release
    attributes = entry(content, "task_attributes", dict, where)
    names, colours = {}, {}
    for each in entry(attributes, "categories", list, where):
        name, colour = entry(each, "name", str, where), each.get("color")
        names[entry(each, "id", int, where)] = name
        if isinstance(colour, list) and len(colour) >= 3:
            colours[name] = tuple(colour[:3])
    colours = colours if len(colours) == len(names) else {}
    masks = {path.name: path for path in source.rglob(f"[!.]*{SEMANTIC}")}
    pairs: list[Pair] = []
    missing: list[str] = []
    for sample in entry(content, "samples", list, where):
        stem = Path(entry(sample, "name", str, where)).with_suffix("").name
        image = next((p for p in files.all() if p.stem == stem), None)
        label = next((p for n, p in masks.items() if n.startswith(f"{stem}_label_")), None)
        metadata = sample.get("metadata")
        split = metadata.get("split") if isinstance(metadata, dict) else None
        if image is None:
            missing.append(stem)
        else:
            pairs.append((image, label, split_of(str(split))))
    if colours:
        colours.setdefault(names.get(0, BACKGROUND), (0, 0, 0))
    export = export_of_labels(source, pairs, _table(names, colours), upright=True)
    export.left_out["annotations without their image"] += missing
    return export


def _release(path: Path) -> tuple[str, dict] | None:
    """A release's place and its data set; None of any other JSON."""
    try:
        content = read_json(path)
    except DataError:
        return None
    found = content.get("dataset") if isinstance(content, dict) else None
    return (str(path), found) if isinstance(found, dict) and "samples" in found else None
