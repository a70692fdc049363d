"""The way back: padding off, resizing undone, first of equals, NaN refused."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.inference.postprocess import Postprocess, softmax
from paddleseg_ext.inference.preprocess import Geometry, Preprocess, Step

few_values = st.sampled_from([-1.0, 0.0, 0.5, 2.0])
scores = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    elements=few_values,
)


def same_size(output: np.ndarray) -> Geometry:
    return Geometry(output.shape[-2:], output.shape[-2:])


@given(scores)
@settings(max_examples=60, deadline=None)
def test_label_map_is_the_first_largest(output: np.ndarray) -> None:
    label_map = Postprocess().label_map(output, same_size(output))
    assert label_map.dtype == np.uint8
    np.testing.assert_array_equal(label_map, output.argmax(axis=0))


@given(scores, st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_label_map_is_the_argmax_of_the_full_logits(
    output: np.ndarray, height: int, width: int
) -> None:
    hw = output.shape[1:]
    geometry = Geometry((height, width), hw, (Step("resize", (height, width)),))
    postprocess = Postprocess("softmax")
    full = postprocess.full_logits(output, geometry)
    assert full.shape == (len(output), height, width)
    label_map = postprocess.label_map(output, geometry)
    np.testing.assert_array_equal(label_map, full.argmax(axis=0))


@given(st.integers(2, 40), st.integers(2, 40), st.integers(40, 60), st.integers(60, 80))
@settings(max_examples=60, deadline=None)
def test_padding_and_resizing_return_to_the_original_size(
    height: int, width: int, long: int, side: int
) -> None:
    transforms = [
        {"type": "ResizeByLong", "long_size": long},
        {"type": "Padding", "target_size": [side, side]},
    ]
    tensor, geometry = Preprocess(transforms)(np.zeros((height, width, 3), np.uint8))
    inside_hw = geometry.network_hw
    if geometry.steps and geometry.steps[-1].kind == "padding":
        inside_hw = geometry.steps[-1].before_hw
    output = np.zeros((3, *tensor.shape[1:]), np.float32)
    output[2] = 9.0  # class 2 lives in the padding alone: none of it may reach the image
    output[:, : inside_hw[0], : inside_hw[1]] = np.array([0.0, 1.0, 0.0])[:, None, None]
    for postprocess in (Postprocess(), Postprocess(nearest_labels=True)):
        np.testing.assert_array_equal(
            postprocess.label_map(output, geometry), np.ones((height, width), np.uint8)
        )


def test_scores_return_by_bilinear_and_labels_by_nearest() -> None:
    output = np.array([[[0.0, 3.0]], [[1.0, 0.0]]], np.float32)  # (2, 1, 2)
    geometry = Geometry((1, 8), (1, 2), (Step("resize", (1, 8)),))
    # Bilinear with half-pixel centres: the classes cross at a quarter of the way.
    assert Postprocess().label_map(output, geometry).tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]]
    nearest = [[1, 1, 1, 1, 0, 0, 0, 0]]
    assert Postprocess(nearest_labels=True).label_map(output, geometry).tolist() == nearest
    labels = output.argmax(axis=0).astype(np.int32)
    assert Postprocess("argmax").label_map(labels, geometry).tolist() == nearest


def test_a_graph_that_stops_before_upsampling_comes_back_to_the_input_size() -> None:
    output = np.zeros((2, 4, 4), np.float32)
    output[1, 2:] = 1.0
    label_map = Postprocess().label_map(output, Geometry((32, 32), (32, 32)))
    assert label_map.shape == (32, 32)
    assert set(label_map[:12].ravel()) == {0} and set(label_map[20:].ravel()) == {1}


@pytest.mark.parametrize("steps", [(), (Step("resize", (200, 300)),)])
def test_scores_are_never_all_held_at_full_size(steps: tuple[Step, ...]) -> None:
    size_hw = (100, 150) if steps else (200, 300)
    output = np.zeros((40, *size_hw), np.float32)
    tracemalloc.start()
    Postprocess().label_map(output, Geometry((200, 300), size_hw, steps))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 200 * 300 * 4


@pytest.mark.parametrize("nearest", [False, True])
def test_nan_is_an_error_and_not_class_0(nearest: bool) -> None:
    output = np.zeros((3, 4, 4), np.float32)
    output[1, 2, 2] = np.nan
    with pytest.raises(DataError, match="holds NaN"):
        Postprocess(nearest_labels=nearest).label_map(output, same_size(output))


@pytest.mark.parametrize(
    ("op", "output"),
    [
        ("none", np.zeros((4, 4), np.int32)),
        ("argmax", np.zeros((3, 4, 4), np.float32)),
        ("argmax", np.zeros((1, 4, 4), np.int32)),
        ("softmax", np.zeros((4, 4), np.float32)),
    ],
)
def test_an_output_that_contradicts_the_bundle(op: str, output: np.ndarray) -> None:
    with pytest.raises(UsageError, match="output_op"):
        Postprocess(op).label_map(output, same_size(output))


def test_class_ids_beyond_a_byte() -> None:
    output = np.full((2, 2), 256, np.int64)
    with pytest.raises(DataError, match="0 to 255"):
        Postprocess("argmax").label_map(output, same_size(output))


def test_unknown_output_op() -> None:
    with pytest.raises(UsageError, match="did you mean 'argmax'"):
        Postprocess("argmx")


def test_class_ids_have_no_logits() -> None:
    output = np.zeros((2, 2), np.int32)
    with pytest.raises(UsageError, match="class ids"):
        Postprocess("argmax").full_logits(output, same_size(output))


@pytest.mark.parametrize("overwrite", [False, True])
def test_softmax_is_that_of_the_formula_to_the_bit(overwrite: bool) -> None:
    logits = np.random.default_rng(0).standard_normal((2, 5, 7, 9)).astype(np.float32) * 20
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected, given = powers / powers.sum(axis=1, keepdims=True), logits.copy()
    np.testing.assert_array_equal(softmax(given, overwrite), expected)
    assert np.array_equal(given, logits) is not overwrite
    mirrored = logits[..., ::-1]  # not its own memory: never written to
    np.testing.assert_array_equal(softmax(mirrored, overwrite), expected[..., ::-1])
    np.testing.assert_array_equal(mirrored, logits[..., ::-1])
