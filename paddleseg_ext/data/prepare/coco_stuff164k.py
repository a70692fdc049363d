"""COCO-Stuff 164k: COCO's images and `stuffthingmaps_trainval2017.zip`.

A label's value is the category's id minus one, 255 where unlabelled; 11 of the ids were never
annotated, which leaves 171 classes.
"""

from pathlib import Path

import numpy as np

from paddleseg_ext.data.prepare.converter import Item, pair, require_layout, through_lookup
from paddleseg_ext.images.labels import lookup_table
from paddleseg_ext.images.reading import read_label

EXAMPLE = "images/{train2017,val2017}/*.jpg, annotations/{train2017,val2017}/*.png"
# COCO's ids of categories that were never annotated (street sign, hat, shoe, ...).
UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
CATEGORY_IDS = tuple(number for number in range(1, 183) if number not in UNUSED_IDS)
LOOKUP = lookup_table(
    {number - 1: index for index, number in enumerate(CATEGORY_IDS)}, ignored=set()
)


def find(source: Path) -> list[Item]:
    """The images of both splits."""
    require_layout(source, ("images/train2017", "annotations/train2017"), EXAMPLE)
    return pair(source, {"train": "train2017", "val": "val2017"})


def label_of(item: Item) -> np.ndarray:
    """Classes 0..170, 255 where unlabelled."""
    return through_lookup(item.annotation, read_label(item.annotation), LOOKUP)
