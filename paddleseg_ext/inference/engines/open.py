"""Every backend by its name: the one door to them."""

from paddleseg_ext.common.errors import UsageError, nearest_name
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import TimedBackend
from paddleseg_ext.inference.engines.onnx_runtime import OnnxRuntime
from paddleseg_ext.inference.engines.openvino_runtime import OpenVino
from paddleseg_ext.inference.engines.paddle_inference import (
    PRECISIONS,
    PaddleInference,
    PaddleOptions,
)
from paddleseg_ext.inference.engines.tensorrt import TensorRtOptions

BACKENDS = ("paddle", "paddle_onednn", "onnxruntime", "openvino")
ONNX_PRECISIONS = ("fp32", "int8")


def stage_name(name: str, precision: str = "fp32") -> str:
    """What a backend is called in reports and in `Manifest.verified`: `openvino_int8`."""
    return name if precision == "fp32" else f"{name}_{precision}"


def open_backend(
    bundle: Bundle,
    name: str,
    *,
    precision: str = "fp32",
    threads: int | None = None,
    streams: int = 1,
    pinned: bool = False,
    device: str = "cpu",
    use_trt: bool = False,
    tensorrt: TensorRtOptions | None = None,
) -> TimedBackend:
    """Load a bundle into a backend.

    Args:
        bundle: with a graph of the backend's kind.
        name: `paddle` (oneDNN off), `paddle_onednn`, `onnxruntime` or `openvino`.
        precision: `fp32`, `int8`, or on a GPU `fp16`.
        threads: CPU threads of a run; None means every available core.
        streams: runs at a time, for OpenVINO and ONNX Runtime; 1 gives the shortest run, several
            the most of them, where `run` is called from as many threads.
        pinned: bind each of the runtime's own threads to a core; OpenVINO and ONNX Runtime.
        device: `cpu`, or `gpu` for `paddle`.
        use_trt: TensorRT, for `paddle` on a GPU.
        tensorrt: its shapes, engine cache and subgraph size, where the defaults will not do.

    Raises:
        UsageError: an unknown name, a package that is not installed, a graph that the bundle does
            not hold, or what the backend cannot do.
    """
    if name not in BACKENDS:
        raise UsageError(f"backend: unknown '{name}'{nearest_name(name, BACKENDS)}")
    if precision not in PRECISIONS:
        raise UsageError(f"precision: unknown '{precision}'{nearest_name(precision, PRECISIONS)}")
    if name in ("paddle", "paddle_onednn"):
        if streams > 1:
            raise UsageError(f"{name}: one run at a time; several streams need an ONNX backend")
        if pinned:
            raise UsageError(
                f"--cpu_affinity True: {name} cannot bind its own threads alone; choose --backend "
                "onnxruntime or openvino (docs/performance.md)"
            )
        options = PaddleOptions(
            device=device,
            enable_mkldnn=name == "paddle_onednn",
            cpu_threads=threads,
            use_trt=use_trt,
            precision=precision,
            tensorrt=tensorrt or TensorRtOptions(),
        )
        return PaddleInference(bundle, options)
    if device != "cpu" or precision not in ONNX_PRECISIONS:
        raise UsageError(
            f"{name} runs on a CPU in {' or '.join(ONNX_PRECISIONS)}, "
            f"got {precision} on device {device}; use --backend paddle for a GPU"
        )
    if name == "onnxruntime":
        return OnnxRuntime(bundle, precision, threads, streams, pinned)
    return OpenVino(bundle, precision, threads, streams, pinned)
