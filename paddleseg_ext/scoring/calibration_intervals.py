"""How much of a calibration's gain is luck: bootstrap intervals over images.

The pixels of an image are alike, so whole images are drawn with replacement, and the scores of the
pixels of those drawn are taken, before and after the temperature on the same draws.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.scoring.bootstrap import Interval, image_draws, interval_of
from paddleseg_ext.scoring.reliability import BINS, Floats, bin_numbers

SCORES = ("accuracy", "ece", "classwise_ece", "brier", "nll", "aurc")


@dataclass(frozen=True)
class JudgedPixels:
    """Labelled pixels of several images.

    Attributes:
        labels: (N,) class ids.
        image_of: (N,) the number of each pixel's image, from 0.
    """

    labels: NDArray[np.integer]
    image_of: NDArray[np.integer]

    @property
    def num_images(self) -> int:
        """One more than the highest number of an image."""
        return int(self.image_of.max()) + 1


def bootstrap_calibration(
    before: Floats, after: Floats, pixels: JudgedPixels, resamples: int, seed: int = 0
) -> dict[str, dict[str, Interval]]:
    """Score -> `before`, `after` and `ratio` (after / before), each with its interval.

    Args:
        before: (N, C) probabilities.
        after: others of the same pixels.
        pixels: their labels and images.
        resamples: draws of images, at least 1.
        seed: of the draws.
    """
    whole = np.ones((1, pixels.num_images), np.int64)
    drawn = np.concatenate([whole, image_draws(pixels.num_images, resamples, seed)])
    scores = [resampled_scores(each, pixels, drawn) for each in (before, after)]
    found: dict[str, dict[str, Interval]] = {}
    for name in SCORES:
        first, second = (each[name] for each in scores)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = {"before": first, "after": second, "ratio": second / first}
        found[name] = {
            key: interval_of(float(each[0]), each[1:], pixels.num_images)
            for key, each in values.items()
        }
    return found


def resampled_scores(
    probabilities: Floats, pixels: JudgedPixels, drawn: NDArray[np.int64]
) -> dict[str, Floats]:
    """(R,) values of each of `SCORES`.

    Args:
        probabilities: (N, C), rows of sum 1.
        pixels: their labels and images.
        drawn: (R, I) how often each image counts.
    """
    labels, image_of = pixels.labels, pixels.image_of
    confidence, is_right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    of_label = probabilities[np.arange(len(labels)), labels]
    squares = (probabilities**2).sum(axis=1) - 2 * of_label + 1
    logs = -np.log(np.maximum(of_label, np.finfo(np.float64).tiny))

    def mean(values: Floats) -> Floats:
        sums = np.bincount(image_of, values, pixels.num_images)
        return (drawn @ sums) / (drawn @ np.bincount(image_of, minlength=pixels.num_images))

    per_class, has_class = [], []
    for number in np.unique(labels).tolist():
        is_class = labels == number
        per_class.append(_error(probabilities[:, number], is_class, pixels, drawn))
        has_class.append(drawn @ np.bincount(image_of, is_class, pixels.num_images) > 0)
    shown = np.array(has_class)
    return {
        "accuracy": mean(is_right.astype(np.float64)),
        "ece": _error(confidence, is_right, pixels, drawn),
        "classwise_ece": np.where(shown, per_class, 0).sum(axis=0) / shown.sum(axis=0),
        "brier": mean(squares),
        "nll": mean(logs),
        "aurc": _mean_risks(confidence, is_right, pixels, drawn),
    }


def _error(
    confidence: Floats, is_right: NDArray[np.bool_], pixels: JudgedPixels, drawn: NDArray[np.int64]
) -> Floats:
    """(R,) calibration errors: per bin |sum of confidence - number of right ones| over all."""
    places = pixels.image_of * BINS + bin_numbers(confidence)
    count = pixels.num_images * BINS
    gaps = np.bincount(places, confidence - is_right, count).reshape(-1, BINS)
    totals = drawn @ np.bincount(pixels.image_of, minlength=pixels.num_images)
    return np.abs(drawn @ gaps).sum(axis=1) / totals


def _mean_risks(
    confidence: Floats, is_right: NDArray[np.bool_], pixels: JudgedPixels, drawn: NDArray[np.int64]
) -> Floats:
    """(R,) means over the coverages of the error rate of the surest pixels."""
    order = np.argsort(-confidence, kind="stable")
    images, is_wrong = pixels.image_of[order], ~is_right[order]
    values = []
    for weights in drawn:
        weight = weights[images]
        seen = np.cumsum(weight)
        risks = np.cumsum(weight * is_wrong) / np.maximum(seen, 1)
        values.append(float((risks * weight).sum() / seen[-1]))
    return np.array(values)
