"""Paddle Inference: the exported graph on CPU (with and without oneDNN) and on GPU.

What is asked for is checked before Paddle is imported, and the `Config` is made apart from the
predictor, so that every flag can be tested without a model that runs.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError, nearest_name
from paddleseg_ext.common.machine import available_cores, has_gpu_build, resolve_device
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines import tensorrt
from paddleseg_ext.inference.engines.base import (
    RunTimes,
    as_input,
    check_shape,
    filled,
    probe_batch,
    runtime_errors,
)
from paddleseg_ext.inference.engines.onednn_trace import Trace, trace
from paddleseg_ext.inference.engines.tensorrt import TensorRtOptions

PRECISIONS = ("fp32", "fp16", "int8")
ONEDNN_SHAPE_CACHE = 10  # kernels are kept for so many input shapes; images come in many sizes
CALIBRATING = "fp32, measuring for int8"
GPU_MEMORY_MB = 256  # the first allocation; the pool grows

# On a legacy `.pdmodel` this pass drops the ReLU of conv -> ReLU -> sigmoid (the attention of
# PaddleSeg's BiSeNetV1: mIoU .094 becomes .049). It has two names, one each in Paddle 2 and 3.
WRONG_LEGACY_PASSES = (
    "conv_activation_mkldnn_fuse_pass",
    "conv_activation_onednn_fuse_pass",
)


@dataclass(frozen=True)
class PaddleOptions:
    """How Paddle Inference is to run.

    Attributes:
        device: `cpu` or `gpu`.
        enable_mkldnn: oneDNN kernels; CPU only. False switches them off, which is not the default
            of Paddle 3.
        cpu_threads: threads of CPU kernels; None means every available core.
        use_trt: TensorRT; GPU only.
        precision: `fp32`, or on a GPU `fp16` (and with TensorRT on Paddle 2.6 `int8`).
        tensorrt: shapes, engine cache and subgraph size for `use_trt`.
    """

    device: str = "cpu"
    enable_mkldnn: bool = False
    cpu_threads: int | None = None
    use_trt: bool = False
    precision: str = "fp32"
    tensorrt: TensorRtOptions = field(default_factory=TensorRtOptions)


def check_options(options: PaddleOptions) -> None:
    """Refuse what cannot run here, without importing Paddle.

    Raises:
        UsageError: one line that says what to use instead.
    """
    if options.precision not in PRECISIONS:
        raise UsageError(
            f"--precision: unknown '{options.precision}'"
            f"{nearest_name(options.precision, PRECISIONS)}"
        )
    resolve_device(options.device)
    if options.use_trt and options.device != "gpu":
        reason = "" if has_gpu_build() else ", and the installed PaddlePaddle is the CPU build"
        raise UsageError(f"--use_trt True needs --device gpu{reason}; use --use_trt False")
    if options.enable_mkldnn and options.device == "gpu":
        raise UsageError("--enable_mkldnn True is for --device cpu")
    if options.device == "cpu" and options.precision != "fp32":
        raise UsageError(
            f"--precision {options.precision}: on a CPU Paddle Inference runs in fp32; "
            "use --precision fp32, or a GPU"
        )
    if options.precision == "int8" and not options.use_trt:
        raise UsageError("--precision int8 on a GPU needs --use_trt True")


def build_config(bundle: Bundle, options: PaddleOptions) -> Any:
    """The `paddle.inference.Config` for a bundle; makes no predictor.

    Raises:
        UsageError: this Paddle cannot run the bundle's kind of graph that way.
    """
    import paddle
    from paddle import inference

    if bundle.is_onnx:
        raise UsageError(
            f"{bundle.model_file} is an ONNX graph; run it with --backend onnxruntime or openvino"
        )
    if not bundle.is_legacy and paddle.__version__.startswith("2."):
        raise UsageError(
            f"{bundle.model_file} is a graph of Paddle 3, and this is Paddle {paddle.__version__}; "
            "export the model with this Paddle, or install Paddle 3"
        )
    model_file, params_file = bundle.model_file, bundle.params_file
    if options.use_trt and bundle.is_legacy:
        model_file, params_file = tensorrt.prepare_legacy(
            bundle, options.tensorrt, options.precision
        )
    elif options.use_trt:
        if options.precision == "int8":
            raise UsageError(
                "--precision int8 with TensorRT takes graphs exported by Paddle 2.6 (it calibrates "
                "them itself); use --precision fp16"
            )
        model_file, params_file = tensorrt.convert(bundle, options.tensorrt, options.precision)
    config = inference.Config(str(model_file), str(params_file))
    config.disable_glog_info()
    config.switch_ir_optim(True)
    if not bundle.is_legacy:
        # Without these two, memory optimisation of a `.json` graph fails in Paddle 3.
        config.enable_new_ir(True)
        config.enable_new_executor(True)
    config.enable_memory_optim()
    if options.device == "gpu":
        _configure_gpu(config, bundle, options)
    else:
        _configure_cpu(config, bundle, options)
    return config


def _configure_cpu(config: Any, bundle: Bundle, options: PaddleOptions) -> None:
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(options.cpu_threads or available_cores())
    if not options.enable_mkldnn:
        config.disable_mkldnn()
        return
    config.enable_mkldnn()
    config.set_mkldnn_cache_capacity(ONEDNN_SHAPE_CACHE)
    if bundle.is_legacy:
        for name in WRONG_LEGACY_PASSES:
            # `config.delete_pass` works, too, and leaves the list of passes as if it did not.
            config.pass_builder().delete_pass(name)


def _configure_gpu(config: Any, bundle: Bundle, options: PaddleOptions) -> None:
    from paddle.inference import PrecisionType

    precision = {
        "fp32": PrecisionType.Float32,
        "fp16": PrecisionType.Half,
        "int8": PrecisionType.Int8,
    }[options.precision]
    if not options.use_trt:
        config.enable_use_gpu(GPU_MEMORY_MB, 0, precision)
        return
    config.enable_use_gpu(GPU_MEMORY_MB, 0)
    if bundle.is_legacy:
        tensorrt.enable_in_predictor(config, bundle, options.tensorrt, options.precision)


class PaddleInference:
    """A bundle loaded into a Paddle Inference predictor; a `Backend`."""

    def __init__(self, bundle: Bundle, options: PaddleOptions):
        """
        Raises:
            UsageError: the options cannot run here, or Paddle cannot load the graph.
        """
        check_options(options)
        self.options = options
        self._bundle = bundle
        self._trace: Trace | None = None
        self._config = build_config(bundle, options)  # good for one predictor
        graph = Path(self._config.prog_file())
        self._calibrates = (
            options.use_trt and options.precision == "int8" and not tensorrt.is_calibrated(graph)
        )
        self._predictor = self._load()
        inputs, outputs = self._predictor.get_input_names(), self._predictor.get_output_names()
        self._input = self._predictor.get_input_handle(inputs[0])
        # PaddleSeg's exports return every head; the main one comes first.
        self._output = self._predictor.get_output_handle(outputs[0])

    def _load(self) -> Any:
        from paddle import inference

        bundle = self._bundle
        try:
            return inference.create_predictor(self._config)
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[-1:] or ["no reason given"]
            raise UsageError(
                f"{bundle.model_file} with {_name(bundle.params_file)}: Paddle cannot load them: "
                f"{reason[0].strip()}"
            ) from error

    def run(self, batch: NDArray) -> NDArray:
        """See `Backend.run`.

        Raises:
            DataError: another height or width than the bundle was exported for.
            UsageError: a larger batch than the bundle was exported for.
        """
        return self.run_timed(batch)[0]

    def run_timed(self, batch: NDArray) -> tuple[NDArray, RunTimes]:
        """See `TimedBackend.run_timed`."""
        check_shape(self._bundle.input_shape, batch.shape)
        started = time.perf_counter()
        tensor = as_input(filled(batch, self._bundle.input_shape), self._bundle.input_dtype)
        self._input.reshape(tensor.shape)
        self._input.copy_from_cpu(tensor)
        copied = time.perf_counter()
        with runtime_errors(self._bundle.model_file, "Paddle Inference", tensor):
            self._predictor.run()
        synchronised = self._wait()
        finished = time.perf_counter()
        output = self._output.copy_to_cpu()
        ended = time.perf_counter()
        times = RunTimes(copied - started, finished - copied, ended - finished, synchronised)
        return output[: len(batch)], times

    def _wait(self) -> bool:
        """Wait until the device has finished; whether it has."""
        if self.options.device == "cpu":
            return True  # its run returns when it is done
        import paddle

        paddle.device.synchronize()
        return True

    def describe(self) -> dict[str, Any]:
        """See `Backend.describe`; on a CPU the oneDNN kernels are those of a traced run.

        The list of passes is told for legacy graphs only: Paddle 3 runs others on a `.json`.
        """
        import paddle

        config = self._config
        if self._trace is None:
            self._trace = self._trace_kernels()
        return {
            "name": "paddle_inference",
            "version": paddle.__version__,
            "paddle": paddle.__version__,
            "paddle_commit": paddle.version.commit,
            "device": "gpu" if config.use_gpu() else "cpu",
            "enable_mkldnn": bool(config.mkldnn_enabled()),
            "cpu_threads": config.cpu_math_library_num_threads(),
            "tensorrt_engines": self._count_engines(),
            "precision": CALIBRATING if self._calibrates else self.options.precision,
            "kernels": self._trace.kernels,
            "kernel_precisions": self._trace.precisions,
            "int8_kernels": self._trace.precisions.get("int8", 0),
            "onednn_visible": self._trace.visible,
            "ir_optim": bool(config.ir_optim()),
            "memory_optim": True,
        } | ({"passes": list(config.pass_builder().all_passes())} if self._bundle.is_legacy else {})

    def _count_engines(self) -> int:
        if not self.options.use_trt:
            return 0
        graph = Path(self._config.prog_file())
        if self._bundle.is_legacy:
            return tensorrt.count_legacy_engines(graph)
        return tensorrt.count_engines(graph)

    def _trace_kernels(self) -> Trace:
        if self.options.device != "cpu":
            return Trace({}, {}, visible=False)
        batch = probe_batch(self._bundle.input_shape, self._bundle.input_dtype)
        return trace(lambda: self.run(batch))


def _name(path: Path | None) -> str:
    return path.name if path else "nothing"
