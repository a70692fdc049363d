"""Layouts whose labels are images, from the miniatures of `label_layouts`."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from label_layouts import FORMS, TURNED, image, label, mat, paddlelabel, sbd, voc
from PIL import Image

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.data.prepare.exports import AnnotationOptions, convert_export
from paddleseg_ext.images.orientation import turn_upright
from paddleseg_ext.images.reading import read_header, read_image, read_label
from paddleseg_ext.images.samples import read_sample_list

OPTIONS = AnnotationOptions()


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
    voc(tmp_path / "from")
    label(tmp_path / "from/SegmentationClass/2007_b.png", 0, 21, 255, 20)
    with pytest.raises(CheckFailed, match=r"1 annotations(.|\n)*2007_b.png: value 21"):
        convert_export("voc", tmp_path / "from", tmp_path / "to", OPTIONS)
    assert (tmp_path / "to/labels/2007_a.png").exists()
    assert not (tmp_path / "to/labels/2007_b.png").exists()


def test_voc_aug_is_voc_and_all_of_sbd_but_its_val(tmp_path: Path) -> None:
    voc(tmp_path / "from/VOC2012")
    for name in ("2007_a", "2007_b", "2008_c"):
        image(tmp_path / f"from/VOCaug/dataset/img/{name}.jpg")
        label = np.array([[0, 7, 15, 20]] * 2, np.uint8)
        mat(tmp_path / f"from/VOCaug/dataset/cls/{name}.mat", GTcls={"Segmentation": label})
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
    sbd(tmp_path / "from")
    (tmp_path / "from/dataset/cls/2008_a.mat").write_bytes(b"no matrix")
    mat(tmp_path / "from/dataset/cls/2008_b.mat", GTcls={"Segmentation": np.full((2, 4), 21)})
    with pytest.raises(CheckFailed, match=r"2 annotations(.|\n)*2008_a(.|\n)*values 0 to 20"):
        convert_export("sbd", tmp_path / "from", tmp_path / "to", OPTIONS)
    assert not list((tmp_path / "to").rglob("*.png"))


def test_colours_ofpaddlelabel(tmp_path: Path) -> None:
    paddlelabel(tmp_path / "from")
    colours = np.array([[(0, 0, 0), (0, 0, 128), (128, 0, 0), (0, 0, 128)]] * 2, np.uint8)
    for name in ("a", "b"):
        Image.fromarray(colours).save(tmp_path / f"from/Annotations/{name}.png")
    with pytest.raises(UsageError, match=r"labels.txt: colours"):
        convert_export("paddlelabel", tmp_path / "from", tmp_path / "to", OPTIONS)
    text = "background\nroad - 128 0 0 // grey\ncar - 128 0 0\n"
    (tmp_path / "from/labels.txt").write_text(text)
    with pytest.raises(UsageError, match=r"labels.txt: 'road' and 'car' have the same colour"):
        convert_export("paddlelabel", tmp_path / "from", tmp_path / "to", OPTIONS)
    (tmp_path / "from/labels.txt").write_text(text.replace("car - 128 0 0", "car - 0 0 128"))
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
