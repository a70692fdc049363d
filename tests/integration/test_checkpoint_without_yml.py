"""A checkpoint without its yml: predict, val, export and `Predictor.open` take its manifest."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from commands import PROJECT, call

from paddleseg_ext import Predictor
from paddleseg_ext.checkpoints.manifest import manifest_path
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import load_config
from paddleseg_ext.export.exporter import export
from paddleseg_ext.images.samples import write_sample_list
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.published.golden_data import make_state_dict, read_case
from paddleseg_ext.published.importer import import_checkpoint

SYNTHETIC = "bisenetv1_synthetic_demo"
TORCHSEG = "bisenetv1_torchseg_cityscapes_1024x1024_80k"


@pytest.fixture(scope="module")
def val_list(tiny_cityscapes_shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from paddleseg_ext.data.parts import parts_of_cityscapes

    path = tmp_path_factory.mktemp("lists") / "val.list"
    write_sample_list(parts_of_cityscapes(tiny_cityscapes_shared)[1].samples, path)
    return path


@pytest.fixture(scope="module")
def trained(tiny_cityscapes_shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained")
    sets = [f"{part}_dataset.dataset_root={tiny_cityscapes_shared}" for part in ("train", "val")]
    done = call(
        *("paddleseg_ext", "train", "--config", SYNTHETIC, "--iters", 2, "--save_dir", run),
        *("--device", "cpu", "--opts", *sets, "train_dataset.transforms.0.crop_size=[64, 32]"),
    )
    assert done.status == 0, done.err
    return run / "iter_2" / "model.pdparams"


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    state = make_state_dict(read_case(PROJECT / "tests" / "golden" / "torchseg_r18_64x128"))
    np.savez(folder / "r18.npz", **state)
    return import_checkpoint(
        folder / "r18.npz", load_config(TORCHSEG), folder / "r18.pdparams"
    ).path


@pytest.mark.parametrize(("source", "config"), [("trained", SYNTHETIC), ("imported", TORCHSEG)])
def test_the_manifest_does_what_the_yml_does(
    source: str,
    config: str,
    val_list: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a folder without data, configurations and lists."""
    monkeypatch.chdir(tmp_path)
    weights = request.getfixturevalue(source)
    results: dict[str, Any] = {}
    for name, flags in (("manifest", []), ("yml", ["--config", config])):
        flags = [*flags, "--model_path", weights, "--device", "cpu", "--save_dir", name]
        done = call("paddleseg_ext", "predict", *flags, "--image_path", val_list)
        assert done.status == 0, done.err
        done = call("paddleseg_ext", "val", *flags, "--image_list", val_list)
        assert done.status == 0, done.err
        predicted = json.loads(Path(name, "predict.json").read_text())["evaluation"]
        scored = json.loads(Path(name, "val.json").read_text())["evaluation"]
        assert predicted["confusion_matrix"] == scored["confusion_matrix"]
        maps = sorted(Path(name, "label_maps").rglob("*.png"))
        results[name] = (scored, [file.read_bytes() for file in maps])
    assert results["manifest"] == results["yml"]
    assert len(results["yml"][1]) == 2

    done = call(
        *("paddleseg_ext", "export", "--model_path", weights, "--save_dir", "bundle"),
        *("--onnx", "False"),
    )
    assert done.status == 0, done.err
    image = cv2.imread(val_list.read_text().split()[0])
    eager, deployed = Predictor.open(weights), Predictor.open("bundle", "paddle")
    answers = [
        predictor(np.ascontiguousarray(image[:, :, ::-1])) for predictor in (eager, deployed)
    ]
    np.testing.assert_array_equal(answers[0].label_map, answers[1].label_map)
    for predictor in (eager, deployed):
        assert predictor.class_table.class_names[0] == "road"
    manifest = read_bundle("bundle").manifest
    assert manifest is not None
    assert manifest.class_table.to_dict() == eager.class_table.to_dict()


VERBS = {
    "predict": ["--image_path", "{images}"],
    "val": ["--image_list", "{images}"],
    "export": [],
}


def changed(weights: Path, folder: Path, **changes: Any) -> Path:
    """A copy of the checkpoint whose manifest was changed; a value of None deletes its key."""
    copy = folder / "model.pdparams"
    shutil.copyfile(weights, copy)
    content = json.loads(manifest_path(weights).read_text()) | changes
    kept = {key: value for key, value in content.items() if value is not None}
    manifest_path(copy).write_text(json.dumps(kept))
    return copy


def refusals(weights: Path, images: Path, folder: Path) -> list[str]:
    """The error of every verb and of `Predictor.open`: one line each, and nothing is written."""
    lines = []
    for verb, flags in VERBS.items():
        words = [flag.format(images=images) for flag in flags]
        out = ["--save_dir", folder / verb]
        done = call("paddleseg_ext", verb, "--model_path", weights, *words, *out)
        assert done.status == 2, (verb, done.out, done.err)
        lines += done.error_lines
        assert not (folder / verb).exists()
    with pytest.raises(UsageError) as caught:
        Predictor.open(weights)
    lines.append(str(caught.value))
    with pytest.raises(UsageError) as caught:
        export(None, weights)
    lines.append(str(caught.value))
    assert len(lines) == len(VERBS) + 2
    return lines


@pytest.mark.parametrize("older", [None, "configs/bisenetv1/bisenetv1_synthetic_demo.yml"])
def test_an_older_manifest_asks_for_the_yml(
    older: str | None, trained: Path, val_list: Path, tmp_path: Path
) -> None:
    """Those of a training held no configuration, those of an import its path."""
    weights = changed(trained, tmp_path, config=older)
    for line in refusals(weights, val_list, tmp_path):
        assert "model.pdparams.json holds no configuration; give the yml" in line
        assert line.endswith("with --config")
    manifest_path(weights).unlink()
    for line in refusals(weights, val_list, tmp_path):
        assert "does not exist; give the yml of its training with --config" in line


@pytest.mark.parametrize("place", ["/etc/passwd", "https://example.org/r18.pdparams", "../r18"])
def test_a_manifest_that_names_a_place_is_refused(
    place: str, trained: Path, val_list: Path, tmp_path: Path
) -> None:
    config = json.loads(manifest_path(trained).read_text())["config"]
    config["model"]["weights"] = place
    weights = changed(trained, tmp_path, config=config)
    for line in refusals(weights, val_list, tmp_path):
        assert f"model.weights: a manifest may not name a file or URL, got '{place}'" in line


def test_val_asks_for_labels(trained: Path, tmp_path: Path) -> None:
    done = call("paddleseg_ext", "val", "--model_path", trained, "--save_dir", tmp_path / "val")
    assert done.status == 2
    assert "--config or --image_list is expected" in done.error_lines[0]


def test_opts_change_the_configuration_of_a_manifest(
    trained: Path, tiny_cityscapes_shared: Path, tmp_path: Path
) -> None:
    opts = ["--opts", f"val_dataset.dataset_root={tiny_cityscapes_shared}", "absent_class=zero"]
    flags = ["--model_path", trained, "--device", "cpu", "--save_dir", tmp_path]
    done = call("paddleseg_ext", "val", *flags, *opts)
    assert done.status == 0, done.err
    scored = json.loads((tmp_path / "val.json").read_text())["evaluation"]
    assert (scored["num_images"], scored["absent"]) == (2, "zero")
