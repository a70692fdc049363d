"""The stages of a comparison, and the runs that are made of them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.tensorrt import ShapeRange
from paddleseg_ext.parity import stages, static_graph
from paddleseg_ext.parity.compare import candidates
from paddleseg_ext.parity.stages import STAGES, parse_stages

GPU_STAGES = [name for name, stage in STAGES.items() if stage.device == "gpu"]


@pytest.mark.parametrize("name", GPU_STAGES)
def test_a_gpu_that_is_not_there_is_said_before_anything_runs(monkeypatch, name) -> None:
    monkeypatch.setattr(stages, "has_gpu_build", lambda: False)
    with pytest.raises(UsageError, match=f"{name}: the installed PaddlePaddle is the CPU build"):
        parse_stages(["static", name])


def test_runs_on_a_gpu(monkeypatch, tmp_path: Path) -> None:
    """Each batch size once, whatever the threads; TensorRT is told the images' sizes."""
    monkeypatch.setattr(stages, "has_gpu_build", lambda: True)
    opened = []
    monkeypatch.setattr(
        static_graph, "open_backend", lambda bundle, name, **asked: opened.append((name, asked))
    )
    samples = []
    for number, (height, width) in enumerate([(40, 60), (50, 60)]):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.zeros((height, width, 3), np.uint8))
        samples.append(Sample(path, None, str(number)))
    deploy = tmp_path / "deploy.yaml"
    bundle = Bundle(deploy, tmp_path / "model.json", None, [], None, "none", None)
    runs = candidates(bundle, parse_stages(["paddle_gpu,paddle_trt_fp16"]), [1, 2], [1, 2], samples)
    assert [run.name for run in runs] == [
        *("paddle_gpu batch 1", "paddle_gpu batch 2"),
        *("paddle_trt_fp16 batch 1", "paddle_trt_fp16 batch 2"),
    ]
    for run in runs:
        run.load()
    assert [name for name, _ in opened] == ["paddle"] * 4
    plain, tensorrt = opened[1][1], opened[3][1]
    assert (plain["device"], plain["use_trt"], plain["precision"]) == ("gpu", False, "fp32")
    assert (tensorrt["device"], tensorrt["use_trt"], tensorrt["precision"]) == ("gpu", True, "fp16")
    assert tensorrt["tensorrt"].shapes == ShapeRange((1, 3, 40, 60), (2, 3, 40, 60), (2, 3, 50, 60))
