"""MNN and ncnn on arm64: the whole of `infer`, emulated, gives the network's label maps."""

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from commands import PROJECT, call

from paddleseg_ext.export.mobile_graphs import pnnx_program

from .conftest import Deployment

ARM64_PYTHON = os.environ.get("ARM64_PYTHON", "")


@pytest.mark.slow
@pytest.mark.skipif(not ARM64_PYTHON, reason="ARM64_PYTHON is not set: see tests/arm64.sh")
@pytest.mark.skipif(
    platform.machine() != "aarch64" and shutil.which("qemu-aarch64") is None,
    reason="qemu-aarch64 is not installed: apt-get install qemu-user",
)
def test_one_image_is_segmented_as_by_the_network(deployment: Deployment, tmp_path: Path) -> None:
    for package in ("MNN", "ncnn", "paddle2onnx"):
        pytest.importorskip(package)
    if pnnx_program() is None:
        pytest.skip("pnnx is not installed: requirements/pnnx.txt")
    config = deployment.resizing_config
    bundle = deployment.export(config, onnx=True, mnn=True, ncnn=True, input_shape=(32, 64))
    one = tmp_path / "one.list"
    lines = Path(deployment.list).read_text().splitlines()
    one.write_text(" ".join(str(Path(deployment.list).parent / w) for w in lines[0].split()) + "\n")
    results = []
    for engine in ("mnn", "ncnn"):
        command = [
            ARM64_PYTHON, "-m", "paddleseg_ext", "infer", "--config", str(bundle),
            "--device", "cpu", "--image_path", str(one), "--backend", engine,
            "--save_dir", str(tmp_path / engine),
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=PROJECT, check=False, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stderr
        results.append(f"arm64 {engine}={tmp_path / engine}")
    judged = call(
        "paddleseg_ext", "parity", "--bundle", bundle, "--image_list", one, "--config",
        config, "--model_path", deployment.weights, "--stages", "paddle", "--results",
        *results, "--save_dir", tmp_path / "parity",
    )  # fmt: skip
    assert judged.status == 0, judged.out + judged.err
    runs = json.loads((tmp_path / "parity" / "results.json").read_text())["runs"]
    grades = {run["name"]: run["grade"] for run in runs if run["name"].startswith("arm64")}
    assert len(grades) == 2 and set(grades.values()) <= {"identical", "near-tie"}
