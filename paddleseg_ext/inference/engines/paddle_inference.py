"""Paddle Inference: the exported graph on CPU (with and without oneDNN) and on GPU.

The `RuntimeSpec` is checked before Paddle is imported, and the `Config` is made apart from the
predictor, so that every flag can be tested without a model that runs.
"""

import time
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.machine import available_cores
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines import tensorrt
from paddleseg_ext.inference.engines.base import MOST_SIZES, GraphEngine, RunTimes
from paddleseg_ext.inference.engines.onednn_trace import Trace, trace
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec

ONEDNN_SHAPE_CACHE = MOST_SIZES  # input shapes whose kernels are kept
CALIBRATING = "fp32, measuring for int8"
GPU_MEMORY_MB = 256  # the first allocation; the pool grows

# On a legacy `.pdmodel` this pass drops the ReLU of conv -> ReLU -> sigmoid (the attention of
# PaddleSeg's BiSeNetV1: mIoU .094 becomes .049). It has two names, one each in Paddle 2 and 3.
WRONG_LEGACY_PASSES = (
    "conv_activation_mkldnn_fuse_pass",
    "conv_activation_onednn_fuse_pass",
)


def build_config(bundle: Bundle, spec: RuntimeSpec) -> Any:
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
    if bundle.is_legacy and spec.precision == "bf16":
        raise UsageError(
            f"{bundle.model_file}: of a graph of Paddle 2 oneDNN's bf16 returns no float32; export "
            "it with Paddle 3, or use --backend openvino_bf16"
        )
    model_file, params_file = bundle.model_file, bundle.params_file
    if spec.tensorrt and bundle.is_legacy:
        model_file, params_file = tensorrt.prepare_legacy(bundle, spec.tensorrt, spec.precision)
    elif spec.tensorrt:
        if spec.precision == "int8":
            raise UsageError(
                "--precision int8 with TensorRT takes graphs exported by Paddle 2.6 (it calibrates "
                "them itself); use --precision fp16"
            )
        model_file, params_file = tensorrt.convert(bundle, spec.tensorrt, spec.precision)
    config = inference.Config(str(model_file), str(params_file))
    config.disable_glog_info()
    config.switch_ir_optim(True)
    if not bundle.is_legacy:
        # Without these two, memory optimisation of a `.json` graph fails in Paddle 3.
        config.enable_new_ir(True)
        config.enable_new_executor(True)
    config.enable_memory_optim()
    if spec.device == "gpu":
        _configure_gpu(config, bundle, spec)
    else:
        _configure_cpu(config, bundle, spec)
    return config


def _configure_cpu(config: Any, bundle: Bundle, spec: RuntimeSpec) -> None:
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(spec.threads or available_cores())
    if spec.engine != "paddle_onednn":
        config.disable_mkldnn()
        return
    config.enable_mkldnn()
    config.set_mkldnn_cache_capacity(ONEDNN_SHAPE_CACHE)
    if spec.precision == "bf16":
        config.enable_mkldnn_bfloat16()
    if bundle.is_legacy:
        for name in WRONG_LEGACY_PASSES:
            # `config.delete_pass` works, too, and leaves the list of passes as if it did not.
            config.pass_builder().delete_pass(name)


def _configure_gpu(config: Any, bundle: Bundle, spec: RuntimeSpec) -> None:
    if not spec.tensorrt:
        config.enable_use_gpu(GPU_MEMORY_MB, 0, tensorrt.precision_type(spec.precision))
        return
    config.enable_use_gpu(GPU_MEMORY_MB, 0)
    if bundle.is_legacy:
        tensorrt.enable_in_predictor(config, bundle, spec.tensorrt, spec.precision)


class PaddleInference(GraphEngine):
    """A bundle loaded into a Paddle Inference predictor."""

    title = "Paddle Inference"

    def _load(self, bundle: Bundle) -> None:
        from paddle import inference

        self._is_legacy = bundle.is_legacy
        self._trace: Trace | None = None
        self._config = self._make_config(bundle)  # good for one predictor
        self._calibrates = (
            self.spec.tensorrt is not None
            and self.spec.precision == "int8"
            and not tensorrt.is_calibrated(Path(self._config.prog_file()))
        )
        try:
            self._predictor = inference.create_predictor(self._config)
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[-1:] or ["no reason given"]
            params = bundle.params_file.name if bundle.params_file else "nothing"
            raise UsageError(
                f"{bundle.model_file} with {params}: Paddle cannot load them: {reason[0].strip()}"
            ) from error
        inputs, outputs = self._predictor.get_input_names(), self._predictor.get_output_names()
        self._input = self._predictor.get_input_handle(inputs[0])
        # PaddleSeg's exports return every head; the main one comes first.
        self._output = self._predictor.get_output_handle(outputs[0])

    def _make_config(self, bundle: Bundle) -> Any:
        return build_config(bundle, self.spec)

    def _compute(self, tensor: NDArray) -> tuple[NDArray, RunTimes]:
        started = time.perf_counter()
        self._input.reshape(tensor.shape)
        self._input.copy_from_cpu(tensor)
        copied = time.perf_counter()
        self._predictor.run()
        if self.spec.device != "cpu":  # a CPU's run returns when it is done
            import paddle

            paddle.device.synchronize()
        finished = time.perf_counter()
        output = self._output.copy_to_cpu()
        ended = time.perf_counter()
        return output, RunTimes(copied - started, finished - copied, ended - finished, True)

    def describe(self) -> RuntimeReport:
        """See `Engine.describe`; on a CPU the oneDNN kernels are those of a traced run.

        The passes are listed for legacy graphs only: Paddle 3 runs others on a `.json`.
        """
        import paddle

        config = self._config
        if self._trace is None:
            self._trace = self._trace_kernels()
        details = {
            "paddle": paddle.__version__,
            "paddle_commit": paddle.version.commit,
            "enable_mkldnn": bool(config.mkldnn_enabled()),
            "ir_optim": bool(config.ir_optim()),
            "memory_optim": True,
        }
        if self._is_legacy:
            details["passes"] = list(config.pass_builder().all_passes())
        return RuntimeReport(
            name="paddle_inference",
            version=paddle.__version__,
            device="gpu" if config.use_gpu() else "cpu",
            precision=CALIBRATING if self._calibrates else self.spec.precision,
            cpu_threads=config.cpu_math_library_num_threads(),
            kernels=self._trace.kernels,
            kernel_precisions=self._trace.precisions,
            tensorrt_engines=self._count_engines(),
            onednn_visible=self._trace.visible,
            details=details,
        )

    def _count_engines(self) -> int:
        if self.spec.tensorrt is None:
            return 0
        graph = Path(self._config.prog_file())
        if self._is_legacy:
            return tensorrt.count_legacy_engines(graph)
        return tensorrt.count_engines(graph)

    def _trace_kernels(self) -> Trace:
        if self.spec.device != "cpu":
            return Trace({}, {}, visible=False)
        return trace(lambda: self.run(self.probe()))
