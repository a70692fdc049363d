"""A candidate in a process of its own: its threads and its memory are nobody else's.

The parent asks for one thing at a time and waits for it, so that candidates never run at once.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.machine import has_avx512
from paddleseg_ext.evaluation.evaluator import Scorer
from paddleseg_ext.images.functional import read_image
from paddleseg_ext.images.labels import MAX_CLASSES, generic_table
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.activity import shortfall
from paddleseg_ext.inference.bundle import read_bundle
from paddleseg_ext.inference.engines.base import RunTimes, TimedBackend
from paddleseg_ext.inference.engines.open import open_backend, stage_name
from paddleseg_ext.inference.outputs import encode_label_map
from paddleseg_ext.inference.pipeline import Prediction

PARTS = ("decode", "preprocess", "copy_in", "run", "copy_out", "postprocess", "encode")
NETWORK_PARTS = ("copy_in", "run", "copy_out")
LABELS_PARTS = (*NETWORK_PARTS, "postprocess")  # from the network's input to the label map
RUNS_A_STREAM = 2  # of a throughput's turn
GEMM_SIDE = 1024
GEMM_RUNS = 5  # the fastest of a turn counts
CORE_TYPE = "OPENBLAS_CORETYPE"
STATUS_FILE = Path("/proc/self/status")


@dataclass(frozen=True)
class Candidate:
    """What is measured: a row of the table.

    Attributes:
        config: the bundle's `deploy.yaml`.
        backend: for `open_backend`.
        threads: of all streams together.
        streams: runs at a time, for the throughput.
        pinned: each thread is bound to a core.
    """

    config: Path
    backend: str
    precision: str = "fp32"
    threads: int = 1
    streams: int = 1
    pinned: bool = False
    device: str = "cpu"

    @property
    def stage(self) -> str:
        """As in `Manifest.verified`."""
        return stage_name(self.backend, self.precision)

    @property
    def name(self) -> str:
        """The bundle's folder, backend, precision, streams where there are several, pinned."""
        folder = self.config if self.config.is_dir() else self.config.parent
        streams = f" x{self.streams}" if self.streams > 1 else ""
        pinned = " pinned" if self.pinned else ""
        return f"{folder.resolve().name} {self.stage}{streams}{pinned}"


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
            UsageError: it cannot be opened, or runs otherwise than was asked for.
        """
        self._samples = samples
        self._candidate = candidate
        self.bundle = read_bundle(candidate.config)
        self.backend: TimedBackend = open_backend(
            self.bundle,
            candidate.backend,
            precision=candidate.precision,
            threads=candidate.threads,
            streams=candidate.streams,
            pinned=candidate.pinned,
            device=candidate.device,
        )
        self.description = self.backend.describe()
        fallen = shortfall(
            self.description,
            candidate.backend,
            candidate.precision,
            candidate.threads,
            candidate.device,
        )
        if fallen:
            raise UsageError(fallen)
        self._preprocess, self._postprocess = self.bundle.preprocess(), self.bundle.postprocess()
        manifest = self.bundle.manifest
        # Without a Manifest nobody knows the colours: any will do to encode them.
        self._table = manifest.class_table if manifest else generic_table(MAX_CLASSES)
        self._sizes_hw: set[tuple[int, int]] = set()

    def describe(self) -> dict[str, Any]:
        """What runs, in the runtime's own words."""
        return self.description

    def turn(self, index: int) -> Turn:
        """Predict an image twice; the second time counts.

        Before the first one this process has slept: its caches are cold and its threads wake up.
        Where it is the first of its size, too, what it took is told beside the second.
        """
        first, second = self._predict(index), self._predict(index)
        if first.input_hw in self._sizes_hw:
            return second
        self._sizes_hw.add(first.input_hw)
        return replace(second, new_size_s=sum(first.seconds[part] for part in NETWORK_PARTS))

    def _predict(self, index: int) -> Turn:
        sample = self._samples[index % len(self._samples)]
        clock = [time.perf_counter()]
        image = read_image(sample.image)
        clock.append(time.perf_counter())
        tensor, geometry = self._preprocess(image)
        clock.append(time.perf_counter())
        outputs, times = self.backend.run_timed(tensor[None])
        require_synchronised(times, self.description)
        clock.append(time.perf_counter())
        label_map = self._postprocess.label_map(outputs[0], geometry)
        clock.append(time.perf_counter())
        counts = None
        encode_label_map(label_map, self._table)
        encoded = time.perf_counter()
        if self.bundle.manifest is not None and sample.label is not None:
            scorer = Scorer(self._table)
            scorer.add(Prediction(sample, label_map))
            counts = scorer.result().counts
        seconds = {
            "decode": clock[1] - clock[0],
            "preprocess": clock[2] - clock[1],
            "copy_in": times.copy_in_s,
            "run": times.run_s,
            "copy_out": times.copy_out_s,
            "postprocess": clock[4] - clock[3],
            "encode": encoded - clock[4],
        }
        return Turn(seconds, geometry.network_hw, counts)

    def throughput(self, batch_size: int) -> float | None:
        """Images a second, from the network's input to the label map; of the first image.

        All streams run at once, each in a thread of its own. None where the graph has another batch
        size.
        """
        fixed = (self.bundle.input_shape or [None])[0]
        if fixed is not None and 0 < fixed != batch_size:
            return None
        tensor, geometry = self._preprocess(read_image(self._samples[0].image))
        self._sizes_hw.add(geometry.network_hw)
        batches = [np.stack([tensor] * batch_size)] * (self._candidate.streams * RUNS_A_STREAM)

        def label_maps(batch: NDArray) -> None:
            outputs, times = self.backend.run_timed(batch)
            require_synchronised(times, self.description)
            for output in outputs:
                self._postprocess.label_map(output, geometry)

        with ThreadPoolExecutor(self._candidate.streams) as pool:
            for _ in ("warm up", "timed"):
                started = time.perf_counter()
                for _ in pool.map(label_maps, batches):
                    pass
                seconds = time.perf_counter() - started
        return len(batches) * batch_size / seconds

    def throughput_hw(self) -> tuple[int, int]:
        """Size of the network's input in `throughput`."""
        return self._preprocess(read_image(self._samples[0].image))[1].network_hw

    def peak_memory_mb(self) -> float:
        """The most memory that this process has had."""
        lines = STATUS_FILE.read_text(encoding="ascii").splitlines()
        peak = next(line for line in lines if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024


class Gemm:
    """The machine's peak, as a product of two matrices finds it; one more who takes turns."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        sides = (GEMM_SIDE, GEMM_SIDE)
        self._matrices = [generator.standard_normal(sides).astype(np.float32) for _ in range(2)]

    def describe(self) -> dict[str, Any]:
        """What is multiplied."""
        return {"name": "gemm", "side": GEMM_SIDE, "precision": "fp32"}

    def gflops(self) -> float:
        """Of float32, 2 operations a multiply-add."""
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


def require_synchronised(times: RunTimes, description: dict[str, Any]) -> None:
    """Refuse a GPU's time that was taken before the GPU had finished.

    Raises:
        CheckFailed: such a time is that of asking, not of computing.
    """
    if description.get("device") != "cpu" and not times.synchronised:
        raise CheckFailed(
            f"{description['name']} on {description.get('device')}: the clock was stopped without "
            "a synchronise, so its time means nothing and is not shown"
        )


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
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


def _start_deaf_to_ctrl_c(process: Any) -> None:
    """Start a process that Ctrl-C does not reach; it inherits that, so there is no moment before.

    A terminal sends Ctrl-C to every process in it; the parent ends its children.
    """
    resource_tracker.ensure_running()  # started by the first child, it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, make: Callable[[], Any]) -> None:
    """Answer until the parent has gone or has closed its end."""
    try:
        _answer_all(connection, make)
    except (EOFError, ConnectionError):
        return


def _answer_all(connection: Connection, make: Callable[[], Any]) -> None:
    target: Any = None

    def answer(function: Callable[[], Any]) -> None:
        error = result = None
        try:
            result = function()
        except (UsageError, CheckFailed, RuntimeError, OSError) as raised:
            error = raised
        connection.send((error, result))

    def begin() -> None:
        nonlocal target
        target = make()

    answer(begin)
    while target is not None:
        method, arguments = connection.recv()
        answer(partial(getattr(target, method), *arguments))
