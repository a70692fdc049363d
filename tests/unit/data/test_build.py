"""From yml sections to data sets, ours and PaddleSeg's."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import load_config
from paddleseg_ext.data.build import build_dataset, class_table_of, first_image
from paddleseg_ext.data.datasets import Cityscapes
from paddleseg_ext.images.labels import decode_label

YML = """
batch_size: 2
iters: 2
{extra}
train_dataset:
  type: {type}
  dataset_root: {root}
  mode: train
  transforms:
    - type: RandomPaddingCrop
      crop_size: [48, 32]
    - type: {other}
    - type: Normalize
val_dataset:
  type: {type}
  dataset_root: {root}
  mode: val
  transforms:
    - type: Normalize
"""


def _config(tmp_path: Path, root: Path, **values: str):  # type: ignore[no-untyped-def]
    path = tmp_path / "config.yml"
    defaults = {"type": "Cityscapes", "other": "RandomBlur", "extra": ""}
    path.write_text(YML.format(root=root, **{**defaults, **values}))
    return load_config(path)


def test_ours_with_a_transform_of_paddleseg(tmp_path: Path, tiny_cityscapes_shared: Path) -> None:
    config = _config(tmp_path, tiny_cityscapes_shared)
    dataset = build_dataset(config, "train_dataset")
    assert isinstance(dataset, Cityscapes)
    assert dataset[0]["img"].shape == (3, 32, 48)
    assert [spec["type"] for spec in dataset.transform_specs][1] == "RandomBlur"
    assert class_table_of(config).num_classes == 19
    assert first_image(config) == build_dataset(config, "val_dataset").samples[0].image


def test_paddlesegs_data_set_has_what_ours_has(
    tmp_path: Path, tiny_cityscapes_shared: Path
) -> None:
    config = _config(tmp_path, tiny_cityscapes_shared, extra="registry: paddleseg")
    dataset = build_dataset(config, "train_dataset")
    ours = Cityscapes(str(tiny_cityscapes_shared))
    assert [sample.label for sample in dataset.samples] == [s.label for s in ours.samples]
    assert (dataset.num_classes, dataset.ignore_index, len(dataset)) == (19, 255, 6)
    item = dataset[0]
    assert (item["img"].shape, item["img"].dtype) == ((3, 32, 48), np.float32)
    assert (item["label"].shape, item["label"].dtype) == ((32, 48), np.int64)


def test_paddlesegs_ade20k_is_scored_as_it_trains(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        for kind, value in (("images", 90), ("annotations", 150)):
            path = tmp_path / "ADEChallengeData2016" / kind / split / "a"
            path.parent.mkdir(parents=True)
            array = np.full((4, 6, 3) if kind == "images" else (4, 6), value, np.uint8)
            cv2.imwrite(str(path) + (".jpg" if kind == "images" else ".png"), array)
    config = _config(tmp_path, tmp_path / "ADEChallengeData2016", type="paddleseg.ADE20K")
    dataset = build_dataset(config, "val_dataset")
    label = dataset.samples[0].label
    assert label is not None
    assert (decode_label(label, dataset.class_table) == 149).all()
    assert (dataset[0]["label"] == 149).all()


def test_a_mode_that_is_no_word(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("train_dataset: {type: Cityscapes, dataset_root: x, mode: 5}")
    with pytest.raises(UsageError, match="mode: one of train"):
        build_dataset(load_config(tmp_path / "c.yml"), "train_dataset")


def test_a_misspelt_transform_is_named(tmp_path: Path, tiny_cityscapes_shared: Path) -> None:
    config = _config(tmp_path, tiny_cityscapes_shared, other="RandomHorizontalFlop")
    with pytest.raises(UsageError, match="RandomHorizontalFlip"):
        build_dataset(config, "train_dataset")


def test_the_class_table_needs_no_data(tmp_path: Path) -> None:
    config = _config(tmp_path, tmp_path / "absent")
    assert class_table_of(config).name == "cityscapes"
    assert first_image(config) is None
    with pytest.raises(UsageError, match="no Cityscapes in"):
        build_dataset(config, "train_dataset")


def test_without_data_labels_read_as_with_it(tmp_path: Path) -> None:
    """A bundle that is exported elsewhere scores label files by this table."""
    root = tmp_path / "own"
    spec = f"type: ListDataset\n  dataset_root: {root}\n  num_classes: 3\n  ignore_index: 0"
    yml = tmp_path / "c.yml"
    yml.write_text(f"val_dataset:\n  {spec}\n  mode: val\n  val_path: val.list")
    without = class_table_of(load_config(yml))
    root.mkdir()
    (root / "val.list").write_text("a.png b.png")
    assert without.to_dict() == class_table_of(load_config(yml)).to_dict()
    yml.write_text(f"val_dataset: {{type: paddleseg.ADE20K, dataset_root: {root}, mode: val}}")
    lookup = class_table_of(load_config(yml)).lookup_for("some.png")
    assert lookup is not None
    assert lookup[:3].tolist() == [255, 0, 1]


@pytest.mark.parametrize("spec", ["{type: 5}", "{type: ListDataset, num_classes: many}"])
def test_classes_that_nobody_can_know(spec: str, tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text(f"val_dataset: {spec}")
    with pytest.raises(UsageError):
        class_table_of(load_config(tmp_path / "c.yml"))
