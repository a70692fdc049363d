"""Exports of annotation tools, from the miniatures of `tool_exports`."""

import base64
import json
import os
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from tool_exports import (
    CAR,
    CLASSES,
    FORMS,
    HEIGHT,
    ROAD,
    TAGS,
    WIDTH,
    expected,
    filled,
    packed,
    png,
    upright_pixels,
    write_picture,
)

from paddleseg_ext.commands import data as cli
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.data.prepare.exports import AnnotationOptions, convert_export
from paddleseg_ext.data.prepare.label_studio import unpack
from paddleseg_ext.data.prepare.shapes import coco_counts, inside, outline
from paddleseg_ext.images.reading import read_image, read_label
from paddleseg_ext.images.samples import read_sample_list


def made(form: str, tmp_path: Path) -> tuple[Path, Path]:
    source = tmp_path / "from"
    source.mkdir()
    FORMS[form][0](source)
    return source, tmp_path / "to"


def written(target: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Image and label by name, as the lists have them."""
    result = {}
    for path in sorted(target.glob("*.list")):
        for sample in read_sample_list(path):
            assert sample.label is not None
            result[sample.image.stem] = read_image(sample.image), read_label(sample.label)
    return result


@pytest.mark.parametrize("form", FORMS)
def test_pictures_are_upright_and_their_labels_fit(form: str, tmp_path: Path) -> None:
    source, target = made(form, tmp_path)
    assert convert_export(form, source, target, AnnotationOptions()) == 3
    names = yaml.safe_load((target / "classes.yml").read_text())["classes"]["names"]
    assert sorted(names) == CLASSES and names[0] == "background"
    samples = written(target)
    assert set(samples) == set(TAGS)
    for name in TAGS:
        image, label = samples[name]
        np.testing.assert_array_equal(image, upright_pixels(name))
        np.testing.assert_array_equal(label, expected(form, name, names))
    assert not list(target.rglob(".writing*"))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_in_an_export_is_counted(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = made(form, tmp_path)
    stray = next(source.rglob("a.png"))
    stray.with_name("z.png").write_bytes(stray.read_bytes())
    next(source.rglob("b.png")).unlink()
    cli.main(["prepare", form, "--from", str(source), "--to", str(target), "--nproc", "1"])
    text = capsys.readouterr().out
    background = form == "yolo"  # an image without a text is one without objects
    assert f"{form}: {3 if background else 2} annotated images" in text
    assert "4 shapes\n" in text
    assert "overlaps of classes, in pixels (later)" in text
    assert "1 pictures turned by their orientation tag" in text
    assert "annotations without their image: " in text
    if background:
        assert "1 images without an object" in text
    else:
        assert "1 images without an annotation, not converted: " in text and "z.png" in text
    if form == "labelme":
        assert "2 points and lines, which have no area" in text


@pytest.mark.parametrize("form", FORMS)
def test_a_rerun_goes_on_and_writes_the_same(form: str, tmp_path: Path) -> None:
    source, target = made(form, tmp_path)
    convert_export(form, source, target, AnnotationOptions(), processes=2)
    before = {path: path.read_bytes() for path in target.rglob("*.*")}
    (target / "labels/b.png").unlink()
    kept = (target / "labels/a.png").stat().st_mtime_ns
    assert convert_export(form, source, target, AnnotationOptions()) == 1
    assert (target / "labels/a.png").stat().st_mtime_ns == kept
    assert {path: path.read_bytes() for path in target.rglob("*.*")} == before
    with pytest.raises(UsageError, match="made otherwise"):
        convert_export(form, source, target, AnnotationOptions(overlap="ignored"))
    (target / "prepared.json").unlink()  # labels of someone else are not taken for converted ones
    with pytest.raises(UsageError, match=r"made otherwise \(not by data prepare"):
        convert_export(form, source, target, AnnotationOptions())


def test_a_run_that_made_no_label_holds_nothing_up(tmp_path: Path) -> None:
    source, target = made("labelme", tmp_path)
    texts = {path: path.read_text() for path in source.glob("*.json")}
    for path in texts:
        path.write_text("{")
    with pytest.raises(CheckFailed, match="3 annotations could not be converted"):
        convert_export("labelme", source, target, AnnotationOptions())
    for path, text in texts.items():
        path.write_text(text)
    assert convert_export("labelme", source, target, AnnotationOptions()) == 3


def test_the_yml_of_yolo_is_read_as_any_other(tmp_path: Path) -> None:
    source, target = made("yolo", tmp_path)
    path = next(source.rglob("data.yaml"))
    for text in ("names: [a\n", "a: &a [x, x]\nb: &b [*a, *a]\nnames: 2000-01-01\n", "- a\n"):
        path.write_text(text)
        with pytest.raises(UsageError) as caught:
            convert_export("yolo", source, target, AnnotationOptions())
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


BROKEN = {
    "labelme": ("b.json", lambda text: text[:40]),
    "cvat": ("annotations.xml", lambda text: text.replace('z_order="0"', 'z_order="x"', 1)),
    "coco": (
        "instances_default.json",
        lambda text: text.replace('"counts": [', '"counts": [9,', 1),
    ),
    "supervisely": ("b.png.json", lambda text: text.replace('"data": "', '"data": "!', 1)),
    "label_studio": ("export.json", lambda text: text.replace('"rle": [', '"rle": [9, ', 1)),
    "yolo": ("b.txt", lambda text: text.replace("0 ", "5 ", 1).replace("1 ", "7 ", 1)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_broken_annotation_is_listed_and_the_rest_done(form: str, tmp_path: Path) -> None:
    source, target = made(form, tmp_path)
    name, change = BROKEN[form]
    path = next(source.rglob(name))
    path.write_text(change(path.read_text()))
    with pytest.raises(CheckFailed, match=rf"1 annotations could not be converted:\n  .*{name}"):
        convert_export(form, source, target, AnnotationOptions())
    samples = written(target)
    assert len(samples) == 2
    assert len(list(target.rglob("labels/*.png"))) == 2


@pytest.mark.parametrize("form", FORMS)
def test_nothing_of_the_form_is_one_line(form: str, tmp_path: Path) -> None:
    if form == "cvat":
        pytest.importorskip("defusedxml")
    with pytest.raises(UsageError, match="--from: "):
        convert_export(form, tmp_path, tmp_path / "to", AnnotationOptions())
    with pytest.raises(UsageError, match="does not exist"):
        convert_export(form, tmp_path / "absent", tmp_path / "to", AnnotationOptions())


def test_options_of_the_labels(tmp_path: Path) -> None:
    source, target = made("labelme", tmp_path)
    options = AnnotationOptions(classes=["car"], unlabelled="ignored", val_share=1.0)
    convert_export("labelme", source, target, options)
    label = written(target)["a"][1]
    np.testing.assert_array_equal(label == 0, filled(CAR, (WIDTH, HEIGHT)))
    assert set(np.unique(label)) == {0, 255}
    assert len(read_sample_list(target / "val.list")) == 3
    overlap = filled(CAR, (WIDTH, HEIGHT)) & filled(ROAD, (WIDTH, HEIGHT))
    convert_export("labelme", source, tmp_path / "two", AnnotationOptions(overlap="ignored"))
    np.testing.assert_array_equal(written(tmp_path / "two")["a"][1] == 255, overlap)
    with pytest.raises(UsageError, match="--from, --to and --nproc only"):
        cli.main(["prepare", "ade20k", "--from", "x", "--to", "y", "--classes", "car"])


def test_images_elsewhere_or_within_the_annotation(tmp_path: Path) -> None:
    source, target = made("labelme", tmp_path)
    (tmp_path / "pictures").mkdir()
    for name in "ab":
        (source / f"{name}.png").rename(tmp_path / f"pictures/{name}.png")
    content = json.loads((source / "c.json").read_text())
    content["imageData"] = base64.b64encode((source / "c.png").read_bytes()).decode()
    (source / "c.json").write_text(json.dumps(content))
    (source / "c.png").unlink()
    convert_export("labelme", source, target, AnnotationOptions(images=tmp_path / "pictures"))
    assert set(written(target)) == set(TAGS)


def test_shapes_that_are_no_polygons(tmp_path: Path) -> None:
    write_picture(tmp_path, "a", upright=True)
    mask = np.zeros((3, 4), np.uint8)
    mask[1:, 1:] = 1
    shapes = [
        {"label": "x", "shape_type": "rectangle", "points": [[9, 8], [2, 3]]},
        {"label": "y", "shape_type": "circle", "points": [[20, 10], [24, 10]]},
        {
            "label": "z",
            "shape_type": "mask",
            "points": [[1, 14], [4, 16]],
            "mask": base64.b64encode(png(mask)).decode(),
        },
        {"label": "__ignore__", "shape_type": "rectangle", "points": [[0, 0], [1, 1]]},
    ]
    content = {"shapes": shapes, "imagePath": "..\\a.png"}
    (tmp_path / "a.json").write_text(json.dumps(content))
    convert_export("labelme", tmp_path, tmp_path / "to", AnnotationOptions())
    label = written(tmp_path / "to")["a"][1]
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[3:8, 2:9] = 1
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    expected[(x - 20) ** 2 + (y - 10) ** 2 < 16] = 2
    expected[15:17, 2:5] = 3
    expected[0, 0] = 255
    np.testing.assert_array_equal(label, expected)


def test_masks_boxes_and_ellipses_of_cvat(tmp_path: Path) -> None:
    pytest.importorskip("defusedxml")
    write_picture(tmp_path, "a", upright=True)
    (tmp_path / "annotations.xml").write_text(
        '<annotations><image id="0" name="a.png" width="30" height="20">'
        '<mask label="m" rle="1, 2, 3" left="2" top="4" width="3" height="2"/>'
        '<box label="b" xtl="10" ytl="2" xbr="14" ybr="4" rotation="90"/>'
        '<ellipse label="e" cx="20" cy="14" rx="4" ry="3"/></image></annotations>'
    )
    convert_export("cvat", tmp_path, tmp_path / "to", AnnotationOptions())
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[1:5, 11:13] = 1  # turned about its centre
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    expected[((x - 20) / 4) ** 2 + ((y - 14) / 3) ** 2 < 1] = 2
    expected[4, 3:5] = 3
    np.testing.assert_array_equal(written(tmp_path / "to")["a"][1], expected)


def test_holes_and_borders_of_supervisely(tmp_path: Path) -> None:
    """Points are pixels, and the border belongs to the area, the hole's to the hole."""
    write_picture(tmp_path / "ds/img", "a", upright=True)
    square, hole = [[2, 2], [10, 2], [10, 10], [2, 10]], [[4, 4], [6, 4], [6, 6], [4, 6]]
    shape = {"classTitle": "x", "geometryType": "polygon"}
    shape |= {"points": {"exterior": square, "interior": [hole]}}
    content = {"size": {"width": WIDTH, "height": HEIGHT}, "objects": [shape]}
    (tmp_path / "ds/ann").mkdir()
    (tmp_path / "ds/ann/a.png.json").write_text(json.dumps(content))
    (tmp_path / "meta.json").write_text(json.dumps({"classes": [{"title": "x"}]}))
    convert_export("supervisely", tmp_path, tmp_path / "to", AnnotationOptions())
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[2:11, 2:11] = 1
    expected[4:7, 4:7] = 0
    np.testing.assert_array_equal(written(tmp_path / "to")["a"][1], expected)


@pytest.mark.parametrize("seed", range(20))
def test_polygons_are_filled_at_pixel_centres(seed: int) -> None:
    draw = np.random.default_rng(seed)
    corners = draw.uniform(-5, 40, (draw.integers(3, 9), 2))
    x, y = np.meshgrid(np.arange(31) + 0.5, np.arange(23) + 0.5)
    centres = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    crossings = np.zeros(len(centres), int)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        between = (centres[:, 1] >= min(y0, y1)) & (centres[:, 1] < max(y0, y1))
        at = x0 + (centres[:, 1] - y0) / (y1 - y0) * (x1 - x0)
        crossings += between & (at <= centres[:, 0])
    expected = (crossings % 2 == 1).reshape(23, 31)
    np.testing.assert_array_equal(inside(corners, (31, 23)), expected)


def test_run_lengths_that_pycocotools_wrote() -> None:
    masks = pytest.importorskip("pycocotools.mask")
    for seed in range(20):
        mask = np.asfortranarray(np.random.default_rng(seed).integers(0, 2, (37, 23), np.uint8))
        mask = np.asfortranarray(cv2.dilate(mask * (seed % 3), np.ones((seed % 5 + 1, 2))))
        text = masks.encode(mask)["counts"].decode()
        flat = np.repeat(np.arange(len(coco_counts(text))) % 2, coco_counts(text))
        np.testing.assert_array_equal(flat.reshape(23, 37).T, mask > 0)


@pytest.mark.parametrize("text", ["P", "~~~~", "0" + "o" * 30, "\x00", "é"])
def test_damaged_run_lengths(text: str) -> None:
    from paddleseg_ext.common.errors import DataError
    from paddleseg_ext.data.prepare.shapes import runs

    with pytest.raises(DataError):
        runs(coco_counts(text), (3, 3), (3, 3), by_column=True)


def test_brushes_that_end_early_or_have_another_size() -> None:
    from paddleseg_ext.common.errors import DataError

    mask = np.eye(5, dtype=bool)
    data = packed(mask)
    assert (unpack(data, 100, "x").reshape(5, 5, 4)[:, :, 3] > 0).tolist() == mask.tolist()
    for broken, length in ((data[:-3], 100), (data, 99), (data[:3], 100), ([300], 100), ("x", 100)):
        with pytest.raises(DataError, match=r"^x: rle"):
            unpack(broken, length, "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "broken", [[], [1, 2, 3, 4], [1, 2, 3], "abc", [[0, 0], [1, 1], [1, None]]]
)
def test_outlines_that_are_none(broken: Any) -> None:
    from paddleseg_ext.common.errors import DataError

    with pytest.raises(DataError, match="at least 3 points"):
        outline(broken)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
@pytest.mark.parametrize("form", ["labelme", "cvat", "coco", "label_studio"])
def test_a_pipe_beside_the_annotations_is_named(form: str, tmp_path: Path) -> None:
    source, target = made(form, tmp_path)
    pipe = source / ("pipe.xml" if form == "cvat" else "pipe.json")
    os.mkfifo(pipe)
    with pytest.raises(CheckFailed, match=f"{pipe.name}: a regular file is expected"):
        convert_export(form, source, target, AnnotationOptions())
    assert len(written(target)) == 3


def test_an_empty_bitmap_of_supervisely(tmp_path: Path) -> None:
    source, target = made("supervisely", tmp_path)
    path = next(source.rglob("a.png.json"))
    content = json.loads(path.read_text())
    bitmap = next(each["bitmap"] for each in content["objects"] if "bitmap" in each)
    for data in ("", base64.b64encode(zlib.compress(b"")).decode()):
        bitmap["data"] = data
        path.write_text(json.dumps(content))
        with pytest.raises(CheckFailed, match=r"a\.png\.json: the bitmap is no PNG"):
            convert_export("supervisely", source, target, AnnotationOptions())


@pytest.mark.parametrize("form", ["labelme", "cvat", "coco", "label_studio"])
def test_an_image_that_is_annotated_twice_is_left_out(form: str, tmp_path: Path) -> None:
    """Converted twice, each label would call the other's objects background."""
    source, target = made(form, tmp_path)
    name, _ = BROKEN[form]
    path = next(source.rglob(name))
    path.with_name(f"again_{name}").write_bytes(path.read_bytes())
    with pytest.raises(CheckFailed, match=r"is annotated again, the first time in .*; keep one"):
        convert_export(form, source, target, AnnotationOptions())
    assert set(written(target)) == (set("ac") if form == "labelme" else set())


@pytest.mark.parametrize("part", ["images", "categories"])
def test_coco_with_one_id_for_several(part: str, tmp_path: Path) -> None:
    source, target = made("coco", tmp_path)
    path = next(source.rglob("*.json"))
    content = json.loads(path.read_text())
    content[part][1]["id"] = content[part][0]["id"]
    path.write_text(json.dumps(content))
    number = content[part][0]["id"]
    with pytest.raises(CheckFailed, match=rf"{path.name}: {part}: several have the id {number};"):
        convert_export("coco", source, target, AnnotationOptions())
