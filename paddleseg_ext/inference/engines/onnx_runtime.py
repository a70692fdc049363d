"""ONNX Runtime on CPU: `model.onnx`, or `model_int8.onnx` with its quantised kernels.

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

from paddleseg_ext.common.log import warn
from paddleseg_ext.common.machine import available_cores, cores_for
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import GraphEngine, RunTimes
from paddleseg_ext.inference.runtime import RuntimeReport

PROVIDER = "CPUExecutionProvider"
AFFINITIES = "session.intra_op_thread_affinities"
ERRORS_ONLY = 3  # of ONNX Runtime's log
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
                self._session = onnxruntime.InferenceSession(
                    str(self.file), options, providers=[PROVIDER]
                )
                node = self._session.get_inputs()[0]
                self._input, self._output = node.name, self._session.get_outputs()[0].name
                self.input_shape = self.input_shape or _fixed_sides(node.shape)
                self._session.run([self._output], {self._input: self.probe()})
            # Its exceptions have no common base but this one.
            except Exception as error:
                raise self.cannot_load(error, verb="run") from error
            self._calls = _calls(Path(self._session.end_profiling()))

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
        pool = self._session.get_session_options().intra_op_num_threads
        return RuntimeReport(
            name="onnxruntime",
            version=onnxruntime.__version__,
            precision="int8" if int8 else "fp32",
            cpu_threads=pool + self.streams - 1,
            streams=self.streams,
            pinned=self._pinned,
            kernels=dict(self._calls),
            kernel_precisions={
                name: calls for name, calls in (("int8", int8), ("fp32", computing)) if calls
            },
            details={"providers": self._session.get_providers(), "ir_optim": True},
        )


def _fixed_sides(shape: Sequence[int | str | None]) -> list[int | None]:
    """ONNX names the sides that are free."""
    return [side if isinstance(side, int) else None for side in shape]


def _calls(profile: Path) -> Counter[str]:
    """Kernel -> calls, from ONNX Runtime's profile of one run."""
    try:
        events = json.loads(profile.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it writes what the disk takes, and does not look
        warn(f"{profile}: ONNX Runtime could not write its profile; its kernels are not listed")
        return Counter()
    return Counter(
        event["args"]["op_name"]
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time")
    )


def _is_int8(kernel: str) -> bool:
    return kernel.startswith(INT8_PREFIX) or kernel.endswith(INT8_SUFFIX)
