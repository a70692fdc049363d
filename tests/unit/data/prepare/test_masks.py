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
from paddleseg_ext.images.orientation import turn_upright
from paddleseg_ext.images.reading import read_header, read_image, read_label
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


def _mat(path: Path, **variables: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pytest.importorskip("scipy.io").savemat(path, variables)


def _sbd(root: Path) -> None:
    """Its own lists; `VOC aug` has a test of its own."""
    for name, split in (("2008_a", "train"), ("2008_b", "val")):
        _image(root / f"dataset/img/{name}.jpg")
        label = np.array([[0, 7, 15, 20]] * 2, np.uint8)
        _mat(root / f"dataset/cls/{name}.mat", GTcls={"Segmentation": label, "Boundaries": 0})
        (root / f"dataset/{split}.txt").write_text(f"{name}\n")


def _pascal_context(root: Path) -> None:
    (root / "ImageSets/Main").mkdir(parents=True)
    for name, split in (("2008_a", "train"), ("2008_b", "val")):
        _image(root / f"JPEGImages/{name}.jpg")
        _mat(root / f"trainval/{name}.mat", LabelMap=np.array([[2, 400, 9, 31]] * 2, np.uint16))
        (root / f"ImageSets/Main/{split}.txt").write_text(f"{name}\n")
        (root / f"ImageSets/Main/aeroplane_{split}.txt").write_text("2008_c -1\n")
    (root / "labels.txt").write_text("2: aeroplane\n9: table\n31: bag\n400: road\n459: zoo\n")
    (root / "59_labels.txt").write_text("1: aeroplane\n2: bag\n3: diningtable\n")


def _eiseg(root: Path) -> None:
    """Two pictures, of one the mask is named after the whole file; and what else it writes."""
    for name, mask in (("a.jpg", "a"), ("b.png", "b.png")):
        _image(root / name)
        _label(root / f"label/{mask}.png", 0, 3, 1, 3)
        _label(root / f"label/{mask}_pseudo.png", 1, 1, 1, 1)
        (root / f"label/{mask}.json").write_text("[]")
    (root / "label/autosave_label.txt").write_text("1 road 128 0 0 \n3 car 0 128 0 \n")


def _paddlelabel(root: Path) -> None:
    for name, split in (("a", "train"), ("b", "val")):
        _image(root / f"JPEGImages/{name}.jpg")
        _label(root / f"Annotations/{name}.png", 0, 2, 1, 2)
        line = f"JPEGImages/{name}.jpg Annotations/{name}.png\n"
        (root / f"{split}_list.txt").write_text(line)
    (root / "labels.txt").write_text("background\nroad\ncar\n")


def _segments_ai(root: Path) -> None:
    categories = [
        {"id": 1, "name": "road", "color": [9, 9, 9]},
        {"id": 4, "name": "car", "color": [1, 2, 3, 255]},
    ]
    samples = []
    for name, split in (("a", "train"), ("b", "val"), ("c", "train")):
        if name != "c":
            _image(root / f"{name}.jpg")
            _label(root / f"{name}_label_ground-truth_semantic.png", 0, 4, 1, 4)
            _label(root / f"{name}_label_ground-truth.png", 1, 2, 3, 4)
        samples.append({"name": f"{name}.jpg", "metadata": {"split": split}, "labels": {}})
    content = {"task_attributes": {"categories": categories}, "samples": samples}
    (root / "release.json").write_text(json.dumps({"name": "v1", "dataset": content}))


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
    "sbd": (_sbd, [0, 7, 15, 20], 21),
    "pascal_context": (_pascal_context, [0, 255, 2, 1], 3),
    "eiseg": (_eiseg, [0, 2, 1, 2], 3),
    "paddlelabel": (_paddlelabel, [0, 2, 1, 2], 3),
    "segments_ai": (_segments_ai, [0, 2, 1, 2], 3),
}
TURNED = ("eiseg", "segments_ai")  # these draw on the turned picture


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


def test_voc_aug_is_voc_and_all_of_sbd_but_its_val(tmp_path: Path) -> None:
    _voc(tmp_path / "from/VOC2012")
    for name in ("2007_a", "2007_b", "2008_c"):
        _image(tmp_path / f"from/VOCaug/dataset/img/{name}.jpg")
        label = np.array([[0, 7, 15, 20]] * 2, np.uint8)
        _mat(tmp_path / f"from/VOCaug/dataset/cls/{name}.mat", GTcls={"Segmentation": label})
    (tmp_path / "from/VOCaug/dataset/train.txt").write_text("2007_a\n2008_c\n")
    (tmp_path / "from/VOCaug/dataset/val.txt").write_text("2007_b\n")
    assert convert_export("sbd", tmp_path / "from", tmp_path / "to", OPTIONS) == 3
    rows = {
        split: {
            sample.image.stem: read_label(sample.label)[0].tolist()
            for sample in read_sample_list(tmp_path / f"to/{split}.list")
            if sample.label
        }
        for split in ("train", "val")
    }
    assert rows["train"] == {"2007_a": [0, 7, 255, 20], "2008_c": [0, 7, 15, 20]}
    assert rows["val"] == {"2007_b": [0, 7, 255, 20]}


def test_matrices_that_are_none_are_listed(tmp_path: Path) -> None:
    _sbd(tmp_path / "from")
    (tmp_path / "from/dataset/cls/2008_a.mat").write_bytes(b"no matrix")
    _mat(tmp_path / "from/dataset/cls/2008_b.mat", GTcls={"Segmentation": np.full((2, 4), 21)})
    with pytest.raises(CheckFailed, match=r"2 annotations(.|\n)*2008_a(.|\n)*values 0 to 20"):
        convert_export("sbd", tmp_path / "from", tmp_path / "to", OPTIONS)
    assert not list((tmp_path / "to").rglob("*.png"))


def test_colours_of_paddlelabel(tmp_path: Path) -> None:
    _paddlelabel(tmp_path / "from")
    colours = np.array([[(0, 0, 0), (0, 0, 128), (128, 0, 0), (0, 0, 128)]] * 2, np.uint8)
    for name in ("a", "b"):
        Image.fromarray(colours).save(tmp_path / f"from/Annotations/{name}.png")
    with pytest.raises(UsageError, match=r"labels.txt: colours"):
        convert_export("paddlelabel", tmp_path / "from", tmp_path / "to", OPTIONS)
    text = "background\nroad - 128 0 0 // grey\ncar - 0 0 128\n"
    (tmp_path / "from/labels.txt").write_text(text)
    convert_export("paddlelabel", tmp_path / "from", tmp_path / "to", OPTIONS)
    (sample,) = read_sample_list(tmp_path / "to/val.list")
    assert sample.label is not None
    assert read_label(sample.label)[0].tolist() == [0, 2, 1, 2]


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("form", FORMS)
def test_pictures_with_an_orientation_tag(form: str, orientation: int, tmp_path: Path) -> None:
    """Image and label are upright and fit, whether the tool draws on the turned picture or not."""
    if form in ("stare", "drive", "hrf"):
        pytest.skip("the publisher's formats carry no such tag")
    make, expected, _ = FORMS[form]
    make(tmp_path / "from")
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored_hw = (4, 2) if orientation == 6 and form in TURNED else (2, 4)
    for path in _pictures(tmp_path / "from", form):
        Image.fromarray(np.full((*stored_hw, 3), 90, np.uint8)).save(path, exif=exif)
    convert_export(form, tmp_path / "from", tmp_path / "to", OPTIONS)
    for path in sorted((tmp_path / "to").glob("*.list")):
        for sample in read_sample_list(path):
            assert sample.label is not None
            label = read_label(sample.label)
            label = label if form in TURNED else turn_upright(label, 3 if orientation == 3 else 8)
            assert label[0].tolist() == expected
            assert read_image(sample.image).shape[:2] == read_label(sample.label).shape


def _pictures(root: Path, form: str) -> list[Path]:
    """The images of a form, by the value that `_image` paints."""
    found = [path for path in root.rglob("*") if path.suffix in (".png", ".jpg")]
    return [path for path in found if read_header(path).mode == "RGB"]


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
