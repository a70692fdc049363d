"""CamVid in the SegNet edition, with checked labels, and names instead of absolute paths.

`data.published.CamVid` reads the edition as it is shipped, too.
"""

from pathlib import Path

import numpy as np

from paddleseg_ext.data.prepare.converter import Item, prepared, require_layout
from paddleseg_ext.data.published import CamVid
from paddleseg_ext.images.labels import CAMVID, decode_label

SPLITS = ("train", "val", "test")


def find(source: Path) -> list[Item]:
    """The images of the lists that exist; `train.txt` is required."""
    require_layout(source, ("train.txt",), "{train,val,test}.txt and the folders they name")
    items = []
    for split in SPLITS:
        if (source / f"{split}.txt").exists():
            for sample in CamVid(str(source), mode=split).samples:
                assert sample.label is not None
                items.append(prepared(sample.image, sample.label, split))
    return items


def label_of(item: Item) -> np.ndarray:
    """Classes 0..10, 255 where unlabelled."""
    return decode_label(item.annotation, CAMVID)
