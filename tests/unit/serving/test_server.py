"""The engine of a service: as asked for, warm, and with a warning where it is another."""

import pytest
from fastapi.testclient import TestClient
from numba import njit

from paddleseg_ext.inference import sparse_upsampling
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec
from paddleseg_ext.serving.app import create_app
from paddleseg_ext.serving.options import ServeOptions
from paddleseg_ext.serving.server import open_service

from .conftest import BrightnessNetwork, make_bundle, png

OPTIONS = ServeOptions()
COMPILED = ("_largest", "_fill")  # the entries; what they call is compiled with them


class Fp32Network(BrightnessNetwork):
    """Stands for ONNX Runtime; computes in fp32 on 1 thread, whatever was asked."""

    def describe(self) -> RuntimeReport:
        kernels = {"kernels": {"Conv": 9}, "kernel_precisions": {"fp32": 9}}
        return RuntimeReport("onnxruntime", cpu_threads=1, **kernels)


@pytest.fixture
def asked(network: BrightnessNetwork, monkeypatch: pytest.MonkeyPatch) -> list[RuntimeSpec]:
    """The runtimes that were opened."""
    specs: list[RuntimeSpec] = []

    def open_engine(_: object, spec: RuntimeSpec) -> Engine:
        specs.append(spec)
        return Fp32Network() if spec.engine == "onnxruntime" else network

    monkeypatch.setattr("paddleseg_ext.inference.predictor.open_engine", open_engine)
    return specs


@pytest.mark.parametrize("name", ["openvino", "paddle_gpu", "onnxruntime"])
def test_the_runtime_that_was_asked_for(asked: list[RuntimeSpec], name: str) -> None:
    spec = RuntimeSpec.parse(name, threads=1)
    open_service(make_bundle(), spec, OPTIONS).close()
    assert asked == [spec]


def test_another_precision_is_warned_of(
    asked: list[RuntimeSpec], capsys: pytest.CaptureFixture[str]
) -> None:
    open_service(make_bundle(), RuntimeSpec.parse("onnxruntime", threads=1), OPTIONS).close()
    assert "[WARNING]" not in capsys.readouterr().out
    open_service(make_bundle(), RuntimeSpec.parse("onnxruntime_int8", threads=1), OPTIONS).close()
    said = capsys.readouterr().out
    assert "backend onnxruntime_int8: INT8" in said and said.count("[WARNING]") == 1


def test_a_ready_service_compiles_nothing_more(
    asked: list[RuntimeSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transforms resize, so that label maps are made by compiled code."""
    fresh = {name: njit(nogil=True)(getattr(sparse_upsampling, name).py_func) for name in COMPILED}
    for name, function in fresh.items():
        monkeypatch.setattr(sparse_upsampling, name, function)
    bundle = make_bundle([{"type": "Resize", "target_size": [32, 16]}])
    service = open_service(bundle, RuntimeSpec.parse("openvino", threads=1), OPTIONS)
    ready = {name: list(function.signatures) for name, function in fresh.items()}
    assert all(len(signatures) == 1 for signatures in ready.values())
    called = []
    fill = sparse_upsampling._fill
    monkeypatch.setattr(sparse_upsampling, "_fill", lambda *given: called.append(1) or fill(*given))
    with TestClient(create_app(service)) as client:
        for seed in range(2):  # the second image of a size takes the compiled way
            answer = client.post("/v1/segment", content=png(50, 70, seed))
            assert answer.status_code == 200
    assert called
    assert {name: list(function.signatures) for name, function in fresh.items()} == ready
