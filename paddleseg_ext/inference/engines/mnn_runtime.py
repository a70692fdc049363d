"""MNN on CPU: the bundle's `model.mnn`. Its 3x3 convolutions multiply less, by Winograd's way.

This module is imported when the engine is opened: the base installation has no such package.

A session holds weights that were transformed for it, and an input size, so each stream has one. In
`precision: high` MNN sums in float32; its own word for that, which it prints, is what `describe`
reports.

Winograd's way in large tiles multiplies least and rounds most: where that moves label maps, the
export finds small tiles enough, and the bundle says so (`Manifest.graphs.mnn.tiles`).
"""

import time
from collections import Counter
from queue import SimpleQueue
from typing import Any

import MNN
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import check_choice
from paddleseg_ext.common.machine import available_cores
from paddleseg_ext.common.native_output import without_lines
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import GraphEngine, RunTimes
from paddleseg_ext.inference.engines.table import ENGINES
from paddleseg_ext.inference.runtime import RuntimeReport

HIGH = "MNN use high precision"
OUT_OF_MEMORY = 1
WINOGRAD_HINT = 3  # Interpreter::WINOGRAD_MEMORY_LEVEL
TILES = {"large": 3, "small": 1}
PLANES = MNN.Tensor_DimensionType_Caffe  # (N, C, H, W)
TYPES = {"float32": MNN.Halide_Type_Float, "uint8": MNN.Halide_Type_Uint8}
# Operators whose precision is that of the arithmetic; the others move or reshape.
COMPUTES = ("Convolution", "ConvolutionDepthwise", "Deconvolution", "MatMul", "Pooling", "BinaryOp")


class Mnn(GraphEngine):
    """A graph of MNN's in a session for each stream."""

    title = "MNN"

    def _load(self, bundle: Bundle) -> None:
        self.file = bundle.graph_file("mnn")
        threads, streams = self.spec.threads or available_cores(), self.streams
        shares = [max(1, threads // streams + (i < threads % streams)) for i in range(streams)]
        settings = {"backend": "CPU", "precision": "high"}
        tiles = bundle.manifest.graphs["mnn"].get("tiles", "large") if bundle.manifest else "large"
        check_choice(f"{bundle.deploy_file}: mnn: tiles", tiles, TILES)
        with without_lines(ENGINES["mnn"].prints) as printed:
            try:
                # Interpreters wait for one another's sessions; a stream waits for none.
                interpreters = [MNN.Interpreter(str(self.file)) for _ in shares]
                for interpreter in interpreters:
                    interpreter.setSessionHint(WINOGRAD_HINT, TILES[tiles])
                sessions = [
                    (interpreter, interpreter.createSession(settings | {"numThread": share}))
                    for interpreter, share in zip(interpreters, shares, strict=True)
                ]
            # Its exceptions have no type of their own.
            except Exception as error:
                raise self.cannot_load(error) from error
        for interpreter, session in sessions:
            # MNN would read past the end of another type's memory.
            if interpreter.getSessionInput(session).getDataType() is not TYPES[self.input_dtype]:
                raise self.cannot_load(
                    ValueError(f"its input is not {self.input_dtype}, as Deploy.input_dtype says")
                )
        self._precision = "fp32" if HIGH in printed else "unknown"
        self._threads, self._tiles = sum(shares), tiles
        self._idle: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
        for session in sessions:
            self._idle.put(session)
        self._calls: Counter[str] = Counter()

    def _compute(self, tensor: NDArray) -> tuple[NDArray, RunTimes]:
        interpreter, session = self._idle.get()
        try:
            return _run(interpreter, session, tensor, self.input_dtype)
        finally:
            self._idle.put((interpreter, session))

    def describe(self) -> RuntimeReport:
        """See `Engine.describe`; the operators are those that a run calls back with."""
        if not self._calls:
            self._calls = self._listed()
        computing = sum(self._calls[name] for name in COMPUTES)
        return RuntimeReport(
            name="mnn",
            version=MNN.version(),
            precision=self._precision,
            cpu_threads=self._threads,
            streams=self.streams,
            kernels=dict(self._calls),
            kernel_precisions={self._precision: computing} if computing else {},
            details={"ir_optim": True, "tiles": self._tiles},
        )

    def _listed(self) -> Counter[str]:
        """Operator -> calls in one run."""
        calls: Counter[str] = Counter()

        def note(_: Any, operator: Any) -> bool:
            calls[operator.getType()] += 1
            return True

        interpreter, session = self._idle.get()
        try:
            _run(interpreter, session, self.probe(), self.input_dtype)
            interpreter.runSessionWithCallBackInfo(session, note, lambda *_: True)
        finally:
            self._idle.put((interpreter, session))
        return calls


def _run(
    interpreter: Any, session: Any, tensor: NDArray, input_dtype: str
) -> tuple[NDArray, RunTimes]:
    """The session's output for a batch, and the seconds per part.

    Raises:
        MemoryError: there is not enough.
        RuntimeError: MNN cannot run this size; it says no more than a number.
    """
    started = time.perf_counter()
    target = interpreter.getSessionInput(session)
    if tuple(target.getShape()) != tensor.shape:
        interpreter.resizeTensor(target, tensor.shape)
        interpreter.resizeSession(session)
    resized = time.perf_counter()
    target.copyFrom(MNN.Tensor(tensor.shape, TYPES[input_dtype], tensor, PLANES))
    copied = time.perf_counter()
    code = interpreter.runSession(session)
    if code:
        kind = MemoryError if code == OUT_OF_MEMORY else RuntimeError
        raise kind(f"error {code}{' (not enough memory)' if code == OUT_OF_MEMORY else ''}")
    finished = time.perf_counter()
    output = interpreter.getSessionOutput(session)
    host = MNN.Tensor(output, PLANES)
    output.copyToHostTensor(host)
    array: NDArray = np.array(host.getNumpyData())  # the memory is the tensor's, which goes
    ended = time.perf_counter()
    return array, RunTimes(
        copied - resized, resized - started + finished - copied, ended - finished, True
    )
