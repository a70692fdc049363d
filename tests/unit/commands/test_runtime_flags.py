"""Flags that describe a runtime become one `RuntimeSpec`."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paddleseg_ext.commands import infer
from paddleseg_ext.commands import runtime_flags as module
from paddleseg_ext.commands.runtime_flags import (
    RuntimeFlags,
    asked_runtime,
    for_many_images,
    named_runtime,
    runtime_of,
)
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.inference.verified import Verified


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddleseg_ext.common.machine.has_gpu_build", lambda: True)
    monkeypatch.setattr(module, "fix_thread_count", lambda threads: threads or 1)
    chosen = (RuntimeSpec("openvino"), "the fastest")
    monkeypatch.setattr(module, "choose_runtime", lambda *asked: chosen)


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({"device": "cpu"}, "openvino"),
        ({"device": "gpu"}, "paddle_gpu"),
        ({}, "paddle_gpu"),
        ({"backend": "onnxruntime", "device": "cpu"}, "onnxruntime"),
        ({"backend": "openvino_int8", "device": "cpu"}, "openvino_int8"),
        ({"backend": "openvino", "precision": "int8", "device": "cpu"}, "openvino_int8"),
        ({"device": "cpu", "enable_mkldnn": True}, "paddle_onednn"),
    ],
)
def test_which_one(with_gpu: None, flags: dict[str, Any], name: str) -> None:
    bundle: Any = SimpleNamespace(verified={})
    spec = runtime_of(RuntimeFlags(**flags), bundle, "[SERVE] ")
    assert spec.name == name and spec.threads == 1


def test_the_choice_is_logged(with_gpu: None, capsys: pytest.CaptureFixture[str]) -> None:
    bundle: Any = SimpleNamespace(verified={})
    runtime_of(RuntimeFlags(device="cpu"), bundle, "[SERVE] ")
    assert "[SERVE] backend openvino: the fastest" in capsys.readouterr().out


def test_a_runtime_that_failed_runs_with_a_warning(
    with_gpu: None, capsys: pytest.CaptureFixture[str]
) -> None:
    records = {
        "openvino_int8": Verified("failed", False, command="quantize"),
        "onnxruntime_int8": Verified("within-budget", True, command="quantize"),
    }
    bundle: Any = SimpleNamespace(verified=records, deploy_file=Path("b/deploy.yaml"))
    for name in records:
        assert runtime_of(RuntimeFlags(name, device="cpu"), bundle).name == name
    warned = capsys.readouterr().out
    assert "b/deploy.yaml: openvino_int8 is recorded as failed by quantize" in warned
    assert "onnxruntime_int8" not in warned


def test_a_runtime_of_another_machine_is_named_here() -> None:
    spec = named_runtime(RuntimeFlags("paddle", precision="fp16"), "gpu", 2)
    assert spec == RuntimeSpec("paddle", "fp16", "gpu", threads=2)
    assert named_runtime(RuntimeFlags("paddle_gpu_fp16"), "cpu", 2) == spec
    with pytest.raises(UsageError, match="openvino_int8 and --precision fp32 differ"):
        named_runtime(RuntimeFlags("openvino_int8", precision="fp32"), "cpu", 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"min_subgraph_size": 7}, "--min_subgraph_size does nothing without TensorRT"),
        ({"trt_cache_dir": Path("x")}, "--trt_cache_dir does nothing without TensorRT"),
        ({"backend": "paddle", "min_subgraph_size": 7}, "--min_subgraph_size does nothing"),
        ({"backend": "paddle_onednn", "enable_mkldnn": False}, "contradict each other"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        asked_runtime(RuntimeFlags(device="cpu", **flags))


def test_the_same_flags_with_tensorrt() -> None:
    spec = named_runtime(RuntimeFlags(use_trt=True, min_subgraph_size=7), "gpu", 1)
    assert spec.tensorrt is not None and spec.tensorrt.min_subgraph_size == 7


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--image_path", "x", "--save_log_path", "l"], "--save_log_path does nothing without --b"),
        (["--image_path", "x", "--model_name", "n"], "--model_name does nothing without --benchm"),
        (["--image_path", "x", "--show_fps"], "--show_fps does nothing without --video or"),
        (["--image_path", "x", "--most_frames", "3"], "--most_frames does nothing without --video"),
        (["--video", "x", "--benchmark", "True"], "--benchmark does nothing without --image_path"),
        (["--video", "x", "--absent_class", "one"], "--absent_class does nothing without --image"),
    ],
)
def test_infer_refuses_flags_of_another_mode(given: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        infer.main(["--config", "nowhere", *given])


@pytest.mark.parametrize(
    ("spec", "num_batches", "streams"),
    [
        (RuntimeSpec("mnn", threads=2), 100, 2),
        (RuntimeSpec("mnn", threads=4), 3, 3),
        (RuntimeSpec("mnn", threads=4), 1, 1),
        (RuntimeSpec("mnn", threads=4), 0, 1),
        (RuntimeSpec("mnn", threads=64), 100, module.MOST_STREAMS),
        (RuntimeSpec("ncnn", threads=4), 100, 4),
        (RuntimeSpec("openvino", threads=4), 100, 1),
        (RuntimeSpec("paddle_onednn", threads=4), 100, 1),
    ],
)
def test_many_images_have_a_stream_for_each_thread_of_some_engines(
    spec: RuntimeSpec, num_batches: int, streams: int
) -> None:
    assert for_many_images(spec, num_batches).streams == streams
