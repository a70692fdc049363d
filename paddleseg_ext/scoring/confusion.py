"""The confusion matrix: every score of this project is a function of these integer counts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
BYTE_VALUES = 256
_PIXEL_KINDS = ("intersection", "prediction_pixels", "label_pixels")


@dataclass(frozen=True)
class ClassPixels:
    """Pixel counts per class, (..., C) int64 each: of a run, of an image, of several images.

    Attributes:
        intersection: pixels whose prediction is their label.
        prediction_pixels: pixels predicted as each class, ignored ones left out.
        label_pixels: pixels labelled as each class.

    Raises:
        ValueError: the arrays differ in shape.
    """

    intersection: IntArray
    prediction_pixels: IntArray
    label_pixels: IntArray

    def __post_init__(self) -> None:
        shapes = {values.shape for values in self._arrays().values()}
        if len(shapes) != 1:
            raise ValueError(f"three arrays (..., C) of one shape are expected, got {shapes}")

    @classmethod
    def of(cls, counts: IntArray) -> "ClassPixels":
        """The three counts of a (C, C) matrix (row = label, column = prediction)."""
        return cls(np.diagonal(counts).copy(), counts.sum(axis=0), counts.sum(axis=1))

    @classmethod
    def of_images(cls, images: Iterable[Mapping[str, Any]]) -> "ClassPixels":
        """(N, C) counts of N images, each with the names of the attributes as keys.

        Raises:
            ValueError: other counts than C of each image.
        """
        images = list(images)
        result = cls(*(np.array([i[key] for i in images], np.int64) for key in _PIXEL_KINDS))
        if result.intersection.ndim != 2:
            raise ValueError("one list of pixel counts per image is expected")
        return result

    def total(self) -> "ClassPixels":
        """(C,) sums over the images of (N, C) counts."""
        return ClassPixels(*(counts.sum(axis=0) for counts in self._arrays().values()))

    def iou(self) -> NDArray[np.float64]:
        """(..., C) IoU; nan where neither label nor prediction has the class."""
        union = self.prediction_pixels + self.label_pixels - self.intersection
        return np.where(union == 0, np.nan, self.intersection / np.maximum(union, 1))

    def mean_iou(self) -> NDArray[np.float64]:
        """(...) mean IoU over the classes that occur; nan where none does."""
        iou = self.iou()
        present = ~np.isnan(iou)
        mean = np.where(present, iou, 0.0).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)
        return np.where(present.any(axis=-1), mean, np.nan)

    def to_dict(self) -> dict[str, list]:
        """Plain lists for JSON."""
        return {kind: counts.tolist() for kind, counts in self._arrays().items()}

    def _arrays(self) -> dict[str, IntArray]:
        return {kind: getattr(self, kind) for kind in _PIXEL_KINDS}


class ConfusionMatrix:
    """Pixel counts of (label class, predicted class) pairs, exact and independent of the order.

    Attributes:
        counts: (C, C) int64, row = class of the label, column = predicted class. Pixels whose
            label is `ignore_index` are in no cell.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255):
        """
        Args:
            num_classes: C, between 1 and 256.
            ignore_index: the label value that is not scored. A value below C is a class that is
                left out: its label pixels are not counted, predictions of it elsewhere are.

        Raises:
            ValueError: a number that does not fit a byte.
        """
        if not 1 <= num_classes <= BYTE_VALUES:
            raise ValueError(f"num_classes: expected 1 to {BYTE_VALUES}, got {num_classes}")
        if not 0 <= ignore_index < BYTE_VALUES:
            raise ValueError(f"ignore_index: expected 0 to 255, got {ignore_index}")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts: IntArray = np.zeros((num_classes, num_classes), np.int64)

    def update(self, prediction: NDArray[np.integer], label: NDArray[np.integer]) -> IntArray:
        """Add one image (or a batch) and return its own (C, C) counts.

        Args:
            prediction: integer class ids in [0, C), any shape; ignored pixels are checked too.
            label: the same shape; class ids in [0, C) or `ignore_index`.

        Raises:
            ValueError: the shapes differ, or a value is outside the classes. Nothing is added.
        """
        counts = count_pairs(prediction, label, self.num_classes, self.ignore_index)
        self.counts += counts
        return counts

    def merge(self, counts: IntArray) -> None:
        """Add the (C, C) counts of another part of the data.

        Raises:
            ValueError: another number of classes, or not integers.
        """
        counts = np.asarray(counts)
        if counts.shape != self.counts.shape or counts.dtype.kind not in "iu":
            raise ValueError(
                f"expected integer counts of shape {self.counts.shape}, "
                f"got {counts.dtype} of shape {counts.shape}"
            )
        self.counts += counts.astype(np.int64)


def count_pairs(
    prediction: NDArray[np.integer],
    label: NDArray[np.integer],
    num_classes: int,
    ignore_index: int = 255,
) -> IntArray:
    """(C, C) int64 counts of one image; see `ConfusionMatrix.update`.

    One pass over the pixels: the two bytes of a pixel are an index into a 256 x 256 table, so
    that ignored pixels and values outside the classes are found in the table and not in the
    image.
    """
    prediction, label = np.asarray(prediction), np.asarray(label)
    if prediction.shape != label.shape:
        raise ValueError(
            f"prediction {prediction.shape} and label {label.shape} differ in shape; "
            "predictions are brought back to the label's size before they are scored"
        )
    pairs = _as_bytes(label, "label").astype(np.uint16)
    pairs <<= 8
    pairs |= _as_bytes(prediction, "prediction")
    table = np.bincount(pairs.ravel(), minlength=BYTE_VALUES * BYTE_VALUES)
    table = table.reshape(BYTE_VALUES, BYTE_VALUES)
    _check_values(table.sum(axis=0), "prediction", num_classes, None)
    _check_values(table.sum(axis=1), "label", num_classes, ignore_index)
    counts = table[:num_classes, :num_classes].astype(np.int64)
    if ignore_index < num_classes:
        counts[ignore_index] = 0
    return counts


def _as_bytes(values: NDArray[np.integer], what: str) -> NDArray[np.uint8]:
    if values.dtype.kind not in "iu":
        raise ValueError(f"{what}: integer class ids are expected, got {values.dtype}")
    if (
        values.dtype != np.uint8
        and values.size
        and (values.min() < 0 or values.max() >= BYTE_VALUES)
    ):
        raise ValueError(
            f"{what}: values between 0 and 255 are expected, got {values.min()} to {values.max()}"
        )
    return values.astype(np.uint8, copy=False)


def _check_values(
    histogram: IntArray, what: str, num_classes: int, ignore_index: int | None
) -> None:
    wrong = [v for v in np.flatnonzero(histogram) if v >= num_classes and v != ignore_index]
    if wrong:
        found = ", ".join(f"{v} ({histogram[v]} pixels)" for v in wrong[:8])
        allowed = f"0 to {num_classes - 1}" + (
            "" if ignore_index is None else f" or {ignore_index}"
        )
        raise ValueError(f"{what}: values {allowed} are expected, got {found}")
