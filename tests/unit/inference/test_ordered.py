"""Threads beside the caller: order, bounds, errors, interrupts."""

import os
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from engines import predictor_of
from hypothesis import given, settings
from hypothesis import strategies as st

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.common.machine import STARTING_CORES, available_cores
from paddleseg_ext.common.ordered import ordered_map, worker_threads
from paddleseg_ext.inference.pipeline import Prediction, StreamOptions

from .conftest import BrightnessNetwork, FakeSample


@pytest.mark.skipif(len(STARTING_CORES) < 2, reason="one core: nothing to bind to")
def test_workers_are_free_where_openmp_bound_the_thread_that_makes_them() -> None:
    seen = []

    def bound() -> None:
        os.sched_setaffinity(0, {min(STARTING_CORES)})  # this thread's alone, as OMP_PROC_BIND does
        with worker_threads(1) as pool:
            assert pool is not None
            seen.append(pool.submit(os.sched_getaffinity, 0).result())
        seen.append(available_cores())

    before = available_cores()
    thread = threading.Thread(target=bound)
    thread.start()
    thread.join()
    assert seen == [STARTING_CORES, before]


@given(
    st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.003]), max_size=30),
    st.integers(0, 4),
    st.integers(1, 6),
)
@settings(max_examples=40, deadline=None)
def test_order_and_bound(delays: list[float], workers: int, most: int) -> None:
    under_way, highest, lock = 0, 0, threading.Lock()

    def items():
        nonlocal under_way, highest
        for i in range(len(delays)):
            with lock:
                under_way += 1
                highest = max(highest, under_way)
            yield i

    def slow(i: int) -> int:
        time.sleep(delays[i])
        return i

    seen = []
    with worker_threads(workers) as pool:
        for result in ordered_map(slow, items(), pool, most):
            with lock:
                under_way -= 1
            seen.append(result)
    assert seen == list(range(len(delays)))
    assert highest <= most


@given(
    st.lists(st.integers(0, 9), max_size=30),
    st.integers(1, 4),
    st.integers(0, 20),
)
@settings(max_examples=40, deadline=None)
def test_bytes_are_bounded_too(sizes: list[int], workers: int, most_bytes: int) -> None:
    """While the next item is made, those under way hold no more, or there is one of them."""
    under_way: list[int] = []

    def items():
        for size in sizes:
            assert len(under_way) <= 1 or sum(under_way) <= most_bytes
            under_way.append(size)
            yield size

    with worker_threads(workers) as pool:
        results = ordered_map(abs, items(), pool, 8, size_of=int, most_bytes=most_bytes)
        assert [under_way.pop(0) for _ in results] == sizes


@pytest.mark.parametrize("workers", [0, 2])
def test_an_output_is_let_go_while_the_next_one_is_made(workers: int) -> None:
    """Outputs are large: once its image is done, nothing holds one."""
    made: list[weakref.ref] = []

    class Network(BrightnessNetwork):
        def run(self, batch: np.ndarray) -> np.ndarray:
            until = time.monotonic() + 5
            while any(ref() is not None for ref in made):
                assert time.monotonic() < until, "an earlier output is still held"
                time.sleep(0.001)
            output = super().run(batch)
            made.append(weakref.ref(output))
            return output

    samples = [FakeSample(Path(f"{i}.png"), None, str(i)) for i in range(4)]
    predictions = predictor_of(Network()).stream(
        samples,
        StreamOptions(
            num_workers=workers,
            read=lambda sample: np.zeros((4, 4, 3), np.uint8),
        ),
    )
    assert [p.error for p in predictions] == [None] * 4


faults = st.sampled_from(["none", "none", "none", "read", "network", "finish"])


@given(
    st.lists(st.tuples(faults, st.sampled_from([0.0, 0.002])), max_size=20),
    st.integers(0, 3),
    st.integers(1, 4),
)
@settings(max_examples=40, deadline=None)
def test_no_image_is_lost_whatever_fails(
    plan: list[tuple[str, float]], workers: int, batch_size: int
) -> None:
    """Faults and delays in any stage: every sample comes back once, in order, with its reason."""

    class Network(BrightnessNetwork):
        def run(self, batch: np.ndarray) -> np.ndarray:
            if batch.shape[2] == 9:
                raise DataError("9 rows are not supported")
            return super().run(batch)

    samples = [FakeSample(Path(f"{i}.png"), None, str(i)) for i in range(len(plan))]

    def read(sample: FakeSample) -> np.ndarray:
        fault, delay = plan[int(sample.name)]
        time.sleep(delay)
        if fault == "read":
            raise DataError(f"{sample.image}: read")
        side = 9 if fault == "network" else 8
        return np.full((side, 8, 3), [40, 128, 215][int(sample.name) % 3], np.uint8)

    written = []

    def finish(prediction: Prediction) -> str:
        fault, delay = plan[int(prediction.sample.name)]
        time.sleep(delay)
        if fault == "finish":
            raise DataError("finish")
        written.append(prediction.sample.name)
        return prediction.sample.name

    predictions = list(
        predictor_of(Network()).stream(
            samples,
            StreamOptions(batch_size, workers, finish=finish, read=read),
        )
    )
    assert [p.sample.name for p in predictions] == [s.name for s in samples]
    for number, (prediction, (fault, _)) in enumerate(zip(predictions, plan, strict=True)):
        if fault == "none":
            assert prediction.error is None and prediction.finished == str(number)
            assert (prediction.label_map == number % 3).all()
        else:
            assert prediction.error is not None
            assert prediction.error.startswith(f"{number}.png: ")
            assert prediction.label_map is None
    assert sorted(written) == sorted(str(i) for i, (fault, _) in enumerate(plan) if fault == "none")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupt_finishes_what_has_begun_and_drops_the_rest(workers: int) -> None:
    begun, ended = [], []
    samples = [FakeSample(Path(f"{i}.png"), None, str(i)) for i in range(50)]

    def finish(prediction: Prediction) -> None:
        begun.append(prediction.sample.name)
        time.sleep(0.01)
        ended.append(prediction.sample.name)

    class Interrupted(BrightnessNetwork):
        def run(self, batch: np.ndarray) -> np.ndarray:
            if len(self.batches) == 5:
                raise KeyboardInterrupt
            return super().run(batch)

    stream = predictor_of(Interrupted()).stream(
        samples,
        StreamOptions(
            num_workers=workers,
            finish=finish,
            read=lambda sample: np.zeros((8, 8, 3), np.uint8),
        ),
    )
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    assert sorted(begun) == sorted(ended) and len(begun) <= 5
    assert not [t for t in threading.enumerate() if t.name.startswith("pipeline")]


def test_what_is_not_a_fault_of_the_data_ends_the_run() -> None:
    def full_disk(prediction: Prediction) -> None:
        raise OSError("No space left on device")

    stream = predictor_of(BrightnessNetwork()).stream(
        [FakeSample(Path("0.png"), None, "0")] * 9,
        StreamOptions(
            num_workers=2,
            finish=full_disk,
            read=lambda sample: np.zeros((8, 8, 3), np.uint8),
        ),
    )
    with pytest.raises(OSError, match="No space"):
        list(stream)
