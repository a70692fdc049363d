"""The model repository, read back by Triton's own definition of it."""

import json
import runpy
from pathlib import Path

import pytest
from commands import PROJECT, call

from .conftest import Deployment

text_format = pytest.importorskip("google.protobuf.text_format")
model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2")
SCRIPT = "deploy/triton/make_repository.py"


def read(folder: Path) -> object:
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config.ModelConfig())


def test_a_repository(onnx_bundle: Path, tmp_path: Path) -> None:
    save_dir = tmp_path / "repository"
    flags = ["--config", onnx_bundle, "--save_dir", save_dir, "--name", "street", "--device", "cpu"]
    done = call(SCRIPT, *flags, "--max_batch", 4, "--max_wait_ms", 7)
    assert done.status == 0, done.err
    config = read(save_dir / "street")
    assert (config.name, config.backend, config.max_batch_size) == ("street", "onnxruntime", 4)
    assert config.dynamic_batching.max_queue_delay_microseconds == 7000
    assert config.input[0].data_type == model_config.TYPE_UINT8
    assert list(config.input[0].dims) == [3, -1, -1]
    assert config.output[0].data_type == model_config.TYPE_FP32
    assert len(config.output[0].dims) == 3
    assert config.instance_group[0].kind == model_config.ModelInstanceGroup.KIND_CPU
    assert json.loads(config.parameters["transforms"].string_value) == []
    assert len(json.loads(config.parameters["classes"].string_value)) == 5
    copied = (save_dir / "street" / "1" / "model.onnx").read_bytes()
    assert copied == (onnx_bundle.parent / "model.onnx").read_bytes()


def test_the_named_inputs_are_the_graphs(onnx_bundle: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    call(SCRIPT, "--config", onnx_bundle, "--save_dir", tmp_path)
    config = read(tmp_path / "segmentation")
    graph = tmp_path / "segmentation" / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == [value.name for value in config.input]
    assert [value.name for value in session.get_outputs()] == [
        value.name for value in config.output
    ]


def test_wrong_use(deployment: Deployment, onnx_bundle: Path, tmp_path: Path) -> None:
    bundle = deployment.export(deployment.config, onnx=False)
    without = call(SCRIPT, "--config", bundle, "--save_dir", tmp_path)
    assert without.status == 2 and "onnx" in without.error_lines[0].lower()
    named = call(SCRIPT, "--config", onnx_bundle, "--save_dir", tmp_path, "--name", "../x")
    assert named.status == 2 and "--name" in named.error_lines[0]
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/mine.md").write_text("kept")
    for name in ("docs", ".."):
        taken = call(SCRIPT, "--config", onnx_bundle, "--save_dir", tmp_path, "--name", name)
        assert taken.status == 2 and "--name" in taken.error_lines[0]
    assert (tmp_path / "docs/mine.md").read_text() == "kept"


def test_a_fixed_batch_is_not_batched(onnx_bundle: Path) -> None:
    onnx = pytest.importorskip("onnx")
    script = runpy.run_path(str(PROJECT / SCRIPT))
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, "h", 64])
    found = script["_tensor"](value, False, onnx_bundle)
    assert found == {"name": "x", "data_type": "TYPE_FP32", "dims": [1, 3, -1, 64]}
