"""What is alike runs together; what was submitted is answered, whatever happens."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError

import numpy as np
import pytest

from paddleseg_ext.inference.engines.base import RunTimes
from paddleseg_ext.inference.predictor import NetworkRun, Prepared
from paddleseg_ext.inference.preprocess import Geometry
from paddleseg_ext.serving.batching import RECENT_RUNS, Batcher, BatchLimits, TooLate

LONG_S = 5.0


class Doubling:
    """A network that waits until it is let."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []
        self.may_run = threading.Event()

    def __call__(self, batch: np.ndarray, geometries: Sequence[Geometry]) -> NetworkRun:
        assert self.may_run.wait(10)
        self.batches.append(batch.shape)
        if batch.max() > 99:
            raise ValueError("too much")
        return NetworkRun(batch * 2, geometries, RunTimes(0.0, 0.0))


def tensor(value: float, height: int = 4, width: int = 6) -> np.ndarray:
    return np.full((3, height, width), value, np.float32)


def image(value: float, height: int = 4, width: int = 6) -> Prepared:
    """Its original height, 100 + value, is no other image's."""
    pixels = np.zeros((height, width, 3), np.uint8)
    geometry = Geometry((100 + int(value), width), (height, width))
    return Prepared(pixels, tensor(value, height, width), geometry)


def test_alike_runs_together_and_answers_are_not_mixed_up() -> None:
    network = Doubling()
    batcher = Batcher(network, BatchLimits(4, 10**6, LONG_S))
    first = [batcher.submit(image(i)) for i in range(3)]
    other = batcher.submit(image(7, 5))
    network.may_run.set()
    first.append(batcher.submit(image(3)))  # the fourth: nobody waits any longer
    for i, future in enumerate(first):
        result = future.result(LONG_S)
        np.testing.assert_array_equal(result.output, tensor(2 * i))
        assert result.geometry.original_hw[0] == 100 + i
        assert result.batch_size == 4
    batcher.close()  # does not wait for others of the last one's shape either
    assert other.result(LONG_S).batch_size == 1
    assert network.batches == [(4, 3, 4, 6), (1, 3, 5, 6)]


def test_the_first_waits_no_longer_than_it_should() -> None:
    network = Doubling()
    network.may_run.set()
    batcher = Batcher(network, BatchLimits(4, 10**6, 0.02))
    start = time.perf_counter()
    result = batcher.submit(image(1)).result(LONG_S)
    assert result.batch_size == 1 and result.wait_ms >= 15
    assert time.perf_counter() - start < LONG_S / 2
    batcher.close()


def test_large_images_run_alone() -> None:
    network = Doubling()
    batcher = Batcher(network, BatchLimits(4, 2 * 24, LONG_S))
    futures = [batcher.submit(image(i)) for i in range(4)]
    network.may_run.set()
    assert [future.result(LONG_S).batch_size for future in futures] == [2, 2, 2, 2]
    batcher.close()


def test_a_cancelled_one_is_not_run() -> None:
    network = Doubling()
    batcher = Batcher(network, BatchLimits(1, 10**6, 0.0))
    busy = batcher.submit(image(1))
    while not busy.running():
        time.sleep(0.001)
    gone, kept = batcher.submit(image(2)), batcher.submit(image(3))
    assert gone.cancel()
    network.may_run.set()
    np.testing.assert_array_equal(kept.result(LONG_S).output, tensor(6))
    with pytest.raises(CancelledError):
        gone.result()
    batcher.close()
    assert len(network.batches) == 2


def test_one_that_would_be_too_late_does_not_hold_the_network() -> None:
    """It waited for others; a fresh one runs, however slow the network was before."""
    network = Doubling()
    batcher = Batcher(network, BatchLimits(1, 10**6, 0.0))
    batcher._paces_s.extend([0.2 / 24] * RECENT_RUNS)  # seconds per pixel; images have 24
    busy = batcher.submit(image(1))
    while not busy.running():
        time.sleep(0.001)
    time.sleep(0.3)
    past = batcher.submit(image(2), time.perf_counter())
    soon = batcher.submit(image(3), time.perf_counter() + 0.1)
    kept = batcher.submit(image(4), time.perf_counter() + 60)
    time.sleep(0.05)
    network.may_run.set()
    for late in (past, soon):
        with pytest.raises(TooLate):
            late.result(LONG_S)
    np.testing.assert_array_equal(kept.result(LONG_S).output, tensor(8))
    time.sleep(0.05)
    batcher._paces_s.extend([60.0] * RECENT_RUNS)
    fresh = batcher.submit(image(5), time.perf_counter() + 1)
    np.testing.assert_array_equal(fresh.result(LONG_S).output, tensor(10))
    batcher.close()
    assert len(network.batches) == 3


def test_an_error_is_its_batchs_and_the_rest_goes_on() -> None:
    network = Doubling()
    network.may_run.set()
    batcher = Batcher(network, BatchLimits(1, 10**6, 0.0))
    with pytest.raises(ValueError, match="too much"):
        batcher.submit(image(100)).result(LONG_S)
    assert batcher.is_alive
    np.testing.assert_array_equal(batcher.submit(image(4)).result(LONG_S).output, tensor(8))
    batcher.close()


def test_closing_finishes_what_was_submitted_and_takes_no_more() -> None:
    network = Doubling()
    batcher = Batcher(network, BatchLimits(1, 10**6, 0.0))
    futures = [batcher.submit(image(i)) for i in range(5)]
    threading.Timer(0.05, network.may_run.set).start()
    batcher.close()
    assert all(future.done() for future in futures)
    assert not batcher.is_alive
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(image(1))
