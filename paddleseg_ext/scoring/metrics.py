"""Scores from a confusion matrix, and the rules for a class that occurs nowhere."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
AbsentRule = Literal["skip", "zero", "one", "smooth"]
ABSENT_RULES: tuple[str, ...] = get_args(AbsentRule)


@dataclass(frozen=True)
class Scores:
    """Scores of one confusion matrix: ratios in [0, 1], `nan` where there is nothing to divide.

    A class is absent when no label and no prediction has it. The arrays of the classes hold `nan`
    for it whatever the rule; the rule decides what it adds to the means. A class that occurs but
    is never predicted has precision 0, one that is only predicted has recall 0.

    Attributes:
        absent: the rule. `skip` leaves an absent class out of the means (nan-mean), `zero` and
            `one` count it as 0 (PaddleSeg up to 2.8) or 1 (from 2.9), `smooth` adds one pixel to
            the union of every class (CoinCheung's BiSeNet since 2022), so an absent class is 0.
        class_precision: intersection / predicted pixels, what PaddleSeg prints as `Class Acc`.
        class_f1: which is also each class's Dice, so `mean_dice` is the macro F1.
        num_scored: pixels that were scored, without ignored ones.
    """

    absent: AbsentRule
    num_scored: int
    mean_iou: float
    mean_dice: float
    mean_recall: float
    accuracy: float
    kappa: float
    frequency_weighted_iou: float
    class_iou: FloatArray
    class_precision: FloatArray
    class_recall: FloatArray
    class_f1: FloatArray

    @staticmethod
    def printable(array: FloatArray) -> FloatArray:
        """The array as PaddleSeg prints it: 4 decimals, `0.` for an absent class."""
        return np.nan_to_num(array, nan=0.0).round(4)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON, `None` where there is no value."""
        return {name: plain(value) for name, value in vars(self).items()}


def summarize(counts: NDArray[np.integer], absent: AbsentRule = "skip") -> Scores:
    """All scores of (C, C) integer counts (row = label, column = prediction).

    Raises:
        ValueError: the counts are not a square integer matrix, or the rule is unknown.

    Source:
        PaddleSeg 2.8 `utils/metrics.py` for accuracy, kappa, Dice and `Class Acc`.
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.dtype.kind not in "iu":
        raise ValueError(f"a square integer matrix is expected, got {counts.dtype} {counts.shape}")
    if absent not in ABSENT_RULES:
        raise ValueError(f"absent: one of {', '.join(ABSENT_RULES)} is expected, got '{absent}'")
    hits = np.diagonal(counts).astype(np.float64)
    predicted = counts.sum(axis=0).astype(np.float64)
    labelled = counts.sum(axis=1).astype(np.float64)
    union = predicted + labelled - hits
    total = labelled.sum()

    is_absent = union == 0
    class_iou = _ratio(hits, union + (absent == "smooth"), is_absent)
    class_precision = _ratio(hits, predicted, is_absent)
    class_recall = _ratio(hits, labelled, is_absent)
    class_f1 = _ratio(2 * hits, predicted + labelled, is_absent)
    rule = absent if total else "skip"  # nan: no rule makes a score of nothing
    return Scores(
        absent=absent,
        num_scored=int(total),
        mean_iou=_class_mean(class_iou, rule),
        mean_dice=_class_mean(class_f1, rule),
        mean_recall=_class_mean(class_recall, rule),
        accuracy=_divide(hits.sum(), total),
        kappa=_kappa(hits, predicted, labelled),
        frequency_weighted_iou=_divide((labelled * np.nan_to_num(class_iou)).sum(), total),
        class_iou=class_iou,
        class_precision=class_precision,
        class_recall=class_recall,
        class_f1=class_f1,
    )


def _ratio(part: FloatArray, whole: FloatArray, is_absent: NDArray[np.bool_]) -> FloatArray:
    """`part / whole`, 0 where `whole` is 0, nan for absent classes."""
    ratio = part / np.where(whole == 0, 1.0, whole)
    return np.where(is_absent, np.nan, ratio)


def _class_mean(values: FloatArray, absent: AbsentRule) -> float:
    if absent == "skip":
        present = values[~np.isnan(values)]
        return float(present.mean()) if present.size else float("nan")
    return float(np.nan_to_num(values, nan=1.0 if absent == "one" else 0.0).mean())


def _kappa(hits: FloatArray, predicted: FloatArray, labelled: FloatArray) -> float:
    """Cohen's kappa; nan without pixels, and where one class is everything in both."""
    total = labelled.sum()
    observed = _divide(hits.sum(), total)
    expected = _divide((predicted * labelled).sum(), total * total)
    return _divide(observed - expected, 1.0 - expected)


def _divide(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def plain(value: Any) -> Any:
    """The value for JSON: lists and Python's numbers, None for nan."""
    if isinstance(value, np.ndarray | np.floating):
        return plain(value.tolist())
    if isinstance(value, list):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def relative_error(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Root mean square of `got - expected` over that of `expected`."""
    difference = np.sqrt(np.mean(np.square(got - expected), dtype=np.float64))
    return float(difference / max(1e-12, np.sqrt(np.mean(np.square(expected), dtype=np.float64))))
