"""Pixel counts of labels per class, and labels that cannot be meant."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import shortened
from paddleseg_ext.images.labels import ClassTable, decode_label

IntArray = NDArray[np.int64]


@dataclass
class LabelCounts:
    """The pixels of labels.

    Attributes:
        table: the classes.
        values: (256,) int64, pixels per value of the decoded labels: classes and the ignored value.
        labels: number of labels.
    """

    table: ClassTable
    values: IntArray = field(default_factory=lambda: np.zeros(256, np.int64))
    labels: int = 0

    @classmethod
    def of(
        cls, table: ClassTable, class_pixels: Sequence[int] | IntArray, ignored: int, labels: int
    ) -> "LabelCounts":
        """The counts of pixels that were counted elsewhere."""
        counts = cls(table, labels=labels)
        counts.values[: table.num_classes] = class_pixels
        counts.values[table.ignore_index] = ignored
        return counts

    def add(self, label: NDArray[np.uint8]) -> None:
        """Count one decoded label, (H, W)."""
        self.add_values(np.bincount(label.ravel(), minlength=256))

    def add_values(self, values: IntArray) -> None:
        """Count one label by its (256,) pixels per value."""
        self.values += values
        self.labels += 1

    @property
    def class_pixels(self) -> IntArray:
        """(C,) pixels per class; an ignored class has none."""
        pixels = self.values[: self.table.num_classes].copy()
        if self.table.ignore_index < self.table.num_classes:
            pixels[self.table.ignore_index] = 0
        return pixels

    @property
    def ignored_share(self) -> float:
        """Share of the pixels that are ignored."""
        return int(self.values[self.table.ignore_index]) / max(1, int(self.values.sum()))

    @property
    def present(self) -> list[str]:
        """Names of the classes that have a pixel."""
        return [n for n, p in zip(self.table.class_names, self.class_pixels, strict=True) if p]

    @property
    def absent(self) -> list[str]:
        """Names of the classes without a pixel."""
        return [n for n, p in zip(self.table.class_names, self.class_pixels, strict=True) if not p]

    def fault(self) -> str:
        """Why the labels cannot be meant, with the remedy; empty where they can.

        Labels of the first class and ignored pixels alone are masks of 0 and 255; of two classes
        likewise one alone, which `ignore_index: 0` makes of masks of 0 and 1.
        """
        if not self.labels:
            return ""
        present, found = self.present, f"in {_labels(self.labels)}"
        if not present:
            return (
                f"no labelled pixel {found}: all are ignored, so there is nothing to learn and "
                "nothing to score. Give labels that hold classes, and look at 'ignore_index'; "
                "images without labels are for predict, infer and val --save_submission"
            )
        is_first = present == [self.table.class_names[0]]
        if len(present) > 1 or not (is_first or self.table.num_classes == 2):
            return ""
        if not self.ignored_share:
            return ""
        return (
            f"only '{present[0]}' and ignored pixels {found} ({self.ignored_share:.1%} are "
            f"ignored): a network that gives '{present[0]}' everywhere would have an mIoU of 1. "
            "Masks of 0 and 255? 255 is ignored: write the classes as 0, 1, 2, .., and give "
            "'ignore_index' no value of a class"
        )

    def summary(self) -> str:
        """Classes that never occur and the share of ignored pixels, in one line."""
        ignored = f"{self.ignored_share:.1%} of the pixels are ignored"
        if not self.absent:
            return f"every class occurs in {_labels(self.labels)}, {ignored}"
        return (
            f"{len(self.absent)} of {self.table.num_classes} classes never occur in "
            f"{_labels(self.labels)}: {', '.join(self.absent)}; {ignored}"
        )


def _labels(count: int) -> str:
    return "its label" if count == 1 else f"its {count} labels"


def fault_of(labels: Iterable[Path | None], table: ClassTable) -> str:
    """See `LabelCounts.fault`; reads labels until one shows that they can be meant, mostly one.

    Args:
        labels: files; None where an image has none.
        table: the classes.

    Raises:
        DataError: a label cannot be used.
    """
    counts = LabelCounts(table)
    for label in labels:
        if label is not None:
            counts.add(decode_label(label, table))
            if not counts.fault():
                return ""
    return counts.fault()


def only_in(one: LabelCounts, other: LabelCounts) -> str:
    """Names of the classes that `one` has and `other` has not, for a message; empty for none."""
    return shortened([name for name in one.present if name in other.absent])
