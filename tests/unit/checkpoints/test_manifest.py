"""The record beside a checkpoint: what is read back, and what a hostile one cannot ask for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddleseg_ext.checkpoints import store
from paddleseg_ext.checkpoints.manifest import (
    CheckpointManifest,
    configuration_for,
    configuration_of,
    manifest_path,
    read_manifest,
    update_manifest,
)
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.data.build import class_table_of, validation_data
from paddleseg_ext.images.labels import generic_table

CONFIG: dict[str, Any] = {
    "model": {
        "type": "BiSeNetV1",
        "pretrained": "whole.pdparams",
        "backbone": {"type": "ResNet18", "pretrained": "https://example.org/r18.pdparams"},
    },
    "pretrained": "start.pdparams",
    "train_dataset": {"type": "Cityscapes", "dataset_root": "data/cityscapes"},
    "val_dataset": {
        "type": "ListDataset",
        "dataset_root": "data/lists",
        "val_path": "val.list",
        "num_classes": 2,
        "class_names": ["road/street", "car"],
        "transforms": [{"type": "Normalize"}],
    },
    "optimizer": {"type": "sgd"},
    "iters": 5,
    "batch_size": 3,
    "absent_class": "zero",
    "test_config": {"is_slide": True, "crop_size": [64, 64], "stride": [32, 32]},
}

CLASSES = generic_table(2, ["road/street", "car"]).to_dict()


def save(folder: Path, manifest: CheckpointManifest) -> Path:
    path = folder / "model.pdparams"
    store.save_arrays({"weight": np.ones(2, np.float32)}, path, manifest)
    return path


def test_a_record_is_read_back(tmp_path: Path) -> None:
    table = generic_table(3, ["a", "b", "c"])
    written = CheckpointManifest(
        network="Net",
        iteration=4,
        config=CONFIG,
        classes=table.to_dict(),
        preprocessing=[{"type": "Normalize"}],
        versions={"paddle": "3"},
    )
    path = save(tmp_path, written)
    read = read_manifest(path)
    assert (read.network, read.iteration, read.config) == ("Net", 4, CONFIG)
    assert read.preprocessing == [{"type": "Normalize"}]
    assert class_table_of(configuration_of(path)).class_names == ("a", "b", "c")
    assert "scores" not in json.loads(manifest_path(path).read_text())
    assert read_manifest(tmp_path / "other.pdparams") == CheckpointManifest()


def test_keys_of_a_newer_version_are_left_out(tmp_path: Path) -> None:
    path = save(tmp_path, CheckpointManifest(iteration=4))
    content = json.loads(manifest_path(path).read_text())
    manifest_path(path).write_text(json.dumps(content | {"moon": "full"}))
    assert read_manifest(path).iteration == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iteration": "four"}, "'iteration' must be a whole number"),
        ({"scores": [1]}, "'scores' must be a section"),
        ({"versions": 5}, "'versions' must be a section"),
        ({"preprocessing": "none"}, "'preprocessing' must be a list"),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path: Path, changes: dict, words: str) -> None:
    path = save(tmp_path, CheckpointManifest())
    content = json.loads(manifest_path(path).read_text())
    manifest_path(path).write_text(json.dumps(content | changes))
    with pytest.raises(UsageError, match=rf"model\.pdparams\.json: {words}") as caught:
        read_manifest(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"config": ' * 100_000, "{", "\x00"])
def test_a_text_that_is_no_record_is_one_line(tmp_path: Path, text: str) -> None:
    path = save(tmp_path, CheckpointManifest())
    manifest_path(path).write_text(text)
    with pytest.raises(UsageError, match="not a readable manifest"):
        read_manifest(path)


def test_the_configuration_opens_a_network_and_nothing_else(tmp_path: Path) -> None:
    config = configuration_of(save(tmp_path, CheckpointManifest(config=CONFIG, classes=CLASSES)))
    assert config.model == {"type": "BiSeNetV1", "backbone": {"type": "ResNet18"}}
    assert config.pretrained is None
    assert config.val_dataset == {
        "type": "ListDataset",
        "num_classes": 2,
        "class_names": ["road/street", "car"],
        "transforms": [{"type": "Normalize"}],
    }
    assert (config.absent_class, config.test_config) == ("zero", CONFIG["test_config"])
    assert sorted(config.raw) == ["absent_class", "model", "test_config", "val_dataset"]
    with pytest.raises(UsageError, match="'train_dataset' is missing"):
        _ = config.train_dataset


@pytest.mark.parametrize("orientation", ["stored", "upright"])
def test_files_are_read_as_in_training(tmp_path: Path, orientation: str) -> None:
    config = CONFIG | {"orientation": orientation}
    path = save(tmp_path, CheckpointManifest(config=config, classes=CLASSES))
    assert configuration_of(path).orientation == orientation
    wrong = CheckpointManifest(config=CONFIG | {"orientation": "turned"}, classes=CLASSES)
    with pytest.raises(UsageError, match="orientation"):
        configuration_of(save(tmp_path, wrong))


def test_flags_are_trusted(tmp_path: Path) -> None:
    path = save(tmp_path, CheckpointManifest(config=CONFIG, classes=CLASSES))
    config = configuration_of(path, ["val_dataset.dataset_root=/data/lists", "absent_class=one"])
    assert config.val_dataset["dataset_root"] == "/data/lists"
    assert config.absent_class == "one"
    with pytest.raises(UsageError, match="did you mean 'model'"):
        configuration_of(path, ["modle.type=X"])


@pytest.mark.parametrize("config", [None, "configs/a.yml", {}, {"model": "BiSeNetV1"}])
def test_without_a_configuration_the_yml_is_asked_for(tmp_path: Path, config: Any) -> None:
    path = save(tmp_path, CheckpointManifest(config=config))
    with pytest.raises(UsageError, match=r"holds no configuration; give the yml .* --config"):
        configuration_of(path)
    manifest_path(path).unlink()
    with pytest.raises(UsageError, match=r"does not exist; give the yml .* --config"):
        configuration_of(path)


def test_the_classes_are_those_of_the_manifest(tmp_path: Path) -> None:
    """Names and ignored value, with no data set at hand; not Cityscapes', which `type` names."""
    table = generic_table(2, ["a", "b"], raw_ignore=0)
    changed = CONFIG | {"val_dataset": {"type": "Cityscapes"}}
    path = save(tmp_path, CheckpointManifest(config=changed, classes=table.to_dict()))
    config = configuration_of(path)
    assert class_table_of(config).to_dict() == table.to_dict()
    assert validation_data(config).first_image is None

    save(tmp_path, CheckpointManifest(config=CONFIG))
    with pytest.raises(UsageError, match=r"holds no classes; give the yml .* --config"):
        configuration_of(path)
    save(tmp_path, CheckpointManifest(config=CONFIG, classes={"class_names": ["a"]}))
    with pytest.raises(UsageError, match=r"model\.pdparams: classes: 'name' is missing"):
        class_table_of(configuration_of(path))


def test_a_yml_that_is_given_is_taken(tmp_path: Path) -> None:
    path = save(tmp_path, CheckpointManifest(config=CONFIG, classes=CLASSES))
    assert configuration_for(path).raw == configuration_of(path).raw
    opts = ["absent_class=one"]
    assert configuration_for(path, opts=opts).absent_class == "one"
    named = configuration_for(path, "bisenetv1_synthetic_demo", opts)
    assert (named.iters, named.absent_class, named.classes) == (200, "one", None)
    with pytest.raises(UsageError, match=r"--model_path: .*none\.pdparams"):
        configuration_for(tmp_path / "none.pdparams")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"x": [value]}
    return value


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"type": "X", "weights": "/etc/passwd"}, "model.weights: a manifest may not name a file"),
        ({"type": "X", "a": {"b": ["https://example.org/x"]}}, r"model\.a\.b: a manifest may not"),
        ({"type": "X", "weights": "..\\up"}, "may not name a file"),
        ({"type": "X", "width": 10**9}, "a number up to 65536 is expected"),
        ({"type": "X", "width": float("inf")}, "the number Infinity, which is not finite"),
        ({"type": "X", "width": 10**400}, "a number up to 65536 is expected"),
        ({"type": "X", "deep": nested(20)}, "nested too deeply"),
    ],
)
def test_a_hostile_configuration_is_one_line(tmp_path: Path, model: Any, words: str) -> None:
    path = save(tmp_path, CheckpointManifest())
    content = json.loads(manifest_path(path).read_text())
    manifest_path(path).write_text(json.dumps(content | {"config": {"model": model}}))
    with pytest.raises(UsageError, match=words) as caught:
        configuration_of(path)
    assert "\n" not in str(caught.value)


def test_a_configuration_is_checked_like_a_yml(tmp_path: Path) -> None:
    for key, value in (("absent_class", "none"), ("val_dataset", "x"), ("registry", ["a"])):
        changed = {"model": {"type": "X"}, key: value}
        path = save(tmp_path, CheckpointManifest(config=changed, classes=CLASSES))
        with pytest.raises(UsageError, match=f"'{key}' must be"):
            configuration_of(path)


def test_a_record_is_changed_only_where_it_describes_the_weights(tmp_path: Path) -> None:
    path = save(tmp_path, CheckpointManifest(iteration=4))
    update_manifest(path, scores={"mean_iou": 0.5})
    manifest = read_manifest(path)
    assert (manifest.iteration, manifest.scores) == (4, {"mean_iou": 0.5})
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UsageError, match="sha256"):
        update_manifest(path, iteration=5)
    manifest_path(path).unlink()
    with pytest.raises(UsageError, match="no manifest"):
        update_manifest(path, iteration=5)
