"""A candidate in a process of its own, with threads and memory of its own.

The parent asks for one thing at a time and waits for it, so that candidates never run at once.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.machine import has_avx512, peak_memory_mb
from paddleseg_ext.common.processes import Terminated, ending_signals_raise, held_back
from paddleseg_ext.evaluation.bundle_protocol import protocol_of
from paddleseg_ext.evaluation.evaluator import Scorer
from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.evaluation.turns import require_synchronised, take_turn
from paddleseg_ext.images.labels import MAX_CLASSES
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.images.video import open_video, read_frames
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.flow import TemporalConsistency
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec

RUNS_PER_STREAM = 2  # in one turn of the throughput
GEMM_SIDE = 1024
GEMM_RUNS = 5  # the fastest of a turn counts
CORE_TYPE = "OPENBLAS_CORETYPE"


@dataclass(frozen=True)
class Candidate:
    """A bundle in a runtime: one row of the table.

    Attributes:
        config: the bundle's `deploy.yaml`.
        spec: the runtime; its streams are used for the throughput.
        bundle_name: its folder, where there are other bundles.
    """

    config: Path
    spec: RuntimeSpec
    bundle_name: str = ""

    @property
    def name(self) -> str:
        """The bundle where there are several, the runtime, its streams if several, pinned."""
        streams = f"x{self.spec.streams}" if self.spec.streams > 1 else ""
        pinned = "pinned" if self.spec.pinned else ""
        return " ".join(filter(None, (self.bundle_name, self.spec.name, streams, pinned)))


@dataclass(frozen=True)
class Turn:
    """One image, all the way.

    Attributes:
        seconds: part -> seconds.
        input_hw: what the network saw.
        new_size_s: what the network's parts took when an input of this size came for the first
            time; None where one has come before.
        counts: (C, C) of the label map, where the image has a label.
    """

    seconds: dict[str, float]
    input_hw: tuple[int, int]
    counts: NDArray[np.int64] | None = None
    new_size_s: float | None = None


class Bench:
    """A loaded candidate; lives in the worker's process."""

    def __init__(self, candidate: Candidate, samples: list[Sample]):
        """
        Raises:
            UsageError: it cannot be opened, or runs otherwise than asked for.
        """
        self._samples = samples
        bundle = read_bundle(candidate.config)
        # Without a manifest the colours are unknown: any will do to encode them.
        num_classes = None if bundle.manifest else MAX_CLASSES
        self._protocol = protocol_of(bundle)
        self.predictor = by_protocol(
            Predictor.of_bundle(bundle, candidate.spec, num_classes), self._protocol
        )
        self._is_scored = bundle.manifest is not None
        self._fixed_batch = (bundle.input_shape or [None])[0]
        fallen = self.predictor.shortfall()
        if fallen:
            raise UsageError(fallen)
        self._sizes_hw: set[tuple[int, int]] = set()

    def describe(self) -> RuntimeReport:
        """The engine's own report."""
        return self.predictor.describe()

    def turn(self, index: int) -> Turn:
        """One image, see `take_turn`; its counts where it has a label."""
        sample = self._samples[index % len(self._samples)]
        timed = take_turn(self.predictor, sample.image, self._sizes_hw)
        result, counts = timed.segmentation, None
        if self._is_scored and sample.label is not None:
            counts = Scorer(result.class_table).count(sample, result.label_map).pairs
        return Turn(timed.seconds, self._seen_hw(result.input_hw), counts, timed.new_size_s)

    def throughput(self, batch_size: int) -> float | None:
        """Images per second of the first image, from the network's input to the label map.

        All streams run at once, each in a thread of its own. None where the graph has another batch
        size.
        """
        if self._fixed_batch is not None and 0 < self._fixed_batch != batch_size:
            return None
        prepared = self.predictor.prepare(self._samples[0].image)
        self._sizes_hw.add(prepared.geometry.network_hw)
        streams = self.predictor.engine.streams
        batches = [np.stack([prepared.tensor] * batch_size)] * (streams * RUNS_PER_STREAM)

        def label_maps(batch: NDArray) -> None:
            ran = self.predictor.run(batch, [prepared.geometry] * batch_size)
            require_synchronised(ran.times, self.describe())
            for output, geometry in zip(ran.outputs, ran.geometries, strict=True):
                self.predictor.finish(prepared, output, geometry)

        with ThreadPoolExecutor(streams) as pool:
            for _ in ("warm up", "timed"):
                started = time.perf_counter()
                for _ in pool.map(label_maps, batches):
                    pass
                seconds = time.perf_counter() - started
        return len(batches) * batch_size / seconds

    def throughput_hw(self) -> tuple[int, int]:
        """Size of the network's input in `throughput`."""
        return self._seen_hw(self.predictor.prepare(self._samples[0].image).geometry.network_hw)

    def _seen_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Size of what the network is given of a preprocessed image."""
        return self._protocol.scaled_hw(size_hw, self._protocol.scales[0])

    def consistency(self, video: Path, most_frames: int) -> tuple[float | None, str]:
        """Temporal consistency of the first frames of a video, or None and why there is none."""
        counts, source = TemporalConsistency(), open_video(video)
        try:
            with closing(read_frames(source)) as frames:
                for frame in islice(frames, most_frames):
                    found = self.predictor(cv2.cvtColor(frame.pixels, cv2.COLOR_BGR2RGB))
                    counts.add(found.image, found.label_map)
        finally:
            source.capture.release()
        return counts.share, counts.why_none()

    def peak_memory_mb(self) -> float:
        """The most memory that this process has had."""
        return peak_memory_mb()


class Gemm:
    """The machine's peak, measured by a product of two matrices in turns with the candidates."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        sides = (GEMM_SIDE, GEMM_SIDE)
        self._matrices = [generator.standard_normal(sides).astype(np.float32) for _ in range(2)]

    def gflops(self) -> float:
        """GFLOP/s in float32, with 2 operations per multiply-add."""
        seconds = []
        for _ in range(GEMM_RUNS):
            started = time.perf_counter()
            self._matrices[0] @ self._matrices[1]
            seconds.append(time.perf_counter() - started)
        return 2 * GEMM_SIDE**3 / min(seconds) / 1e9


def start_gemm() -> "Worker":
    """A process with a `Gemm`.

    NumPy's OpenBLAS takes a processor that is newer than itself for one without AVX-512, and an
    environment may ask for that, too: half of the peak. The process inherits another word.
    """
    before = os.environ.get(CORE_TYPE)
    if has_avx512():
        os.environ[CORE_TYPE] = "SkylakeX"
    try:
        return Worker(Gemm)
    finally:
        os.environ.pop(CORE_TYPE, None)
        if before is not None:
            os.environ[CORE_TYPE] = before


class Worker:
    """The parent's end of a process; calls its object's methods by name."""

    def __init__(self, make: Callable[[], Any]):
        """
        Args:
            make: picklable; gives the object, in the process.

        Raises:
            UsageError: `make` raised it.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make), daemon=True)
        try:
            _start_deaf_to_ctrl_c(self._process)
            theirs.close()
            self._receive()
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *arguments: Any) -> Any:
        """The method's result; what it raises, as it was raised there."""
        self._connection.send((method, arguments))
        return self._receive()

    def _receive(self) -> Any:
        try:
            error, result = self._connection.recv()
        except EOFError:
            self._process.join()
            raise CheckFailed(
                f"the process of a candidate ended with status {self._process.exitcode}"
            ) from None
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        if self._process.pid is None:  # it was never started
            return
        for end in (self._process.terminate, self._process.kill):
            self._process.join(timeout=5)
            if self._process.is_alive():
                end()
        self._process.join()


def _start_deaf_to_ctrl_c(process: Any) -> None:
    """Start a process that Ctrl-C does not reach; it inherits that, so there is no moment before.

    A terminal sends Ctrl-C to every process in it; the parent ends its children.
    """
    resource_tracker.ensure_running()  # started by the first child, it would unblock the signal
    with held_back(signal.SIGINT):
        process.start()


def _serve(connection: Connection, make: Callable[[], Any]) -> None:
    """Make the object, then call its methods until the parent exits or closes its end."""
    with suppress(EOFError, ConnectionError, Terminated), ending_signals_raise():
        target, error = _called(make)
        connection.send((error, None))
        while target is not None:
            method, arguments = connection.recv()
            result, error = _called(partial(getattr(target, method), *arguments))
            connection.send((error, result))


def _called(function: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """The function's result, or the exception that the parent raises again."""
    try:
        return function(), None
    except (UsageError, CheckFailed, RuntimeError, OSError) as error:
        return None, error
