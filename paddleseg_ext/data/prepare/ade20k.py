"""ADE20K as `ADEChallengeData2016.zip` unpacks: value 0 is unlabelled, 1..150 are the classes."""

from pathlib import Path

import numpy as np

from paddleseg_ext.data.prepare.converter import Item, pair, require_layout, through_lookup
from paddleseg_ext.data.published import ADE20K_LOOKUP
from paddleseg_ext.images.reading import read_label

EXAMPLE = "images/{training,validation}/*.jpg, annotations/{training,validation}/*.png"


def find(source: Path) -> list[Item]:
    """The images of both splits."""
    require_layout(source, ("images/training", "annotations/training"), EXAMPLE)
    return pair(source, {"train": "training", "val": "validation"})


def label_of(item: Item) -> np.ndarray:
    """Classes 0..149, 255 where unlabelled."""
    return through_lookup(item.annotation, read_label(item.annotation), ADE20K_LOOKUP)
