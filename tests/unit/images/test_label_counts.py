"""Counts of labels, and labels that cannot be meant."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.images.label_counts import LabelCounts, fault_of, only_in
from paddleseg_ext.images.labels import CITYSCAPES, ClassTable, generic_table

NAMES = ["ground", "defect"]
NOT_OF_CLASS_0 = generic_table(2, raw_ignore=0)


def _labels(folder: Path, *stored: list[int]) -> list[Path]:
    paths = []
    for number, values in enumerate(stored):
        paths.append(folder / f"{number}.png")
        cv2.imwrite(str(paths[-1]), np.array([values], np.uint8))
    return paths


@pytest.mark.parametrize(
    ("table", "stored", "message"),
    [
        (generic_table(2, NAMES), [[0, 255], [0, 255]], "only 'ground' and ignored .*50.0%"),
        (generic_table(19), [[0, 0, 0, 255]], "only 'class_0' and ignored pixels in its label"),
        (generic_table(1), [[0, 255]], "only 'class_0'"),
        (NOT_OF_CLASS_0, [[0, 1], [1, 1]], "only 'class_1'"),
        (generic_table(3), [[255, 255], [255]], "no labelled pixel in its 2 labels"),
        (NOT_OF_CLASS_0, [[0, 0]], "no labelled pixel in its label"),
        (generic_table(2), [[0, 255], [1]], ""),
        (generic_table(2), [[255, 255], [0, 1]], ""),  # one void image among others
        (generic_table(2), [[0, 0]], ""),  # all of it ground, and nothing is left out
        (generic_table(3), [[1, 255]], ""),
        (CITYSCAPES, [[0, 255], [255], [0, 13]], ""),
        (generic_table(3), [], ""),
    ],
)
def test_faults(table: ClassTable, stored: list[list[int]], message: str, tmp_path: Path) -> None:
    fault = fault_of(_labels(tmp_path, *stored), table)
    if not message:
        assert fault == ""
    else:
        assert re.match(message, fault), fault


def test_no_more_labels_are_read_than_it_takes(tmp_path: Path) -> None:
    labels = _labels(tmp_path, [255, 255], [0, 255], [1])
    assert fault_of([None, *labels, tmp_path / "not there.png"], generic_table(2)) == ""


def test_the_summary_names_every_absent_class() -> None:
    names = ["sky", "road", "car", "bus"]
    counts = LabelCounts.of(generic_table(4, names), [5, 0, 3, 0], ignored=2, labels=3)
    assert counts.summary() == (
        "2 of 4 classes never occur in its 3 labels: road, bus; 20.0% of the pixels are ignored"
    )
    full = LabelCounts.of(generic_table(4, names), [1, 1, 1, 1], ignored=0, labels=1)
    assert full.summary() == "every class occurs in its label, 0.0% of the pixels are ignored"
    assert only_in(full, counts) == "road, bus" and only_in(counts, full) == ""


def test_an_ignored_class_has_no_pixel() -> None:
    table = ClassTable("two", ("a", "b"), np.zeros((2, 3), np.uint8), ignore_index=1)
    counts = LabelCounts(table)
    counts.add(np.array([[0, 1, 1]], np.uint8))
    assert counts.present == ["a"] and counts.fault().startswith("only 'a'")
