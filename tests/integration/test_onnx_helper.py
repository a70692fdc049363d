"""`make onnx-helper`: another Python converts to ONNX, which 3.13 needs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import PROJECT, call
from matrix import interpreter

CONVERTING = ("3.12", "3.11")  # paddle2onnx has wheels for them
OTHERS = [v for v in CONVERTING if v != f"{sys.version_info.major}.{sys.version_info.minor}"]


@pytest.mark.slow
def test_another_python_converts(
    deployment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = next(filter(None, map(interpreter, OTHERS)), None)
    if python is None:
        pytest.skip(f"there is no Python {' or '.join(OTHERS)} on this machine")
    helper = tmp_path / "helper"
    made = ["make", "onnx-helper", f"ONNX_VENV={helper}", f"HELPER_PYTHON={python}"]
    done = subprocess.run(made, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"now: export PADDLE2ONNX_PYTHON={helper}/bin/python"
    monkeypatch.setenv("PADDLE2ONNX_PYTHON", f"{helper}/bin/python")
    exported = call(
        "export_model.py", "--config", deployment.config, "--model_path", deployment.weights,
        "--save_dir", tmp_path / "bundle", "--onnx", True,
    )  # fmt: skip
    assert exported.status == 0, exported.err
    assert exported.out.count("self-check: ONNX Runtime, input") == 2
    assert "made_by: paddle2onnx 2.1.0" in (tmp_path / "bundle/deploy.yaml").read_text()
    inferred = call(
        "infer.py", "--config", tmp_path / "bundle/deploy.yaml", "--backend", "onnxruntime",
        "--image_path", deployment.folder / "data", "--save_dir", tmp_path / "maps",
    )  # fmt: skip
    assert inferred.status == 0, inferred.err
