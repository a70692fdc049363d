"""Cityscapes: `labelTrainIds` from polygons, else from `labelIds`, in the same layout."""

from pathlib import Path

import cv2
import numpy as np

from paddleseg_ext.common.errors import DataError, UsageError, require_none
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.data.datasets import pair_cityscapes
from paddleseg_ext.data.prepare.converter import Item, require_layout
from paddleseg_ext.images.labels import CITYSCAPES, decode_label

EXAMPLE = "leftImg8bit/SPLIT/CITY/*.png, gtFine/SPLIT/CITY/*_gtFine_{polygons.json,labelIds.png}"
SUFFIXES = ("_gtFine_polygons.json", "_gtFine_labelIds.png")


def find(source: Path) -> list[Item]:
    """Every image with an annotation, of every split; in train and val all must have one."""
    require_layout(source, ("leftImg8bit", "gtFine"), EXAMPLE)
    items, missing = [], []
    for folder in sorted((source / "leftImg8bit").iterdir()):
        split = folder.name
        for (city, name), image, annotation in pair_cityscapes(source, split, SUFFIXES).found:
            if annotation is not None:
                target = image.relative_to(source).as_posix()
                label = f"gtFine/{split}/{city}/{name}_gtFine_labelTrainIds.png"
                items.append(Item(image, annotation, target, label))
            elif split != "test":
                missing.append(f"{image}: no *{' or *'.join(SUFFIXES)}")
    require_none(missing, f"{len(missing)} images have no annotation:")
    if not items:
        raise UsageError(f"--from: no annotated image in '{source}'; expected: {EXAMPLE}")
    return items


def label_of(item: Item) -> np.ndarray:
    """Train ids 0..18, 255 ignored."""
    if item.annotation.suffix == ".png":
        return decode_label(item.annotation, CITYSCAPES)
    # Polygons are drawn by the publisher's own package.
    with optional_imports("polygons of Cityscapes", "prepare"):
        from cityscapesscripts.helpers.annotation import Annotation
        from cityscapesscripts.preparation.json2labelImg import createLabelImage
    annotation = Annotation()
    try:
        annotation.fromJsonFile(str(item.annotation))
        # Raw ids, then the class table: the one way from ids to classes.
        ids = np.asarray(createLabelImage(annotation, "ids")).astype(np.uint8)
    except (Exception, SystemExit) as error:  # an unknown label ends the process
        raise DataError(f"{item.annotation}: no polygons can be drawn: {error!r}") from None
    assert CITYSCAPES.label_lookup is not None
    return cv2.LUT(ids, CITYSCAPES.label_lookup)
