"""Dynamic batching: images that wait for the network and have one shape run together.

One thread runs the network, so that a batch is gathered while another one runs.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.inference.predictor import NetworkRun, Prepared
from paddleseg_ext.inference.preprocess import Geometry

RunNetwork = Callable[[NDArray, Sequence[Geometry]], NetworkRun]
FREE_S = 0.01  # a free network takes an image before
RECENT_RUNS = 8  # the fastest of them, by pixels, is what a run takes at least


class TooLate(Exception):
    """An image that waited for others and would not be done in time; it did not run."""


@dataclass(frozen=True)
class BatchLimits:
    """Limits of one run.

    Attributes:
        max_images: per batch.
        max_pixels: per batch of more than one image; bounds the memory of a run.
        max_wait_s: how long the first image of a batch waits for others.
    """

    max_images: int
    max_pixels: int
    max_wait_s: float


@dataclass(frozen=True)
class BatchShare:
    """One image's share of a run.

    Attributes:
        output: of the network for this image.
        geometry: the way back from `output` to the image's size.
        wait_ms: from `submit` to the run's start.
        network_ms: of the whole batch.
        batch_size: images that ran together.
    """

    output: NDArray
    geometry: Geometry
    wait_ms: float
    network_ms: float
    batch_size: int


@dataclass(eq=False)
class _Waiting:
    prepared: Prepared
    since: float
    until: float
    future: "Future[BatchShare]" = field(default_factory=Future)


class Batcher:
    """Runs prepared images of one shape together; `close` finishes what was submitted."""

    def __init__(self, run: RunNetwork, limits: BatchLimits):
        """
        Args:
            run: `Predictor.run`; called from one thread only.
            limits: of one run.
        """
        self._run = run
        self._limits = limits
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._running_since: float | None = None
        self._paces_s: deque[float] = deque(maxlen=RECENT_RUNS)  # per pixel
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether submitted images will be run."""
        return self._thread.is_alive() and not self._closing

    @property
    def running_since(self) -> float | None:
        """`perf_counter` at the start of the run that is under way; None between runs."""
        return self._running_since

    def submit(self, prepared: Prepared, until: float = math.inf) -> "Future[BatchShare]":
        """Queue one image; a future that is cancelled while it waits is not run.

        Args:
            prepared: the image.
            until: `perf_counter` of its deadline. One that waits for others, and then has less time
                left than the fastest of the last runs took for as many pixels, is not run either:
                its future has the exception `TooLate`.

        Raises:
            RuntimeError: after `close`.
        """
        item = _Waiting(prepared, time.perf_counter(), until)
        with self._changed:
            if self._closing:
                raise RuntimeError("the batcher is closed")
            self._waiting.append(item)
            self._changed.notify()
        return item.future

    def close(self) -> None:
        """Run what is queued, then stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            self._running_since = time.perf_counter()
            running = [item for item in batch if item.future.set_running_or_notify_cancel()]
            late = [item for item in running if self._is_too_late(item, self._running_since)]
            for item in late:
                item.future.set_exception(TooLate())
            running = [item for item in running if item not in late]
            if running:
                self._run_batch(running)
            self._running_since = None

    def _is_too_late(self, item: _Waiting, now: float) -> bool:
        """Whether an image that waited would end after its deadline, if it ran now.

        One that came to a free network always runs, and nothing is foretold from a few runs: else
        those that were slow once, such as the first of a size, would be the last.
        """
        if now >= item.until:
            return True
        waited = now - item.since > self._limits.max_wait_s + FREE_S
        if not waited or len(self._paces_s) < RECENT_RUNS:
            return False
        pixels = math.prod(item.prepared.geometry.network_hw)
        return now + min(self._paces_s) * pixels > item.until

    def _run_batch(self, batch: list[_Waiting]) -> None:
        start = time.perf_counter()
        try:
            tensors = np.stack([item.prepared.tensor for item in batch])
            ran = self._run(tensors, [item.prepared.geometry for item in batch])
        except Exception as error:  # of any kind: each image of the batch gets it
            for item in batch:
                item.future.set_exception(error)
            return
        network_ms = (time.perf_counter() - start) * 1000
        pixels = len(batch) * math.prod(batch[0].prepared.geometry.network_hw)
        self._paces_s.append(network_ms / 1000 / pixels)
        for item, output, geometry in zip(batch, ran.outputs, ran.geometries, strict=True):
            wait_ms = (start - item.since) * 1000
            share = BatchShare(output, geometry, wait_ms, network_ms, len(batch))
            item.future.set_result(share)

    def _next_batch(self) -> list[_Waiting]:
        """The oldest image and those of its shape; empty when closed and done."""
        with self._changed:
            while not self._waiting:
                if self._closing:
                    return []
                self._changed.wait()
            first = self._waiting[0]
            most = self._most_of(first)
            until = first.since + self._limits.max_wait_s
            while len(alike := self._alike(first)) < most and not self._closing:
                left_s = until - time.perf_counter()
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
            batch = alike[:most]
            taken = set(map(id, batch))
            self._waiting = deque(item for item in self._waiting if id(item) not in taken)
            return batch

    def _alike(self, first: _Waiting) -> list[_Waiting]:
        shape = first.prepared.tensor.shape
        return [item for item in self._waiting if item.prepared.tensor.shape == shape]

    def _most_of(self, first: _Waiting) -> int:
        height, width = first.prepared.geometry.network_hw
        pixels = height * width
        return max(1, min(self._limits.max_images, self._limits.max_pixels // pixels))
