"""OpenVINO on CPU: the bundle's ONNX graphs, compiled for this machine.

This module is imported when the engine is opened: the base installation has no such package.

On CPUs with bfloat16 OpenVINO computes in that type by default (BiSeNetV1's logits are then off by
2% of their scale). So the precision is always set, `bf16` only where that is asked for, and
`describe` reports the one in use.

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
from functools import cache, partial
from typing import Any

import openvino
from numpy.typing import NDArray

from paddleseg_ext.common.machine import available_cores
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import (
    MOST_LAYERS,
    GraphEngine,
    PerSize,
    RunTimes,
    probe_batch,
)
from paddleseg_ext.inference.runtime import RuntimeReport

DEVICE = "CPU"
INT8_NODE = "FakeQuantize"
PRECISION_HINT = "INFERENCE_PRECISION_HINT"
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # of what INT8 leaves in float
KEPT_LAYERS = "CPU_RUNTIME_CACHE_CAPACITY"
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


@cache
def _core() -> Any:
    return openvino.Core()


def _compile(model: Any, properties: dict[str, Any], size_hw: tuple[int, int] | None) -> Any:
    """The graph as it is, or of one height and width."""
    if size_hw is not None:
        model = model.clone()
        batch, channels = list(model.inputs[0].partial_shape)[:2]
        model.reshape([batch, channels, *size_hw])
    return _core().compile_model(model, DEVICE, properties)


class OpenVino(GraphEngine):
    """An ONNX graph compiled by OpenVINO; an INT8 graph of a free size once per size."""

    title = "OpenVINO"

    def _load(self, bundle: Bundle) -> None:
        self.file = bundle.onnx_file(self.spec.precision)
        properties = {
            "NUM_STREAMS": self.streams,
            "PERFORMANCE_HINT": "LATENCY" if self.streams == 1 else "THROUGHPUT",
            "INFERENCE_NUM_THREADS": self.spec.threads or available_cores(),
            PRECISION_HINT: HINTS[self.spec.precision],
            PINNING: self.spec.pinned,
            KEPT_LAYERS: MOST_LAYERS,
        }
        try:
            model = _core().read_model(str(self.file))
            sides = model.inputs[0].partial_shape
            is_int8 = any(node.get_type_name() == INT8_NODE for node in model.get_ops())
            self._by_size = is_int8 and (sides[2].is_dynamic or sides[3].is_dynamic)
            self._per_size = PerSize(partial(_compile, model, properties))
            self._compiled = self._compiled_for(probe_batch(bundle.input_shape, "uint8").shape)
        except RuntimeError as error:
            raise self.cannot_load(error, line=-1) from error
        self.input_shape = self.input_shape or [
            side.get_length() if side.is_static else None for side in sides
        ]

    def _compiled_for(self, shape: Sequence[int]) -> Any:
        return self._per_size((shape[2], shape[3]) if self._by_size else None)

    def _compute(self, tensor: NDArray) -> tuple[NDArray, RunTimes]:
        started = time.perf_counter()
        # A request of its own for every call: threads may run at once, and none overwrites
        # another's output.
        request = self._compiled_for(tensor.shape).create_infer_request()
        output = request.infer([tensor], share_inputs=True)[0]
        return output, RunTimes(0.0, time.perf_counter() - started, synchronised=True)

    def describe(self) -> RuntimeReport:
        """See `Engine.describe`; the kernels are those of the compiled graph."""
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
        hint = self._compiled.get_property(PRECISION_HINT).get_type_name()
        return RuntimeReport(
            name="openvino",
            version=openvino.__version__.split("-")[0],
            device=",".join(self._compiled.get_property("EXECUTION_DEVICES")).lower(),
            precision="int8" if precisions["int8"] else PRECISIONS.get(hint, hint),
            cpu_threads=self._compiled.get_property("INFERENCE_NUM_THREADS"),
            streams=self._compiled.get_property("NUM_STREAMS"),
            pinned=self._compiled.get_property(PINNING),
            kernels=dict(kernels),
            kernel_precisions={name: count for name, count in precisions.items() if count},
            details={"ir_optim": True},
        )
