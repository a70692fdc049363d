"""The four grades, and that each way of being wrong is graded wrong."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddleseg_ext.scoring import verdict as v
from paddleseg_ext.scoring.confusion import count_pairs

NAMES = ("road", "car", "sky")


def logits_of(seed: int = 0, size: tuple[int, int] = (6, 8)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(3, *size)).astype(np.float32) * 10


def flipped(logits: np.ndarray, row: int, column: int, margin: float) -> tuple:
    """Make one pixel's top two differ by `margin` of the largest logit; the map with it flipped."""
    logits = logits.copy()
    largest = np.abs(logits).max()
    first, second = np.argsort(-logits[:, row, column])[:2]
    logits[second, row, column] = logits[first, row, column] - margin * largest
    expected = logits.argmax(axis=0).astype(np.uint8)
    got = expected.copy()
    got[row, column] = second
    return logits, expected, got


def test_equal_maps_are_identical_and_need_no_logits():
    expected = logits_of().argmax(axis=0).astype(np.uint8)
    assert v.judge_image("a", expected, expected.copy(), None).grade == "identical"


def test_a_flip_within_the_tolerance_is_a_near_tie_and_listed():
    logits, expected, got = flipped(logits_of(), 2, 5, 5e-5)
    verdict = v.judge_image("a", expected, got, logits)
    assert verdict.grade == "near-tie"
    (flip,) = verdict.flips
    assert (flip.row, flip.column) == (2, 5)
    assert (flip.expected, flip.got) == (expected[2, 5], got[2, 5])
    assert flip.margin == pytest.approx(5e-5, rel=1e-2)


def test_a_flip_beyond_the_tolerance_fails():
    logits, expected, got = flipped(logits_of(), 2, 5, 2e-4)
    verdict = v.judge_image("a", expected, got, logits)
    assert verdict.grade == "failed"
    assert "1 pixels differ, 1 of them decided" in verdict.reason


def test_a_flip_to_a_third_class_is_no_near_tie():
    logits, expected, got = flipped(logits_of(), 2, 5, 5e-5)
    got[2, 5] = np.argmin(logits[:, 2, 5])
    assert v.judge_image("a", expected, got, logits).grade == "failed"


def test_one_decided_pixel_among_near_ties_fails():
    logits, expected, got = flipped(logits_of(), 2, 5, 5e-5)
    got[0, 0] = np.argmin(logits[:, 0, 0])
    verdict = v.judge_image("a", expected, got, logits)
    assert verdict.grade == "failed"
    assert "2 pixels differ, 1 of them decided" in verdict.reason


def test_logits_that_do_not_explain_the_eager_map_prove_nothing():
    logits, expected, got = flipped(logits_of(), 2, 5, 5e-5)
    assert v.judge_image("a", got, expected, logits).grade == "failed"


@pytest.mark.parametrize("wrong", [np.inf, np.nan])
def test_logits_that_are_not_finite_prove_nothing(wrong):
    logits, expected, got = flipped(logits_of(), 2, 5, 5e-5)
    logits[expected[2, 5], 2, 5] = wrong
    assert v.judge_image("a", expected, got, logits).grade == "failed"


def test_another_size_and_a_class_that_does_not_exist_fail():
    logits, expected, got = flipped(logits_of(), 2, 5, 5e-5)
    assert "size (3, 8) instead of (6, 8)" in v.judge_image("a", expected, got[:3], None).reason
    got[2, 5] = 9
    assert v.judge_image("a", expected, got, logits).reason == "class 9 of 3 classes"


def test_without_logits_every_pixel_that_differs_counts_as_decided():
    _, expected, got = flipped(logits_of(), 2, 5, 5e-5)
    verdict = v.judge_image("a", expected, got, None)
    assert (verdict.grade, verdict.num_decided) == ("failed", 1)
    assert "no logits tell" in verdict.reason


@given(st.integers(0, 1000), st.floats(0, 9e-5))
@settings(max_examples=40, deadline=None)
def test_any_flip_below_the_tolerance_passes_and_above_fails(seed, margin):
    logits, expected, got = flipped(logits_of(seed), 1, 1, margin)
    if not np.array_equal(expected, got):
        assert v.judge_image("a", expected, got, logits).grade == "near-tie"
    logits, expected, got = flipped(logits_of(seed), 1, 1, margin + 2e-4)
    assert v.judge_image("a", expected, got, logits).grade == "failed"


def judged(expected: np.ndarray, got: np.ndarray, logits: np.ndarray) -> v.RunVerdict:
    label = np.zeros_like(expected)
    images = [
        v.judge_image("a", expected, expected, None),
        v.judge_image("b", expected, got, logits),
    ]
    counts = [count_pairs(expected, label, 3) + count_pairs(m, label, 3) for m in (expected, got)]
    return v.judge_run(images, counts[0], counts[1], NAMES)


def test_a_run_is_as_good_as_its_worst_image_and_lists_the_count_differences():
    logits, expected, got = flipped(logits_of(), 2, 5, 5e-5)
    verdict = judged(expected, got, logits)
    assert verdict.grade == "near-tie"
    assert verdict.passed
    assert verdict.num_different == len(verdict.flips) == 1
    was, now = NAMES[expected[2, 5]], NAMES[got[2, 5]]
    assert verdict.count_differences[was]["prediction"] == -1
    assert verdict.count_differences[now]["prediction"] == 1
    assert "1 pixels of 2 images differ, largest margin 5.0e-05" in verdict.summary()


def test_a_failed_run_says_where_and_by_how_much():
    logits, expected, _ = flipped(logits_of(), 2, 5, 5e-5)
    verdict = judged(expected, np.minimum(expected, 1), logits)
    assert not verdict.passed
    assert verdict.reason.startswith("b: ")
    assert "predicted" in verdict.reason
    assert len(verdict.flips) <= 20


def test_equal_maps_with_different_counts_fail():
    expected = logits_of().argmax(axis=0).astype(np.uint8)
    counts = count_pairs(expected, np.zeros_like(expected), 3)
    other = counts.copy()
    other[0, 0] += 1
    verdict = v.judge_run([v.judge_image("a", expected, expected, None)], counts, other, NAMES)
    assert verdict.grade == "failed"
    assert verdict.count_differences == {
        "road": {"intersection": 1, "prediction": 1, "label": 1},
    }


def test_counts_alone_must_be_equal():
    counts = np.arange(9).reshape(3, 3)
    assert v.judge_counts(counts, counts.copy(), NAMES, 4).grade == "identical"
    other = counts.copy()
    other[0, 1] += 5
    other[0, 0] -= 5
    verdict = v.judge_counts(counts, other, NAMES, 4)
    assert verdict.grade == "failed"
    assert verdict.count_differences["road"] == {"intersection": -5, "prediction": -5, "label": 0}
    assert "road -5 correct, -5 predicted" in verdict.reason
    assert v.judge_counts(counts, np.zeros((2, 2), int), NAMES, 4).grade == "failed"


def budgeted(num_wrong: int, budget: v.Budget, size: tuple[int, int] = (10, 20)) -> v.RunVerdict:
    """A perfect reference and a run that takes the first `num_wrong` pixels for another class."""
    label = np.zeros(size, np.uint8)
    label[:, 10:] = 1
    logits = 10 * (label[None] == np.arange(3)[:, None, None]).astype(np.float32)
    got = label.copy()
    got.flat[:num_wrong] = 2
    counts = [count_pairs(predicted, label, 3) for predicted in (label, got)]
    image = v.judge_image("a", label, got, logits)
    return v.judge_run([image], counts[0], counts[1], NAMES, budget)


WIDE = v.Budget(different_pixels=0.02, mean_iou=0.03, class_iou=0.05, least_class_pixels=1)


def test_decided_pixels_within_the_budget_pass_and_say_how_far_they_are():
    verdict = budgeted(4, WIDE)
    assert verdict.grade == "within-budget"
    assert verdict.passed
    assert verdict.difference == v.Difference(
        0.02, pytest.approx(-0.02), pytest.approx(-0.04), "road", 2
    )
    assert verdict.summary() == (
        "within-budget (4 pixels of 1 images differ, 2.000% decided; mean IoU -0.0200, "
        "most road -0.0400)"
    )
    assert budgeted(0, WIDE).grade == "identical"
    assert budgeted(4, v.EXACT).grade == "failed"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("different_pixels", 0.019, "2.000% of the pixels change class (at most 1.900%)"),
        ("mean_iou", 0.019, "mean IoU -0.0200 (at most 0.0190)"),
        ("class_iou", 0.039, "IoU of road -0.0400 (at most 0.0390)"),
    ],
)
def test_each_limit_of_the_budget_fails_a_run_by_itself(key, value, message):
    verdict = budgeted(4, replace(WIDE, **{key: value}))
    assert verdict.grade == "failed"
    assert message in verdict.reason


def test_classes_with_few_labelled_pixels_are_not_judged_by_iou():
    few = replace(WIDE, least_class_pixels=101, mean_iou=0.0, class_iou=0.0)
    verdict = budgeted(4, few)
    assert verdict.grade == "within-budget"
    assert "no class has labelled pixels enough" in verdict.summary()


def test_without_labels_the_budget_judges_pixels_only():
    logits, expected, got = flipped(logits_of(), 2, 5, 0.1)
    image = v.judge_image("a", expected, got, logits)
    assert v.judge_run([image], None, None, NAMES, WIDE).grade == "failed"
    wide = replace(WIDE, different_pixels=1 / 48)
    assert v.judge_run([image], None, None, NAMES, wide).grade == "within-budget"


def test_no_budget_covers_a_map_that_is_missing_or_of_another_size():
    logits, expected, got = flipped(logits_of(), 2, 5, 0.1)
    everything = v.Budget(1.0, 1.0, 1.0)
    cut = v.judge_image("a", expected, got[:3], logits)
    missing = v.ImageVerdict("a", "failed", reason="no label map")
    for verdict in (cut, missing):
        assert v.judge_run([verdict], None, None, NAMES, everything).grade == "failed"


def test_worst_grade():
    assert v.worst_grade(["near-tie", "within-budget"]) == "within-budget"
    assert v.worst_grade([]) == "not compared"
    assert v.worst_grade(["identical", "near-tie"]) == "near-tie"
    assert v.worst_grade(["near-tie", "failed", "identical"]) == "failed"
