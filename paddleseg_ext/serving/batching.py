"""Dynamic batching: what waits for the network and has one shape runs together.

One thread owns the backend, since no runtime's predictor may be entered twice at a time.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

RunNetwork = Callable[[NDArray], NDArray]


@dataclass(frozen=True)
class BatchLimits:
    """How much runs at once.

    Attributes:
        max_images: in a batch.
        max_pixels: in a batch of more than one image; bounds the memory of a run.
        max_wait_s: how long the first of a batch waits for others.
    """

    max_images: int
    max_pixels: int
    max_wait_s: float


@dataclass(frozen=True)
class NetworkOutput:
    """One image's share of a run.

    Attributes:
        output: of the network for this image.
        wait_ms: from `submit` to the run's start.
        network_ms: of the whole batch.
        batch_size: images that ran together.
    """

    output: NDArray
    wait_ms: float
    network_ms: float
    batch_size: int


@dataclass
class _Waiting:
    tensor: NDArray
    since: float
    future: "Future[NetworkOutput]" = field(default_factory=Future)


class Batcher:
    """Gathers tensors of one shape and runs them; closes after all that was submitted is done."""

    def __init__(self, run: RunNetwork, limits: BatchLimits):
        """
        Args:
            run: (N, 3, H, W) to (N, ...); called from one thread only.
            limits: how much runs at once.
        """
        self._run = run
        self._limits = limits
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._running_since: float | None = None
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether submitted tensors will be run."""
        return self._thread.is_alive() and not self._closing

    @property
    def running_since(self) -> float | None:
        """`perf_counter` when the run that is under way began."""
        return self._running_since

    def submit(self, tensor: NDArray) -> "Future[NetworkOutput]":
        """Queue one image's (3, H, W); a future that is cancelled while it waits is not run.

        Raises:
            RuntimeError: after `close`.
        """
        item = _Waiting(tensor, time.perf_counter())
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
            if running:
                self._run_batch(running)
            self._running_since = None

    def _run_batch(self, batch: list[_Waiting]) -> None:
        start = time.perf_counter()
        try:
            outputs = self._run(np.stack([item.tensor for item in batch]))
        except Exception as error:  # whatever it is, it belongs to those who wait
            for item in batch:
                item.future.set_exception(error)
            return
        network_ms = (time.perf_counter() - start) * 1000
        for item, output in zip(batch, outputs, strict=True):
            wait_ms = (start - item.since) * 1000
            item.future.set_result(NetworkOutput(output, wait_ms, network_ms, len(batch)))

    def _next_batch(self) -> list[_Waiting]:
        """The oldest item and what is like it; empty when closed and done."""
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
        return [item for item in self._waiting if item.tensor.shape == first.tensor.shape]

    def _most_of(self, first: _Waiting) -> int:
        pixels = first.tensor.shape[-2] * first.tensor.shape[-1]
        return max(1, min(self._limits.max_images, self._limits.max_pixels // pixels))
