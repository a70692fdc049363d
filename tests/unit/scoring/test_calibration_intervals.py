"""Intervals of calibration scores, against scores of pixels that are repeated one by one."""

import numpy as np
import pytest

from paddleseg_ext.scoring.bootstrap import image_draws
from paddleseg_ext.scoring.calibration_intervals import (
    SCORES,
    JudgedPixels,
    bootstrap_calibration,
    resampled_scores,
)
from paddleseg_ext.scoring.reliability import calibration_scores, softmax_rows


@pytest.fixture
def judged() -> tuple[np.ndarray, JudgedPixels]:
    rng = np.random.default_rng(5)
    image_of = np.repeat(np.arange(6), [300, 10, 200, 250, 150, 90])
    logits = rng.normal(0, 2, (len(image_of), 4)) + image_of[:, None] * rng.normal(0, 0.5, 4)
    labels = np.where(rng.uniform(size=len(logits)) < 0.6, logits.argmax(axis=1), 1)
    return logits, JudgedPixels(labels, image_of)


def test_a_draw_scores_as_its_pixels_written_out(judged: tuple) -> None:
    logits, pixels = judged
    drawn = np.vstack([np.ones((1, 6), np.int64), image_draws(6, 5, 3)])
    found = resampled_scores(softmax_rows(logits), pixels, drawn)
    for number, weights in enumerate(drawn):
        repeated = np.repeat(np.arange(len(logits)), weights[pixels.image_of])
        expected = calibration_scores(softmax_rows(logits[repeated]), pixels.labels[repeated])
        for name in SCORES:
            # Copies of one pixel have one coverage here, and one after the other there.
            tolerance = 2e-3 if name == "aurc" and number else 1e-9
            value = getattr(expected, name)
            assert found[name][number] == pytest.approx(value, rel=tolerance), name


def test_the_ratio_is_of_the_same_draws(judged: tuple) -> None:
    """Twice the same probabilities: the ratio is 1 in every draw, however the scores vary."""
    logits, pixels = judged
    probabilities = softmax_rows(logits)
    found = bootstrap_calibration(probabilities, probabilities, pixels, 40)
    assert (found["ece"]["ratio"].low, found["ece"]["ratio"].high) == (1.0, 1.0)
    assert found["ece"]["before"].low < found["ece"]["before"].high
