"""Runtimes in turns: what a new input size costs is measured, and counted where it matters."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from engines import FakeEngine, predictor_of

from paddleseg_ext.evaluation import trials as trials_module
from paddleseg_ext.evaluation import turns
from paddleseg_ext.evaluation.trials import Trial, new_size_share, run_trials
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.bundle import Bundle


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SETTLE_SECONDS", 0)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(tmp_path / "deploy.yaml", tmp_path / "model.json", None, [], None, "none", None)


def write_images(folder: Path, widths: list[int]) -> list[Sample]:
    samples = []
    for number, width in enumerate(widths):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), np.zeros((8, width, 3), np.uint8))
        samples.append(Sample(path, None, str(number)))
    return samples


class Compiling(FakeEngine):
    """Takes its time for each new size, and little after it."""

    def __init__(self, seconds: float, new_size_s: float):
        self.seconds, self.new_size_s = seconds, new_size_s
        self.shapes: set[tuple[int, ...]] = set()

    def run(self, batch: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds + (batch.shape not in self.shapes) * self.new_size_s)
        self.shapes.add(batch.shape)
        return batch[:, :2]


def test_a_new_size_is_measured_by_itself(tmp_path: Path) -> None:
    engines = {"paddle": Compiling(0.02, 0.0), "fast": Compiling(0.002, 0.1)}
    trials = {name: Trial(predictor_of(engine, 2)) for name, engine in engines.items()}
    run_trials(trials, "paddle", write_images(tmp_path, [8, 16, 8, 16]))
    fast, reference = trials["fast"], trials["paddle"]
    assert len(fast.first_seconds) == 2 and len(fast.seconds) == 4
    assert fast.new_size_s() > 0.05 > reference.new_size_s()
    assert fast.ratio(reference) > 2  # of one size
    assert fast.ratio(reference, new_size_share=1.0) < 0.5  # every image another


def test_all_are_compared_and_the_first_are_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials_module, "MOST_TIMED", 3)
    engines = {"paddle": Compiling(0.0, 0.0), "other": Compiling(0.0, 0.0)}
    trials = {name: Trial(predictor_of(engine, 2)) for name, engine in engines.items()}
    run_trials(trials, "paddle", write_images(tmp_path, [8] * 5))
    for trial in trials.values():
        assert (len(trial.seconds), len(trial.verdicts)) == (3, 5)


@pytest.mark.parametrize(
    ("widths", "share"),
    [
        ([8] * 5, 0.0),
        ([8, 16, 8, 16], 0.5),
        ([8, 16, 24, 32], 1.0),
        (list(range(8, 19)) * 2, 1.0),  # one more than are kept, so that none is when it comes
        (list(range(8, 18)) * 2, 0.5),
    ],
)
def test_how_many_images_are_of_a_new_size(
    bundle: Bundle, tmp_path: Path, widths: list[int], share: float
) -> None:
    samples = write_images(tmp_path, widths)
    assert new_size_share(bundle, [*samples, Sample(tmp_path / "no.png", None, "no")]) == share
