"""Scores against numbers worked out by hand, and the rules for a class that occurs nowhere."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from paddleseg_ext.scoring.metrics import ABSENT_RULES, Scores, summarize

# Class 0: 3 of 4 label pixels found, two false alarms; class 2 occurs nowhere.
COUNTS = np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]])


def test_scores_worked_out_by_hand():
    scores = summarize(COUNTS)
    np.testing.assert_allclose(scores.class_iou, [3 / 6, 4 / 7, math.nan])
    np.testing.assert_allclose(scores.class_precision, [3 / 5, 4 / 5, math.nan])
    np.testing.assert_allclose(scores.class_recall, [3 / 4, 4 / 6, math.nan])
    np.testing.assert_allclose(scores.class_f1, [6 / 9, 8 / 11, math.nan])
    assert scores.num_scored == 10
    assert scores.mean_recall == pytest.approx((3 / 4 + 4 / 6) / 2)
    assert scores.accuracy == pytest.approx(0.7)
    expected = (5 * 4 + 5 * 6) / 100
    assert scores.kappa == pytest.approx((0.7 - expected) / (1 - expected))
    assert scores.mean_dice == pytest.approx((6 / 9 + 8 / 11) / 2)
    assert scores.frequency_weighted_iou == pytest.approx(0.4 * 3 / 6 + 0.6 * 4 / 7)


@pytest.mark.parametrize(
    ("absent", "mean_iou"),
    [
        ("skip", (3 / 6 + 4 / 7) / 2),
        ("zero", (3 / 6 + 4 / 7) / 3),
        ("one", (3 / 6 + 4 / 7 + 1) / 3),
        ("smooth", (3 / 7 + 4 / 8) / 3),
    ],
)
def test_the_absent_rule_decides_the_mean(absent, mean_iou):
    scores = summarize(COUNTS, absent)
    assert scores.mean_iou == pytest.approx(mean_iou)
    assert math.isnan(scores.class_iou[2])


def test_a_class_never_predicted_or_never_labelled_scores_zero_not_nan():
    scores = summarize(np.array([[0, 2], [0, 3]]))
    assert scores.class_iou[0] == scores.class_precision[0] == scores.class_recall[0] == 0
    scores = summarize(np.array([[0, 0], [2, 3]]))
    assert scores.class_iou[0] == scores.class_precision[0] == scores.class_recall[0] == 0


@pytest.mark.parametrize("absent", ABSENT_RULES)
def test_without_a_scored_pixel_nothing_is_claimed(absent):
    scores = summarize(np.zeros((2, 2), np.int64), absent)
    assert scores.num_scored == 0
    assert math.isnan(scores.accuracy)
    assert math.isnan(scores.kappa)
    assert np.isnan(scores.class_iou).all()
    assert math.isnan(scores.mean_iou) and math.isnan(scores.mean_dice)
    json.dumps(scores.to_dict(), allow_nan=False)


def test_printable_is_paddlesegs_array():
    assert str(Scores.printable(np.array([1 / 3, math.nan, 1.0]))) == "[0.3333 0.     1.    ]"


def test_to_dict_is_json_with_none_for_nan():
    assert summarize(COUNTS).to_dict()["class_iou"] == [3 / 6, 4 / 7, None]


@given(hnp.arrays(np.int64, (4, 4), elements=st.integers(0, 50)), st.sampled_from(ABSENT_RULES))
@settings(max_examples=100, deadline=None)
def test_scores_stay_in_range_and_relabelling_changes_no_mean(counts, absent):
    scores = summarize(counts, absent)
    for values in (scores.class_iou, scores.class_precision, scores.class_recall, scores.class_f1):
        present = values[~np.isnan(values)]
        assert ((present >= 0) & (present <= 1)).all()
    order = [2, 0, 3, 1]
    swapped = summarize(counts[np.ix_(order, order)], absent)
    np.testing.assert_allclose(scores.mean_iou, swapped.mean_iou)
    np.testing.assert_allclose(scores.kappa, swapped.kappa)
    np.testing.assert_allclose(scores.class_iou[order], swapped.class_iou)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=6))
def test_a_perfect_prediction_scores_one(pixels):
    scores = summarize(np.diag(pixels))
    assert scores.mean_iou == scores.accuracy == scores.kappa == scores.mean_dice == 1
    assert scores.frequency_weighted_iou == pytest.approx(1)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="square integer matrix"):
        summarize(np.zeros((2, 3), np.int64))
    with pytest.raises(ValueError, match="square integer matrix"):
        summarize(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="one of skip, zero, one, smooth"):
        summarize(COUNTS, "ignore")  # type: ignore[arg-type]
