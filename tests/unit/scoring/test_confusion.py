"""The counts against a pixel-by-pixel loop, and what must be refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from paddleseg_ext.scoring.confusion import ClassPixels, ConfusionMatrix, count_pairs

IGNORE = 255


@st.composite
def scored_images(draw):
    """(number of classes, prediction, label) with ignored pixels; sides of 0 are allowed."""
    num_classes = draw(st.integers(1, 20))
    shape = draw(st.tuples(st.integers(0, 6), st.integers(0, 6)))
    classes = st.integers(0, num_classes - 1)
    prediction = draw(hnp.arrays(np.uint8, shape, elements=classes))
    label = draw(hnp.arrays(np.uint8, shape, elements=classes | st.just(IGNORE)))
    return num_classes, prediction, label


@given(scored_images())
@settings(max_examples=100, deadline=None)
def test_counts_equal_a_loop_over_pixels(case):
    num_classes, prediction, label = case
    expected = np.zeros((num_classes, num_classes), np.int64)
    for p, t in zip(prediction.ravel(), label.ravel(), strict=True):
        if t != IGNORE:
            expected[t, p] += 1
    matrix = ConfusionMatrix(num_classes)
    own = matrix.update(prediction, label)
    assert own.dtype == np.int64
    np.testing.assert_array_equal(own, expected)
    pixels = ClassPixels.of(matrix.counts)
    np.testing.assert_array_equal(pixels.intersection, np.diag(expected))
    np.testing.assert_array_equal(pixels.prediction_pixels, expected.sum(axis=0))
    np.testing.assert_array_equal(pixels.label_pixels, expected.sum(axis=1))


@given(scored_images(), st.sampled_from([np.int16, np.int32, np.int64, np.uint16]))
@settings(max_examples=30, deadline=None)
def test_other_integer_types_count_the_same(case, dtype):
    num_classes, prediction, label = case
    np.testing.assert_array_equal(
        count_pairs(prediction.astype(dtype), label.astype(dtype), num_classes),
        count_pairs(prediction, label, num_classes),
    )


def test_update_accumulates_and_merge_adds():
    first, second = ConfusionMatrix(3), ConfusionMatrix(3)
    image = np.array([[0, 1, 2]], np.uint8), np.array([[0, 1, IGNORE]], np.uint8)
    first.update(*image)
    first.update(*image)
    second.update(*image)
    second.merge(second.counts.copy())
    np.testing.assert_array_equal(first.counts, np.diag([2, 2, 0]))
    np.testing.assert_array_equal(first.counts, second.counts)


def test_all_ignored_and_empty_images_count_nothing():
    assert not count_pairs(np.zeros((2, 3), np.uint8), np.full((2, 3), IGNORE, np.uint8), 2).any()
    assert not count_pairs(np.zeros((0, 3), np.uint8), np.zeros((0, 3), np.uint8), 2).any()


def test_an_ignore_index_among_the_classes_leaves_that_class_unlabelled():
    label, prediction = np.array([0, 0, 1], np.uint8), np.array([0, 1, 0], np.uint8)
    counts = count_pairs(prediction, label, 2, ignore_index=0)
    np.testing.assert_array_equal(counts, [[0, 0], [1, 0]])


def test_all_256_values_may_be_classes():
    values = np.arange(256, dtype=np.uint8)
    counts = count_pairs(values, values, 256, ignore_index=7)
    assert counts.sum() == 255
    assert counts[7, 7] == 0


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        ([0, 3], [0, 1], r"prediction: values 0 to 2 are expected, got 3 \(1 pixels\)"),
        ([0, 255], [0, 255], "prediction: values 0 to 2"),
        ([0, 1], [77, 1], r"label: values 0 to 2 or 255 are expected, got 77 \(1 pixels\)"),
        ([0, -1], [0, 1], "prediction: values between 0 and 255"),
        ([0, 1], [0, 300], "label: values between 0 and 255"),
        ([0.0, 1.0], [0, 1], "integer class ids"),
        ([0, 1, 2], [0, 1], "differ in shape"),
    ],
)
def test_values_outside_the_classes_are_refused_and_add_nothing(prediction, label, message):
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=message):
        matrix.update(np.array(prediction), np.array(label))
    assert not matrix.counts.any()


@pytest.mark.parametrize("arguments", [(0,), (257,), (3, -1), (3, 256)])
def test_a_matrix_that_cannot_be_is_refused(arguments):
    with pytest.raises(ValueError, match="expected"):
        ConfusionMatrix(*arguments)


@pytest.mark.parametrize("counts", [np.zeros((2, 2), np.int64), np.zeros((3, 3))])
def test_merging_counts_of_another_kind_is_refused(counts):
    with pytest.raises(ValueError, match="expected integer counts"):
        ConfusionMatrix(3).merge(counts)


def test_pixels_of_several_images_and_their_iou() -> None:
    first, second = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), np.zeros((3, 3), np.int64)
    images = ClassPixels.of_images([ClassPixels.of(c).to_dict() for c in (first, second)])
    np.testing.assert_allclose(images.total().iou(), [3 / 4, 4 / 5, np.nan])
    np.testing.assert_allclose(images.mean_iou(), [(3 / 4 + 4 / 5) / 2, np.nan])
    with pytest.raises(ValueError, match="one list of pixel counts per image"):
        ClassPixels.of_images([dict.fromkeys(vars(images), 5)])
