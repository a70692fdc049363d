"""The acceptance on a GPU: `python -m pytest -m gpu -v`. Nobody has run it yet: docs/gpu.md."""

from pathlib import Path
from typing import Any

import pytest

from paddleseg_ext.common.machine import has_gpu_build
from paddleseg_ext.data.samples import collect_samples
from paddleseg_ext.evaluation.evaluator import Scorer
from paddleseg_ext.evaluation.trials import Trial, run_trials
from paddleseg_ext.inference.backends.activity import shortfall
from paddleseg_ext.inference.backends.open import open_backend
from paddleseg_ext.inference.backends.tensorrt import TensorRtOptions, shapes_of
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.parity.budgets import read_budgets

SIZES_HW = [(64, 96), (48, 80)]  # of the images of `deployment`

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not has_gpu_build(), reason="the installed PaddlePaddle is the CPU build"),
]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("use_trt", [False, True])
def test_the_gpu_gives_the_answer_of_the_cpu(
    bundle: Path, deployment: Any, tmp_path: Path, precision: str, use_trt: bool
) -> None:
    """Within the budget of the precision; with TensorRT, engines are really there."""
    loaded = read_bundle(bundle)
    assert loaded.manifest is not None
    table = loaded.manifest.class_table
    options = TensorRtOptions(shapes_of(loaded, SIZES_HW, 1), cache_dir=tmp_path)
    gpu = open_backend(
        loaded, "paddle", device="gpu", precision=precision, use_trt=use_trt, tensorrt=options
    )
    told = gpu.describe()
    assert shortfall(told, "paddle", precision, device="gpu", use_trt=use_trt) == ""
    trials = {
        "cpu": Trial(open_backend(loaded, "paddle"), loaded, "", Scorer(table)),
        "gpu": Trial(gpu, loaded, "", Scorer(table)),
    }
    run_trials(trials, "cpu", collect_samples(deployment.list))
    verdict = trials["gpu"].verdict(trials["cpu"], table, read_budgets()[precision])
    assert verdict.passed, verdict.summary()
