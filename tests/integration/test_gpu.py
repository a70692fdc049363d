"""The acceptance on a GPU: `python -m pytest -m gpu -v`. Nobody has run it yet: docs/gpu.md."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.machine import has_gpu_build
from paddleseg_ext.evaluation.budgets import read_budgets
from paddleseg_ext.evaluation.trials import Trial, run_trials
from paddleseg_ext.images.samples import collect_samples
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.engines.table import open_engine
from paddleseg_ext.inference.engines.tensorrt import shapes_of
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.runtime import RuntimeSpec, TensorRtOptions

PROJECT = Path(__file__).resolve().parents[2]
CONFIGS = PROJECT / "test_tipc/configs"
SIZES_HW = [(64, 96), (48, 80)]  # of the images of `deployment`

pytestmark = pytest.mark.gpu
with_paddle = pytest.mark.skipif(
    not has_gpu_build(), reason="the installed PaddlePaddle is the CPU build"
)


@with_paddle
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("use_trt", [False, True])
def test_the_gpu_gives_the_answer_of_the_cpu(
    bundle: Path, deployment: Any, tmp_path: Path, precision: str, use_trt: bool
) -> None:
    """Within the budget of the precision; with TensorRT, engines are really there."""
    loaded = read_bundle(bundle)
    options = TensorRtOptions(shapes_of(loaded, SIZES_HW, 1), cache_dir=tmp_path)
    spec = RuntimeSpec("paddle", precision, "gpu", tensorrt=options if use_trt else None)
    gpu = Predictor.of_bundle(loaded, spec)
    assert gpu.shortfall() == ""
    cpu = Predictor.of_bundle(loaded, RuntimeSpec("paddle"))
    trials = {"cpu": Trial(cpu), "gpu": Trial(gpu)}
    run_trials(trials, "cpu", collect_samples(deployment.list))
    verdict = trials["gpu"].verdict(trials["cpu"], read_budgets()[precision])
    assert verdict.passed, verdict.summary()


@pytest.mark.parametrize("name", ["onnxruntime_cuda", "onnxruntime_trt", "onnxruntime_trt_fp16"])
def test_onnx_runtime_on_the_gpu_gives_the_answer_of_the_cpu(
    onnx_bundle: Path, deployment: Any, tmp_path: Path, name: str
) -> None:
    """For a GPU without a build of Paddle: the reference is ONNX Runtime on the CPU."""
    loaded, spec = read_bundle(onnx_bundle), RuntimeSpec.parse(name)
    try:
        spec.check()
    except UsageError as error:
        pytest.skip(str(error))
    if spec.tensorrt is not None:
        options = TensorRtOptions(shapes_of(loaded, SIZES_HW, 1), cache_dir=tmp_path)
        spec = replace(spec, tensorrt=options)
    gpu = Predictor.of_bundle(loaded, spec)
    assert gpu.shortfall() == ""
    cpu = Predictor.of_bundle(loaded, RuntimeSpec("onnxruntime"))
    trials = {"cpu": Trial(cpu), "gpu": Trial(gpu)}
    run_trials(trials, "cpu", collect_samples(deployment.list))
    verdict = trials["gpu"].verdict(trials["cpu"], read_budgets()[spec.precision])
    assert verdict.passed, verdict.summary()


@with_paddle
def test_engines_are_kept_for_the_next_run(bundle: Path, tmp_path: Path) -> None:
    loaded = read_bundle(bundle)
    options = TensorRtOptions(shapes_of(loaded, SIZES_HW, 1), cache_dir=tmp_path)
    kept = []
    for _ in range(2):
        told = open_engine(loaded, RuntimeSpec("paddle", device="gpu", tensorrt=options)).describe()
        files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        kept.append((told.tensorrt_engines, [(path, path.stat().st_mtime_ns) for path in files]))
    assert kept[0][0] > 0
    assert kept[0] == kept[1]


@with_paddle
@pytest.mark.tipc
@pytest.mark.parametrize(
    "network", sorted(path.name for path in CONFIGS.iterdir() if path.is_dir())
)
def test_mixed_precision_trains_and_deploys(network: str) -> None:
    """The whole chain: training in fp16, and every precision of `infer.py`, TensorRT off and on."""
    config = str(CONFIGS / network / "train_amp_infer_python.txt")
    for script in ("prepare.sh", "test_train_inference_python.sh"):
        command = ["bash", str(PROJECT / "test_tipc" / script), config, "lite_train_lite_infer"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
