"""The `classes:` section: names, colours, and what label values mean."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paddleseg_ext.common.errors import DataError, MissingData, UsageError
from paddleseg_ext.images.class_section import apply_classes, read_class_section, read_table
from paddleseg_ext.images.labels import CAMVID, CITYSCAPES, ClassTable, decode_label, generic_table

SKY, ROAD, CAR = (128, 128, 128), (128, 64, 128), (64, 0, 128)


def _table(section: Any, folder: Path = Path(), base: ClassTable | None = None) -> ClassTable:
    own = base or generic_table(3)
    table = apply_classes(read_class_section(section, folder, "classes"), own, "classes")
    # What is written into checkpoints and bundles reads labels alike.
    return ClassTable.from_dict(json.loads(json.dumps(table.to_dict())))


def _values(path: Path, *values: int) -> Path:
    Image.fromarray(np.array([values], np.uint8)).save(path)
    return path


def _colours(path: Path, *colours: tuple[int, int, int]) -> Path:
    Image.fromarray(np.array([colours], np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("section", "names", "read"),
    [
        ({"mapping": {7: 0, 8: 1, "others": 255}}, ("class_0", "class_1"), [0, 1, 255, 255]),
        ({"mapping": {7: "a", 8: "a", 255: "b", "others": "b"}}, ("a", "b"), [0, 0, 1, 1]),
        ({"names": ["b", "a"], "mapping": {"7": "a", "8": "b", 255: "ignored", 0: 1}},
         ("b", "a"), [1, 0, 255, 1]),
        ({"mapping": {7: "a", 8: "b", 0: "b"}, "ignored": [255, 9]}, ("a", "b"), [0, 1, 255, 1]),
    ],
)  # fmt: skip
def test_values(section: dict, names: tuple[str, ...], read: list[int], tmp_path: Path) -> None:
    table = _table(section)
    assert table.class_names == names
    assert decode_label(_values(tmp_path / "a.png", 7, 8, 255, 0), table).tolist() == [read]


def test_masks_of_0_and_255_and_masks_that_count_from_1(tmp_path: Path) -> None:
    table = _table({"mapping": {0: "background", 255: "crack"}})
    assert decode_label(_values(tmp_path / "a.png", 0, 255), table).tolist() == [[0, 1]]
    table = _table({"names": ["x", "y"], "ignored": 0, "mapping": {1: "x", 2: "y"}})
    assert decode_label(_values(tmp_path / "b.png", 0, 1, 2), table).tolist() == [[255, 0, 1]]
    # A class's number is no label value: 0 is class x here, though labels' 0 is ignored.
    for mapping in ({1: 0, 2: 1}, {1: 0, 2: 1, 0: 255}):
        table = _table({"names": ["x", "y"], "ignored": [0, 7], "mapping": mapping})
        assert decode_label(_values(tmp_path / "b.png", 0, 1, 2), table).tolist() == [[255, 0, 1]]
    with pytest.raises(DataError, match=r"value 3 is no label id|value 3 is no class"):
        decode_label(_values(tmp_path / "c.png", 0, 3), table)


def test_another_ignored_value_without_a_mapping(tmp_path: Path) -> None:
    table = _table({"names": ["a", "b", "c"], "ignored": [0, 7]})
    label = decode_label(_values(tmp_path / "a.png", 0, 1, 2, 7, 255), table)
    assert label.tolist() == [[255, 1, 2, 255, 255]]


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_classes_of_cityscapes_merged_by_name(kind: str, tmp_path: Path) -> None:
    vehicles = dict.fromkeys(("car", "truck", "bus"), "vehicle")
    table = _table({"mapping": {"road": "road", **vehicles, "others": "ignored"}}, base=CITYSCAPES)
    assert table.class_names == ("road", "vehicle")
    raw = (7, 26, 27, 24, 0) if kind == "labelIds" else (0, 13, 14, 11, 255)
    label = decode_label(_values(tmp_path / f"a_gtFine_{kind}.png", *raw), table)
    assert label.tolist() == [[0, 1, 1, 255, 255]]
    if kind == "labelTrainIds":
        with pytest.raises(DataError, match="value 77"):
            decode_label(_values(tmp_path / f"b_gtFine_{kind}.png", 77), table)


def test_eighteen_classes_of_cityscapes(tmp_path: Path) -> None:
    kept = [name for name in CITYSCAPES.class_names if name != "train"]
    section = {"names": kept, "mapping": {name: name for name in kept} | {"train": "ignored"}}
    table = _table(section, base=CITYSCAPES)
    label = decode_label(_values(tmp_path / "a_labelTrainIds.png", 15, 16, 17, 18), table)
    assert label.tolist() == [[15, 255, 16, 17]]
    np.testing.assert_array_equal(table.palette[16], CITYSCAPES.palette[17])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labelmap.txt", "# label:color_rgb:parts:actions\nSky:128,128,128::\nRoad:128,64,128::\n"
                         "Car:64,0,128::\n"),
        ("class_dict.csv", "name,r,g,b\nSky,128,128,128\nRoad, 128, 64, 128\nCar,64,0,128\n"),
    ],
)  # fmt: skip
def test_tables_of_colours(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    table = _table({"mapping": name}, tmp_path)
    assert table.class_names == ("Sky", "Road", "Car")
    assert table.palette.tolist() == [list(SKY), list(ROAD), list(CAR)]
    path = _colours(tmp_path / "a.png", CAR, SKY, ROAD)
    assert decode_label(path, table).tolist() == [[2, 0, 1]]
    with pytest.raises(DataError, match=r"b.png: colours without a class: 1,2,3 \(2 pixels\)"):
        decode_label(_colours(tmp_path / "b.png", CAR, (1, 2, 3), (1, 2, 3)), table)
    merged = {"file": name, "Road": "ground", "others": "ignored"}
    table = _table({"mapping": merged}, tmp_path)
    assert decode_label(path, table).tolist() == [[255, 255, 0]]
    with pytest.raises(UsageError, match=r"'(Sky|Car)' of .* is not in it"):
        _table({"mapping": {"file": name, "Road": "ground"}}, tmp_path)
    with pytest.raises(UsageError, match="did you mean 'Road'"):
        _table({"mapping": {"file": name, "Raod": "ground", "others": 255}}, tmp_path)


def test_roboflows_table_of_values(tmp_path: Path) -> None:
    (tmp_path / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, car\n3, void\n")
    table = _table({"mapping": "_classes.csv"}, tmp_path)
    assert table.class_names == ("background", "car")
    assert decode_label(_values(tmp_path / "a.png", 0, 1, 3), table).tolist() == [[0, 1, 255]]


def test_colours_in_a_yml_and_kinds_of_files(tmp_path: Path) -> None:
    table = _table({"mapping": {"128,128,128": "sky", "#804080": "road", "others": "ignored"}})
    rgb = np.array([[SKY, ROAD, CAR]], np.uint8)
    Image.fromarray(rgb).convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    Image.fromarray(rgb).save(tmp_path / "a.bmp")
    for name in ("alpha.png", "palette.png", "a.bmp"):
        assert decode_label(tmp_path / name, table).tolist() == [[0, 1, 255]]
    Image.fromarray(rgb).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="JPEG"):
        decode_label(tmp_path / "a.jpg", table)


def test_a_colour_label_without_a_table_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"colour image .*`classes: "):
        decode_label(_colours(tmp_path / "a.png", CAR), CAMVID)


def test_the_section_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "classes.yml").write_text(
        "classes:\n  names: [bg, l_eye, r_eye]\n  palette: {l_eye: [1, 2, 3], bg: [0, 0, 0],\n"
        "    r_eye: [4, 5, 6]}\n  pairs: []\n"
    )
    table = _table("classes.yml", tmp_path)
    assert table.class_names == ("bg", "l_eye", "r_eye")
    assert table.palette.tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    assert table.left_right == ()
    assert _table({"names": ["bg", "l_eye", "r_eye"]}).left_right == ((1, 2),)
    with pytest.raises(MissingData, match=r"no.yml"):
        _table("no.yml", tmp_path)


def test_what_is_of_no_class_is_ignored_and_has_a_colour_of_its_own(tmp_path: Path) -> None:
    for section in ({"unknown": 7}, {"unknown": 7, "mapping": {0: 0, 1: 1, 2: 2}}):
        table = _table(section)
        path = _values(tmp_path / "l.png", 0, 2, 7, 255)
        assert decode_label(path, table)[0].tolist() == [0, 2, 255, 255]
        assert table.unknown == 7
        assert table.full_palette[7].tolist() == [255, 0, 255]
    assert "unknown" not in generic_table(3).to_dict()  # older releases read such tables


@pytest.mark.parametrize("name", ["deploy.yaml", "model.pdparams.json"])
def test_the_table_of_a_bundle_or_checkpoint(name: str, tmp_path: Path) -> None:
    table = _table({"mapping": {7: "road", 26: "car", "others": 255}, "unknown": 9})
    stored: dict = {"classes": table.to_dict()}
    if name == "deploy.yaml":
        stored = {"Deploy": {}, "Manifest": {"format": 1, "postprocess": stored}}
    (tmp_path / name).write_text(json.dumps(stored))
    read = _table(name, tmp_path)
    assert read.to_dict() == table.to_dict()
    path = _values(tmp_path / "l.png", 7, 26, 9)
    assert decode_label(path, read)[0].tolist() == [0, 1, 255]


def test_an_ignored_value_of_cityscapes_needs_the_kind_of_label() -> None:
    section = read_class_section({"ignored": 3}, Path(), "classes")
    with pytest.raises(UsageError, match="label_kind"):
        apply_classes(section, CITYSCAPES, "classes", values_differ=True)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"nmaes": ["a"]}, "did you mean 'names'"),
        ([1], "a section, or the name"),
        ({"names": ["a", "b"]}, "3 expected"),
        ({"names": ["a", "a", "b"]}, "different names"),
        ({"names": [1, 2, 3]}, "names"),
        ({"mapping": {1: "a", "1,2,3": "b"}}, "either label values, or colours"),
        ({"mapping": {"others": 255}}, "either label values"),
        ({"mapping": {256: "a"}}, "0 to 255, got 256"),
        ({"mapping": {1: 1.5}}, "its number below"),
        ({"names": ["a"], "mapping": {1: 1}}, "its number below 1"),
        ({"names": ["a"], "mapping": {1: "b"}}, "unknown class 'b'"),
        ({"mapping": {"256,0,0": "b"}}, "unknown class '256,0,0'"),
        ({"mapping": {True: "a"}}, "a value, colour or class"),
        ({"palette": [[0, 0, 0]]}, "3 colours"),
        ({"palette": {"nobody": [0, 0, 0]}}, "unknown class 'nobody'"),
        ({"ignored": 256}, "ignored"),
        ({"unknown": 2}, "unknown: a value of 3 to 254 is expected, 2 is a class"),
        ({"unknown": 9, "ignored": [9]}, "9 is ignored"),
        ({"unknown": 255}, "unknown"),
        ({"mapping": {"1,2,3": "a", "#010203": "b"}}, "the colour 1,2,3 is both 'a' and 'b'"),
        ({"mapping": {"7": "a", 7: "b"}}, "the label value 7 is both 'a' and 'b'"),
        ({"pairs": [["class_0"]]}, "pairs: a list of"),
        ({"ignored": [0, 7], "mapping": {0: "a", 1: "b"}}, "value 0 is ignored, and class 'a'"),
        ({"names": [f"c{i}" for i in range(255)]}, "names: at most 254 are expected, got 255"),
    ],
)
def test_wrong_sections(section: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"^classes.*{message}"):
        _table(section)


def test_two_classes_of_a_table_with_one_colour(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("name,r,g,b\ncar,1,2,3\ntruck,1,2,3\n")
    with pytest.raises(UsageError, match=r"t\.csv: the colour 1,2,3 is both 'car' and 'truck'"):
        read_class_section({"mapping": "t.csv"}, tmp_path, "classes")
    merged = {"file": "t.csv", "car": "vehicle", "truck": "vehicle"}
    assert read_class_section({"mapping": merged}, tmp_path, "classes").mapping == {
        (1, 2, 3): "vehicle"
    }


@pytest.mark.parametrize("text", ["", "a,b,c\n", "name,r,g,b\nSky,1,2\n", "1,2,3,4,5\n", "\0\n"])
def test_tables_that_are_none(text: str, tmp_path: Path) -> None:
    for name in ("a.csv", "a.txt"):
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match=name):
            read_table(tmp_path / name)
