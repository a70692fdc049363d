"""Cityscapes: `labelTrainIds` from the polygons, else from `labelIds`, in the same layout."""

from pathlib import Path

import cv2
import numpy as np

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.data.datasets import listed_problems
from paddleseg_ext.data.prepare.converter import Item, require_layout
from paddleseg_ext.images.labels import CITYSCAPES, decode_label

EXAMPLE = "leftImg8bit/SPLIT/CITY/*.png, gtFine/SPLIT/CITY/*_gtFine_{polygons.json,labelIds.png}"
IMAGE_SUFFIX = "_leftImg8bit.png"


def find(source: Path) -> list[Item]:
    """Every image of every split that has an annotation; in train and val all must have one."""
    require_layout(source, ("leftImg8bit", "gtFine"), EXAMPLE)
    items, missing = [], []
    for image in sorted((source / "leftImg8bit").glob(f"*/*/*{IMAGE_SUFFIX}")):
        split, city = image.parts[-3:-1]
        stem = image.name.removesuffix(IMAGE_SUFFIX)
        folder = Path("gtFine", split, city)
        kinds = [f"{stem}_gtFine_polygons.json", f"{stem}_gtFine_labelIds.png"]
        found = [source / folder / kind for kind in kinds if (source / folder / kind).exists()]
        if found:
            label = folder / f"{stem}_gtFine_labelTrainIds.png"
            target = image.relative_to(source).as_posix()
            items.append(Item(image, found[0], target, label.as_posix()))
        elif split != "test":
            missing.append(f"{image}: no {' or '.join(kinds)}")
    if missing:
        title = f"{len(missing)} images have no annotation:"
        raise UsageError(listed_problems(title, missing))
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
        # The raw ids of what is drawn, then our table: one way from ids to classes.
        ids = np.asarray(createLabelImage(annotation, "ids")).astype(np.uint8)
    except (Exception, SystemExit) as error:  # an unknown label ends the process
        raise DataError(f"{item.annotation}: no polygons can be drawn: {error!r}") from None
    assert CITYSCAPES.label_lookup is not None
    return cv2.LUT(ids, CITYSCAPES.label_lookup)
