"""Small drawn copies of the data sets that PaddleSeg's ymls name, each in its own folders.

Images are street scenes; labels are their classes modulo the data set's number of classes.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddleseg_ext.images.scenes import draw_scene

SIZE_WH = (128, 128)
PARTS = {"train": 2, "val": 2}  # number of images
_Place = Callable[[str, str], str]  # part and name -> path without suffix


def _lists(train: str, val: str) -> Mapping[str, str]:
    return {"train": train, "val": val}


_TRAINING = {"train": "training", "val": "validation"}
# Type -> places of image and label, and the list of each part with the form of its lines.
_LAYOUTS: dict[str, tuple[_Place, _Place, str, Mapping[str, str], str]] = {
    "Cityscapes": (
        lambda part, name: f"leftImg8bit/{part}/city/{name}_leftImg8bit",
        lambda part, name: f"gtFine/{part}/city/{name}_gtFine_labelTrainIds",
        ".png", {}, "",
    ),
    "ADE20K": (
        lambda part, name: f"images/{_TRAINING[part]}/{name}",
        lambda part, name: f"annotations/{_TRAINING[part]}/{name}",
        ".jpg", {}, "",
    ),
    "CocoStuff": (
        lambda part, name: f"images/{part}2017/{name}",
        lambda part, name: f"annotations/{part}2017/{name}",
        ".jpg", {}, "",
    ),
    "PascalVOC": (
        lambda part, name: f"VOC2012/JPEGImages/{name}",
        lambda part, name: f"VOC2012/SegmentationClass/{name}",
        ".jpg",
        {
            key: f"VOC2012/ImageSets/Segmentation/{key}.txt"
            for key in ("train", "val", "trainval", "aug")
        },
        "{name}",
    ),
    "PascalContext": (
        lambda part, name: f"JPEGImages/{name}",
        lambda part, name: f"Context/{name}",
        ".jpg",
        _lists(*(f"ImageSets/Segmentation/{part}_context.txt" for part in PARTS)),
        "{name}",
    ),
    "EG1800": (
        lambda part, name: f"Images/{name}",
        lambda part, name: f"Labels/{name}",
        ".png", _lists("eg1800_train.txt", "eg1800_test.txt"), "{name}.png",
    ),
    "SUPERVISELY": (
        lambda part, name: f"img/{name}",
        lambda part, name: f"ann/{name}",
        ".png",
        _lists("supervisely_face_train_easy.txt", "supervisely_face_test_easy.txt"),
        "data/img/{name}.png",
    ),
}  # fmt: skip
_LISTED = {
    **dict.fromkeys(
        ("OpticDiscSeg", "HRF", "STARE", "DRIVE", "CHASEDB1"),
        _lists("train_list.txt", "val_list.txt"),
    ),
    **dict.fromkeys(
        ("Dataset", "MiniDeepGlobeRoadExtraction", "PPHumanSeg14K"), _lists("train.txt", "val.txt")
    ),
}


def draw_data_set(spec: Mapping[str, Any], num_classes: int, root: Path) -> Path:
    """Draws the data set of a section below `root`, unless it is there; returns its folder.

    Raises:
        KeyError: no layout of this type is known.
    """
    kind = str(spec["type"]).rpartition(".")[2]
    folder = root / f"{kind}_{num_classes}"
    if folder.is_dir():
        return folder
    draft = root / f"{folder.name}.{os.getpid()}"
    if kind in _LAYOUTS:
        image_of, label_of, suffix, lists, line = _LAYOUTS[kind]
    else:
        image_of, label_of = (
            lambda part, name: f"img/{part}_{name}",
            lambda part, name: f"lab/{part}_{name}",
        )
        suffix, lists, line = ".png", _LISTED[kind], ""
    lines: dict[str, list[str]] = {part: [] for part in PARTS}
    for part, count in PARTS.items():
        for number in range(count):
            name = f"{part}{number}"
            image, label = draw_scene(number + 10 * (part == "val"), SIZE_WH)
            label = np.where(label == 255, 0, label) % num_classes
            if kind == "ADE20K":  # whose files count from 1
                label = label + 1
            places = f"{image_of(part, name)}{suffix}", f"{label_of(part, name)}.png"
            _write(draft, places, (image[:, :, ::-1], label.astype(np.uint8)))
            lines[part].append(line.format(name=name) if line else " ".join(places))
    for part, path in lists.items():
        listed = lines["val" if part == "val" else "train"]
        (draft / path).parent.mkdir(parents=True, exist_ok=True)
        (draft / path).write_text("\n".join(listed) + "\n")
    if kind == "PascalVOC":  # the labels of aug.txt
        (draft / "VOC2012/SegmentationClassAug").symlink_to("SegmentationClass")
    draft.rename(folder)
    return folder


def _write(folder: Path, places: Sequence[str], pictures: Sequence[np.ndarray]) -> None:
    for place, picture in zip(places, pictures, strict=True):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(folder / place), picture):
            raise OSError(f"{folder / place} cannot be written")
