"""The packed copy reads as the files do, and damage to it is found."""

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import yaml

from paddleseg_ext.commands import data as cli
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import load_config
from paddleseg_ext.data import packed
from paddleseg_ext.data.build import build_dataset
from paddleseg_ext.data.datasets import Cityscapes
from paddleseg_ext.data.packed import PackedDataset
from paddleseg_ext.data.validate import require_sound

pytest.importorskip("safetensors")

YML = """
batch_size: 1
iters: 1
train_dataset:
  type: Cityscapes
  dataset_root: {root}
  transforms:
    - type: ResizeStepScaling
    - type: RandomPaddingCrop
      crop_size: [64, 32]
    - type: Normalize
"""


@pytest.fixture
def packed_yml(tiny_cityscapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A yml whose data set has a packed copy in `packed`, of two shards."""
    monkeypatch.setattr(packed, "SHARD_SIZE", 4)
    path = tmp_path / "c.yml"
    path.write_text(YML.format(root=tiny_cityscapes))
    cli.main(["pack", "--config", str(path), "--save_dir", str(tmp_path / "packed")])
    return path


def _opts(yml: Path) -> list[str]:
    return [f"train_dataset.dataset_root={yml.parent / 'packed'}"]


def test_training_reads_the_same_through_the_yml(packed_yml: Path) -> None:
    plain = build_dataset(load_config(packed_yml), "train_dataset")
    fast = build_dataset(load_config(packed_yml, _opts(packed_yml)), "train_dataset")
    assert isinstance(fast, PackedDataset)
    assert [s.name for s in fast.samples] == [s.name for s in plain.samples]
    assert fast.class_table.class_names == plain.class_table.class_names
    section = {"val_dataset": load_config(packed_yml).train_dataset}
    packed_yml.write_text(packed_yml.read_text() + yaml.safe_dump(section))
    validation = load_config(packed_yml, [f"val_dataset.dataset_root={packed_yml.parent}/packed"])
    with pytest.raises(UsageError, match="no Cityscapes in"):  # predicting needs the files
        build_dataset(validation, "val_dataset")
    assert len(list((packed_yml.parent / "packed/train").glob("*.safetensors"))) == 2
    for index in range(len(plain)):
        items = []
        for dataset in (plain, fast, pickle.loads(pickle.dumps(fast))):
            random.seed(index)
            np.random.seed(index)
            items.append(dataset[index])
        for item in items[1:]:
            np.testing.assert_array_equal(item["img"], items[0]["img"])
            np.testing.assert_array_equal(item["label"], items[0]["label"])


def test_damage_is_found_before_training(packed_yml: Path) -> None:
    dataset = build_dataset(load_config(packed_yml, _opts(packed_yml)), "train_dataset")
    require_sound(dataset, "train_dataset")
    first, second = sorted((packed_yml.parent / "packed/train").glob("*.safetensors"))
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)
    second.unlink()
    with pytest.raises(UsageError, match="2 shards") as caught:
        require_sound(dataset, "train_dataset")
    assert "damaged" in str(caught.value)


def test_the_labels_were_counted(packed_yml: Path) -> None:
    dataset = build_dataset(load_config(packed_yml, _opts(packed_yml)), "train_dataset")
    expected = np.zeros(256, np.int64)
    for index in range(len(dataset)):
        expected += np.bincount(dataset.read(index)[1].ravel(), minlength=256)
    counts = require_sound(dataset, "train_dataset")
    np.testing.assert_array_equal(counts.values, expected)
    assert counts.labels == len(dataset) == 6


def test_wrong_use(packed_yml: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists already"):
        cli.main(["pack", "--config", str(packed_yml), "--save_dir", str(tmp_path / "packed")])
    for change in ("type=CamVid", "label_kind=labelIds", "transfroms=[]"):
        other = [*_opts(packed_yml), f"train_dataset.{change}"]
        with pytest.raises(UsageError, match="was packed with"):
            build_dataset(load_config(packed_yml, other), "train_dataset")
    index = tmp_path / "packed/train/index.json"
    index.write_text(index.read_text().replace('"version": 3', '"version": 9'))
    with pytest.raises(UsageError, match="version 3"):
        PackedDataset(str(tmp_path / "packed"))


def test_a_sample_that_cannot_be_used_leaves_nothing(tiny_cityscapes: Path, tmp_path: Path) -> None:
    dataset = Cityscapes(str(tiny_cityscapes))
    dataset.samples[5].image.write_bytes(b"")
    with pytest.raises(UsageError, match="empty"):
        packed.pack(dataset, {"type": "Cityscapes"}, tmp_path / "packed")
    assert list((tmp_path / "packed").iterdir()) == []
