"""Where objects are missed: by their size, and by how far a pixel is from an object's outline.

Instance ids are files beside the labels, in the form of Cityscapes: an object's pixels have its
label id times 1000 plus a number; values below 1000 are no single object. Of predictions no objects
are known, so all shares are of labelled pixels (recall).

Source: the sizes are those of COCO; instance ids: mcordts/cityscapesScripts
preparation/json2instanceImg.py.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.scoring.metrics import plain

FIRST_OBJECT = 1000  # instance ids below it are no single object
# Upper bounds of the pixels of an object, and of the pixels between a pixel and the outline.
SIZES = {"small (< 32²)": 32**2, "medium (< 96²)": 96**2, "large": 1 << 60}
DISTANCES = {"< 2": 2.0, "2 to 5": 5.0, "5 to 10": 10.0, "10 to 20": 20.0, "20 or more": 1e9}
FOUND = 0.5  # share of an object's pixels from which on it counts as found
_LABEL_KINDS = ("_labelTrainIds", "_labelIds")
_INSTANCES = "_instanceIds"


def instance_file(label: Path) -> Path | None:
    """The file of instance ids that belongs to a label file; None where there is none.

    `a_gtFine_instanceIds.png` for `a_gtFine_labelTrainIds.png`, `b_instanceIds.png` for `b.png`.
    """
    names = [label.name.replace(kind, _INSTANCES) for kind in _LABEL_KINDS if kind in label.name]
    path = label.with_name(names[0] if names else f"{label.stem}{_INSTANCES}.png")
    return path if path.is_file() else None


class ObjectCounts:
    """Objects and pixels by class, and by size or distance: (C, sizes) or (C, distances) int64.

    Attributes:
        num_images: that had instance ids.
    """

    _NAMES = ("objects", "found", "size_pixels", "size_hits", "distance_pixels", "distance_hits")

    def __init__(self, table: ClassTable):
        self._table = table
        count = table.num_classes
        by_size, by_distance = (count, len(SIZES)), (count, len(DISTANCES))
        self.objects, self.found = np.zeros(by_size, np.int64), np.zeros(by_size, np.int64)
        self.size_pixels, self.size_hits = np.zeros_like(self.objects), np.zeros_like(self.objects)
        self.distance_pixels = np.zeros(by_distance, np.int64)
        self.distance_hits = np.zeros(by_distance, np.int64)
        self.num_images = 0

    def add(
        self, label_map: NDArray[np.uint8], label: NDArray[np.uint8], ids: NDArray[np.integer]
    ) -> None:
        """Add one image.

        Args:
            label_map: (H, W) predicted classes.
            label: (H, W) classes or the ignored value.
            ids: (H, W) instance ids.
        """
        self.num_images += 1
        scored = label != self._table.ignore_index
        single = scored & (ids >= FIRST_OBJECT)
        _, of_object = np.unique(ids[single], return_inverse=True)
        kinds = _main_classes(of_object, label[single])
        agrees = label[single] == kinds[of_object]
        single[single] = agrees
        of_object, hit = of_object[agrees], label_map == label
        self._add_sizes(of_object, kinds, hit[single])
        regions = np.where(ids >= FIRST_OBJECT, ids, label).astype(np.int64)
        distance = _distance_to_outline(regions, scored)
        inside = np.digitize(distance[single], [*DISTANCES.values()][:-1])
        for counts, chosen in ((self.distance_pixels, None), (self.distance_hits, hit[single])):
            _count_into(counts, label[single], inside, chosen)

    def _add_sizes(
        self, of_object: NDArray[np.intp], kinds: NDArray[np.integer], hit: NDArray[np.bool_]
    ) -> None:
        """The objects of one image: number and rightness per pixel, class per object."""
        pixels = np.bincount(of_object, minlength=len(kinds))
        hits = np.bincount(of_object, weights=hit, minlength=len(kinds)).astype(np.int64)
        sizes = np.digitize(pixels, [*SIZES.values()][:-1])
        np.add.at(self.objects, (kinds, sizes), 1)
        np.add.at(self.found, (kinds, sizes), hits >= FOUND * pixels)
        np.add.at(self.size_pixels, (kinds, sizes), pixels)
        np.add.at(self.size_hits, (kinds, sizes), hits)

    def merge(self, other: "ObjectCounts") -> None:
        """Add the counts of another process."""
        for name in self._NAMES:
            getattr(self, name).__iadd__(getattr(other, name))
        self.num_images += other.num_images

    def to_dict(self) -> dict[str, Any]:
        """Counts and shares for JSON, of the classes that have objects."""
        result: dict[str, Any] = {
            "num_images": self.num_images,
            "sizes": [*SIZES],
            "distances": [*DISTANCES],
            "classes": {},
        }
        for number in np.flatnonzero(self.objects.sum(axis=1)):
            counts = {name: getattr(self, name)[number] for name in self._NAMES}
            shares = {
                "size_recall": counts["size_hits"] / np.maximum(counts["size_pixels"], 1),
                "distance_recall": counts["distance_hits"]
                / np.maximum(counts["distance_pixels"], 1),
            }
            pixels = {"size_recall": "size_pixels", "distance_recall": "distance_pixels"}
            name = self._table.class_names[number]
            result["classes"][name] = {key: value.tolist() for key, value in counts.items()} | {
                key: plain(np.where(counts[pixels[key]] > 0, value, np.nan))
                for key, value in shares.items()
            }
        return result


def _main_classes(of_object: NDArray[np.intp], classes: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The class that most pixels of each object have.

    Cityscapes' `labelTrainIds` and `instanceIds` disagree in pixels along the outlines.
    """
    pairs = np.bincount(of_object * 256 + classes)
    pairs = np.pad(pairs, (0, -len(pairs) % 256))
    return pairs.reshape(-1, 256).argmax(axis=1)


def _distance_to_outline(
    regions: NDArray[np.int64], scored: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """(H, W) pixels to the nearest one with a neighbour of another region; ignored ones are none.

    Where there is no outline at all the distance is as large as the picture.
    """
    outline = np.zeros(regions.shape, bool)
    for here, there in (
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[1:], np.s_[:-1]),
    ):
        differ = (regions[here] != regions[there]) & scored[here] & scored[there]
        outline[here] |= differ
        outline[there] |= differ
    if not outline.any():
        return np.full(regions.shape, sum(regions.shape), np.float32)
    free = (~outline).astype(np.uint8)
    return cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _count_into(
    counts: NDArray[np.int64],
    rows: NDArray[np.integer],
    columns: NDArray[np.integer],
    chosen: NDArray[np.bool_] | None,
) -> None:
    """Add one to `counts[row, column]` per pixel, of the chosen ones."""
    flat = rows.astype(np.int64) * counts.shape[1] + columns
    flat = flat if chosen is None else flat[chosen]
    counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)
