"""The demo's plan and report without the training between them."""

import json
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.commands import data as data_cli
from paddleseg_ext.commands.main import VERBS
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.data.datasets import Cityscapes
from paddleseg_ext.demo.report import DemoStep, write_report
from paddleseg_ext.demo.run import DemoOptions, make_room, plan
from paddleseg_ext.images.samples import read_sample_list, write_sample_list
from paddleseg_ext.scoring.confusion import count_pairs
from paddleseg_ext.scoring.metrics import summarize


def test_every_step_is_a_command_of_the_project(tmp_path):
    steps = dict(plan(tmp_path, DemoOptions(seed=3, iters=7)))
    assert list(steps) == [
        "data", "train", "val", "predict", "export", "infer", "infer_onednn", "parity"
    ]  # fmt: skip
    for name, command in steps.items():
        assert command[0] in VERBS, name
    assert "--iters=7" in steps["train"]
    assert "--enable_mkldnn=False" in steps["infer"]
    assert "--enable_mkldnn=True" in steps["infer_onednn"]
    compared = [word.partition("=")[0] for word in steps["parity"] if f"={tmp_path}" in word]
    assert {"val", "predict", "infer", "infer_onednn"} <= set(compared)


def test_the_quick_variant_trains_less_on_less(tmp_path):
    whole = dict(plan(tmp_path, DemoOptions()))
    quick = dict(plan(tmp_path, DemoOptions(quick=True)))
    assert list(quick) == list(whole)
    assert not [word for word in whole["train"] if word.startswith("--iters")]  # the yml's
    assert "--iters=20" in quick["train"]
    assert "--num_images=160" in whole["data"]
    assert "--num_images=30" in quick["data"]
    assert "train_dataset.transforms.0.crop_size=[128, 64]" in quick["train"]


def test_an_earlier_demo_is_replaced_and_nothing_else(tmp_path):
    folder = tmp_path / "demo"
    make_room(folder)
    (folder / "report.html").write_text("old")
    make_room(folder)
    assert not (folder / "report.html").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match="holds other things"):
        make_room(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.fixture
def finished(tmp_path) -> Path:
    """What the steps leave: data, perfect predictions but for class 0, results, history."""
    data = str(tmp_path / "data")
    data_cli.main(["synthetic", "--save_dir", data, "--num_images", "10", "--size", "96", "48"])
    samples = Cityscapes(data, mode="val").samples
    write_sample_list(samples, tmp_path / "data" / "val.list")
    counts = np.zeros((19, 19), np.int64)
    for sample in read_sample_list(tmp_path / "data" / "val.list"):
        label = cv2.imread(str(sample.label), cv2.IMREAD_GRAYSCALE)
        predicted = np.where((label == 255) | (label == 0), 1, label).astype(np.uint8)
        counts += count_pairs(predicted, label, 19)
        path = tmp_path / "infer_onednn" / "label_maps" / f"{sample.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), predicted)
    pixels = {
        "intersection": np.diagonal(counts).tolist(),
        "prediction_pixels": counts.sum(axis=0).tolist(),
        "label_pixels": counts.sum(axis=1).tolist(),
    }
    scores = summarize(counts).to_dict()
    files = {
        f"{step}.json": {"evaluation": {"counts": pixels, "scores": scores}}
        for step in ("predict/predict", "infer/inference", "infer_onednn/inference")
    }
    run = {"name": "<static>", "grade": "identical", "different_pixels": 0, "scores": scores}
    untested = {"name": "train", "grade": None, "scores": None, "summary": "not compared: why"}
    files["parity/results.json"] = {
        "grade": "identical",
        "near_tie_margin": 1e-4,
        "reference": {"warning": "", "backend": {"paddle": "3"}},
        "runs": [run | {"summary": "identical (2 images)"}, untested],
        "negative_controls": [{"name": "one weight changed", "caught": True, "summary": "s"}],
    }
    files["train/history.json"] = {
        "train": [{"iter": i, "loss": loss, "lr": 0.1} for i, loss in ((10, 3.0), (20, 1.0))],
        "eval": [{"iter": 20, "mean_iou": 0.5, "accuracy": 0.9}],
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


def test_the_report_is_one_file_with_all_that_was_asked_for(finished):
    command = shlex.join(["python", "train.py", "--opts", "a=<b>"])
    report = write_report(finished, [DemoStep("train", command, 0, 90.0)])
    text = report.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") == 2 * 4
    assert "<svg" in text
    assert 'class="badge identical"' in text
    assert "&lt;static&gt;" in text
    assert "not compared" in text
    assert "one weight changed" in text
    assert "&lt;b&gt;" in text
    assert 'src="http' not in text
    assert 'href="http' not in text


def test_a_class_whose_counts_differ_between_runs_is_marked(finished):
    path = finished / "infer" / "inference.json"
    content = json.loads(path.read_text())
    content["evaluation"]["counts"]["intersection"][8] += 1
    path.write_text(json.dumps(content))
    text = write_report(finished, []).read_text(encoding="utf-8")
    assert text.count("<td>differ</td>") == 1
    assert text.count("<td>equal</td>") == 18
