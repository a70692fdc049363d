"""What a service runs on: asked for, or chosen; and never another in silence."""

from typing import Any

import pytest

from paddleseg_ext.serving import backend as module
from paddleseg_ext.serving.backend import AUTO, open_service_backend


class Fake:
    """Stands for ONNX Runtime; computes in fp32 on 1 thread, whatever was asked."""

    def describe(self) -> dict[str, Any]:
        """See `Backend.describe`."""
        told = {"name": "onnxruntime", "device": "cpu", "precision": "fp32", "cpu_threads": 1}
        return {**told, "kernels": {"Conv": 9}, "kernel_precisions": {"fp32": 9}}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(
        module, "open_backend", lambda bundle, name, **asked: names.append(name) or Fake()
    )
    monkeypatch.setattr(module, "choose_backend", lambda *asked: ("openvino", "the fastest"))
    monkeypatch.setattr(module, "shortfall", lambda *asked: "")
    return names


@pytest.mark.parametrize(
    ("name", "device", "taken"),
    [(AUTO, "cpu", "openvino"), (AUTO, "gpu", "paddle"), ("onnxruntime", "cpu", "onnxruntime")],
)
def test_which_one(opened: list[str], name: str, device: str, taken: str) -> None:
    open_service_backend(None, name, "fp32", 1, device)
    assert opened == [taken]


def test_another_precision_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(module, "open_backend", lambda bundle, name, **asked: Fake())
    monkeypatch.setattr(module, "warn", told.append)
    open_service_backend(None, "onnxruntime", "fp32", 1, "cpu")
    assert told == []
    open_service_backend(None, "onnxruntime", "int8", 1, "cpu")
    assert len(told) == 1
    assert "INT8" in told[0]
