"""ONNX Runtime on CPU: `model.onnx`, or `model_int8.onnx` with its quantised kernels.

The package is imported when a session is made: the base installation has none.
"""

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.machine import available_cores, cores_for
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

PROVIDER = "CPUExecutionProvider"
AFFINITIES = "session.intra_op_thread_affinities"
ERRORS_ONLY = 3  # of ONNX Runtime's log
INT8_PREFIX, INT8_SUFFIX = "QLinear", "Integer"  # QLinearConv, MatMulInteger, ...
# What a graph calls around its kernels; it says nothing of the precision that is computed in.
COMPUTES = ("Conv", "MatMul", "Gemm", "Pool", "Add", "Mul", "Resize", "Concat", "Softmax")


def import_onnxruntime() -> Any:
    """The package.

    Raises:
        UsageError: it is not installed.
    """
    with optional_imports("backend onnxruntime", "onnxruntime", "use --backend paddle"):
        import onnxruntime
    return onnxruntime


class OnnxRuntime:
    """An ONNX graph in a session of its own; a `Backend`."""

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
            UsageError: not installed, no such graph, or one that cannot be loaded.
        """
        runtime = import_onnxruntime()
        file = bundle.onnx_file(precision)
        self._file, self._input_dtype = file, bundle.input_dtype
        self._version = runtime.__version__
        options = runtime.SessionOptions()
        threads, self._streams = cpu_threads or available_cores(), streams
        # A run is worked on by its caller and by the session's pool, which all callers share.
        options.intra_op_num_threads = max(1, threads - streams + 1)
        pool = cores_for(options.intra_op_num_threads - 1)
        self._pinned = pinned and bool(pool)
        if self._pinned:
            # It counts processors from 1.
            options.add_session_config_entry(AFFINITIES, ";".join(str(core + 1) for core in pool))
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        # One run is profiled, so that `describe` tells which kernels the session really calls.
        options.enable_profiling = True
        with tempfile.TemporaryDirectory(prefix="onnxruntime-") as folder:
            options.profile_file_prefix = os.path.join(folder, "run")  # noqa: PTH118 (a prefix)
            try:
                self._session = runtime.InferenceSession(str(file), options, providers=[PROVIDER])
                node = self._session.get_inputs()[0]
                self._input, self._output = node.name, self._session.get_outputs()[0].name
                self._input_shape = bundle.input_shape or _fixed_sides(node.shape)
                probe = probe_batch(self._input_shape, bundle.input_dtype)
                self._session.run([self._output], {self._input: probe})
            # Its exceptions have no common base but this one.
            except Exception as error:
                reason = str(error).strip().splitlines() or ["no reason given"]
                raise UsageError(f"{file}: ONNX Runtime cannot run it: {reason[0]}") from error
            self._calls = _calls(Path(self._session.end_profiling()))

    def run(self, batch: NDArray) -> NDArray:
        """See `Backend.run`.

        Raises:
            DataError: another height or width than the graph takes.
            UsageError: a larger batch than the graph takes.
        """
        return self.run_timed(batch)[0]

    def run_timed(self, batch: NDArray) -> tuple[NDArray, RunTimes]:
        """See `TimedBackend.run_timed`."""
        check_shape(self._input_shape, batch.shape)
        started = time.perf_counter()
        tensor = as_input(filled(batch, self._input_shape), self._input_dtype)
        copied = time.perf_counter()
        with runtime_errors(self._file, "ONNX Runtime", tensor):
            output = self._session.run([self._output], {self._input: tensor})[0]
        run_s = time.perf_counter() - copied  # a session of the CPU returns when it is done
        return output[: len(batch)], RunTimes(copied - started, run_s, synchronised=True)

    def describe(self) -> dict[str, Any]:
        """See `Backend.describe`; the kernels are those of a profiled run."""
        int8 = sum(calls for name, calls in self._calls.items() if _is_int8(name))
        computing = sum(
            calls
            for name, calls in self._calls.items()
            if not _is_int8(name) and any(kind in name for kind in COMPUTES)
        )
        return {
            "name": "onnxruntime",
            "version": self._version,
            "device": "cpu",
            "precision": "int8" if int8 else "fp32",
            "cpu_threads": self._session.get_session_options().intra_op_num_threads
            + self._streams
            - 1,
            "streams": self._streams,
            "pinned": self._pinned,
            "providers": self._session.get_providers(),
            "kernels": dict(self._calls),
            "kernel_precisions": {
                name: calls for name, calls in (("int8", int8), ("fp32", computing)) if calls
            },
            "int8_kernels": int8,
            "ir_optim": True,
        }


def _fixed_sides(shape: Sequence[int | str | None]) -> list[int | None]:
    """ONNX names the sides that are free."""
    return [side if isinstance(side, int) else None for side in shape]


def _calls(profile: Path) -> Counter[str]:
    """Kernel -> calls, from ONNX Runtime's profile of one run."""
    return Counter(
        event["args"]["op_name"]
        for event in json.loads(profile.read_text(encoding="utf-8"))
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time")
    )


def _is_int8(kernel: str) -> bool:
    return kernel.startswith(INT8_PREFIX) or kernel.endswith(INT8_SUFFIX)
