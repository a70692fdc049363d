"""Objects by size and distance, by pictures that can be counted by hand."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.evaluation.objects import ObjectCounts, instance_file
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.reading import read_whole_numbers

TABLE = generic_table(3)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Label and instance ids: two objects of class 1, one of class 2, on class 0."""
    label, ids = np.zeros((200, 300), np.uint8), np.zeros((200, 300), np.int32)
    for number, (kind, top, left, side) in enumerate(
        [(1, 10, 10, 20), (1, 10, 30, 20), (2, 60, 60, 100)]
    ):
        label[top : top + side, left : left + side] = kind
        ids[top : top + side, left : left + side] = 24000 + number
    return label, ids


def test_sizes_are_those_of_objects_and_not_of_regions() -> None:
    """The two small objects touch: as one region of class 1 they would be 40 x 20."""
    label, ids = scene()
    found = label.copy()
    found[10:30, 30:50] = 0  # the second one is missed
    found[60:100, 60:160] = 0  # and two fifths of the large one
    counts = ObjectCounts(TABLE)
    counts.add(found, label, ids)
    np.testing.assert_array_equal(counts.objects, [[0, 0, 0], [2, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(counts.found, [[0, 0, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(counts.size_pixels[1:], [[800, 0, 0], [0, 0, 10000]])
    np.testing.assert_array_equal(counts.size_hits[1:], [[400, 0, 0], [0, 0, 6000]])
    written = counts.to_dict()
    assert list(written["classes"]) == ["class_1", "class_2"]
    assert written["classes"]["class_1"]["size_recall"] == [0.5, None, None]


def test_distances_count_from_the_objects_outline() -> None:
    label, ids = scene()
    counts = ObjectCounts(TABLE)
    counts.add(np.where(label == 2, 0, label).astype(np.uint8), label, ids)
    side = 100  # of the large object, whose rings at distance d have the side 100 - 2 d
    rings = [(side - 2 * d) ** 2 - max(0, side - 2 * d - 2) ** 2 for d in range(50)]
    expected = [sum(rings[a:b]) for a, b in ((0, 2), (2, 5), (5, 10), (10, 20), (20, 50))]
    np.testing.assert_array_equal(counts.distance_pixels[2], expected)
    assert counts.distance_pixels[2].sum() == side**2
    assert not counts.distance_hits[2].any()
    np.testing.assert_array_equal(counts.distance_hits[1], counts.distance_pixels[1])
    # The edge where the two small objects touch is an outline, too.
    assert counts.distance_pixels[1][3:].sum() == 0


def test_an_object_has_the_class_of_most_of_its_pixels() -> None:
    """Labels and instance ids of Cityscapes disagree along outlines, also in the first pixel."""
    label, ids = scene()
    label[60, 60:160] = 1
    counts = ObjectCounts(TABLE)
    counts.add(label, label, ids)
    np.testing.assert_array_equal(counts.objects, [[0, 0, 0], [2, 0, 0], [0, 0, 1]])
    assert counts.size_pixels[2].tolist() == [0, 0, 9900]
    assert counts.distance_pixels[1].sum() == 800


def test_ignored_pixels_and_crowds_are_no_objects() -> None:
    label, ids = scene()
    ids[60:160, 60:160] = 26  # a crowd: the label's id alone
    label[10:30, 10:50] = 255
    counts = ObjectCounts(TABLE)
    counts.add(np.zeros_like(label), label, ids)
    assert not counts.objects.any() and not counts.distance_pixels.any()
    assert counts.to_dict()["classes"] == {}


def test_the_parts_of_two_processes_are_the_whole() -> None:
    label, ids = scene()
    whole, parts = ObjectCounts(TABLE), [ObjectCounts(TABLE), ObjectCounts(TABLE)]
    for number in range(3):
        found = np.roll(label, 7 * number, axis=1)
        whole.add(found, label, ids)
        parts[number % 2].add(found, label, ids)
    parts[0].merge(parts[1])
    assert parts[0].to_dict() == whole.to_dict()


def test_files_of_instance_ids(tmp_path: Path) -> None:
    for name in ("a_gtFine_instanceIds.png", "b_instanceIds.png"):
        cv2.imwrite(str(tmp_path / name), np.array([[7, 24001], [33011, 0]], np.uint16))
    found = [
        instance_file(tmp_path / label)
        for label in ("a_gtFine_labelTrainIds.png", "a_gtFine_labelIds.png", "b.png", "c.png")
    ]
    names = [path and path.name for path in found]
    assert names == ["a_gtFine_instanceIds.png"] * 2 + ["b_instanceIds.png", None]
    ids = read_whole_numbers(tmp_path / "b_instanceIds.png", "ids")
    assert ids.tolist() == [[7, 24001], [33011, 0]] and ids.dtype == np.int32
    cv2.imwrite(str(tmp_path / "colours.png"), np.eye(3, dtype=np.uint8)[None] * 9)
    with pytest.raises(DataError, match="one channel"):
        read_whole_numbers(tmp_path / "colours.png", "ids")
    (tmp_path / "cut.png").write_bytes((tmp_path / "b_instanceIds.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"cut\.png"):
        read_whole_numbers(tmp_path / "cut.png", "ids")
