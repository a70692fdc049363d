"""Class tables, and labels read through them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.images.class_names import left_right_pairs
from paddleseg_ext.images.class_section import read_class_section
from paddleseg_ext.images.labels import (
    CAMVID,
    CITYSCAPES,
    ClassTable,
    decode_label,
    generic_table,
)


def _write(path: Path, values: list[list[int]]) -> Path:
    cv2.imwrite(str(path), np.array(values, np.uint8))
    return path


def test_label_ids_go_through_the_table(tmp_path: Path) -> None:
    path = _write(tmp_path / "a_gtFine_labelIds.png", [[7, 33, 0], [23, 34 - 1, 255]])
    assert decode_label(path, CITYSCAPES).tolist() == [[0, 18, 255], [10, 18, 255]]


def test_train_ids_are_taken_as_they_are(tmp_path: Path) -> None:
    path = _write(tmp_path / "a_gtFine_labelTrainIds.png", [[7, 18, 255]])
    assert decode_label(path, CITYSCAPES).tolist() == [[7, 18, 255]]


@pytest.mark.parametrize(
    ("name", "value"),
    [("a_labelIds.png", 77), ("a_labelIds.png", 34), ("a_labelTrainIds.png", 19)],
)
def test_a_value_that_is_no_class_is_reported(name: str, value: int, tmp_path: Path) -> None:
    path = _write(tmp_path / name, [[7, value, 12]])
    with pytest.raises(DataError, match=f"value {value} ") as caught:
        decode_label(path, CITYSCAPES)
    assert str(caught.value).startswith(str(path))


def test_cityscapes_agrees_with_the_official_scripts() -> None:
    official = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    for label in official:
        if label.id < 0:
            continue
        assert CITYSCAPES.label_lookup is not None
        expected = label.trainId if 0 <= label.trainId < 19 else 255
        assert CITYSCAPES.label_lookup[label.id] == expected
        if expected < 19:
            assert CITYSCAPES.class_names[expected] == label.name
            assert tuple(CITYSCAPES.palette[expected]) == label.color


def test_camvids_unlabelled_pixels_are_ignored(tmp_path: Path) -> None:
    assert decode_label(_write(tmp_path / "a.png", [[0, 10, 11]]), CAMVID).tolist() == [
        [0, 10, 255]
    ]


def test_another_ignored_value_reads_as_255(tmp_path: Path) -> None:
    table = generic_table(3, raw_ignore=0)
    assert decode_label(_write(tmp_path / "a.png", [[0, 1, 2]]), table).tolist() == [[255, 1, 2]]


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["skin", "l_eye", "r_eye", "u_lip", "l_lip"], ((1, 2),)),
        (["right arm", "Left Arm"], ((1, 0),)),
        (["hand_L", "hand_R", "wall", "war"], ((0, 1),)),
        (["upper-left-leg", "upper-right-leg", "eyeL", "eyeR"], ((0, 1), (2, 3))),
        (["bottle", "cleft", "l", "r", "neck_l", "ear_r"], ()),
    ],
)
def test_names_that_differ_in_left_and_right_are_pairs(
    names: list[str], pairs: tuple[tuple[int, int], ...]
) -> None:
    assert left_right_pairs(names) == pairs
    table = generic_table(len(names), names)
    assert table.left_right == pairs
    assert table.with_left_right([]).left_right == ()
    older = {key: value for key, value in table.to_dict().items() if key != "left_right"}
    assert ClassTable.from_dict(older).left_right == pairs


def test_pairs_of_a_yml() -> None:
    names = ["ground", "port", "starboard"]
    table = generic_table(3, names, left_right=[["port", "starboard"]])
    assert table.left_right == ((1, 2),)
    assert ClassTable.from_dict(table.to_dict()).left_right == ((1, 2),)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([["port", "starbord"]], "did you mean 'starboard'"),
        ([["port"]], "a list of"),
        ("port", "a list of"),
        ([["port", "port"]], "one pair"),
        ([["port", "starboard"], ["port", "ground"]], "one pair"),
        ([[1, 2]], "unknown class '1'"),
    ],
)
def test_pairs_that_are_refused(pairs: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"^left_right: .*{message}"):
        generic_table(3, ["ground", "port", "starboard"], left_right=pairs)


def test_two_classes_of_one_name_are_refused() -> None:
    """A yml's, a manifest's and a `classes:` section's: names stand for classes in all of them."""
    words = r"different names are expected, classes 0 and 2 are both 'car'; to merge classes"
    names = ["car", "road", "car"]
    with pytest.raises(UsageError, match=f"^class_names: {words}"):
        generic_table(3, names)
    stored = generic_table(3, ["car", "road", "Car"]).to_dict()  # other letters: another name
    with pytest.raises(UsageError, match=f"^b/deploy.yaml: class_names: {words}") as caught:
        ClassTable.from_dict(stored | {"class_names": names, "left_right": []}, "b/deploy.yaml")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=f"^classes: names: {words}"):
        read_class_section({"names": names}, Path(), "classes")


@pytest.mark.parametrize("table", [CITYSCAPES, CAMVID, generic_table(3)])
def test_a_table_survives_a_file(table: ClassTable) -> None:
    again = ClassTable.from_dict(table.to_dict())
    assert again.to_dict() == table.to_dict()
    assert again.palette.dtype == np.uint8


@pytest.mark.parametrize(
    "change",
    [
        {"palette": [[1, 2, 3]]},
        {"palette": [[300, 0, 0]] * 19},
        {"label_lookup": [1, 2]},
        {"label_lookup": [300] * 256},
        {"ignore_index": 300},
        {"label_lookup": [0.5] * 256},
        {"label_lookup": "all"},
        {"ignore_index": "255"},
        {"ignore_index": True},
        {"ignore_index": None},
        {"class_names": None},
        {"class_names": "a" * 19},
        {"class_names": [*map(str, range(18)), False]},
        {"palette": None},
        {"palette": [[1, 2, 3], [4]]},
        {"name": None},
        {"name": 5},
        {"lookup_suffix": ["a"]},
        {"pallete": []},
    ],
)
def test_a_broken_table_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"^here: .*{next(iter(change))}"):
        ClassTable.from_dict({**CITYSCAPES.to_dict(), **change}, "here")


@pytest.mark.parametrize("values", [None, 5, "cityscapes", [1, 2]])
def test_a_table_that_is_no_mapping_is_refused(values: object) -> None:
    with pytest.raises(UsageError, match="class table: the keys of a class table are expected"):
        ClassTable.from_dict(values)


@pytest.mark.parametrize("key", ["name", "class_names", "palette"])
def test_a_table_without_a_key_is_refused(key: str) -> None:
    values = CITYSCAPES.to_dict()
    del values[key]
    with pytest.raises(UsageError, match=f"class table: '{key}' is missing"):
        ClassTable.from_dict(values)
    optional = {k: CITYSCAPES.to_dict()[k] for k in ("name", "class_names", "palette")}
    assert ClassTable.from_dict(optional).ignore_index == 255


def test_class_counts_and_names_that_do_not_fit_are_refused() -> None:
    """A yml reads `no` as False and `5` as a number; a word would be taken letter by letter."""
    names: tuple = (["only", "two"], ["a", "b", False], ["a", "b", 5], "abc")
    for arguments in ((0,), (255,), ("3",), *((3, each) for each in names)):
        with pytest.raises(UsageError):
            generic_table(*arguments)  # type: ignore[arg-type]


def test_a_full_palette_is_black_where_there_is_no_class() -> None:
    palette = CITYSCAPES.full_palette
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    assert palette[:19].tolist() == CITYSCAPES.palette.tolist()
    assert not palette[19:].any()


def test_other_colours() -> None:
    table = generic_table(2)
    assert table.with_colours(None, "--c") is table
    assert table.with_colours([1, 2, 3, 4, 5, 6], "--c").palette.tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(UsageError, match=r"--c: .* of 2 classes .* 6 numbers, got 3"):
        table.with_colours([1, 2, 3], "--c")
    with pytest.raises(UsageError, match="--c: numbers from 0 to 255 are expected, got 256"):
        table.with_colours([1, 2, 3, 4, 5, 256], "--c")


def test_a_value_of_unknown_pixels_is_the_tables_own_or_a_free_one() -> None:
    assert generic_table(3).with_unknown().unknown == 254
    own = replace(generic_table(3), unknown=7)
    assert own.with_unknown() is own
    assert replace(generic_table(3), ignore_index=254).with_unknown().unknown == 253
    with pytest.raises(UsageError, match="none is free"):
        replace(generic_table(254), ignore_index=254).with_unknown()
