"""The ways of running a network that can be compared, and the proof that each ran as asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from paddleseg_ext.common.errors import UsageError, nearest_name
from paddleseg_ext.common.machine import NO_GPU, has_gpu_build

EAGER, STATIC = "eager", "static"
ONNX_RUNTIMES = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Stage:
    """One way of running a network.

    Attributes:
        name: as `--stages` takes it.
        runtime: the backend's name for `open_backend`; `eager` and `static` are the framework's.
        precision: whose budget its runs have.
        device: `cpu` or `gpu`.
        use_trt: TensorRT, on a GPU.
    """

    name: str
    runtime: str
    precision: str = "fp32"
    device: str = "cpu"
    use_trt: bool = False


STAGES = {
    stage.name: stage
    for stage in (
        Stage(EAGER, EAGER),
        Stage(STATIC, STATIC),
        Stage("paddle", "paddle"),
        Stage("paddle_onednn", "paddle_onednn"),
        Stage("onnxruntime", "onnxruntime"),
        Stage("openvino", "openvino"),
        Stage("onnxruntime_int8", "onnxruntime", "int8"),
        Stage("openvino_int8", "openvino", "int8"),
        Stage("paddle_gpu", "paddle", device="gpu"),
        Stage("paddle_gpu_fp16", "paddle", "fp16", "gpu"),
        Stage("paddle_trt", "paddle", "fp32", "gpu", use_trt=True),
        Stage("paddle_trt_fp16", "paddle", "fp16", "gpu", use_trt=True),
    )
}
# Names that users expect, and why there is no such stage.
REFUSED_STAGES = {
    "paddle_int8": "Paddle 3.2.2 has no INT8 on a CPU that runs (docs/quantization.md); "
    "use onnxruntime_int8 or openvino_int8",
}
DEFAULT_STAGES = (STATIC, "paddle", "paddle_onednn")
DEFAULT_LEGACY_STAGES = DEFAULT_STAGES[1:]  # Paddle 3 runs a `.pdmodel` in Paddle Inference only


def parse_stages(words: Sequence[str]) -> list[Stage]:
    """`--stages eager,static paddle`: names separated by commas or spaces, each once.

    Raises:
        UsageError: an unknown name (the nearest is named), or one that nothing can run.
    """
    names = [name for word in words for name in word.split(",") if name]
    for name in names:
        if name in REFUSED_STAGES:
            raise UsageError(f"--stages: {name}: {REFUSED_STAGES[name]}")
        if name not in STAGES:
            raise UsageError(f"--stages: unknown '{name}'{nearest_name(name, STAGES)}")
        if STAGES[name].device == "gpu" and not has_gpu_build():
            raise UsageError(f"--stages: {name}: {NO_GPU}")
    if not names:
        raise UsageError(f"--stages: at least one of {', '.join(STAGES)} is expected")
    return [STAGES[name] for name in dict.fromkeys(names)]
