"""CelebAMask-HQ: up to 18 masks per face are combined into one label of 512x512.

Where masks overlap, the later part in the order of the classes is kept (hair over skin). Images are
resized to the labels' size. The publisher has no split; 85, 10 and 5 percent are drawn with a fixed
seed.

Source: zllrunning/face-parsing.PyTorch for the order of the parts; MaybeShewill-CV's
bisenetv2-tensorflow for the shares of the split.
"""

from pathlib import Path

import cv2
import numpy as np

from paddleseg_ext.common.errors import DataError, UsageError, require_none
from paddleseg_ext.data.prepare.converter import Item, prepared, require_layout
from paddleseg_ext.images.class_names import CELEBA_MASK_NAMES
from paddleseg_ext.images.reading import read_image, read_label

EXAMPLE = "CelebA-HQ-img/N.jpg, CelebAMask-HQ-mask-anno/{0..14}/NNNNN_PART.png"
SIZE_WH = (512, 512)
FACES_PER_FOLDER = 2000
TRAIN_SHARE, VAL_SHARE = 0.85, 0.10


def find(source: Path) -> list[Item]:
    """All faces, each in its split; `annotation` is the masks' path without `_PART.png`."""
    require_layout(source, ("CelebA-HQ-img", "CelebAMask-HQ-mask-anno"), EXAMPLE)
    images = list((source / "CelebA-HQ-img").glob("*.jpg"))
    strange = sorted(str(file) for file in images if not file.stem.isdecimal())
    require_none(strange, f"{len(strange)} images have no number:")
    images.sort(key=lambda file: int(file.stem))
    if not images:
        raise UsageError(f"--from: no image in '{source / 'CelebA-HQ-img'}'")
    order = np.random.default_rng(0).permutation(len(images))
    train_end = round(len(images) * TRAIN_SHARE)
    val_end = round(len(images) * (TRAIN_SHARE + VAL_SHARE))
    items = []
    for place, image in zip(order, images, strict=True):
        split = "train" if place < train_end else "val" if place < val_end else "test"
        number = int(image.stem)
        folder = source / "CelebAMask-HQ-mask-anno" / str(number // FACES_PER_FOLDER)
        items.append(prepared(image, folder / f"{number:05d}", split, f"{image.stem}.png"))
    return items


def image_of(item: Item) -> np.ndarray:
    """The face, (512, 512, 3)."""
    return cv2.resize(read_image(item.image), SIZE_WH, interpolation=cv2.INTER_AREA)


def label_of(item: Item) -> np.ndarray:
    """Classes 0 (background) .. 18."""
    label = np.zeros(SIZE_WH[::-1], np.uint8)
    found = 0
    for index, part in enumerate(CELEBA_MASK_NAMES[1:], 1):
        path = item.annotation.with_name(f"{item.annotation.name}_{part}.png")
        if not path.exists():
            continue
        mask = read_mask(path)
        if mask.shape != label.shape:
            raise DataError(f"{path}: 512x512 expected, got {mask.shape[1]}x{mask.shape[0]}")
        label[mask > 127] = index
        found += 1
    if not found:
        raise DataError(f"{item.annotation}_*.png: this face has no mask")
    return label


def read_mask(path: Path) -> np.ndarray:
    """A mask, `(H, W)` uint8, of a grey file or an RGB file with three equal channels."""
    try:
        return read_label(path)
    except DataError:
        return read_image(path)[:, :, 0]
