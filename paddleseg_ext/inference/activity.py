"""Whether a backend runs what was asked for, judged by what its runtime tells of itself."""

from collections.abc import Mapping
from typing import Any

REDUCED = ("bf16", "fp16", "int8")
# Backend, as `open_backend` takes it -> what it calls itself.
OWN_NAMES = {
    "paddle": "paddle_inference",
    "paddle_onednn": "paddle_inference",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}


def shortfall(
    description: Mapping[str, Any],
    name: str,
    precision: str = "fp32",
    threads: int | None = None,
    device: str = "cpu",
    use_trt: bool = False,
) -> str:
    """Why this is not the backend that was asked for; empty where it is.

    Args:
        description: `Backend.describe()`.
        name: as for `open_backend`, or `static`, which runs wherever Paddle does.
        precision: `fp32`, `fp16` or `int8`.
        threads: that were asked for; None where any number will do.
        device: `cpu` or `gpu`.
        use_trt: TensorRT was asked for.
    """
    own_name = description.get("name")
    if name in OWN_NAMES and own_name is not None and own_name != OWN_NAMES[name]:
        return f"{name} was asked for, and {own_name} runs"
    if name != "static" and description.get("device") != device:
        return f"device {device} was asked for, and it runs on {description.get('device')}"
    if device == "gpu" and description.get("precision") != precision:
        return f"{precision} was asked for, and it runs in {description.get('precision')}"
    if use_trt and not description.get("tensorrt_engines"):
        return "TensorRT was asked for, and nothing of the graph is in an engine"
    kernels = description.get("kernels") or {}
    found = description.get("kernel_precisions") or {}
    if name in ("paddle", "paddle_onednn") and device == "cpu":
        if not description.get("onednn_visible", True):
            return "oneDNN's log cannot be read here, so nobody knows which kernels ran"
        if name == "paddle_onednn" and not kernels:
            return "oneDNN was asked for, and no oneDNN kernel ran"
        if name == "paddle" and kernels:
            return f"oneDNN was to be off, and {sum(kernels.values())} of its kernels ran"
    if name in ("onnxruntime", "openvino") and not kernels:
        return "no kernel is seen to run"
    if precision == "int8" and device == "cpu" and not description.get("int8_kernels"):
        return "INT8 was asked for, and no INT8 kernel runs"
    if precision == "fp32":
        reduced = {kind: count for kind, count in found.items() if kind in REDUCED}
        if reduced or description.get("precision") != "fp32":
            seen = ", ".join(f"{count} {kind}" for kind, count in reduced.items())
            return f"fp32 was asked for, and {seen or description.get('precision')} kernels run"
    reported = description.get("cpu_threads")
    if threads is not None and reported != threads:
        return f"{threads} threads were asked for, and the runtime has {reported}"
    return ""
