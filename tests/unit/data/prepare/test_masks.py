"""Layouts whose labels are images, as miniatures of what is published or exported."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.data.prepare.exports import AnnotationOptions, convert_export
from paddleseg_ext.images.reading import read_image, read_label
from paddleseg_ext.images.samples import read_sample_list

OPTIONS = AnnotationOptions()


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((2, 4, 3), 90, np.uint8)).save(path)


def _label(path: Path, *values: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([values] * 2, np.uint8)).save(path)


def _kitti(root: Path) -> None:
    for name in ("000000_10", "000001_10"):
        _image(root / f"training/image_2/{name}.png")
        _label(root / f"training/semantic/{name}.png", 7, 26, 4, 33)


def _bdd100k(root: Path) -> None:
    for split in ("train", "val"):
        _image(root / f"images/10k/{split}/a-{split}.jpg")
        _label(root / f"labels/sem_seg/masks/{split}/a-{split}.png", 0, 13, 255, 18)


def _idd(root: Path) -> None:
    for split in ("train", "val"):
        _image(root / f"leftImg8bit/{split}/0/1_leftImg8bit.png")
        _label(root / f"gtFine/{split}/0/1_gtFine_labellevel3Ids.png", 0, 9, 255, 25)


def _mapillary(root: Path) -> None:
    labels = [
        {"name": "animal--bird", "readable": "Bird", "evaluate": True, "color": [1, 2, 3]},
        {"name": "void--car-mount", "readable": "Car Mount", "evaluate": False},
        {"name": "object--car", "readable": "Car", "evaluate": True, "color": [4, 5, 6]},
    ]
    for split in ("training", "validation"):
        _image(root / f"{split}/images/a-{split}.jpg")
        _label(root / f"{split}/v2.0/labels/a-{split}.png", 0, 2, 1, 2)
    (root / "config_v1.2.json").write_text("{}")
    (root / "config_v2.0.json").write_text(json.dumps({"labels": labels}))


def _loveda(root: Path) -> None:
    for split, kind in (("Train", "Rural"), ("Val", "Urban")):
        _image(root / f"{split}/{kind}/images_png/{split}.png")
        _label(root / f"{split}/{kind}/masks_png/{split}.png", 1, 2, 0, 7)


def _drive(root: Path) -> None:
    for folder, number in (("training", 21), ("test", 1)):
        _image(root / f"{folder}/images/{number:02d}_{folder}.tif")
        _label(root / f"{folder}/1st_manual/{number:02d}_manual1.gif", 0, 255, 0, 255)


def _stare(root: Path) -> None:
    for number in range(11):
        _image(root / f"stare-images/im{number:04d}.ppm")
        path = root / f"labels-ah/im{number:04d}.ah.ppm"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.array([[0, 255, 0, 255]] * 2, np.uint8)).save(path)


def _chase_db1(root: Path) -> None:
    for name in ("01L", "01R"):
        _image(root / f"Image_{name}.jpg")
        _label(root / f"Image_{name}_1stHO.png", 0, 255, 0, 255)


def _hrf(root: Path) -> None:
    for number in range(6):
        _image(root / f"healthy/{number:02d}_h.jpg")
        _label(root / f"healthy_manualsegm/{number:02d}_h.tif", 0, 255, 0, 255)


def _voc(root: Path) -> None:
    for name, split in (("2007_a", "train"), ("2007_b", "val")):
        _image(root / f"JPEGImages/{name}.jpg")
        _label(root / f"SegmentationClass/{name}.png", 0, 7, 255, 20)
        (root / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
        (root / f"ImageSets/Segmentation/{split}.txt").write_text(f"{name}\n")
    (root / "ImageSets/Segmentation/trainval.txt").write_text("2007_a\n2007_b\n")


VESSELS = [0, 1, 0, 1]
FORMS: dict[str, tuple[Callable[[Path], None], list[int], int]] = {
    "kitti": (_kitti, [0, 13, 255, 18], 19),
    "bdd100k": (_bdd100k, [0, 13, 255, 18], 19),
    "idd": (_idd, [0, 9, 255, 25], 26),
    "mapillary": (_mapillary, [0, 1, 255, 1], 2),
    "loveda": (_loveda, [0, 1, 255, 6], 7),
    "drive": (_drive, VESSELS, 2),
    "stare": (_stare, VESSELS, 2),
    "chase_db1": (_chase_db1, VESSELS, 2),
    "hrf": (_hrf, VESSELS, 2),
    "voc": (_voc, [0, 7, 255, 20], 21),
}


@pytest.mark.parametrize("form", FORMS)
def test_values_become_classes(form: str, tmp_path: Path) -> None:
    make, expected, num_classes = FORMS[form]
    make(tmp_path / "from")
    assert convert_export(form, tmp_path / "from", tmp_path / "to", OPTIONS) >= 2
    section = yaml.safe_load((tmp_path / "to/classes.yml").read_text())["classes"]
    assert len(section["names"]) == len(section["palette"]) == num_classes
    for split in ("train", "val"):
        for sample in read_sample_list(tmp_path / f"to/{split}.list"):
            assert sample.label is not None
            assert read_label(sample.label)[0].tolist() == expected
    assert convert_export(form, tmp_path / "from", tmp_path / "to", OPTIONS) == 0


@pytest.mark.parametrize("form", FORMS)
def test_wrong_use(form: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--from: "):
        convert_export(form, tmp_path, tmp_path / "to", OPTIONS)
    FORMS[form][0](tmp_path / "from")
    with pytest.raises(UsageError, match="--classes"):
        convert_export(form, tmp_path / "from", tmp_path / "to", AnnotationOptions(classes=["a"]))


def test_a_value_that_is_no_class_is_listed(tmp_path: Path) -> None:
    _voc(tmp_path / "from")
    _label(tmp_path / "from/SegmentationClass/2007_b.png", 0, 21, 255, 20)
    with pytest.raises(CheckFailed, match=r"1 annotations(.|\n)*2007_b.png: value 21"):
        convert_export("voc", tmp_path / "from", tmp_path / "to", OPTIONS)
    assert (tmp_path / "to/labels/2007_a.png").exists()
    assert not (tmp_path / "to/labels/2007_b.png").exists()


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_masks_of_cvat_are_those_of_turned_pictures(orientation: int, tmp_path: Path) -> None:
    """Its mask is 2x4 where the stored picture is 4x2, or has the same size turned by 180."""
    root = tmp_path / "from"
    (root / "JPEGImages").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.zeros((4, 2, 3) if orientation == 6 else (2, 4, 3), np.uint8)
    Image.fromarray(stored).save(root / "JPEGImages/a.png", exif=exif)
    colours = np.array([[(0, 0, 0), (250, 50, 83), (250, 50, 83), (0, 0, 0)]] * 2, np.uint8)
    colours[1, 1:] = 0
    (root / "SegmentationClass").mkdir()
    Image.fromarray(colours).save(root / "SegmentationClass/a.png")
    text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:250,50,83::\n"
    (root / "labelmap.txt").write_text(text)
    convert_export("voc", root, tmp_path / "to", OPTIONS)
    (sample,) = read_sample_list(tmp_path / "to/train.list")
    assert sample.label is not None
    assert read_label(sample.label).tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]
    assert read_image(sample.image).shape == (2, 4, 3)
