"""Whether confidence is what it says: calibration errors, Brier score, risk and coverage.

All take the probabilities of pixels, (N, C), rows of sum 1, and their labels, (N,), 0 to C - 1.

Source:
    C. Guo, G. Pleiss, Y. Sun, K. Weinberger: On Calibration of Modern Neural Networks, ICML 2017
    (temperature, ECE); M. Kull et al.: Beyond temperature scaling, NeurIPS 2019 (class-wise ECE);
    Y. Geifman, R. El-Yaniv: Selective Classification for Deep Neural Networks, NeurIPS 2017 (risk
    and coverage).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 15
COVERAGES = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
TEMPERATURES = (0.05, 20.0)
FEWEST_OF_CLASS = 500  # pixels that a temperature of a class is fitted on
STEPS = 40  # of the golden section: the temperature to 1e-7 of its range
GOLDEN = (5**0.5 - 1) / 2

Floats = NDArray[np.float64]


class Reliability(NamedTuple):
    """Pixels by their confidence, in `BINS` bins of equal width, each with its upper edge.

    Attributes:
        pixels: (B,) how many are in a bin.
        confidence: (B,) their mean confidence; 0 where there is none.
        accuracy: (B,) their share that is right; 0 where there is none.
    """

    pixels: Floats
    confidence: Floats
    accuracy: Floats

    def error(self) -> float:
        """Mean over the pixels of |accuracy - confidence| of their bin: the ECE."""
        shares = self.pixels / self.pixels.sum()
        return float((shares * np.abs(self.accuracy - self.confidence)).sum())


@dataclass(frozen=True)
class CalibrationScores:
    """Scores of probabilities.

    Attributes:
        accuracy: share of the pixels whose most probable class is the label.
        ece: expected calibration error of the most probable class.
        classwise_ece: mean over the labelled classes of the ECE of the class's probability.
        brier: mean over the pixels of the squared distance to the label's corner, 0 to 2.
        nll: mean negative logarithm of the label's probability, natural.
        aurc: mean over the coverages of the error rate of the surest pixels.
        risks: coverage -> error rate of the share of the pixels that is surest.
    """

    accuracy: float
    ece: float
    classwise_ece: float
    brier: float
    nll: float
    aurc: float
    risks: dict[str, float]

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self)


def reliability(confidence: Floats, is_right: NDArray[np.bool_]) -> Reliability:
    """Bins of (N,) confidences and whether each was right."""
    numbers = bin_numbers(confidence)
    pixels = np.bincount(numbers, minlength=BINS).astype(np.float64)
    filled = np.maximum(pixels, 1)
    means = np.bincount(numbers, confidence, BINS) / filled
    return Reliability(pixels, means, np.bincount(numbers, is_right, BINS) / filled)


def bin_numbers(confidence: Floats) -> NDArray[np.intp]:
    """(N,) the bin of each confidence, 0 to `BINS` - 1; a bin includes its upper edge."""
    return np.searchsorted(np.linspace(0.0, 1.0, BINS + 1)[1:-1], confidence)


def risk_by_coverage(confidence: Floats, is_right: NDArray[np.bool_]) -> Floats:
    """(N,) error rate of the 1, 2, ..., N surest pixels."""
    order = np.argsort(-confidence, kind="stable")
    return np.cumsum(~is_right[order]) / np.arange(1, len(order) + 1)


def calibration_scores(probabilities: Floats, labels: NDArray[np.integer]) -> CalibrationScores:
    """All scores of (N, C) probabilities; N at least 1."""
    rows = np.arange(len(labels))
    confidence, found = probabilities.max(axis=1), probabilities.argmax(axis=1)
    is_right = found == labels
    risks = risk_by_coverage(confidence, is_right)
    of_label = probabilities[rows, labels]
    squares = (probabilities**2).sum(axis=1) - 2 * of_label + 1
    per_class = [
        reliability(probabilities[:, c], labels == c).error() for c in np.unique(labels).tolist()
    ]
    kept = {f"{share:g}": max(1, round(share * len(labels))) for share in COVERAGES}
    return CalibrationScores(
        accuracy=float(is_right.mean()),
        ece=reliability(confidence, is_right).error(),
        classwise_ece=float(np.mean(per_class)),
        brier=float(squares.mean()),
        nll=float(-np.log(np.maximum(of_label, np.finfo(np.float64).tiny)).mean()),
        aurc=float(risks.mean()),
        risks={share: float(risks[count - 1]) for share, count in kept.items()},
    )


def softmax_rows(logits: NDArray[np.floating], temperature: float | Floats = 1.0) -> Floats:
    """(N, C) probabilities of logits that are divided by the temperature: one, or (N,) of them."""
    scores = logits.astype(np.float64) / np.reshape(temperature, (-1, 1))
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature in `TEMPERATURES` of the least negative log-likelihood.

    That is convex in 1 / temperature, so it has one minimum and a golden section finds it.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    of_label = shifted[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float((np.log(np.exp(shifted * scale).sum(axis=1)) - of_label * scale).mean())

    return float(np.exp(_minimum(loss, *np.log(TEMPERATURES))))


def fit_class_temperatures(
    logits: NDArray[np.floating], labels: NDArray[np.integer], common: float
) -> list[float]:
    """A temperature for each predicted class, fitted on the pixels that have this prediction.

    A prediction of fewer than `FEWEST_OF_CLASS` pixels keeps the common one.
    """
    found = logits.argmax(axis=1)
    temperatures = [common] * logits.shape[1]
    for number in range(logits.shape[1]):
        chosen = found == number
        if chosen.sum() >= FEWEST_OF_CLASS:
            temperatures[number] = fit_temperature(logits[chosen], labels[chosen])
    return temperatures


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of one minimum has it, between two numbers."""
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(STEPS):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2
