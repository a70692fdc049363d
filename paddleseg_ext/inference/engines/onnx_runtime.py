"""ONNX Runtime: `model.onnx`, or `model_int8.onnx` with its quantised kernels; on a GPU by CUDA or
TensorRT.

This module is imported when the engine is opened: the base installation has no such package.
"""

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import onnxruntime
from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.log import warn
from paddleseg_ext.common.machine import available_cores, cores_for
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import GraphEngine, RunTimes
from paddleseg_ext.inference.engines.onnx_providers import (
    CPU,
    ERRORS_ONLY,
    TENSORRT,
    device_of,
    missing_provider,
    providers_of,
)
from paddleseg_ext.inference.runtime import RuntimeReport

AFFINITIES = "session.intra_op_thread_affinities"
INT8_PREFIX, INT8_SUFFIX = "QLinear", "Integer"  # QLinearConv, MatMulInteger, ...
# Kernels whose precision is that of the arithmetic; the others move or reshape.
COMPUTES = ("Conv", "MatMul", "Gemm", "Pool", "Add", "Mul", "Resize", "Concat", "Softmax")


class OnnxRuntime(GraphEngine):
    """An ONNX graph in a session of its own."""

    title = "ONNX Runtime"

    def _load(self, bundle: Bundle) -> None:
        self.file = bundle.onnx_file(self.spec.precision)
        options = onnxruntime.SessionOptions()
        # A run is worked on by its caller and by the session's pool, which all callers share.
        threads = self.spec.threads or available_cores()
        options.intra_op_num_threads = max(1, threads - self.streams + 1)
        pool = cores_for(options.intra_op_num_threads - 1)
        self._pinned = self.spec.pinned and bool(pool)
        if self._pinned:
            # It counts processors from 1.
            options.add_session_config_entry(AFFINITIES, ";".join(str(core + 1) for core in pool))
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        # One run is profiled, so that `describe` lists the kernels that the session really calls.
        options.enable_profiling = True
        with tempfile.TemporaryDirectory(prefix="onnxruntime-") as folder:
            options.profile_file_prefix = os.path.join(folder, "run")  # noqa: PTH118 (a prefix)
            try:
                providers = providers_of(
                    self.spec, bundle, _input_of(self.file) if self.spec.tensorrt else ""
                )
                self._session = onnxruntime.InferenceSession(
                    str(self.file), options, providers=providers
                )
                if reason := missing_provider(providers, self._session.get_providers()):
                    raise UsageError(f"{self.spec.name}: {reason}")
                node = self._session.get_inputs()[0]
                self._input, self._output = node.name, self._session.get_outputs()[0].name
                self.input_shape = self.input_shape or _fixed_sides(node.shape)
                self._session.run([self._output], {self._input: self.probe()})
            except UsageError:
                raise
            # Its exceptions have no common base but this one.
            except Exception as error:
                raise self.cannot_load(error, verb="run") from error
            self._calls, self._provider_calls = _calls(Path(self._session.end_profiling()))

    def _compute(self, tensor: NDArray) -> tuple[NDArray, RunTimes]:
        started = time.perf_counter()
        output = self._session.run([self._output], {self._input: tensor})[0]
        # A session of the CPU returns when it is done.
        return output, RunTimes(0.0, time.perf_counter() - started, synchronised=True)

    def describe(self) -> RuntimeReport:
        """See `Engine.describe`; the kernels are those of a profiled run."""
        int8 = sum(calls for name, calls in self._calls.items() if _is_int8(name))
        computing = sum(
            calls
            for name, calls in self._calls.items()
            if not _is_int8(name) and any(kind in name for kind in COMPUTES)
        )
        is_gpu = self.spec.device == "gpu"
        pool = self._session.get_session_options().intra_op_num_threads
        return RuntimeReport(
            name="onnxruntime",
            version=onnxruntime.__version__,
            device=device_of(self._provider_calls),
            # On a GPU it does not say in which type a kernel computes.
            precision="int8" if int8 else self.spec.precision if is_gpu else "fp32",
            tensorrt_engines=self._provider_calls[TENSORRT],
            cpu_threads=pool + self.streams - 1,
            streams=self.streams,
            pinned=self._pinned,
            kernels=dict(self._calls),
            kernel_precisions={
                name: calls
                for name, calls in (("int8", int8), ("fp32", computing))
                if calls and not is_gpu
            },
            details={"providers": self._session.get_providers(), "ir_optim": True},
        )


def _fixed_sides(shape: Sequence[int | str | None]) -> list[int | None]:
    """ONNX names the sides that are free."""
    return [side if isinstance(side, int) else None for side in shape]


def _input_of(file: Path) -> str:
    """Name of a graph's input, which TensorRT's options need before there is a session."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = ERRORS_ONLY
    session = onnxruntime.InferenceSession(str(file), options, providers=[CPU])
    name: str = session.get_inputs()[0].name
    return name


def _calls(profile: Path) -> tuple[Counter[str], Counter[str]]:
    """Kernel -> calls, and provider -> calls, from ONNX Runtime's profile of one run."""
    try:
        events = json.loads(profile.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it writes what the disk takes, and does not look
        warn(f"{profile}: ONNX Runtime could not write its profile; its kernels are not listed")
        return Counter(), Counter()
    ran = [
        event["args"]
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time")
    ]
    return (
        Counter(each["op_name"] for each in ran),
        Counter(each.get("provider", CPU) for each in ran),
    )


def _is_int8(kernel: str) -> bool:
    return kernel.startswith(INT8_PREFIX) or kernel.endswith(INT8_SUFFIX)
