"""Cityscapes' category IoU: the 19 classes in 7 groups.

Source: cityscapesScripts `helpers/labels.py`.
"""

import numpy as np

from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.scoring.confusion import IntArray
from paddleseg_ext.scoring.metrics import AbsentRule, Scores, summarize

CITYSCAPES_CATEGORIES = {
    "flat": ("road", "sidewalk"),
    "construction": ("building", "wall", "fence"),
    "object": ("pole", "traffic light", "traffic sign"),
    "nature": ("vegetation", "terrain"),
    "sky": ("sky",),
    "human": ("person", "rider"),
    "vehicle": ("car", "truck", "bus", "train", "motorcycle", "bicycle"),
}


def category_scores(
    counts: IntArray, table: ClassTable, absent: AbsentRule
) -> tuple[tuple[str, ...], Scores] | None:
    """The scores of Cityscapes' categories, or None where the classes are not Cityscapes'.

    Args:
        counts: (C, C), row = label, column = prediction. A pixel whose class is wrong and whose
            category is right counts as right.
        table: of the classes of `counts`.
        absent: how a category that occurs nowhere counts.
    """
    members = [name for names in CITYSCAPES_CATEGORIES.values() for name in names]
    if set(table.class_names) != set(members):
        return None
    # (7, C): which class belongs to which category
    belongs = np.array(
        [[name in names for name in table.class_names] for names in CITYSCAPES_CATEGORIES.values()],
        np.int64,
    )
    return tuple(CITYSCAPES_CATEGORIES), summarize(belongs @ counts @ belongs.T, absent)
