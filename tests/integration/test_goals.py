"""`benchmarks/goals.py` at tiny sizes: that it runs and tells every ratio, not what they are."""

import json
from pathlib import Path

import pytest
from commands import call

from paddleseg_ext.common.machine import has_bf16

from .conftest import Deployment


@pytest.mark.slow
def test_every_goal_is_measured(deployment: Deployment, tmp_path: Path) -> None:
    pytest.importorskip("paddle2onnx")
    pytest.importorskip("numba")
    host = deployment.export(deployment.config, onnx=True, upsample="host")
    argmax = deployment.export(deployment.config, "argmax", onnx=True)
    common = ["--data", deployment.list]
    int8 = tmp_path / "int8"
    quantized = call(
        "paddleseg_ext", "quantize", "--config", host, *common, "--save_dir", int8,
        "--backend", "onnxruntime", "--sensitivity", "False", "--calibration_images", 2,
    )  # fmt: skip
    assert (int8 / "deploy.yaml").is_file(), quantized.err  # random weights may miss the budget
    finished = call(
        "benchmarks/goals.py", "--host", host, "--int8", int8 / "deploy.yaml", "--argmax", argmax,
        *common, "--images", 2, "--rounds", 1, "--image_size", 128, 64,
        "--network_size", 64, 32, "--runtimes", "onnxruntime", "onnxruntime_int8",
        "--save_dir", tmp_path / "out",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    written = json.loads((tmp_path / "out/goals.json").read_text())
    assert len(written["goals"]) == 11
    measured = [goal for goal in written["goals"] if "bf16" not in goal["title"] or has_bf16()]
    assert all(goal["ratio"] > 0 for goal in measured)
    assert written["goals"][0]["processor_ratio"] > 0
    assert all(0 <= value <= 1 for value in written["mean_iou"].values())
