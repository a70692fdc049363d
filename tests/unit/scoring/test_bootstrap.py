"""Bootstrap intervals: around the score, repeatable, and honest about equal runs."""

import numpy as np
import pytest

from paddleseg_ext.scoring.bootstrap import (
    bootstrap_difference,
    bootstrap_mean_iou,
)
from paddleseg_ext.scoring.confusion import ClassPixels
from paddleseg_ext.scoring.metrics import ABSENT_RULES, summarize

NUM_IMAGES, NUM_CLASSES = 40, 5


def random_counts(seed: int, accuracy: float = 0.7) -> np.ndarray:
    """(num_images, C, C) confusion matrices; the last class occurs nowhere."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 50, (NUM_IMAGES, NUM_CLASSES, NUM_CLASSES))
    counts += np.eye(NUM_CLASSES, dtype=int) * rng.integers(
        0, int(1000 * accuracy), (NUM_IMAGES, 1, 1)
    )
    counts[:, -1] = counts[:, :, -1] = 0
    return counts


def areas_of(counts: np.ndarray) -> ClassPixels:
    return ClassPixels(
        np.diagonal(counts, axis1=1, axis2=2).copy(), counts.sum(axis=1), counts.sum(axis=2)
    )


@pytest.mark.parametrize("absent", ABSENT_RULES)
def test_the_value_is_the_score_of_all_images(absent: str) -> None:
    counts = random_counts(0)
    interval = bootstrap_mean_iou(areas_of(counts), absent, resamples=300)  # type: ignore[arg-type]
    score = summarize(counts.sum(axis=0), absent).mean_iou  # type: ignore[arg-type]
    assert interval.value == pytest.approx(score, rel=1e-12)
    assert interval.low < interval.value < interval.high
    assert interval.num_images == NUM_IMAGES and interval.resamples == 300


def test_same_seed_same_interval_and_more_images_less_spread() -> None:
    areas = areas_of(random_counts(1))
    first, again = (bootstrap_mean_iou(areas, resamples=500) for _ in range(2))
    assert first == again
    few = ClassPixels(areas.intersection[:5], areas.prediction_pixels[:5], areas.label_pixels[:5])
    narrow = first.high - first.low
    wide = bootstrap_mean_iou(few, resamples=500)
    assert wide.high - wide.low > 1.5 * narrow


def test_the_spread_is_that_of_means_of_equally_many_images() -> None:
    """Images that score 0 or 1 alike: the interval is the binomial's."""
    right = np.arange(NUM_IMAGES) % 2
    hits = np.stack([100 * right, np.zeros(NUM_IMAGES, int)], axis=1)
    # Class 1 is all that is predicted wrongly; with `zero` the mean is half of class 0's IoU.
    predicted = np.stack([100 * right, 100 * (1 - right)], axis=1)
    labelled = np.stack([np.full(NUM_IMAGES, 100), np.zeros(NUM_IMAGES, int)], axis=1)
    interval = bootstrap_mean_iou(ClassPixels(hits, predicted, labelled), "zero", resamples=4000)
    deviation = 0.5 * np.sqrt(0.25 / NUM_IMAGES)
    assert interval.value == 0.25
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * deviation, rel=0.15)


def test_one_image_has_no_interval() -> None:
    areas = areas_of(random_counts(2)[:1])
    interval = bootstrap_mean_iou(areas, resamples=10)
    assert np.isnan([interval.low, interval.high]).all() and interval.to_dict()["low"] is None
    assert interval.words() == f"{interval.value:.4f} (no interval)"


def test_equal_runs_differ_by_nothing_and_better_ones_by_more_than_chance() -> None:
    counts = random_counts(3)
    same = bootstrap_difference(areas_of(counts), areas_of(counts))
    assert (same.low, same.value, same.high) == (0.0, 0.0, 0.0)
    better = counts + np.eye(NUM_CLASSES, dtype=int) * 200
    better[:, -1] = better[:, :, -1] = 0
    interval = bootstrap_difference(areas_of(counts), areas_of(better))
    assert 0 < interval.low <= interval.value <= interval.high


def test_what_cannot_be_resampled() -> None:
    areas = areas_of(random_counts(4))
    with pytest.raises(ValueError, match="expected"):
        bootstrap_mean_iou(areas_of(random_counts(4)[:0]))
    with pytest.raises(ValueError, match="expected"):
        bootstrap_mean_iou(areas, resamples=0)
    with pytest.raises(ValueError, match="same images"):
        bootstrap_difference(areas, areas_of(random_counts(4)[:3]))
    with pytest.raises(ValueError, match="one shape"):
        ClassPixels(areas.intersection, areas.label_pixels[:2], areas.label_pixels)
