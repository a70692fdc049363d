"""Exports and data sets whose labels are images already: values or colours become classes.

Each function reads one layout; the classes are the layout's own. None of the tools and publishers
turns pictures, but CVAT.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

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
from paddleseg_ext.images.class_section import apply_classes, read_class_section
from paddleseg_ext.images.labels import (
    CITYSCAPES,
    ClassTable,
    decode_label,
    generic_table,
    spread_palette,
)
from paddleseg_ext.images.reading import read_header

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
LOVEDA_NAMES = ["background", "building", "road", "water", "barren", "forest", "agricultural"]
# `level3Id` of AutoNUE/public-code helpers/anue_labels.py.
IDD_NAMES = [
    "road",
    "drivable fallback",
    "sidewalk",
    "non-drivable fallback",
    "person",
    "rider",
    "motorcycle",
    "bicycle",
    "autorickshaw",
    "car",
    "truck",
    "bus",
    "vehicle fallback",
    "curb",
    "wall",
    "fence",
    "guard rail",
    "billboard",
    "traffic sign",
    "traffic light",
    "pole",
    "obs-str-bar-fallback",
    "building",
    "bridge",
    "vegetation",
    "sky",
]
VESSEL = 128  # grey values from here on are vessels, as in mmsegmentation's converters
CHASE_TRAIN_SHARE, HRF_TRAIN, STARE_TRAIN = 0.6, 5, 10  # mmsegmentation's splits

Pair = tuple[Path, Path | None, str]  # image, label, split


def _export(
    source: Path, pairs: Iterable[Pair], table: ClassTable, upright: bool = False
) -> Export:
    """The pairs as pictures; images without a label are left out, and counted."""
    export = Export(upright, classes=list(table.class_names), palette=table.palette, dense=True)
    for image, label, split in pairs:
        if label is None or not label.is_file():
            what = "images without an annotation, not converted"
            export.left_out[what].append(str(image.relative_to(source)))
        elif not image.is_file():
            export.left_out["annotations without their image"].append(label.name)
        else:
            try:
                size_wh = read_header(label).size_wh
            except DataError as error:
                export.problems.append(str(error))
                continue
            read = partial(decode_label, label, table)
            export.pictures.append(Picture(image, (), str(label), split, size_wh, label=read))
    return export


def _table(names: list[str], mapping: dict, ignored: list[int]) -> ClassTable:
    section = {"names": names, "mapping": mapping, "ignored": ignored}
    return apply_classes(read_class_section(section, Path(), "form"), generic_table(1), "form")


def _folders(source: Path, pattern: str, layout: str) -> list[Path]:
    """The folders that match, sorted."""
    found = sorted(path for path in source.glob(pattern) if path.is_dir())
    if not found:
        raise UsageError(f"--from: '{source}' has no {pattern}; expected: {layout}")
    return found


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*") if path.is_file())


def voc(source: Path, files: ImageFiles) -> Export:
    """PASCAL VOC's layout, and CVAT's "Segmentation mask 1.1" with its labelmap.txt."""
    layout = "SegmentationClass/*.png, JPEGImages/*, ImageSets/Segmentation/*.txt"
    (masks,) = _folders(source, "SegmentationClass", layout)
    is_cvat = (source / "labelmap.txt").is_file()
    if is_cvat:
        section = read_class_section({"mapping": "labelmap.txt"}, source, "labelmap.txt")
        table = apply_classes(section, generic_table(1), "labelmap.txt")
    else:
        table = generic_table(len(VOC_NAMES), VOC_NAMES)
    splits: dict[str, str] = {}
    for path in sorted((source / "ImageSets/Segmentation").glob("*.txt")):
        for name in path.read_text(encoding="utf-8-sig").splitlines():
            own = "" if path.stem == "trainval" else split_of(path.stem)
            splits[name.strip()] = own or splits.get(name.strip(), "")
    splits.pop("", None)
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
    return _export(source, pairs, table, upright=is_cvat)


def kitti(source: Path, files: ImageFiles) -> Export:
    """KITTI's semantic benchmark: Cityscapes' label ids; it has no split of its own."""
    (folder,) = _folders(source, "training/image_2", "training/{image_2,semantic}/*.png")
    pairs = [(p, folder.parent / "semantic" / p.name, "") for p in _images(folder)]
    return _export(source, pairs, replace(CITYSCAPES, lookup_suffix=""))


def bdd100k(source: Path, files: ImageFiles) -> Export:
    """BDD100K's 10k images: Cityscapes' train ids."""
    layout = "images/10k/SPLIT/*.jpg, labels/sem_seg/masks/SPLIT/*.png"
    pairs = [
        (p, source / "labels/sem_seg/masks" / folder.name / f"{p.stem}.png", split_of(folder.name))
        for folder in _folders(source, "images/10k/*", layout)
        if folder.name != "test"
        for p in _images(folder)
    ]
    return _export(source, pairs, replace(CITYSCAPES, label_lookup=None))


def idd(source: Path, files: ImageFiles) -> Export:
    """IDD: the 26 classes of level 3, as AutoNUE's createLabels.py draws them of its polygons."""
    layout = "leftImg8bit/SPLIT/DRIVE/*, gtFine/SPLIT/DRIVE/*_gtFine_labellevel3Ids.png"
    pairs: list[Pair] = []
    for folder in _folders(source, "leftImg8bit/*/*", layout):
        split, labels = folder.parent.name, source / "gtFine" / folder.parent.name / folder.name
        for path in _images(folder) if split != "test" else []:
            stem = path.stem.removesuffix("_leftImg8bit")
            pairs.append((path, labels / f"{stem}_gtFine_labellevel3Ids.png", split_of(split)))
    if pairs and not any(label and label.is_file() for _, label, _ in pairs):
        raise UsageError(
            f"--from: '{source}/gtFine' has no *_gtFine_labellevel3Ids.png; draw them with "
            "AutoNUE's public-code: preparation/createLabels.py --id-type level3Id"
        )
    return _export(source, pairs, generic_table(len(IDD_NAMES), IDD_NAMES))


def mapillary(source: Path, files: ImageFiles) -> Export:
    """Mapillary Vistas 1.2 or 2.0 (the newest that is there): the classes that it evaluates."""
    configs = sorted([*source.glob("config_v*.json"), *source.glob("config.json")])
    if not configs:
        raise UsageError(f"--from: '{source}' has no config_v1.2.json or config_v2.0.json")
    config = configs[-1] if configs[-1].stem != "config" else configs[0]
    labels = entry(read_json(config), "labels", list, str(config))
    names = [str(each.get("readable") or each.get("name")) for each in labels]
    kept = [i for i, each in enumerate(labels) if each.get("evaluate", True)]
    mapping = {i: kept.index(i) if i in kept else "ignored" for i in range(len(labels))}
    table = _table([names[i] for i in kept], mapping, [])
    colours = np.array([labels[i].get("color", (0, 0, 0)) for i in kept], np.uint8)
    version = config.stem.removeprefix("config_") if config.stem != "config" else "."
    pairs: list[Pair] = []
    for split in ("training", "validation"):
        for path in _images(source / split / "images"):
            inner = source / split / version / "labels"
            folder = inner if inner.is_dir() else source / split / "labels"
            pairs.append((path, folder / f"{path.stem}.png", split_of(split)))
    return _export(source, pairs, replace(table, palette=colours))


def loveda(source: Path, files: ImageFiles) -> Export:
    """LoveDA: 0 is no data, 1 to 7 are the classes."""
    layout = "{Train,Val}/{Rural,Urban}/{images_png,masks_png}/*.png"
    pairs = [
        (path, folder.parent / "masks_png" / path.name, split_of(folder.parent.parent.name))
        for folder in _folders(source, "*/*/images_png", layout)
        if folder.parent.parent.name.lower() != "test"
        for path in _images(folder)
    ]
    mapping = {0: "ignored"} | {value: value - 1 for value in range(1, 8)}
    return _export(source, pairs, _table(LOVEDA_NAMES, mapping, []))


def _vessels() -> ClassTable:
    """By colours: the values of DRIVE's GIF files are places in their palettes."""
    greys = {f"{grey},{grey},{grey}": int(grey >= VESSEL) for grey in range(256)}
    return replace(_table(["background", "vessel"], greys, []), palette=spread_palette(2))


def drive(source: Path, files: ImageFiles) -> Export:
    """DRIVE: training for training, test for validation; the first observer's vessels."""
    layout = "{training,test}/{images/*.tif,1st_manual/*.gif}"
    pairs = [
        (
            path,
            folder.parent / "1st_manual" / f"{path.stem.partition('_')[0]}_manual1.gif",
            "train" if folder.parent.name == "training" else "val",
        )
        for folder in _folders(source, "*/images", layout)
        for path in _images(folder)
    ]
    return _export(source, pairs, _vessels())


def stare(source: Path, files: ImageFiles) -> Export:
    """STARE, unpacked: the first ten images for training; the vessels of observer AH."""
    (folder,) = _folders(source, "stare-images", "stare-images/*.ppm, labels-ah/*.ah.ppm")
    images = [path for path in _images(folder) if path.suffix == ".ppm"]
    pairs = [
        (p, source / "labels-ah" / f"{p.stem}.ah.ppm", "train" if i < STARE_TRAIN else "val")
        for i, p in enumerate(images)
    ]
    return _export(source, pairs, _vessels())


def chase_db1(source: Path, files: ImageFiles) -> Export:
    """CHASE_DB1: the first 60% for training; the first observer's vessels."""
    images = sorted(source.glob("Image_*.jpg"))
    if not images:
        raise UsageError(f"--from: '{source}' has no Image_*.jpg with Image_*_1stHO.png")
    first = round(len(images) * CHASE_TRAIN_SHARE)
    pairs = [
        (path, source / f"{path.stem}_1stHO.png", "train" if index < first else "val")
        for index, path in enumerate(images)
    ]
    return _export(source, pairs, _vessels())


def hrf(source: Path, files: ImageFiles) -> Export:
    """HRF: the first five of each kind for training."""
    layout = "{healthy,glaucoma,diabetic_retinopathy}/* and KIND_manualsegm/*.tif"
    pairs: list[Pair] = []
    for folder in _folders(source, "*_manualsegm", layout):
        kind = folder.name.removesuffix("_manualsegm")
        for index, path in enumerate(_images(source / kind)):
            split = "train" if index < HRF_TRAIN else "val"
            pairs.append((path, folder / f"{path.stem}.tif", split))
    return _export(source, pairs, _vessels())
