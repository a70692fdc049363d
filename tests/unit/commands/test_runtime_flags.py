"""Flags that describe a runtime become one `RuntimeSpec`."""

from typing import Any

import pytest

from paddleseg_ext.commands import runtime_flags as module
from paddleseg_ext.commands.runtime_flags import RuntimeFlags, named_runtime, runtime_of
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.inference.runtime import RuntimeSpec


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
    spec = runtime_of(RuntimeFlags(**flags), None, "[SERVE] ")  # type: ignore[arg-type]
    assert spec.name == name and spec.threads == 1


def test_the_choice_is_logged(with_gpu: None, capsys: pytest.CaptureFixture[str]) -> None:
    runtime_of(RuntimeFlags(device="cpu"), None, "[SERVE] ")  # type: ignore[arg-type]
    assert "[SERVE] backend openvino: the fastest" in capsys.readouterr().out


def test_a_runtime_of_another_machine_is_named_here() -> None:
    spec = named_runtime(RuntimeFlags("paddle", precision="fp16"), "gpu", 2)
    assert spec == RuntimeSpec("paddle", "fp16", "gpu", threads=2)
    assert named_runtime(RuntimeFlags("paddle_gpu_fp16"), "cpu", 2) == spec
    with pytest.raises(UsageError, match="openvino_int8 and --precision fp32 differ"):
        named_runtime(RuntimeFlags("openvino_int8", precision="fp32"), "cpu", 1)
