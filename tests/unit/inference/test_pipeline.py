"""The prediction pipeline: order, mixed sizes in a batch, broken images."""

import errno
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from engines import predictor_of

from paddleseg_ext.common.errors import DataError
from paddleseg_ext.inference.pipeline import Prediction, StreamOptions
from paddleseg_ext.inference.postprocess import Postprocess

from .conftest import BrightnessNetwork, FakeSample, write_image

SIZES_HW = [(10, 12), (7, 9), (10, 12), (10, 12), (7, 9)]


def make_samples(folder: Path) -> tuple[list[FakeSample], list[np.ndarray]]:
    samples, truths = [], []
    for i, (height, width) in enumerate(SIZES_HW):
        path = folder / f"city_{i}" / "same.png"  # equal names in different folders
        truths.append(write_image(path, height, width, seed=i))
        samples.append(FakeSample(path, None, f"city_{i}/same"))
    return samples, truths


def predict(network: BrightnessNetwork, samples: list, **options: Any) -> list[Prediction]:
    network.streams = options.get("streams", 1)
    predictor = predictor_of(network, postprocess=Postprocess(network.output_op))
    return list(predictor.stream(samples, StreamOptions(**options)))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("output_op", ["none", "argmax"])
def test_every_sample_in_order(
    tmp_path: Path, batch_size: int, num_workers: int, output_op: str
) -> None:
    samples, truths = make_samples(tmp_path)
    network = BrightnessNetwork(output_op)
    predictions = predict(network, samples, batch_size=batch_size, num_workers=num_workers)
    assert [p.sample.name for p in predictions] == [s.name for s in samples]
    for prediction, truth in zip(predictions, truths, strict=True):
        assert prediction.error is None
        np.testing.assert_array_equal(prediction.label_map, truth)
    assert max(shape[0] for shape in network.batches) <= batch_size


def test_equal_shapes_run_together(tmp_path: Path, brightness: BrightnessNetwork) -> None:
    samples, _ = make_samples(tmp_path)
    predict(brightness, samples, batch_size=5)
    assert sorted(brightness.batches) == [(2, 3, 7, 9), (3, 3, 10, 12)]


def test_an_unreadable_image_is_reported_and_the_rest_is_done(
    tmp_path: Path, brightness: BrightnessNetwork
) -> None:
    samples, truths = make_samples(tmp_path)
    samples[1].image.write_bytes(b"not a picture")
    samples[3].image.unlink()
    predictions = predict(brightness, samples, batch_size=2)
    failed = [p.sample.name for p in predictions if p.error is not None]
    assert failed == ["city_1/same", "city_3/same"]
    assert all(str(p.sample.image) in p.error for p in predictions if p.error)
    for i in (0, 2, 4):
        np.testing.assert_array_equal(predictions[i].label_map, truths[i])


def test_a_shape_that_the_network_refuses_fails_alone(tmp_path: Path) -> None:
    class Picky(BrightnessNetwork):
        def run(self, batch: np.ndarray) -> np.ndarray:
            if batch.shape[2] == 7:
                raise DataError("7 rows are not supported")
            return super().run(batch)

    samples, _ = make_samples(tmp_path)
    predictions = predict(Picky(), samples, batch_size=5)
    assert [i for i, p in enumerate(predictions) if p.error] == [1, 4]
    assert "7 rows" in (predictions[1].error or "")


def test_a_batch_that_does_not_fit_into_memory_runs_one_by_one(tmp_path: Path) -> None:
    class Small(BrightnessNetwork):
        def run(self, batch: np.ndarray) -> np.ndarray:
            if len(batch) > 1 or batch.shape[2] == 7:
                raise MemoryError
            return super().run(batch)

    samples, truths = make_samples(tmp_path)
    predictions = predict(Small(), samples, batch_size=5)
    assert [i for i, p in enumerate(predictions) if p.error] == [1, 4]
    assert "not enough memory" in (predictions[1].error or "")
    for i in (0, 2, 3):
        np.testing.assert_array_equal(predictions[i].label_map, truths[i])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_memory_and_names_fail_one_sample_and_a_full_disk_all(
    tmp_path: Path, brightness: BrightnessNetwork, num_workers: int
) -> None:
    samples, _ = make_samples(tmp_path)

    def raising(*errors: Exception) -> list[Prediction]:
        waiting = dict(zip((samples[1].name, samples[3].name), errors, strict=False))

        def finish(prediction: Prediction) -> None:
            if prediction.sample.name in waiting:
                raise waiting[prediction.sample.name]

        return predict(brightness, samples, finish=finish, num_workers=num_workers)

    predictions = raising(MemoryError("8 GiB"), IsADirectoryError(errno.EISDIR, "taken", "a.png"))
    assert [i for i, p in enumerate(predictions) if p.error] == [1, 3]
    assert "not enough memory for it: 8 GiB" in (predictions[1].error or "")
    assert "'a.png' cannot be written: taken" in (predictions[3].error or "")
    with pytest.raises(OSError, match="full"):
        raising(OSError(errno.ENOSPC, "full", "a.png"))


def test_warm_up_runs_once_for_each_shape_and_outside_the_results(
    tmp_path: Path, brightness: BrightnessNetwork
) -> None:
    samples, truths = make_samples(tmp_path)
    predictions = predict(brightness, samples, warm_up_runs=2)
    assert len(brightness.batches) == len(samples) + 2 * 2
    np.testing.assert_array_equal(predictions[0].label_map, truths[0])


def test_output_is_kept_only_on_demand(tmp_path: Path, brightness: BrightnessNetwork) -> None:
    samples, _ = make_samples(tmp_path)
    assert all(p.output is None for p in predict(brightness, samples))
    kept = predict(brightness, samples, batch_size=2, keep_output=True)
    assert [p.output.shape for p in kept if p.output is not None] == [(3, *hw) for hw in SIZES_HW]


def test_reading_ahead_is_bounded(tmp_path: Path, brightness: BrightnessNetwork) -> None:
    samples, _ = make_samples(tmp_path)
    taken = []

    def endless():
        for i in range(1000):
            taken.append(i)
            yield samples[i % len(samples)]

    options = StreamOptions(batch_size=2, num_workers=2)
    stream = cast(Generator, predictor_of(brightness).stream(endless(), options))
    next(stream)
    assert len(taken) < 20
    stream.close()


def test_streams_run_batches_at_once_and_keep_the_order(tmp_path: Path) -> None:
    """Each run waits for another one to be under way, which one thread could not do."""

    class Meeting(BrightnessNetwork):
        def run(self, batch: np.ndarray) -> np.ndarray:
            meeting.wait(timeout=10)
            return super().run(batch)

    meeting = threading.Barrier(2)
    samples, truths = make_samples(tmp_path)
    predictions = predict(Meeting(), samples[:4], streams=2, num_workers=1)
    assert [p.sample.name for p in predictions] == [s.name for s in samples[:4]]
    for prediction, truth in zip(predictions, truths, strict=False):
        np.testing.assert_array_equal(prediction.label_map, truth)
