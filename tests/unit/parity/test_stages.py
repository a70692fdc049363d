"""The stages of a comparison, and the runs that are made of them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.runtime import ShapeRange, known_runtimes
from paddleseg_ext.parity import stages
from paddleseg_ext.parity.compare import runs_of
from paddleseg_ext.parity.stages import parse_stages

GPU_STAGES = [
    name
    for name, spec in known_runtimes().items()
    if spec.device == "gpu" and spec.engine == "paddle"
]


def test_stages_come_by_comma_or_space_each_once():
    names = [stage.name for stage in parse_stages(["eager,static", "paddle", "static,"])]
    assert names == ["eager", "static", "paddle"]


def test_the_names_of_stages() -> None:
    names = (
        "eager static paddle paddle_onednn onnxruntime openvino onnxruntime_int8 openvino_int8 "
        "paddle_gpu paddle_gpu_fp16 paddle_trt paddle_trt_fp16"
    )
    assert set(names.split()) <= set(known_runtimes())


def test_unknown_and_missing_names_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--stages: .*unknown 'opnvino' \(did you mean 'openvin"):
        parse_stages(["static,opnvino"])
    with pytest.raises(UsageError, match="--stages: at least one of paddle, paddle_onednn, "):
        parse_stages([","])


@pytest.mark.parametrize("name", GPU_STAGES)
def test_a_gpu_that_is_not_there_is_said_before_anything_runs(monkeypatch, name) -> None:
    monkeypatch.setattr(stages, "has_gpu_build", lambda: False)
    with pytest.raises(UsageError, match=f"{name}: the installed PaddlePaddle is the CPU build"):
        parse_stages(["static", name])


def test_onnx_runtime_needs_a_gpu_of_its_own() -> None:
    """Whatever the build of Paddle."""
    with pytest.raises(UsageError, match=r"--stages: onnxruntime_cuda: (onnxruntime-gpu|no NVID)"):
        parse_stages(["static,onnxruntime_cuda"])


def make_bundle(folder: Path) -> Bundle:
    return Bundle(folder / "deploy.yaml", folder / "model.json", None, [], None, "none", None)


def test_runs_on_a_gpu(monkeypatch, tmp_path: Path) -> None:
    """Each batch size once, whatever the threads; TensorRT gets the images' sizes."""
    monkeypatch.setattr(stages, "has_gpu_build", lambda: True)
    samples = []
    for number, (height, width) in enumerate([(40, 60), (50, 60)]):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), np.zeros((height, width, 3), np.uint8))
        samples.append(Sample(path, None, str(number)))
    specs = parse_stages(["paddle_gpu,paddle_trt_fp16"])
    runs = runs_of(make_bundle(tmp_path), specs, [1, 2], [1, 2], samples)
    assert [run.name for run in runs] == [
        *("paddle_gpu batch 1", "paddle_gpu batch 2"),
        *("paddle_trt_fp16 batch 1", "paddle_trt_fp16 batch 2"),
    ]
    assert [run.spec.engine for run in runs] == ["paddle"] * 4
    assert [run.batch_size for run in runs] == [1, 2, 1, 2]
    plain, tensorrt = runs[1].spec, runs[3].spec
    assert (plain.device, plain.tensorrt, plain.precision) == ("gpu", None, "fp32")
    assert (tensorrt.device, tensorrt.precision) == ("gpu", "fp16")
    assert tensorrt.tensorrt is not None
    assert tensorrt.tensorrt.shapes == ShapeRange((1, 3, 40, 60), (2, 3, 40, 60), (2, 3, 50, 60))


def test_runs_on_a_cpu(tmp_path: Path) -> None:
    """Each thread count with each batch size; the static graph once."""
    specs = parse_stages(["static", "openvino_int8"])
    runs = runs_of(make_bundle(tmp_path), specs, [1, 2], [1, 3], [])
    assert [(run.name, run.spec.threads, run.batch_size) for run in runs] == [
        ("static", None, 1),
        ("openvino_int8 threads 1 batch 1", 1, 1),
        ("openvino_int8 threads 1 batch 3", 1, 3),
        ("openvino_int8 threads 2 batch 1", 2, 1),
        ("openvino_int8 threads 2 batch 3", 2, 3),
    ]
