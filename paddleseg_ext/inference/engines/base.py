"""The base of every engine, and the parts that all engines of bundles share."""

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.images.functional import check_channels
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec

PROBE_SIDE = 256  # pixels; any size that every network takes
# What engines say where memory ends; their exceptions for it are of many types.
NO_MEMORY = re.compile("alloc|out of memory|not enough memory|exhausted", re.IGNORECASE)
MOST_SIZES = 10  # compiled graphs that are kept, the last that were asked for
# Prepared layers, where an engine keeps those of each size by itself: over 128 sizes OpenVINO takes
# 155 MiB with 64 of them, and 550 MiB, without an end, by default (BiSeNetV1, FP32).
MOST_LAYERS = 64

Key = TypeVar("Key")
Compiled = TypeVar("Compiled")


@dataclass(frozen=True)
class RunTimes:
    """Seconds per part of a run.

    Attributes:
        copy_in_s: from the batch to the engine's input.
        run_s: the network, with the cost of a new input size, and with copies that the engine does
            not report apart.
        copy_out_s: from the engine's output to the returned array.
        synchronised: whether the device had finished when the clock was stopped. A GPU returns at
            once and computes afterwards, so that without it `run_s` means nothing.
    """

    copy_in_s: float
    run_s: float
    copy_out_s: float = 0.0
    synchronised: bool = False

    @property
    def total_s(self) -> float:
        """From a batch to its output."""
        return self.copy_in_s + self.run_s + self.copy_out_s


class Engine(ABC):
    """A network that is ready to run.

    Attributes:
        title: the engine's name in messages.
        streams: threads that may call `run` at a time.
    """

    title: ClassVar[str] = "the engine"
    streams: int = 1

    @abstractmethod
    def run(self, batch: NDArray) -> NDArray:
        """Output of one batch: (N, C, h, w) float32 scores, or (N, h, w) integer class ids.

        Args:
            batch: (N, 3, H, W) float32, contiguous; any H and W that the network takes. Where the
                bundle's input is uint8, that, or whole numbers as float32.

        Raises:
            DataError: a size that the network does not take.
        """

    @abstractmethod
    def describe(self) -> RuntimeReport:
        """The engine's own description of what runs."""

    def run_timed(self, batch: NDArray) -> tuple[NDArray, RunTimes]:
        """As `run`, with the seconds per part."""
        started = time.perf_counter()
        output = self.run(batch)
        return output, RunTimes(0.0, time.perf_counter() - started, synchronised=True)

    def close(self) -> None:  # noqa: B027 (most engines end with their last reference)
        """Release what the engine holds."""

    @property
    def subject(self) -> str:
        """Name of the graph or network in messages."""
        return type(self).__name__

    @contextmanager
    def errors(
        self, batch: NDArray, caught: type[Exception] | tuple[type[Exception], ...] = Exception
    ) -> Iterator[None]:
        """A run in which the engine's own exception becomes one clear line.

        Args:
            batch: that runs.
            caught: the engine's exceptions; most engines' have no common base but this one.

        Raises:
            DataError: the engine has not enough memory for this input, or refuses it.
        """
        try:
            yield
        except UsageError:
            raise
        except caught as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            seen = [line for line in lines if "Error:" in line] or lines or [type(error).__name__]
            raise self.cannot_run(
                batch, seen[0], isinstance(error, MemoryError) or bool(NO_MEMORY.search(seen[0]))
            ) from error

    def cannot_run(self, batch: NDArray, reason: str, lacks_memory: bool) -> DataError:
        """The error to raise where a batch cannot be run."""
        shape = f"{batch.shape}"
        if lacks_memory:
            height, width = batch.shape[-2:]
            return DataError(
                f"{self.subject}: {self.title} has not enough memory for an input of {shape}, "
                f"{width}x{height} (width x height): {reason}; put a Resize or LimitLong into the "
                "transforms, cut the image into parts, or score by --protocol slide"
            )
        return DataError(
            f"{self.subject}: {self.title} cannot run it on an input of {shape}: {reason}; where "
            "other sizes run, put a Resize or Padding into the transforms, else check that the "
            "graph is of this network, and the transforms its own"
        )

    def check_output(self, batch: NDArray, output: NDArray) -> None:
        """Refuse an output that is none of this batch; OpenVINO without memory returns such.

        Raises:
            DataError: it is empty, or of another number of images.
        """
        if output.ndim not in (3, 4) or len(output) != len(batch) or output.size == 0:
            raise self.cannot_run(
                batch, f"its output has the shape {output.shape}", lacks_memory=output.size == 0
            )


class GraphEngine(Engine):
    """An engine that runs a graph of a bundle; subclasses load, compute and describe.

    Attributes:
        file: the graph.
        input_shape: [N, 3, H, W] of the graph; None, or a side of None or -1, is free.
    """

    def __init__(self, bundle: Bundle, spec: RuntimeSpec):
        """
        Raises:
            UsageError: the bundle has no such graph, or it cannot be loaded.
        """
        self.spec = spec
        self.streams = spec.streams
        self.input_dtype = bundle.input_dtype
        self.input_shape: Sequence[int | None] | None = bundle.input_shape
        self.file: Path = bundle.model_file
        self._load(bundle)

    @abstractmethod
    def _load(self, bundle: Bundle) -> None:
        """Load the bundle's graph of `spec.precision`."""

    @abstractmethod
    def _compute(self, tensor: NDArray) -> tuple[NDArray, RunTimes]:
        """Output of a checked batch in the graph's type, and the seconds per part."""

    def run(self, batch: NDArray) -> NDArray:
        """See `Engine.run`.

        Raises:
            DataError: a size that the graph does not take, or for which there is no memory.
            UsageError: a larger batch than the graph takes.
        """
        return self.run_timed(batch)[0]

    def run_timed(self, batch: NDArray) -> tuple[NDArray, RunTimes]:
        """As `run`, with the seconds per part."""
        check_shape(self.input_shape, batch.shape, self.subject)
        started = time.perf_counter()
        tensor = as_input(filled(batch, self.input_shape), self.input_dtype)
        converted_s = time.perf_counter() - started
        with self.errors(tensor):
            output, times = self._compute(tensor)
        output = without_class_axis(output)
        self.check_output(tensor, output)
        return output[: len(batch)], replace(times, copy_in_s=times.copy_in_s + converted_s)

    def probe(self) -> NDArray:
        """A batch of zeros that the graph takes."""
        return probe_batch(self.input_shape, self.input_dtype)

    @property
    def subject(self) -> str:
        """See `Engine.subject`: the file of the graph."""
        return str(self.file)

    def cannot_load(self, error: Exception, line: int = 0, verb: str = "load") -> UsageError:
        """The error to raise where the graph cannot be loaded, with one line of the engine's."""
        reason = str(error).strip().splitlines() or ["no reason given"]
        return UsageError(f"{self.file}: {self.title} cannot {verb} it: {reason[line].strip()}")


class PerSize(Generic[Key, Compiled]):
    """The compiled graph per input size: at most `MOST_SIZES` are kept, each compiled once."""

    def __init__(self, compile_for: Callable[[Key], Compiled]):
        self._compile_once = lru_cache(MOST_SIZES)(compile_for)
        self._lock = Lock()

    def __call__(self, key: Key) -> Compiled:
        """The compiled graph of `key`; of several threads only the first compiles it."""
        with self._lock:
            return self._compile_once(key)


def probe_batch(input_shape: Sequence[int | None] | None, input_dtype: str) -> NDArray:
    """A batch of zeros that a graph of this input shape takes."""
    free = (1, 3, PROBE_SIDE, PROBE_SIDE)
    shape = tuple(
        side if side is not None and side > 0 else default
        for side, default in zip(input_shape or free, free, strict=True)
    )
    return np.zeros(shape, input_dtype)


def as_input(batch: NDArray, input_dtype: str) -> NDArray:
    """The batch, contiguous and in the graph's type.

    Raises:
        DataError: the graph takes bytes, and the batch holds something else.
    """
    if input_dtype == "uint8" and batch.dtype != np.uint8:
        whole = np.rint(batch)
        if not np.array_equal(whole, batch) or whole.min() < 0 or whole.max() > 255:
            raise DataError(
                "the bundle takes pixels from 0 to 255 and normalises them itself; "
                "leave Normalize out of its transforms"
            )
        batch = whole
    return np.ascontiguousarray(batch, dtype=input_dtype)


def filled(batch: NDArray, input_shape: Sequence[int | None] | None) -> NDArray:
    """The batch, its last image repeated where the graph takes more images."""
    fixed = (input_shape or [None])[0]
    missing = (fixed or 0) - len(batch)
    return np.concatenate([batch, *[batch[-1:]] * missing]) if missing > 0 else batch


def without_class_axis(output: NDArray) -> NDArray:
    """Class ids as (N, h, w), where the graph's arg-max kept its axis; others as they are."""
    kept = output.dtype.kind in "iu" and output.ndim == 4 and output.shape[1] == 1
    return output[:, 0] if kept else output


def check_shape(
    input_shape: Sequence[int | None] | None, shape: tuple[int, ...], subject: str = "the graph"
) -> None:
    """Refuse a shape that the graph was not exported for.

    Raises:
        DataError: another height or width than the bundle was exported for.
        UsageError: a larger batch than the bundle was exported for, or other channels.
    """
    for axis, fixed in enumerate(input_shape or []):
        if fixed is None or fixed < 1 or fixed == shape[axis]:
            continue
        if axis == 0 and shape[0] < fixed:
            continue  # `filled` adds what is missing
        if axis == 0:
            raise UsageError(
                f"the bundle was exported for batches of {fixed}: use --batch_size {fixed}, "
                "or export it without a fixed batch size"
            )
        if axis == 1:
            channels = check_channels(fixed, f"{subject}: input channels")
            raise UsageError(
                f"{subject}: it takes {channels} channels, got {shape[1]}; name it in a "
                f"deploy.yaml with input_shape: [-1, {channels}, -1, -1]"
            )
        _, _, height, width = input_shape or []
        raise DataError(
            f"the bundle was exported for inputs of {width}x{height} (width x height), "
            f"got {shape[3]}x{shape[2]}; put a Resize into its transforms, or export it "
            "without a fixed size"
        )
