"""PASCAL VOC and what is drawn on its images: SBD ("VOC aug") and PASCAL Context.

No pictures of these are turned; CVAT, which writes VOC's layout, draws on the turned picture.
"""

from functools import partial
from pathlib import Path

import numpy as np

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.data.prepare.export import Export, ImageFiles, split_of
from paddleseg_ext.data.prepare.label_files import (
    Pair,
    export_of_labels,
    folders_of,
    images_of,
    matlab_array,
    names_in,
)
from paddleseg_ext.images.class_section import apply_classes, read_class_section
from paddleseg_ext.images.labels import IGNORE_INDEX, ClassTable, decode_label, generic_table

VOC_NAMES = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
LISTS = "ImageSets/Segmentation"
# Classes of 59_labels.txt whose name in labels.txt is another.
CONTEXT_NAMES = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}


def voc(source: Path, files: ImageFiles) -> Export:
    """PASCAL VOC's layout; with labelmap.txt (CVAT) or class_names.txt (LabelMe) other classes."""
    layout = "SegmentationClass/*.png, JPEGImages/*, ImageSets/Segmentation/*.txt"
    (masks,) = folders_of(source, "SegmentationClass", layout)
    is_cvat = (source / "labelmap.txt").is_file()
    splits: dict[str, str] = {}
    for path in sorted((source / LISTS).glob("*.txt")):
        for name in names_in(path):
            own = "" if path.stem == "trainval" else split_of(path.stem)
            splits[name] = own or splits.get(name, "")
    names = splits or {
        path.relative_to(masks).with_suffix("").as_posix(): ""
        for path in sorted(masks.rglob("[!.]*.png"))
    }
    pairs: list[Pair] = []
    by_stem = {
        path.stem: path
        for path in files.all()
        if masks not in path.parents and "SegmentationObject" not in path.parts
    }
    for name, split in names.items():
        image = by_stem.get(Path(name).name, source / "JPEGImages" / f"{name}.jpg")
        pairs.append((image, masks / f"{name}.png", split))
    return export_of_labels(source, pairs, _voc_table(source), upright=is_cvat)


def _voc_table(source: Path) -> ClassTable:
    """The classes that an export in VOC's layout has, else VOC's own."""
    if (source / "labelmap.txt").is_file():
        section = read_class_section({"mapping": "labelmap.txt"}, source, "labelmap.txt")
        return apply_classes(section, generic_table(1), "labelmap.txt")
    path = source / "class_names.txt"
    names = path.read_text(encoding="utf-8-sig").split("\n") if path.is_file() else VOC_NAMES
    names = [name.strip() for name in names if name.strip()]
    return generic_table(len(names), names)


def sbd(source: Path, files: ImageFiles) -> Export:
    """SBD: `dataset/cls/*.mat` with VOC's classes, by its own lists.

    With `VOC2012` beside it the two are "VOC aug": VOC's val for validation, VOC's train and all
    others of SBD for training.
    Source: mmsegmentation tools/dataset_converters/voc_aug.py.
    """
    places = ("cls", "dataset/cls", "benchmark_RELEASE/dataset/cls", "VOCaug/dataset/cls")
    root = next((source / place for place in places if (source / place).is_dir()), None)
    if root is None:
        raise UsageError(
            f"--from: '{source}' has none of {', '.join(places)}; expected: dataset/cls/*.mat, "
            "dataset/img/*.jpg, dataset/{train,val}.txt, and VOC2012 for VOC aug"
        )
    images, voc2012 = root.parent / "img", source / "VOC2012"
    splits = {
        n: split for split in ("train", "val") for n in names_in(root.parent / f"{split}.txt")
    }
    pairs: list[Pair] = []
    if (voc2012 / "SegmentationClass").is_dir():
        masks = voc2012 / "SegmentationClass"
        own = {
            n: split
            for split in ("train", "val")
            for n in names_in(voc2012 / LISTS / f"{split}.txt")
        }
        pairs = [
            (voc2012 / "JPEGImages" / f"{name}.jpg", masks / f"{name}.png", split)
            for name, split in own.items()
        ]
        splits = {name: "train" for name in splits if name not in own}
    pairs += [
        (images / f"{name}.jpg", root / f"{name}.mat", split) for name, split in splits.items()
    ]
    return export_of_labels(source, pairs, generic_table(21, VOC_NAMES), read=_sbd_label)


def _sbd_label(path: Path) -> np.ndarray:
    if path.suffix == ".png":
        return decode_label(path, generic_table(21, VOC_NAMES))
    label = matlab_array(path, "GTcls", "Segmentation")
    if label.min(initial=0) < 0 or label.max(initial=0) >= len(VOC_NAMES):
        raise DataError(f"{path}: values 0 to 20 are expected, got up to {label.max()}")
    return label.astype(np.uint8)


def pascal_context(source: Path, files: ImageFiles) -> Export:
    """PASCAL Context, 59 classes, others ignored; split by VOC2010's lists.

    `trainval/*.mat`, `labels.txt` and `59_labels.txt` are its own files, the images VOC2010's.
    """
    layout = "trainval/*.mat, labels.txt, 59_labels.txt, and of VOC2010 JPEGImages and ImageSets"
    (root,) = folders_of(source, "trainval", layout)[:1]
    numbers, names = _numbered(source / "labels.txt"), _numbered(source / "59_labels.txt")
    if not numbers or not names:
        raise UsageError(f"--from: '{source}' has no labels.txt and 59_labels.txt: {layout}")
    lookup = np.full(max(numbers.values()) + 1, IGNORE_INDEX, np.uint8)
    for index, name in enumerate(names):
        listed = CONTEXT_NAMES.get(name, name)
        if name not in numbers and listed not in numbers:
            raise UsageError(f"--from: '{name}' of 59_labels.txt is not in labels.txt")
        lookup[numbers.get(name, numbers.get(listed, 0))] = index
    splits = {
        name: split
        for folder in ("Main", "SegmentationContext")
        for split in ("train", "val")
        for name in names_in(source / "ImageSets" / folder / f"{split}.txt")
    }
    found = {path.stem: path for path in files.all()}
    pairs: list[Pair] = [
        (
            found.get(path.stem, source / "JPEGImages" / f"{path.stem}.jpg"),
            path,
            splits.get(path.stem, ""),
        )
        for path in images_of(root)
        if path.suffix == ".mat"
    ]
    table = generic_table(len(names), list(names))
    return export_of_labels(source, pairs, table, read=partial(_context_label, lookup))


def _numbered(path: Path) -> dict[str, int]:
    """Numbers by name, of lines such as `12: aeroplane`."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    fields = [line.partition(":") for line in lines if line.strip()]
    try:
        return {name.strip(): int(number) for number, _, name in fields}
    except ValueError:
        raise UsageError(f"--from: '{path}': lines 'number: name' are expected") from None


def _context_label(lookup: np.ndarray, path: Path) -> np.ndarray:
    label = matlab_array(path, "LabelMap")
    if label.min(initial=0) < 0 or label.max(initial=0) >= len(lookup):
        raise DataError(f"{path}: value {label.max()} is not in labels.txt")
    return lookup[label]
