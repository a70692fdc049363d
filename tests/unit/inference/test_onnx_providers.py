"""ONNX Runtime on a GPU: the options that it is given, and one line where it cannot run."""

from importlib import metadata
from pathlib import Path

import pytest
from engines import write_onnx

from paddleseg_ext.commands.runtime_flags import RuntimeFlags, named_runtime
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.inference.bundle import Bundle, bundle_for_onnx
from paddleseg_ext.inference.engines import onnx_providers
from paddleseg_ext.inference.engines.onnx_providers import (
    CPU,
    CUDA,
    TENSORRT,
    check_gpu,
    device_of,
    has_nvidia_gpu,
    missing_provider,
    providers_of,
)
from paddleseg_ext.inference.engines.table import open_engine
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec, ShapeRange, TensorRtOptions

SHAPES = ShapeRange((1, 3, 32, 64), (2, 3, 64, 64), (2, 3, 96, 128))


def bundle_in(folder: Path) -> Bundle:
    return Bundle(folder / "deploy.yaml", folder / "model.onnx", None, [], None, "none", None)


def test_cuda_computes_in_fp32_and_not_in_tf32(tmp_path: Path) -> None:
    spec = RuntimeSpec.parse("onnxruntime_cuda")
    assert (spec.engine, spec.device, spec.precision) == ("onnxruntime", "gpu", "fp32")
    found = providers_of(spec, bundle_in(tmp_path), "images")
    assert found == [(CUDA, {"device_id": 0, "use_tf32": 0}), (CPU, {})]


def test_tensorrt_gets_shapes_and_a_folder(tmp_path: Path) -> None:
    options = TensorRtOptions(SHAPES, 5, tmp_path / "kept")
    spec = RuntimeSpec("onnxruntime", "fp16", "gpu", tensorrt=options)
    assert spec.name == "onnxruntime_trt_fp16"
    (name, found), *others = providers_of(spec, bundle_in(tmp_path), "images")
    assert name == TENSORRT and [each for each, _ in others] == [CUDA, CPU]
    assert found["trt_fp16_enable"] and found["trt_min_subgraph_size"] == 5
    assert found["trt_engine_cache_path"] == str(tmp_path / "kept")
    shapes = [found[f"trt_profile_{kind}_shapes"] for kind in ("min", "opt", "max")]
    assert shapes == ["images:1x3x32x64", "images:2x3x64x64", "images:2x3x96x128"]
    plain = RuntimeSpec("onnxruntime", device="gpu", tensorrt=TensorRtOptions(SHAPES))
    (_, found), *_ = providers_of(plain, bundle_in(tmp_path), "images")
    assert not found["trt_fp16_enable"]
    assert found["trt_engine_cache_path"] == str(tmp_path / "tensorrt")
    with pytest.raises(UsageError):  # a graph of any size, and no shapes
        providers_of(RuntimeSpec.parse("onnxruntime_trt"), bundle_in(tmp_path), "images")


def test_one_line_without_the_package_and_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    is_there = False

    def installed(name: str) -> str:
        if name != "onnxruntime-gpu" or not is_there:
            raise metadata.PackageNotFoundError(name)
        return "1.31.1"

    monkeypatch.setattr(onnx_providers.metadata, "version", installed)
    monkeypatch.setattr(onnx_providers, "has_nvidia_gpu", lambda: False)
    for state, message in (
        (False, r"onnxruntime-gpu is not installed; .*paddleseg_ext\[onnxruntime_gpu\]"),
        (True, "no NVIDIA GPU is here; use --backend onnxruntime"),
    ):
        is_there = state
        for name in ("onnxruntime_cuda", "onnxruntime_trt", "onnxruntime_trt_fp16"):
            with pytest.raises(UsageError, match=f"{name}: {message}"):
                RuntimeSpec.parse(name).check()
    monkeypatch.setattr(onnx_providers, "has_nvidia_gpu", lambda: True)
    check_gpu("onnxruntime_cuda")
    for spec in (
        RuntimeSpec("onnxruntime", "fp16", "gpu"),
        RuntimeSpec("onnxruntime", "int8", "gpu", tensorrt=TensorRtOptions()),
    ):
        with pytest.raises(UsageError, match="runs in fp32, and with TensorRT in fp16"):
            spec.check()


def test_hidden_devices_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(onnx_providers, "DEVICE_FILES", (tmp_path / "nvidiactl",))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert has_nvidia_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not has_nvidia_gpu()


def test_a_provider_that_fell_out_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The CPU build takes the name of another provider, and runs on the CPU."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx_providers, "check_gpu", lambda name: None)
    with pytest.raises(UsageError, match="onnxruntime_cuda: ONNX Runtime could not load its CUDA"):
        open_engine(
            bundle_for_onnx(write_onnx(tmp_path / "net.onnx")),
            RuntimeSpec.parse("onnxruntime_cuda"),
        )
    assert missing_provider([(CUDA, {})], [CUDA, CPU]) == ""
    assert "TensorRT of its release" in missing_provider([(TENSORRT, {})], [CPU])


def test_the_device_is_where_kernels_ran() -> None:
    assert device_of({CPU: 9}) == "cpu"
    assert device_of({CUDA: 1, CPU: 9}) == device_of({TENSORRT: 1}) == "gpu"
    spec = RuntimeSpec.parse("onnxruntime_trt")
    report = RuntimeReport("onnxruntime", device="gpu", kernels={"Conv": 3})
    assert (
        spec.shortfall(report) == "TensorRT was asked for, and nothing of the graph is in an engine"
    )
    assert RuntimeSpec.parse("onnxruntime_cuda").shortfall(report) == ""


def test_flags_that_contradict_the_name() -> None:
    named = named_runtime(RuntimeFlags(backend="onnxruntime_cuda"), "cpu", 2)
    assert (named.device, named.threads) == ("gpu", 2)
    for changes in ({"device": "cpu"}, {"use_trt": True}, {"enable_mkldnn": True}):
        with pytest.raises(UsageError, match="names the GPU and TensorRT itself"):
            named_runtime(RuntimeFlags(backend="onnxruntime_cuda", **changes), "cpu", 2)
    flags = RuntimeFlags(backend="onnxruntime_trt_fp16", min_subgraph_size=9)
    found = named_runtime(flags, "cpu", 2)
    assert found.tensorrt is not None and found.tensorrt.min_subgraph_size == 9
