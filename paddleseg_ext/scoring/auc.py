"""The area under the ROC curve of each class against the others, from counts of probabilities.

A probability p falls into one of `NUM_BINS` bins: p up to 1/2, and 1 - p above, keep 8 bits behind
their leading one. Pixels of one bin count as equal, which makes the area as exact as probabilities
of a relative width of 1/256 at both ends are; the counts of images and processes are added.
"""

from threading import Lock

import numpy as np
from numpy.typing import NDArray

DROPPED_BITS = 15  # of float32's 23
_HALF = int(np.float32(0.5).view(np.uint32)) >> DROPPED_BITS
NUM_BINS = 2 * (_HALF + 1)
_ADDING = Lock()


class ClassRanks:
    """Pixels per class and bin of its probability: those labelled as the class, and the others."""

    def __init__(self, num_classes: int, ignore_index: int):
        self._ignore_index = ignore_index
        self._counts = np.zeros((num_classes, 2, NUM_BINS), np.int64)

    def add(self, probabilities: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
        """Count the pixels of an image; threads may call it.

        Args:
            probabilities: (C, H, W), 0 to 1.
            label: (H, W) classes; ignored pixels are not counted.
        """
        scored = label != self._ignore_index
        classes = label[scored]
        for number, plane in enumerate(probabilities):
            bins = bins_of(plane[scored])
            own = np.bincount(bins[classes == number], minlength=NUM_BINS)
            every = np.bincount(bins, minlength=NUM_BINS)
            with _ADDING:
                self._counts[number] += own, every - own

    def merge(self, other: "ClassRanks") -> None:
        """Add the counts of another process."""
        self._counts += other._counts

    def areas(self) -> NDArray[np.float64]:
        """(C,) areas, 0 to 1; nan for a class that no label or every label has."""
        own, others = self._counts[:, 0], self._counts[:, 1]
        below = np.cumsum(others, axis=1) - others
        ahead = (own * (below + others / 2)).sum(axis=1)
        pairs = own.sum(axis=1).astype(np.float64) * others.sum(axis=1)
        return np.divide(ahead, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)

    def area(self) -> float:
        """One number of all classes; nan where no class has an area.

        Source: PaddleSeg 2.8 `utils/metrics.py`: of two classes that of the second, else the mean
        of the classes. There, a class without labels is an error.
        """
        areas = self.areas()
        if len(areas) == 2:
            return float(areas[1])
        return float(np.nanmean(areas)) if not np.isnan(areas).all() else float("nan")


def bins_of(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """The bin of each probability; a larger one has no smaller bin."""
    upper = probabilities > 0.5
    rest = np.where(upper, np.maximum(1 - probabilities, 0), probabilities)
    bins = (rest.astype(np.float32).view(np.uint32) >> DROPPED_BITS).astype(np.int64)
    return np.where(upper, NUM_BINS - 1 - bins, bins)
