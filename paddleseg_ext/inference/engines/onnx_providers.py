"""Where ONNX Runtime computes: its execution providers for a runtime, and what a run says of them.

Nothing here imports ONNX Runtime. Nobody has run the GPU's yet (docs/gpu.md). Source of the
options: onnxruntime.ai, CUDA and TensorRT execution provider.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.packages import how_to_install
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.tensorrt import resolve_shapes
from paddleseg_ext.inference.runtime import RuntimeSpec, Shape

CPU, CUDA, TENSORRT = (
    "CPUExecutionProvider",
    "CUDAExecutionProvider",
    "TensorrtExecutionProvider",
)
ERRORS_ONLY = 3  # a level of ONNX Runtime's log
GPU_DISTRIBUTION = "onnxruntime-gpu"
# Linux's driver, and that of WSL.
DEVICE_FILES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
Providers = list[tuple[str, dict[str, Any]]]


def check_gpu(name: str) -> None:
    """Refuse a runtime of ONNX Runtime on a GPU where it cannot run.

    Args:
        name: of the runtime.

    Raises:
        UsageError: another build of ONNX Runtime, or no NVIDIA GPU.
    """
    try:
        metadata.version(GPU_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise UsageError(
            f"{name}: {GPU_DISTRIBUTION} is not installed; take onnxruntime out and "
            f"{how_to_install('onnxruntime_gpu')} (docs/gpu.md), or use --backend onnxruntime"
        ) from None
    if not has_nvidia_gpu():
        raise UsageError(f"{name}: no NVIDIA GPU is here; use --backend onnxruntime")


def has_nvidia_gpu() -> bool:
    """Whether a driver of NVIDIA's is loaded, and a device is not hidden."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return any(file.exists() for file in DEVICE_FILES) or shutil.which("nvidia-smi") is not None


def providers_of(spec: RuntimeSpec, bundle: Bundle, input_name: str) -> Providers:
    """The execution providers of a session and their options, the first one preferred.

    In fp32 the CUDA kernels compute in fp32, and not in TF32, which has 11 bits.

    Args:
        spec: the runtime.
        bundle: TensorRT keeps its engines beside it, by default.
        input_name: of the graph.

    Raises:
        UsageError: TensorRT without shapes.
    """
    if spec.device == "cpu":
        return [(CPU, {})]
    providers: Providers = [(CUDA, {"device_id": 0, "use_tf32": 0}), (CPU, {})]
    if spec.tensorrt is None:
        return providers
    shapes = resolve_shapes(bundle, spec.tensorrt)
    folder = spec.tensorrt.cache_dir or bundle.deploy_file.parent / "tensorrt"
    options: dict[str, Any] = {
        "device_id": 0,
        "trt_fp16_enable": spec.precision == "fp16",
        "trt_min_subgraph_size": spec.tensorrt.min_subgraph_size,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder),
    }
    profiles = (("min", shapes.least), ("opt", shapes.typical), ("max", shapes.most))
    for kind, shape in profiles:
        options[f"trt_profile_{kind}_shapes"] = f"{input_name}:{_sides(shape)}"
    return [(TENSORRT, options), *providers]


def _sides(shape: Shape) -> str:
    return "x".join(map(str, shape))


def missing_provider(wanted: Providers, found: Iterable[str]) -> str:
    """Why a session does not run where it should; empty where it does.

    ONNX Runtime goes on without a provider whose libraries it cannot load.

    Args:
        wanted: of `providers_of`.
        found: of the session.
    """
    first = wanted[0][0]
    if first in found:
        return ""
    libraries = "CUDA and cuDNN" if first == CUDA else "CUDA, cuDNN and TensorRT"
    return f"ONNX Runtime could not load its {first}: are {libraries} of its release installed?"


def device_of(calls: Mapping[str, int]) -> str:
    """`gpu`, or `cpu` where no kernel ran on a GPU.

    Args:
        calls: provider -> kernels in a run.
    """
    return "gpu" if calls.get(CUDA) or calls.get(TENSORRT) else "cpu"
