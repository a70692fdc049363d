"""AUROC and false alarms against scikit-learn, with equal scores and repeated images."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from paddleseg_ext.scoring import detection as module
from paddleseg_ext.scoring.detection import detection


@pytest.mark.parametrize("decimals", [9, 1, 0])
def test_as_scikit_learn(decimals: int) -> None:
    rng = np.random.default_rng(4)
    is_unknown = rng.uniform(size=900) < 0.2
    scores = (rng.normal(0, 1, 900) - is_unknown).round(decimals)
    found = detection(scores, is_unknown, np.arange(900) % 7, 50)
    assert found.auroc.value == pytest.approx(roc_auc_score(is_unknown, -scores))
    rate, recall, _ = roc_curve(is_unknown, -scores, drop_intermediate=False)
    assert found.false_alarms.value == pytest.approx(rate[recall >= 0.95].min())
    assert found.auroc.low < found.auroc.value < found.auroc.high


def test_an_image_that_is_drawn_twice_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    is_unknown, scores = rng.uniform(size=60) < 0.5, rng.normal(size=60).round(1)
    image_of = np.repeat([0, 1, 2], 20)
    monkeypatch.setattr(module, "image_draws", lambda *_: np.array([[2, 0, 1]]))
    found = detection(scores, is_unknown, image_of, 1)
    twice = np.r_[0:20, 0:20, 40:60]
    expected = roc_auc_score(is_unknown[twice], -scores[twice])
    assert found.auroc.low == pytest.approx(expected)


def test_chance_and_perfection() -> None:
    is_unknown = np.array([True, False, True, False])
    same = detection(np.zeros(4), is_unknown, np.zeros(4, int), 3)
    assert (same.auroc.value, same.false_alarms.value) == (0.5, 1.0)
    best = detection(np.where(is_unknown, -1.0, 1.0), is_unknown, np.zeros(4, int), 3)
    assert (best.auroc.value, best.false_alarms.value) == (1.0, 0.0)
