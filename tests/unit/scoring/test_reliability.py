"""Calibration errors, Brier score, risk and coverage against other formulas."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from paddleseg_ext.scoring.reliability import (
    BINS,
    calibration_scores,
    fit_class_temperatures,
    fit_temperature,
    reliability,
    risk_by_coverage,
    softmax_rows,
)

PIXELS, CLASSES = 700, 4


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Logits that are 2.5 times too sure, and labels that were drawn from their softmax."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (PIXELS, CLASSES))
    labels = np.array([rng.choice(CLASSES, p=row) for row in softmax(logits, axis=1)])
    return (2.5 * logits).astype(np.float32), labels.astype(np.uint8)


def plain_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Pixel by pixel, bin by bin."""
    bins: dict[int, list[int]] = {}
    for number, p in enumerate(confidence):
        bins.setdefault(int(np.ceil(p * BINS)), []).append(number)
    return sum(abs(sum(right[n] - confidence[n] for n in held)) for held in bins.values()) / len(
        confidence
    )


def test_the_scores_are_those_of_plain_loops(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = drawn
    rows = softmax(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(softmax_rows(logits), rows, atol=1e-12)
    scores = calibration_scores(rows, labels)
    right = rows.argmax(axis=1) == labels
    assert scores.accuracy == pytest.approx(right.mean())
    assert scores.ece == pytest.approx(plain_error(rows.max(axis=1), right))
    one_class = [plain_error(rows[:, c], labels == c) for c in range(CLASSES)]
    assert scores.classwise_ece == pytest.approx(np.mean(one_class))
    corners = np.eye(CLASSES)[labels]
    assert scores.brier == pytest.approx(((rows - corners) ** 2).sum(axis=1).mean())
    logs = log_softmax(logits.astype(np.float64), axis=1)
    assert scores.nll == pytest.approx(-logs[np.arange(PIXELS), labels].mean())
    surest = sorted(zip(-rows.max(axis=1), right, strict=True), key=lambda pair: pair[0])
    errors = [1 - np.mean([ok for _, ok in surest[:n]]) for n in range(1, PIXELS + 1)]
    np.testing.assert_allclose(risk_by_coverage(rows.max(axis=1), right), errors, atol=1e-12)
    assert scores.aurc == pytest.approx(np.mean(errors))
    assert scores.risks["0.5"] == pytest.approx(errors[PIXELS // 2 - 1])
    assert scores.risks["1"] == pytest.approx(1 - right.mean())


def test_bins_and_brier_are_those_of_scikit_learn(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    metrics = pytest.importorskip("sklearn.metrics")
    rows, labels = softmax_rows(drawn[0]), drawn[1]
    confidence, right = rows.max(axis=1), rows.argmax(axis=1) == labels
    bins = reliability(confidence, right)
    accuracy, mean = calibration.calibration_curve(right, confidence, n_bins=BINS)
    filled = bins.pixels > 0
    np.testing.assert_allclose(bins.accuracy[filled], accuracy)
    np.testing.assert_allclose(bins.confidence[filled], mean)
    per_class = [metrics.brier_score_loss(labels == c, rows[:, c]) for c in range(CLASSES)]
    assert calibration_scores(rows, labels).brier == pytest.approx(sum(per_class))
    nll = metrics.log_loss(labels, rows, labels=range(CLASSES))
    assert calibration_scores(rows, labels).nll == pytest.approx(nll)


def test_edges_and_a_class_that_is_always_right() -> None:
    bins = reliability(np.array([0.0, 1 / BINS, 1.0, 1.0]), np.array([False, False, True, False]))
    assert bins.pixels[0] == 2 and bins.pixels[-1] == 2 and bins.pixels.sum() == 4
    assert bins.error() == pytest.approx((1 / BINS + 1) / 4)
    sure = calibration_scores(np.eye(3), np.arange(3))
    assert (sure.ece, sure.brier, sure.nll, sure.aurc) == (0, 0, 0, 0)


def test_the_temperature_is_found_again(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = drawn
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(2.5, rel=0.1)

    def loss(t: float) -> float:
        return -log_softmax(logits.astype(np.float64) / t, axis=1)[range(PIXELS), labels].mean()

    best = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-8})
    assert found == pytest.approx(best.x, rel=1e-4)
    before, after = (calibration_scores(softmax_rows(logits, t), labels) for t in (1, found))
    assert after.ece < before.ece / 2 and after.nll < before.nll
    assert after.accuracy == before.accuracy


def test_a_temperature_for_each_prediction_is_found_again() -> None:
    """Predictions of class 0 are 3 times too sure, of class 1 twice too unsure, of class 2 rare."""
    rng = np.random.default_rng(2)
    logits = rng.normal([0.0, 0.0, -9.0], 2, (60_000, 3))
    labels = np.array([rng.choice(3, p=row) for row in softmax(logits, axis=1)])
    scales = np.array([3.0, 0.5, 1.0])[logits.argmax(axis=1)]
    found = fit_class_temperatures(logits * scales[:, None], labels, 1.7)
    assert found == [pytest.approx(3, rel=0.05), pytest.approx(0.5, rel=0.05), 1.7]
