"""The converters, on miniature copies of what each publisher ships."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.commands import data as cli
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.shipped_configs import shipped_configs
from paddleseg_ext.config import load_config
from paddleseg_ext.data.datasets import Cityscapes
from paddleseg_ext.data.prepare.coco_stuff164k import CATEGORY_IDS
from paddleseg_ext.data.prepare.converter import convert
from paddleseg_ext.data.published import ADE20K, CamVid, CelebAMaskHQ, CocoStuff10k, CocoStuff164k
from paddleseg_ext.images.class_names import CELEBA_MASK_NAMES, COCO_STUFF_NAMES


def _write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def _image(path: Path, height: int = 4, width: int = 6) -> None:
    _write(path, np.full((height, width, 3), 90, np.uint8))


def _label(*values: int) -> np.ndarray:
    return np.array([values] * 4, np.uint8)


def _ade20k(root: Path) -> None:
    for folder, name in (("training", "a"), ("training", "b"), ("validation", "c")):
        _image(root / "images" / folder / f"{name}.jpg")
        _write(root / "annotations" / folder / f"{name}.png", _label(0, 1, 2, 150, 150, 1))


def test_ade20k(tmp_path: Path) -> None:
    _ade20k(tmp_path / "from")
    assert convert("ade20k", tmp_path / "from", tmp_path / "to", 1) == 3
    train = ADE20K(str(tmp_path / "to"))
    assert len(train) == 2
    assert train[0]["label"][0].tolist() == [255, 0, 1, 149, 149, 0]
    assert train.class_table.class_names[149] == "flag"


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    source, target = tmp_path / "from", tmp_path / "to"
    _ade20k(source)
    convert("ade20k", source, target, 1)
    (target / "labels/train/b.png").unlink()
    kept = (target / "labels/train/a.png").stat().st_mtime_ns
    assert convert("ade20k", source, target, 1) == 1
    assert (target / "labels/train/a.png").stat().st_mtime_ns == kept
    assert convert("ade20k", source, target, 1) == 0
    assert not list(target.rglob(".writing*"))


def test_the_source_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _ade20k(tmp_path / "from")
    image = tmp_path / "from/images/training/a.jpg"
    image.chmod(0o400)
    before = (image.stat().st_mode, image.stat().st_mtime_ns, image.read_bytes())
    convert("ade20k", tmp_path / "from", tmp_path / "linked", 1)
    assert (tmp_path / "linked/images/train/a.jpg").samefile(image)
    (tmp_path / "linked/labels/train/a.png").unlink()
    convert("ade20k", tmp_path / "from", tmp_path / "linked", 1)

    def refuse(*_: object) -> None:
        raise OSError("no links on this disk")

    monkeypatch.setattr("os.link", refuse)
    convert("ade20k", tmp_path / "from", tmp_path / "copied", 1)
    assert not (tmp_path / "copied/images/train/a.jpg").samefile(image)
    assert (tmp_path / "copied/images/train/a.jpg").read_bytes() == before[2]
    assert (image.stat().st_mode, image.stat().st_mtime_ns, image.read_bytes()) == before
    assert not list(tmp_path.rglob(".writing*"))


def test_processes_write_the_same(tmp_path: Path) -> None:
    _ade20k(tmp_path / "from")
    flags = ["prepare", "ade20k", "--from", str(tmp_path / "from"), "--to"]
    cli.main([*flags, str(tmp_path / "one"), "--nproc", "1"])
    cli.main([*flags, str(tmp_path / "two"), "--nproc", "2"])
    one, two = (
        {
            file.relative_to(tmp_path / folder): file.read_bytes()
            for file in (tmp_path / folder).rglob("*.*")
        }
        for folder in ("one", "two")
    )
    assert one == two
    assert len(one) == 6


def test_all_that_cannot_be_converted_is_listed_and_the_rest_done(tmp_path: Path) -> None:
    source, target = tmp_path / "from", tmp_path / "to"
    _ade20k(source)
    _write(source / "annotations/training/a.png", _label(1, 1, 200, 1, 1, 1))
    (source / "annotations/validation/c.png").write_bytes(b"")
    with pytest.raises(CheckFailed, match="2 of 3") as caught:
        convert("ade20k", source, target, 1)
    assert "value 200" in str(caught.value)
    assert "c.png" in str(caught.value)
    assert (target / "labels/train/b.png").exists()
    assert not (target / "labels/train/a.png").exists()


def test_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ade20k"):
        convert("ade", tmp_path, tmp_path / "to", 1)
    with pytest.raises(UsageError, match="images/training"):
        convert("ade20k", tmp_path, tmp_path / "to", 1)
    with pytest.raises(UsageError, match="not a folder"):
        convert("ade20k", tmp_path / "absent", tmp_path / "to", 1)
    _ade20k(tmp_path / "from")
    (tmp_path / "from/annotations/training/a.png").unlink()
    with pytest.raises(UsageError, match="no annotation"):
        convert("ade20k", tmp_path / "from", tmp_path / "to", 1)


def test_coco_stuff_164k(tmp_path: Path) -> None:
    for folder in ("train2017", "val2017"):
        _image(tmp_path / "from/images" / folder / "000001.jpg")
        # person, bicycle, id 13 (stop sign; 12 was never annotated), id 182, unlabelled
        _write(tmp_path / "from/annotations" / folder / "000001.png", _label(0, 1, 12, 181, 255, 0))
    convert("coco_stuff164k", tmp_path / "from", tmp_path / "to", 1)
    dataset = CocoStuff164k(str(tmp_path / "to"), mode="val")
    label = dataset[0]["label"][0].tolist()
    assert label == [0, 1, 11, 170, 255, 0]
    names = dataset.class_table.class_names
    assert [names[index] for index in label[:4]] == ["person", "bicycle", "stop sign", "wood"]


def test_coco_ids_have_their_names() -> None:
    """Anchors on both sides of every id that was never annotated."""
    anchors = {
        (11, 13): ("fire hydrant", "stop sign"),
        (25, 27, 28, 31): ("giraffe", "backpack", "umbrella", "handbag"),
        (44, 46): ("bottle", "wine glass"),
        (65, 67, 70, 72): ("bed", "dining table", "toilet", "tv"),
        (82, 84, 90, 92, 182): ("refrigerator", "book", "toothbrush", "banner", "wood"),
    }
    for ids, names in anchors.items():
        classes = [CATEGORY_IDS.index(number) for number in ids]
        assert tuple(COCO_STUFF_NAMES[index] for index in classes) == names


def test_coco_stuff_10k(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    for name in ("x", "y"):
        _image(tmp_path / f"from/images/{name}.jpg")
        (tmp_path / "from/annotations").mkdir(exist_ok=True)
        savemat(tmp_path / f"from/annotations/{name}.mat", {"S": _label(0, 1, 13, 182, 92, 1)})
    (tmp_path / "from/imageLists").mkdir()
    (tmp_path / "from/imageLists/train.txt").write_text("x\n")
    (tmp_path / "from/imageLists/test.txt").write_text("y\n")
    convert("coco_stuff10k", tmp_path / "from", tmp_path / "to", 1)
    dataset = CocoStuff10k(str(tmp_path / "to"), mode="val")
    assert [sample.name for sample in dataset.samples] == ["val/y"]
    label = dataset[0]["label"][0].tolist()
    assert label == [255, 0, 11, 170, 80, 0]
    assert dataset.class_table.class_names[80] == "banner"
    for wrong in (np.array([[257, 1]], np.uint16), "abc"):  # 257 is 1 in a byte
        savemat(tmp_path / "from/annotations/x.mat", {"S": wrong})
        with pytest.raises(CheckFailed, match=r"1 of 2 images(.|\n)*x\.mat"):
            convert("coco_stuff10k", tmp_path / "from", tmp_path / "to1", 1)
    (tmp_path / "from/images/y.jpg").unlink()
    with pytest.raises(UsageError, match=r"y\.jpg"):
        convert("coco_stuff10k", tmp_path / "from", tmp_path / "to2", 1)


def test_celeba_mask_hq(tmp_path: Path) -> None:
    source = tmp_path / "from"
    for number in range(20):
        _image(source / f"CelebA-HQ-img/{number}.jpg", 16, 16)
        skin, hair = np.zeros((512, 512, 3), np.uint8), np.zeros((512, 512), np.uint8)
        skin[100:400] = 255
        hair[:200] = 255
        folder = source / "CelebAMask-HQ-mask-anno/0"
        _write(folder / f"{number:05d}_skin.png", skin)
        _write(folder / f"{number:05d}_hair.png", hair)
    convert("celeba_mask_hq", source, tmp_path / "to", 1)
    sizes = [len(CelebAMaskHQ(str(tmp_path / "to"), mode=m)) for m in ("train", "val", "test")]
    assert sizes == [17, 2, 1]
    item = CelebAMaskHQ(str(tmp_path / "to"))[0]
    assert item["img"].shape == (3, 512, 512)
    hair_class, skin_class = (CELEBA_MASK_NAMES.index(name) for name in ("hair", "skin"))
    assert (item["label"][:200] == hair_class).all()
    assert (item["label"][200:400] == skin_class).all()
    assert (item["label"][400:] == 0).all()
    _image(source / "CelebA-HQ-img/._0.jpg")
    with pytest.raises(UsageError, match=r"1 images have no number:\n.*\._0\.jpg"):
        convert("celeba_mask_hq", source, tmp_path / "to2", 1)


def test_camvid(tmp_path: Path) -> None:
    source = tmp_path / "from"
    _image(source / "train/a.png")
    _write(source / "trainannot/a.png", _label(0, 10, 11, 3, 3, 3))
    (source / "train.txt").write_text("/SegNet/CamVid/train/a.png /SegNet/CamVid/trainannot/a.png")
    convert("camvid", source, tmp_path / "to", 1)
    dataset = CamVid(str(tmp_path / "to"))
    assert [sample.name for sample in dataset.samples] == ["train/a"]
    assert dataset[0]["label"][0].tolist() == [0, 10, 255, 3, 3, 3]


def _cityscapes(root: Path, annotate: bool = True) -> None:
    for split in ("train", "val"):
        _image(root / f"leftImg8bit/{split}/c/c_000000_000019_leftImg8bit.png", 40, 60)
        folder = root / f"gtFine/{split}/c"
        folder.mkdir(parents=True)
        if not annotate:
            _write(folder / "c_000000_000019_gtFine_labelIds.png", np.full((40, 60), 26, np.uint8))
            continue
        corners = {
            "road": [[0, 20], [60, 20], [60, 40], [0, 40]],
            "car": [[5, 5], [25, 5], [25, 15]],
        }
        objects = [{"label": name, "polygon": polygon} for name, polygon in corners.items()]
        polygons = {"imgHeight": 40, "imgWidth": 60, "objects": objects}
        (folder / "c_000000_000019_gtFine_polygons.json").write_text(json.dumps(polygons))


def test_cityscapes_from_polygons(tmp_path: Path) -> None:
    pytest.importorskip("cityscapesscripts")
    _cityscapes(tmp_path / "from")
    convert("cityscapes", tmp_path / "from", tmp_path / "to", 1)
    dataset = Cityscapes(str(tmp_path / "to"), mode="trainval", label_kind="labelTrainIds")
    assert len(dataset) == 2
    label = dataset[0]["label"]
    assert label[30, 30] == 0
    assert label[7, 20] == 13
    assert label[2, 50] == 255


@pytest.mark.parametrize("fault", [{"label": "dragon"}, {"polygon": []}])
def test_polygons_that_cannot_be_drawn(fault: dict, tmp_path: Path) -> None:
    """One such file is listed; the others are converted."""
    pytest.importorskip("cityscapesscripts")
    _cityscapes(tmp_path / "from")
    annotation = tmp_path / "from/gtFine/val/c/c_000000_000019_gtFine_polygons.json"
    content = json.loads(annotation.read_text())
    content["objects"][0] |= fault
    annotation.write_text(json.dumps(content))
    with pytest.raises(CheckFailed, match="1 of 2 images"):
        convert("cityscapes", tmp_path / "from", tmp_path / "to", 1)
    assert len(Cityscapes(str(tmp_path / "to"))) == 1


def test_cityscapes_from_label_ids(tmp_path: Path) -> None:
    _cityscapes(tmp_path / "from", annotate=False)
    convert("cityscapes", tmp_path / "from", tmp_path / "to", 1)
    dataset = Cityscapes(str(tmp_path / "to"), label_kind="labelTrainIds")
    assert (dataset[0]["label"] == 13).all()


def test_real_cityscapes_polygons(shared_dir: Path, tmp_path: Path) -> None:
    """Drawn from the polygons, the classes are those shipped as ids, but for outlines."""
    pytest.importorskip("cityscapesscripts")
    from paddleseg_ext.data.prepare import cityscapes

    root = shared_dir / "data/cityscapes"
    item = next(item for item in cityscapes.find(root) if "/val/" in item.label_target)
    shipped = Cityscapes(str(root), mode="val", label_kind="labelIds")[0]["label"]
    assert (cityscapes.label_of(item) != shipped).mean() < 0.005


def test_every_shipped_configuration_reads_what_a_converter_writes() -> None:
    """The types below are those that the tests above read converted data with."""
    written = {"ADE20K", "CamVid", "CelebAMaskHQ", "Cityscapes", "CocoStuff10k", "CocoStuff164k"}
    written |= {"ListDataset"}  # of a tool's export
    for name in shipped_configs():
        config = load_config(name)
        for section in ("train_dataset", "val_dataset"):
            kind = config.section(section)["type"].removeprefix("paddleseg.")
            assert kind in written, f"{name}: {section}"


WORKING = """
import time
from paddleseg_ext.common.errors import run_command
from paddleseg_ext.data.prepare.converter import in_processes

def main():
    for _ in in_processes(time.sleep, [0.05] * 4000, 2, "prepare"):
        print("begun", flush=True)

if __name__ == "__main__":
    run_command(main)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_processes_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    program = tmp_path / "program.py"
    program.write_text(WORKING, encoding="utf-8")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([sys.executable, str(program)], **pipes) as process:
        next(line for line in process.stdout if "begun" in line)
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)  # until all of them have closed it
    assert process.returncode == (143 if number == signal.SIGTERM else -number)
    assert "Traceback" not in said
