"""COCO-Stuff 10k v1.1: MATLAB files whose matrix `S` holds category ids, 0 where unlabelled."""

from pathlib import Path

import numpy as np

from paddleseg_ext.common.errors import DataError, require_none
from paddleseg_ext.data.prepare.coco_stuff164k import CATEGORY_IDS
from paddleseg_ext.data.prepare.converter import Item, prepared, require_layout, through_lookup
from paddleseg_ext.images.labels import lookup_table

EXAMPLE = "images/*.jpg, annotations/*.mat, imageLists/{train,test}.txt"
LOOKUP = lookup_table({number: index for index, number in enumerate(CATEGORY_IDS)}, ignored={0})


def find(source: Path) -> list[Item]:
    """The images that the two lists name; papers validate on `test`."""
    require_layout(source, ("images", "annotations", "imageLists/train.txt"), EXAMPLE)
    items, missing = [], []
    for split, listed in (("train", "train.txt"), ("val", "test.txt")):
        for name in (source / "imageLists" / listed).read_text(encoding="utf-8").split():
            image = source / "images" / f"{name}.jpg"
            annotation = source / "annotations" / f"{name}.mat"
            missing += [str(file) for file in (image, annotation) if not file.exists()]
            items.append(prepared(image, annotation, split))
    require_none(missing, f"{len(missing)} files that the lists name do not exist:")
    return items


def label_of(item: Item) -> np.ndarray:
    """Classes 0..170, 255 where unlabelled."""
    from scipy.io import loadmat  # slow to import, and only this data set needs it

    try:
        stored = np.asarray(loadmat(item.annotation)["S"])
        raw = stored.astype(np.uint8)
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise DataError(f"{item.annotation}: no matrix 'S' can be read: {error}") from None
    if not np.array_equal(raw, stored):
        raise DataError(f"{item.annotation}: 'S' holds values that are no category ids")
    return through_lookup(item.annotation, raw, LOOKUP)
