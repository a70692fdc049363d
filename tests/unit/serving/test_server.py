"""The engine of a service: as asked for, warm, and with a warning where it is another."""

import sys

import numpy as np
import pytest
from fastapi.testclient import TestClient

from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec
from paddleseg_ext.serving.app import create_app
from paddleseg_ext.serving.options import ServeOptions
from paddleseg_ext.serving.server import open_service

from .conftest import BrightnessNetwork, make_bundle, png

OPTIONS = ServeOptions()
KERNELS = "paddleseg_ext.inference.sparse_kernels"


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


class CoarseNetwork(BrightnessNetwork):
    """Returns a quarter of the size; every other output cannot be written to."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        scores = np.ascontiguousarray(super().run(batch)[..., ::4, ::4])
        scores.flags.writeable = len(self.batches) % 2 == 0
        return scores


PADDED = [{"type": "Padding", "target_size": [96, 96]}]
RESIZED = [{"type": "Resize", "target_size": [32, 16]}]


def compiled() -> dict[str, int]:
    """Entry of the compiled code -> the machine codes that it has."""
    kernels = sys.modules[KERNELS]
    return {name: len(getattr(kernels, name).signatures) for name in ("fill", "largest_of")}


@pytest.mark.parametrize("engine", [BrightnessNetwork, CoarseNetwork])
@pytest.mark.parametrize("transforms", [[], RESIZED, PADDED], ids=["whole", "resized", "padded"])
def test_a_ready_service_compiles_nothing_more(
    engine: type[Engine], transforms: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the warm-up's own label map, of an image of zeros, needs no compiled code."""
    opened = "paddleseg_ext.inference.predictor.open_engine"
    monkeypatch.setattr(opened, lambda *_: engine())
    monkeypatch.delitem(sys.modules, KERNELS, raising=False)
    spec = RuntimeSpec.parse("openvino", threads=1)
    service = open_service(make_bundle(transforms), spec, OPTIONS)
    assert compiled() == {"fill": 1, "largest_of": 1}
    taken = []
    kernels = sys.modules[KERNELS]
    fill = kernels.fill
    monkeypatch.setattr(kernels, "fill", lambda *given: taken.append(given) or fill(*given))
    with TestClient(create_app(service)) as client:
        for seed in range(4):  # from the second image of a size on the compiled way is taken
            for height, width in ((50, 70), (64, 64), (33, 91)):
                answer = client.post("/v1/segment", content=png(height, width, seed))
                assert answer.status_code == 200
    if transforms == RESIZED or engine is CoarseNetwork:
        assert {scores.flags.writeable for scores, *_ in taken} == (
            {True, False} if engine is CoarseNetwork else {True}
        )
    monkeypatch.setattr(kernels, "fill", fill)
    assert compiled() == {"fill": 1, "largest_of": 1}
