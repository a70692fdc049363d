"""How much of a difference is luck: bootstrap intervals of mIoU over images.

Images are drawn with replacement, the counts of those drawn are summed, and the score of the sum
is taken, as it is for the whole set. It says how the score varies with the images, not how it
varies between trainings.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.scoring.confusion import ClassPixels
from paddleseg_ext.scoring.metrics import AbsentRule, plain

DEFAULT_RESAMPLES = 1000
CONFIDENCE = 0.95
_RESAMPLES_AT_ONCE = 256


@dataclass(frozen=True)
class Interval:
    """A score and the central `CONFIDENCE` interval of its resamples.

    Attributes:
        low, high: NaN where there is no interval: of one image, or of nothing that was scored.
    """

    value: float
    low: float
    high: float
    num_images: int
    resamples: int

    def words(self) -> str:
        """The value and its interval: `0.1234 (0.1200 to 0.1300)`."""
        if math.isnan(self.low):
            return f"{self.value:.4f} (no interval)"
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain numbers for JSON, None where there was nothing to score."""
        return {key: plain(value) for key, value in vars(self).items()}


def bootstrap_mean_iou(
    areas: ClassPixels,
    absent: AbsentRule = "skip",
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mIoU of all images with its interval.

    Raises:
        ValueError: no images, or fewer than 1 resample.
    """
    drawn = image_draws(len(areas.intersection), resamples, seed)
    values = _resampled(areas, drawn, absent)
    return interval_of(_whole(areas, absent), values, len(areas.intersection))


def bootstrap_difference(
    first: ClassPixels,
    second: ClassPixels,
    absent: AbsentRule = "skip",
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Second minus first in mIoU on the same images, drawn alike for both.

    Raises:
        ValueError: the two were not made of equally many images.
    """
    if first.intersection.shape != second.intersection.shape:
        raise ValueError(
            f"the same images and classes are expected, got {first.intersection.shape} and "
            f"{second.intersection.shape}"
        )
    drawn = image_draws(len(first.intersection), resamples, seed)
    values = _resampled(second, drawn, absent) - _resampled(first, drawn, absent)
    value = _whole(second, absent) - _whole(first, absent)
    return interval_of(value, values, len(first.intersection))


def image_draws(num_images: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """(resamples, num_images): how often each image is drawn.

    Raises:
        ValueError: no images, or fewer than 1 resample.
    """
    if num_images < 1 or resamples < 1:
        raise ValueError(f"images and resamples are expected, got {num_images} and {resamples}")
    rng = np.random.default_rng(seed)
    even = np.full(num_images, 1 / num_images)
    return rng.multinomial(num_images, even, size=resamples)


def _resampled(
    areas: ClassPixels, drawn: NDArray[np.int64], absent: AbsentRule
) -> NDArray[np.float64]:
    parts = [
        _mean_iou(areas, drawn[start : start + _RESAMPLES_AT_ONCE], absent)
        for start in range(0, len(drawn), _RESAMPLES_AT_ONCE)
    ]
    return np.concatenate(parts)


def _mean_iou(
    areas: ClassPixels, drawn: NDArray[np.int64], absent: AbsentRule
) -> NDArray[np.float64]:
    """(R,) the mIoU of every draw."""
    hits = (drawn @ areas.intersection).astype(np.float64)  # (R, C)
    union = (drawn @ (areas.prediction_pixels + areas.label_pixels)).astype(np.float64) - hits
    missing = union == 0
    iou = hits / np.where(missing, 1.0, union + (absent == "smooth"))
    if absent == "skip":
        present = (~missing).sum(axis=1)
        mean = np.where(missing, 0.0, iou).sum(axis=1) / np.maximum(present, 1)
        return np.where(present == 0, np.nan, mean)
    mean = np.where(missing, 1.0 if absent == "one" else 0.0, iou).mean(axis=1)
    return np.where(missing.all(axis=1), np.nan, mean)  # no rule makes a score of nothing


def _whole(areas: ClassPixels, absent: AbsentRule) -> float:
    each_once = np.ones((1, len(areas.intersection)), np.int64)
    return float(_mean_iou(areas, each_once, absent)[0])


def interval_of(value: float, values: NDArray[np.float64], num_images: int) -> Interval:
    """The value with the central `CONFIDENCE` interval of its resamples; NaN is left out.

    Every resample of one image is that image, so that it has no interval.
    """
    if num_images < 2 or np.isnan(values).all():
        return Interval(value, float("nan"), float("nan"), num_images, len(values))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return Interval(value, float(low), float(high), num_images, len(values))
