"""Why a class fails: what it is confused with, and the image where it is worst."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common import html
from paddleseg_ext.evaluation.evaluator import ImageCounts
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.inference.pipeline import Prediction

LISTED = 3  # classes that a class is confused with
PICTURED = 30  # classes with a picture, the worst first
PICTURE_WIDTH = 400
HIT_COLOR, MISSED_COLOR, INVENTED_COLOR = (40, 160, 60), (215, 40, 40), (40, 90, 215)
GREY_SHARE = 0.6  # of the grey image under these colours


@dataclass(frozen=True)
class Confused:
    """One class that another is confused with.

    Attributes:
        name: of the class.
        pixels: that are confused.
        share: of the pixels that the other class has in all, 0 to 1.
    """

    name: str
    pixels: int
    share: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "pixels": self.pixels, "share": self.share}


def missed_as(counts: NDArray[np.int64], number: int, names: tuple[str, ...]) -> list[Confused]:
    """The classes that most of a class's missed label pixels are predicted as.

    Args:
        counts: (C, C), row = label, column = prediction.
        number: of the class.
        names: of the classes.
    """
    return _largest(counts[number], number, names)


def invented_on(counts: NDArray[np.int64], number: int, names: tuple[str, ...]) -> list[Confused]:
    """The classes whose label pixels are predicted as this one; see `missed_as`."""
    return _largest(counts[:, number], number, names)


def _largest(pixels: NDArray[np.int64], number: int, names: tuple[str, ...]) -> list[Confused]:
    total = max(1, int(pixels.sum()))
    order = [int(i) for i in np.argsort(-pixels, kind="stable") if i != number and pixels[i]]
    return [Confused(names[i], int(pixels[i]), int(pixels[i]) / total) for i in order[:LISTED]]


def confusions(counts: NDArray[np.int64], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Per class that occurs: name, recall, and the two lists, for JSON and the page."""
    labelled = counts.sum(axis=1)
    return [
        {
            "name": name,
            "recall": int(counts[number, number]) / int(labelled[number])
            if labelled[number]
            else None,
            "missed_as": [each.to_dict() for each in missed_as(counts, number, names)],
            "invented_on": [each.to_dict() for each in invented_on(counts, number, names)],
        }
        for number, name in enumerate(names)
        if counts[number].any() or counts[:, number].any()
    ]


@dataclass(frozen=True)
class FaultyImage:
    """The image in which most pixels of a class are wrong.

    Attributes:
        wrong: pixels that are missed or invented.
        iou: of the class in it.
        parts: (caption, picture) pairs.
    """

    name: str
    wrong: int
    iou: float
    parts: tuple[tuple[str, str], ...]


class ClassShelf:
    """Keeps, per class, the picture of the image where it is worst."""

    def __init__(self, table: ClassTable):
        self._table = table
        self._worst: dict[int, FaultyImage] = {}

    def add(self, prediction: Prediction, label: NDArray[np.uint8], counts: ImageCounts) -> None:
        """Look at one scored image."""
        union = counts.prediction_pixels + counts.label_pixels - counts.intersection
        wrong = union - counts.intersection
        for number in map(int, np.flatnonzero(wrong)):
            kept = self._worst.get(number)
            if kept is not None and kept.wrong >= wrong[number]:
                continue
            self._worst[number] = FaultyImage(
                prediction.sample.name,
                int(wrong[number]),
                float(counts.intersection[number] / union[number]),
                self._parts(prediction, label, number),
            )

    def merge(self, other: "ClassShelf") -> None:
        """Take over the pictures of another process."""
        for number, image in other._worst.items():
            kept = self._worst.get(number)
            if kept is None or (image.wrong, kept.name) > (kept.wrong, image.name):
                self._worst[number] = image

    def images(self) -> Iterator[tuple[int, FaultyImage]]:
        """Class number and image, for every class that was wrong anywhere."""
        yield from sorted(self._worst.items())

    def _parts(
        self, prediction: Prediction, label: NDArray[np.uint8], number: int
    ) -> tuple[tuple[str, str], ...]:
        segmentation = prediction.segmentation
        assert segmentation is not None
        found = segmentation.label_map == number
        labelled, scored = label == number, label != self._table.ignore_index
        image = segmentation.image
        if image.shape[:2] != label.shape:  # scored at a fraction of the label's size
            height, width = label.shape
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        picture = cv2.addWeighted(grey, GREY_SHARE, np.full_like(grey, 255), 1 - GREY_SHARE, 0)
        for mask, colour in (
            (labelled & found, HIT_COLOR),
            (labelled & ~found, MISSED_COLOR),
            (found & ~labelled & scored, INVENTED_COLOR),
        ):
            picture[mask] = colour
        parts = {
            "image": image,
            "green: found, red: missed, blue: invented": picture,
            "prediction": self._table.paint(segmentation.label_map),
        }
        return tuple((name, html.picture_uri(part, PICTURE_WIDTH)) for name, part in parts.items())
