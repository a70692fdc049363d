"""Distillation as a user runs it: a teacher's checkpoint, a student, its bundle."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import call
from small_network import write_data

from paddleseg_ext.checkpoints.manifest import read_manifest
from paddleseg_ext.checkpoints.store import save_weights
from paddleseg_ext.common.files import sha256_of
from paddleseg_ext.config import load_config
from paddleseg_ext.models.build import build_model
from paddleseg_ext.training.run_record import read_record

from .test_to_static import write_config as student_config
from .test_training import write_config as teacher_config


def operators(model: Path) -> list[str]:
    """The names of a graph's operators, in their order."""
    found: list[str] = []

    def collect(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("#"), str):
                found.append(value["#"])
            for inner in value.values():
                collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)

    collect(json.loads(model.read_text()))
    return found


def test_a_student_of_another_network_is_exported_as_one_without_a_teacher(
    tiny_cityscapes: Path, tmp_path: Path
) -> None:
    pytest.importorskip("paddle")
    teacher = tmp_path / "teacher/iter_1/model.pdparams"
    flags = ("--device", "cpu", "--iters", 1)
    yml = teacher_config(tiny_cityscapes, tmp_path / "v1.yml")
    done = call("train.py", "--config", yml, *flags, "--save_dir", tmp_path / "teacher")
    assert done.status == 0, done.err
    yml = student_config(tiny_cityscapes, tmp_path / "v2.yml")
    graphs = []
    for name, taught in (("without", ()), ("with", ("--teacher_model", teacher))):
        done = call("train.py", "--config", yml, *flags, *taught, "--save_dir", tmp_path / name)
        assert done.status == 0, done.err
        weights = tmp_path / name / "iter_1/model.pdparams"
        done = call(
            "export_model.py", "--model_path", weights, "--save_dir", tmp_path / name / "bundle",
            "--input_shape", 1, 3, 64, 96,
        )  # fmt: skip
        assert done.status == 0, done.err
        graphs.append(tmp_path / name / "bundle/model.json")
    assert len(operators(graphs[0])) > 100
    assert operators(graphs[0]) == operators(graphs[1])
    weights = tmp_path / "with/iter_1/model.pdparams"
    assert weights.read_bytes() != (tmp_path / "without/iter_1/model.pdparams").read_bytes()
    assert read_manifest(weights).training["teacher"] == sha256_of(teacher)
    start = read_record(tmp_path / "with")[0]
    assert start.config["distillation"] == {"teacher": str(teacher)}
    assert start.weights == {str(teacher): sha256_of(teacher)}
    lost = call("train.py", "--config", yml, *flags, "--teacher_model", tmp_path / "nowhere")
    assert (lost.status, lost.err.count("\n")) == (2, 1)
    assert "distillation: teacher" in lost.err and "does not exist" in lost.err


YMLS = "data/paddleseg_ymls/configs/quick_start/deeplabv3p_{}_os8_optic_disc_512x512_1k_{}.yml"


def test_paddlesegs_published_pair_runs_as_it_is(shared_dir: Path, tmp_path: Path) -> None:
    """Its student with `distill_loss`, its teacher, on pictures in place of its data set."""
    pytest.importorskip("paddleseg")
    student = shared_dir / YMLS.format("resnet18", "student")
    teacher = shared_dir / YMLS.format("resnet50", "teacher")
    write_data(tmp_path / "data")
    for path in (tmp_path / "data").glob("*_label.png"):
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), (label == 1).astype(np.uint8))
    data = {"type": "ListDataset", "dataset_root": str(tmp_path / "data"), "num_classes": 2}
    opts = [f"train_dataset.{key}={value}" for key, value in data.items()]
    opts += ["train_dataset.train_path=val.list", "train_dataset.transforms.0.target_size=[64,64]"]
    save_weights(build_model(load_config(teacher), 2), tmp_path / "teacher.pdparams")
    flags = ("--config", student, "--device", "cpu", "--iters", 2, "--log_iters", 1)
    flags = (*flags, "--batch_size", 2, "--teather_config", teacher, "--save_dir", tmp_path / "run")
    missing = call("train.py", *flags, "--opts", *opts)
    assert missing.status == 2 and "the teacher's weights are missing" in missing.err
    weights = ("--teacher_model", tmp_path / "teacher.pdparams")
    done = call("train.py", *flags, *weights, "--opts", *opts)
    assert done.status == 0, done.err
    assert "the teacher is DeepLabV3P" in done.out
    entries = json.loads((tmp_path / "run/history.json").read_text())["train"]
    for entry in entries:
        parts = sum(entry["head_losses"]) + entry["distillation_loss"]
        assert entry["loss"] == pytest.approx(parts, rel=1e-5) and entry["distillation_loss"] > 0
