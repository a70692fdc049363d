"""Detection of unknown pixels by a score: AUROC, and false alarms at 95% recall.

Unknown pixels are the positive ones, and a low score means unknown. Recall is the share of the
unknown pixels whose score is at most the threshold; a false alarm is a known pixel there.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.scoring.bootstrap import Interval, image_draws, interval_of

RECALL = 0.95

Floats = NDArray[np.float64]


class Detection(NamedTuple):
    """AUROC (0.5 is chance, 1 is best), and the share of false alarms at `RECALL`."""

    auroc: Interval
    false_alarms: Interval

    def to_dict(self) -> dict[str, dict[str, float | int | None]]:
        """Plain values for JSON."""
        return {key: interval.to_dict() for key, interval in self._asdict().items()}


def detection(
    scores: NDArray[np.floating],
    is_unknown: NDArray[np.bool_],
    image_of: NDArray[np.integer],
    resamples: int,
    seed: int = 0,
) -> Detection:
    """AUROC and false alarms, with bootstrap intervals over images.

    Args:
        scores: (N,) of pixels, low where a pixel seems unknown.
        is_unknown: (N,) the truth; both kinds occur.
        image_of: (N,) the number of each pixel's image, from 0.
        resamples: draws of images, at least 1.
        seed: of the draws.
    """
    num_images = int(image_of.max()) + 1
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    last_of_equals = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    unknown, images = is_unknown[order], image_of[order]
    whole = np.ones((1, num_images), np.int64)
    values = np.array(
        [
            _of_weights(drawn[images], unknown, last_of_equals)
            for drawn in np.concatenate([whole, image_draws(num_images, resamples, seed)])
        ]
    )
    return Detection(*(interval_of(float(v[0]), v[1:], num_images) for v in values.T))


def _of_weights(
    weights: NDArray[np.int64], is_unknown: NDArray[np.bool_], last_of_equals: NDArray[np.intp]
) -> tuple[float, float]:
    """Both figures of pixels in ascending order of their score; NaN where a kind is missing."""
    recalled = np.cumsum(weights * is_unknown)[last_of_equals]
    alarms = np.cumsum(weights * ~is_unknown)[last_of_equals]
    if not recalled[-1] or not alarms[-1]:
        return float("nan"), float("nan")
    recall, rate = recalled / recalled[-1], alarms / alarms[-1]
    steps = np.diff(rate, prepend=0.0)
    heights = recall - np.diff(recall, prepend=0.0) / 2  # trapezes: equal scores count half
    at = int(np.searchsorted(recall, RECALL))
    return float((steps * heights).sum()), float(rate[at])
