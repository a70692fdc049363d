"""OpenVINO on CPU: the bundle's ONNX graphs, compiled for this machine.

The package is imported when a graph is compiled: the base installation has none.

On CPUs with bfloat16 OpenVINO computes in that type unless told otherwise (BiSeNetV1's logits are
then off by 2% of their scale), so the precision is always given, and asserted by `describe`.

Of a free height or width OpenVINO 2026.4 computes some INT8 convolutions wrongly (STDC1's logits
are off by more than their own size, and by 6% of it once the size is fixed). So an INT8 graph is
compiled for each input size that comes.

OpenVINO's CPU plugin gives the thread that first compiles a stack for its signal handlers and frees
it with the last graph of the `Core`. Of two Cores that go in the order in which they came, the
second hands back the stack that the first has freed, and the next Ctrl-C ends the process with a
segmentation fault. So one Core serves all graphs and stays.
"""

import time
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache, partial
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.machine import available_cores
from paddleseg_ext.common.packages import optional_imports
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import (
    RunTimes,
    as_input,
    check_shape,
    filled,
    probe_batch,
    runtime_errors,
)

DEVICE = "CPU"
INT8_NODE = "FakeQuantize"
MOST_SIZES = 10  # of INT8 graphs that are kept, the last that were asked for
PINNING = "ENABLE_CPU_PINNING"  # its own default is True
# Layers whose runtime precision is that of the arithmetic; the others move or reshape.
COMPUTES = (
    "Convolution",
    "GroupConvolution",
    "MatMul",
    "FullyConnected",
    "Pooling",
    "Deconvolution",
)
PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "i8": "int8", "u8": "int8"}


def import_openvino() -> Any:
    """The package.

    Raises:
        UsageError: it is not installed.
    """
    with optional_imports("backend openvino", "openvino", "use --backend paddle"):
        import openvino
    return openvino


@cache
def _core() -> Any:
    return import_openvino().Core()


def _compile(model: Any, properties: dict[str, Any], size_hw: tuple[int, int] | None) -> Any:
    """The graph as it is, or of one height and width."""
    if size_hw is not None:
        model = model.clone()
        batch, channels = list(model.inputs[0].partial_shape)[:2]
        model.reshape([batch, channels, *size_hw])
    return _core().compile_model(model, DEVICE, properties)


class OpenVino:
    """An ONNX graph compiled by OpenVINO; a `Backend`."""

    def __init__(
        self,
        bundle: Bundle,
        precision: str = "fp32",
        cpu_threads: int | None = None,
        streams: int = 1,
        pinned: bool = False,
    ):
        """
        Args:
            bundle: one that has an ONNX graph of the precision.
            precision: `fp32` or `int8`.
            cpu_threads: threads of all streams together; None means every available core.
            streams: runs at a time; 1 gives the shortest run. `run` may be called from as many
                threads.
            pinned: bind each thread of the runtime's own to a core.

        Raises:
            UsageError: not installed, no such graph, or one that cannot be compiled.
        """
        openvino = import_openvino()
        file = bundle.onnx_file(precision)
        self._file, self._input_dtype = file, bundle.input_dtype
        self._version = openvino.__version__.split("-")[0]
        properties = {
            "NUM_STREAMS": streams,
            "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
            "INFERENCE_NUM_THREADS": cpu_threads or available_cores(),
            "INFERENCE_PRECISION_HINT": "f32",
            PINNING: pinned,
        }
        try:
            model = _core().read_model(str(file))
            sides = model.inputs[0].partial_shape
            is_int8 = any(node.get_type_name() == INT8_NODE for node in model.get_ops())
            self._by_size = is_int8 and (sides[2].is_dynamic or sides[3].is_dynamic)
            self._compile_once = lru_cache(MOST_SIZES)(partial(_compile, model, properties))
            self._lock = Lock()
            self._compiled = self._compiled_for(probe_batch(bundle.input_shape, "uint8").shape)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1:] or ["no reason given"]
            raise UsageError(f"{file}: OpenVINO cannot compile it: {reason[0]}") from error
        self._input_shape = bundle.input_shape or [
            side.get_length() if side.is_static else None for side in sides
        ]

    def _compiled_for(self, shape: Sequence[int]) -> Any:
        """The graph for inputs of a shape; in streams, only the first who asks compiles it."""
        with self._lock:
            return self._compile_once(tuple(shape[2:]) if self._by_size else None)

    def run(self, batch: NDArray) -> NDArray:
        """See `Backend.run`.

        Raises:
            DataError: another height or width than the graph takes.
            UsageError: a larger batch than the graph takes.
        """
        return self.run_timed(batch)[0]

    def run_timed(self, batch: NDArray) -> tuple[NDArray, RunTimes]:
        """See `TimedBackend.run_timed`; the first run of a size compiles an INT8 graph for it."""
        check_shape(self._input_shape, batch.shape)
        started = time.perf_counter()
        with runtime_errors(self._file, "OpenVINO", batch):
            compiled = self._compiled_for(batch.shape)
        compile_s = time.perf_counter() - started
        tensor = as_input(filled(batch, self._input_shape), self._input_dtype)
        copied = time.perf_counter()
        # A request of its own for every call: threads may run at once, and none overwrites
        # another's output.
        request = compiled.create_infer_request()
        with runtime_errors(self._file, "OpenVINO", tensor):
            output = request.infer([tensor], share_inputs=True)[0]
        run_s = compile_s + time.perf_counter() - copied
        times = RunTimes(copied - started - compile_s, run_s, synchronised=True)
        return output[: len(batch)], times

    def describe(self) -> dict[str, Any]:
        """See `Backend.describe`; the kernels are those of the compiled graph."""
        kernels: Counter[str] = Counter()
        precisions: Counter[str] = Counter()
        for node in self._compiled.get_runtime_model().get_ops():
            info = node.get_rt_info()
            layer, precision, kernel = (
                info[key].value for key in ("layerType", "runtimePrecision", "primitiveType")
            )
            kernels[f"{layer} {kernel}"] += 1
            if layer in COMPUTES:
                precisions[PRECISIONS.get(precision, precision)] += 1
        hint = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        return {
            "name": "openvino",
            "version": self._version,
            "device": ",".join(self._compiled.get_property("EXECUTION_DEVICES")).lower(),
            "precision": "int8" if precisions["int8"] else PRECISIONS.get(hint, hint),
            "cpu_threads": self._compiled.get_property("INFERENCE_NUM_THREADS"),
            "streams": self._compiled.get_property("NUM_STREAMS"),
            "pinned": self._compiled.get_property(PINNING),
            "kernels": dict(kernels),
            "kernel_precisions": {name: count for name, count in precisions.items() if count},
            "int8_kernels": precisions["int8"],
            "ir_optim": True,
        }
