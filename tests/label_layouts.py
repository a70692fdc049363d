"""Layouts whose labels are images, as miniatures of what is published or exported.

Every picture is 4x2 pixels, and every label has two equal rows.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((2, 4, 3), 90, np.uint8)).save(path)


def label(path: Path, *values: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([values] * 2, np.uint8)).save(path)


def _kitti(root: Path) -> None:
    for name in ("000000_10", "000001_10"):
        image(root / f"training/image_2/{name}.png")
        label(root / f"training/semantic/{name}.png", 7, 26, 4, 33)


def _bdd100k(root: Path) -> None:
    for split in ("train", "val"):
        image(root / f"images/10k/{split}/a-{split}.jpg")
        label(root / f"labels/sem_seg/masks/{split}/a-{split}.png", 0, 13, 255, 18)


def _idd(root: Path) -> None:
    for split in ("train", "val"):
        image(root / f"leftImg8bit/{split}/0/1_leftImg8bit.png")
        label(root / f"gtFine/{split}/0/1_gtFine_labellevel3Ids.png", 0, 9, 255, 25)


def _mapillary(root: Path) -> None:
    labels = [
        {"name": "animal--bird", "readable": "Bird", "evaluate": True, "color": [1, 2, 3]},
        {"name": "void--car-mount", "readable": "Car Mount", "evaluate": False},
        {"name": "object--car", "readable": "Car", "evaluate": True, "color": [4, 5, 6]},
    ]
    for split in ("training", "validation"):
        image(root / f"{split}/images/a-{split}.jpg")
        label(root / f"{split}/v2.0/labels/a-{split}.png", 0, 2, 1, 2)
    (root / "config_v1.2.json").write_text("{}")
    (root / "config_v2.0.json").write_text(json.dumps({"labels": labels}))


def _loveda(root: Path) -> None:
    for split, kind in (("Train", "Rural"), ("Val", "Urban")):
        image(root / f"{split}/{kind}/images_png/{split}.png")
        label(root / f"{split}/{kind}/masks_png/{split}.png", 1, 2, 0, 7)


def _drive(root: Path) -> None:
    for folder, number in (("training", 21), ("test", 1)):
        image(root / f"{folder}/images/{number:02d}_{folder}.tif")
        label(root / f"{folder}/1st_manual/{number:02d}_manual1.gif", 0, 255, 0, 255)


def _stare(root: Path) -> None:
    for number in range(11):
        image(root / f"stare-images/im{number:04d}.ppm")
        path = root / f"labels-ah/im{number:04d}.ah.ppm"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.array([[0, 255, 0, 255]] * 2, np.uint8)).save(path)


def _chase_db1(root: Path) -> None:
    for name in ("01L", "01R"):
        image(root / f"Image_{name}.jpg")
        label(root / f"Image_{name}_1stHO.png", 0, 255, 0, 255)


def _hrf(root: Path) -> None:
    for number in range(6):
        image(root / f"healthy/{number:02d}_h.jpg")
        label(root / f"healthy_manualsegm/{number:02d}_h.tif", 0, 255, 0, 255)


def voc(root: Path) -> None:
    for name, split in (("2007_a", "train"), ("2007_b", "val")):
        image(root / f"JPEGImages/{name}.jpg")
        label(root / f"SegmentationClass/{name}.png", 0, 7, 255, 20)
        (root / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
        (root / f"ImageSets/Segmentation/{split}.txt").write_text(f"{name}\n")
    (root / "ImageSets/Segmentation/trainval.txt").write_text("2007_a\n2007_b\n")


def mat(path: Path, **variables: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pytest.importorskip("scipy.io").savemat(path, variables)


def sbd(root: Path) -> None:
    """Its own lists; `VOC aug` has a test of its own."""
    for name, split in (("2008_a", "train"), ("2008_b", "val")):
        image(root / f"dataset/img/{name}.jpg")
        label = np.array([[0, 7, 15, 20]] * 2, np.uint8)
        mat(root / f"dataset/cls/{name}.mat", GTcls={"Segmentation": label, "Boundaries": 0})
        (root / f"dataset/{split}.txt").write_text(f"{name}\n")


def _pascal_context(root: Path) -> None:
    (root / "ImageSets/Main").mkdir(parents=True)
    for name, split in (("2008_a", "train"), ("2008_b", "val")):
        image(root / f"JPEGImages/{name}.jpg")
        mat(root / f"trainval/{name}.mat", LabelMap=np.array([[2, 400, 9, 31]] * 2, np.uint16))
        (root / f"ImageSets/Main/{split}.txt").write_text(f"{name}\n")
        (root / f"ImageSets/Main/aeroplane_{split}.txt").write_text("2008_c -1\n")
    (root / "labels.txt").write_text("2: aeroplane\n9: table\n31: bag\n400: road\n459: zoo\n")
    (root / "59_labels.txt").write_text("1: aeroplane\n2: bag\n3: diningtable\n")


def _eiseg(root: Path) -> None:
    """Two pictures, of one the mask is named after the whole file; and what else it writes."""
    for name, mask in (("a.jpg", "a"), ("b.png", "b.png")):
        image(root / name)
        label(root / f"label/{mask}.png", 0, 3, 1, 3)
        label(root / f"label/{mask}_pseudo.png", 1, 1, 1, 1)
        (root / f"label/{mask}.json").write_text("[]")
    (root / "label/autosave_label.txt").write_text("1 road 128 0 0 \n3 car 0 128 0 \n")


def paddlelabel(root: Path) -> None:
    for name, split in (("a", "train"), ("b", "val")):
        image(root / f"JPEGImages/{name}.jpg")
        label(root / f"Annotations/{name}.png", 0, 2, 1, 2)
        line = f"JPEGImages/{name}.jpg Annotations/{name}.png\n"
        (root / f"{split}_list.txt").write_text(line)
    (root / "labels.txt").write_text("background\nroad\ncar\n")


def _segments_ai(root: Path) -> None:
    categories = [
        {"id": 1, "name": "road", "color": [9, 9, 9]},
        {"id": 4, "name": "car", "color": [1, 2, 3, 255]},
    ]
    samples = []
    for name, split in (("a", "train"), ("b", "val"), ("c", "train")):
        if name != "c":
            image(root / f"{name}.jpg")
            label(root / f"{name}_label_ground-truth_semantic.png", 0, 4, 1, 4)
            label(root / f"{name}_label_ground-truth.png", 1, 2, 3, 4)
        samples.append({"name": f"{name}.jpg", "metadata": {"split": split}, "labels": {}})
    content = {"task_attributes": {"categories": categories}, "samples": samples}
    (root / "release.json").write_text(json.dumps({"name": "v1", "dataset": content}))


VESSELS = [0, 1, 0, 1]
FORMS: dict[str, tuple[Callable[[Path], None], list[int], int]] = {
    "kitti": (_kitti, [0, 13, 255, 18], 19),
    "bdd100k": (_bdd100k, [0, 13, 255, 18], 19),
    "idd": (_idd, [0, 9, 255, 25], 26),
    "mapillary": (_mapillary, [0, 1, 255, 1], 2),
    "loveda": (_loveda, [0, 1, 255, 6], 7),
    "drive": (_drive, VESSELS, 2),
    "stare": (_stare, VESSELS, 2),
    "chase_db1": (_chase_db1, VESSELS, 2),
    "hrf": (_hrf, VESSELS, 2),
    "voc": (voc, [0, 7, 255, 20], 21),
    "sbd": (sbd, [0, 7, 15, 20], 21),
    "pascal_context": (_pascal_context, [0, 255, 2, 1], 3),
    "eiseg": (_eiseg, [0, 2, 1, 2], 3),
    "paddlelabel": (paddlelabel, [0, 2, 1, 2], 3),
    "segments_ai": (_segments_ai, [0, 2, 1, 2], 3),
}
TURNED = ("eiseg", "segments_ai")  # these draw on the turned picture
