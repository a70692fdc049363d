"""Laying out a chain's data: links, lists, and nothing replaced that is not its own."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.images.samples import read_sample_list
from paddleseg_ext.tipc.data import LITE_IMAGES, LITE_SCENES, prepare

PROJECT = Path(__file__).resolve().parents[3]
CONFIG = PROJECT / "test_tipc/configs/bisenetv1/train_infer_python.txt"
LITE, WHOLE = "lite_train_lite_infer", "lite_train_whole_infer"
FOLDER = Path("test_tipc/data/cityscapes")
MANY = LITE_IMAGES + 3


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A Cityscapes folder with more images than a lite mode takes; elsewhere than the project."""
    root = tmp_path / "published"
    for split in ("train", "val"):
        for kind, suffix in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
            city = root / kind / split / "town"
            city.mkdir(parents=True)
            for number in range(MANY):
                shape = (4, 8, 3) if kind == "leftImg8bit" else (4, 8)
                pixels = np.full(shape, 7, np.uint8)
                cv2.imwrite(str(city / f"town_{number:06}_{suffix}.png"), pixels)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return root


def test_cityscapes_is_linked_and_listed(source):
    prepare(CONFIG, LITE, str(source))
    samples = read_sample_list(FOLDER / "infer.list")
    assert len(samples) == len(read_sample_list(FOLDER / "train.list")) == LITE_IMAGES
    assert sorted(samples, key=str) == sorted(read_sample_list(FOLDER / "val.list"), key=str)
    for sample in samples:
        assert sample.image.is_symlink()
        assert sample.label is not None
        assert sample.image.resolve().is_relative_to(source)
        assert sample.label.resolve().is_relative_to(source)


def test_a_whole_mode_takes_every_image_and_replaces_the_lite_one(source):
    prepare(CONFIG, LITE, str(source))
    prepare(CONFIG, WHOLE, str(source))
    assert len(read_sample_list(FOLDER / "infer.list")) == MANY
    assert len(read_sample_list(FOLDER / "train.list")) == LITE_IMAGES


def test_what_is_prepared_stays(source):
    prepare(CONFIG, LITE, str(source))
    (FOLDER / "note").write_text("mine")
    prepare(CONFIG, LITE, str(source))
    assert (FOLDER / "note").exists()


def test_a_folder_made_by_someone_else_is_left_alone(source):
    FOLDER.mkdir(parents=True)
    (FOLDER / "precious").write_text("data")
    with pytest.raises(UsageError, match="in the way and was not made by"):
        prepare(CONFIG, LITE, str(source))
    assert (FOLDER / "precious").read_text() == "data"


def test_a_source_without_cityscapes_leaves_nothing_behind(source, tmp_path):
    with pytest.raises(UsageError, match="no Cityscapes in"):
        prepare(CONFIG, LITE, str(tmp_path / "elsewhere"))
    assert not FOLDER.exists()


def test_without_a_source_the_embedded_data_set_is_made(source):
    prepare(CONFIG, LITE, None)
    samples = read_sample_list(FOLDER / "infer.list")
    assert 4 <= len(samples) < LITE_SCENES
    shapes = [cv2.imread(str(sample.image)).shape for sample in samples]
    assert len(set(shapes)) > 1
    assert shapes == sorted(shapes)  # so that batches of two hold two
    assert json.loads((FOLDER / ".prepared.json").read_text())["source"] == "embedded"


def test_wrong_mode_and_wrong_list_stop_before_anything_is_written(source, tmp_path):
    with pytest.raises(UsageError, match="unknown mode"):
        prepare(CONFIG, "lite", str(source))
    text = CONFIG.read_text().replace("--image_path:test_tipc/data/", "--image_path:elsewhere/")
    (tmp_path / "other.txt").write_text(text)
    with pytest.raises(UsageError, match=r"NAME/infer.list' is expected"):
        prepare(tmp_path / "other.txt", LITE, str(source))
    assert not Path("test_tipc").exists()
