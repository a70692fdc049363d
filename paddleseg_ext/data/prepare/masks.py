"""Published data sets whose labels are images: values or colours become classes.

Each function reads one layout; the classes are the layout's own. None of the publishers turns
pictures.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.data.prepare.export import Export, ImageFiles, entry, read_json, split_of
from paddleseg_ext.data.prepare.label_files import (
    Pair,
    export_of_labels,
    folders_of,
    images_of,
    mapped_table,
)
from paddleseg_ext.images.labels import CITYSCAPES, ClassTable, generic_table
from paddleseg_ext.images.palette import spread_palette

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


def kitti(source: Path, files: ImageFiles) -> Export:
    """KITTI's semantic benchmark: Cityscapes' label ids; it has no split of its own."""
    (folder,) = folders_of(source, "training/image_2", "training/{image_2,semantic}/*.png")
    pairs = [(p, folder.parent / "semantic" / p.name, "") for p in images_of(folder)]
    return export_of_labels(source, pairs, replace(CITYSCAPES, lookup_suffix=""))


def bdd100k(source: Path, files: ImageFiles) -> Export:
    """BDD100K's 10k images: Cityscapes' train ids."""
    layout = "images/10k/SPLIT/*.jpg, labels/sem_seg/masks/SPLIT/*.png"
    pairs = [
        (p, source / "labels/sem_seg/masks" / folder.name / f"{p.stem}.png", split_of(folder.name))
        for folder in folders_of(source, "images/10k/*", layout)
        if folder.name != "test"
        for p in images_of(folder)
    ]
    return export_of_labels(source, pairs, replace(CITYSCAPES, label_lookup=None))


def idd(source: Path, files: ImageFiles) -> Export:
    """IDD: the 26 classes of level 3, as AutoNUE's createLabels.py draws them of its polygons."""
    layout = "leftImg8bit/SPLIT/DRIVE/*, gtFine/SPLIT/DRIVE/*_gtFine_labellevel3Ids.png"
    pairs: list[Pair] = []
    for folder in folders_of(source, "leftImg8bit/*/*", layout):
        split, labels = folder.parent.name, source / "gtFine" / folder.parent.name / folder.name
        for path in images_of(folder) if split != "test" else []:
            stem = path.stem.removesuffix("_leftImg8bit")
            pairs.append((path, labels / f"{stem}_gtFine_labellevel3Ids.png", split_of(split)))
    if pairs and not any(label and label.is_file() for _, label, _ in pairs):
        raise UsageError(
            f"--from: '{source}/gtFine' has no *_gtFine_labellevel3Ids.png; draw them with "
            "AutoNUE's public-code: preparation/createLabels.py --id-type level3Id"
        )
    return export_of_labels(source, pairs, generic_table(len(IDD_NAMES), IDD_NAMES))


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
    table = mapped_table([names[i] for i in kept], mapping, [])
    colours = np.array([labels[i].get("color", (0, 0, 0)) for i in kept], np.uint8)
    version = config.stem.removeprefix("config_") if config.stem != "config" else "."
    pairs: list[Pair] = []
    for split in ("training", "validation"):
        for path in images_of(source / split / "images"):
            inner = source / split / version / "labels"
            folder = inner if inner.is_dir() else source / split / "labels"
            pairs.append((path, folder / f"{path.stem}.png", split_of(split)))
    return export_of_labels(source, pairs, replace(table, palette=colours))


def loveda(source: Path, files: ImageFiles) -> Export:
    """LoveDA: 0 is no data, 1 to 7 are the classes."""
    layout = "{Train,Val}/{Rural,Urban}/{images_png,masks_png}/*.png"
    pairs = [
        (path, folder.parent / "masks_png" / path.name, split_of(folder.parent.parent.name))
        for folder in folders_of(source, "*/*/images_png", layout)
        if folder.parent.parent.name.lower() != "test"
        for path in images_of(folder)
    ]
    mapping = {0: "ignored"} | {value: value - 1 for value in range(1, 8)}
    return export_of_labels(source, pairs, mapped_table(LOVEDA_NAMES, mapping, []))


def _vessels() -> ClassTable:
    """By colours: the values of DRIVE's GIF files are places in their palettes."""
    greys = {f"{grey},{grey},{grey}": int(grey >= VESSEL) for grey in range(256)}
    return replace(mapped_table(["background", "vessel"], greys, []), palette=spread_palette(2))


def drive(source: Path, files: ImageFiles) -> Export:
    """DRIVE: training for training, test for validation; the first observer's vessels."""
    layout = "{training,test}/{images/*.tif,1st_manual/*.gif}"
    pairs = [
        (
            path,
            folder.parent / "1st_manual" / f"{path.stem.partition('_')[0]}_manual1.gif",
            "train" if folder.parent.name == "training" else "val",
        )
        for folder in folders_of(source, "*/images", layout)
        for path in images_of(folder)
    ]
    return export_of_labels(source, pairs, _vessels())


def stare(source: Path, files: ImageFiles) -> Export:
    """STARE, unpacked: the first ten images for training; the vessels of observer AH."""
    (folder,) = folders_of(source, "stare-images", "stare-images/*.ppm, labels-ah/*.ah.ppm")
    images = [path for path in images_of(folder) if path.suffix == ".ppm"]
    pairs = [
        (p, source / "labels-ah" / f"{p.stem}.ah.ppm", "train" if i < STARE_TRAIN else "val")
        for i, p in enumerate(images)
    ]
    return export_of_labels(source, pairs, _vessels())


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
    return export_of_labels(source, pairs, _vessels())


def hrf(source: Path, files: ImageFiles) -> Export:
    """HRF: the first five of each kind for training."""
    layout = "{healthy,glaucoma,diabetic_retinopathy}/* and KIND_manualsegm/*.tif"
    pairs: list[Pair] = []
    for folder in folders_of(source, "*_manualsegm", layout):
        kind = folder.name.removesuffix("_manualsegm")
        for index, path in enumerate(images_of(source / kind)):
            split = "train" if index < HRF_TRAIN else "val"
            pairs.append((path, folder / f"{path.stem}.tif", split))
    return export_of_labels(source, pairs, _vessels())
