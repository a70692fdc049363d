"""Confidence: the softmax after all resizing; label maps stay as they are without it."""

from pathlib import Path

import numpy as np
import pytest
from engines import predictor_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.special import softmax as scipy_softmax

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.images.labels import UNKNOWN_COLOUR
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.outputs import encode_confidence, save_segmentation
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import Geometry, Preprocess, Step
from paddleseg_ext.scoring.protocols import PROTOCOLS

from .conftest import BrightnessNetwork, write_image

logits = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    elements=st.floats(-60, 60, width=32),
)


@given(logits, st.integers(1, 30), st.integers(1, 30), st.floats(0.25, 4))
@settings(max_examples=60, deadline=None)
def test_confidence_is_the_largest_softmax_at_the_original_size(
    output: np.ndarray, height: int, width: int, temperature: float
) -> None:
    geometry = Geometry((height, width), output.shape[1:], (Step("resize", (height, width)),))
    postprocess = Postprocess(temperature=temperature)
    found = postprocess.best(output, geometry)
    full = postprocess.full_logits(output, geometry).astype(np.float64)
    expected = scipy_softmax(full / temperature, axis=0).max(axis=0)
    np.testing.assert_allclose(found.confidence, expected, atol=2e-5)
    assert found.confidence.dtype == np.float32
    np.testing.assert_array_equal(found.label_map, full.argmax(axis=0))


@given(logits, st.integers(1, 30), st.integers(1, 30), st.data())
@settings(max_examples=40, deadline=None)
def test_the_temperature_of_the_best_class(
    output: np.ndarray, height: int, width: int, data: st.DataObject
) -> None:
    temperatures = data.draw(st.lists(st.floats(0.25, 4), min_size=len(output),
                                      max_size=len(output)))  # fmt: skip
    geometry = Geometry((height, width), output.shape[1:], (Step("resize", (height, width)),))
    postprocess = Postprocess(temperature=9.0, class_temperatures=temperatures)
    found = postprocess.best(output, geometry)
    full = postprocess.full_logits(output, geometry).astype(np.float64)
    best = full.argmax(axis=0)
    expected = scipy_softmax(full / np.array(temperatures)[best], axis=0).max(axis=0)
    np.testing.assert_allclose(found.confidence, expected, atol=2e-5)
    np.testing.assert_array_equal(found.label_map, best)


@pytest.mark.parametrize("upsampling", ["graph", "half_pixel", "aligned"])
@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_label_maps_are_the_same_with_it(upsampling: str, nearest: bool, sparse: bool) -> None:
    """Also on the sparse way, which only label maps alone take, at sizes of odd ratios."""
    if sparse:
        pytest.importorskip("numba")
    rng = np.random.default_rng(3)
    _, geometry = Preprocess([{"type": "ResizeByLong", "long_size": 96},
                              {"type": "Padding", "target_size": [104, 96]}])(
        np.zeros((131, 75, 3), np.uint8)
    )  # fmt: skip
    postprocess = Postprocess(nearest_labels=nearest, upsampling=upsampling, sparse=sparse)
    for size_hw in (geometry.network_hw, (13, 12)):
        for _ in range(3):  # the second of a size takes the sparse way
            output = rng.normal(0, 2, (7, *size_hw)).astype(np.float32).round(1)  # many are equal
            found = postprocess.best(output, geometry)
            expected = postprocess.label_map(output, geometry)
            np.testing.assert_array_equal(found.label_map, expected)
            assert found.confidence.shape == (131, 75)
            assert 1 / 7 - 1e-6 <= found.confidence.min() <= found.confidence.max() <= 1


def test_probabilities_are_taken_as_they_are() -> None:
    """Half way between (0.9, 0.1) and (0.2, 0.8) is 0.55."""
    output = np.array([[[0.9, 0.2]], [[0.1, 0.8]]], np.float32)
    geometry = Geometry((1, 3), (1, 2), (Step("resize", (1, 3)),))
    found = Postprocess("softmax", temperature=1.0).best(output, geometry)
    np.testing.assert_allclose(found.confidence, [[0.9, 0.55, 0.8]], atol=1e-6)
    assert found.label_map.tolist() == [[0, 0, 1]]


def test_infinite_scores_and_nan() -> None:
    inf = np.inf
    output = np.array([[[-inf, inf, 1e38]], [[-inf, 0, -1e38]], [[2, inf, 0]]], np.float32)
    found = Postprocess().best(output, Geometry((1, 3), (1, 3)))
    assert found.confidence.tolist() == [[1.0, 0.5, 1.0]]
    assert found.label_map.tolist() == [[2, 0, 0]]
    same = Postprocess(class_temperatures=[1.0] * 3).best(output, Geometry((1, 3), (1, 3)))
    assert same.confidence.tolist() == found.confidence.tolist()
    output[1, 0, 1] = np.nan
    with pytest.raises(DataError, match="holds NaN"):
        Postprocess().best(output, Geometry((1, 3), (1, 3)))


def test_a_graph_that_ends_in_argmax_is_refused_by_the_exports_flag(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exported with --output_op none"):
        Postprocess("argmax").best(np.zeros((2, 2), np.int32), Geometry((2, 2), (2, 2)))
    file = tmp_path / "deploy.yaml"
    bundle = Bundle(file, file, file, [], None, "argmax", None)
    for asked in ({"outputs": {"confidence"}}, {"unknown_below": 0.5}):
        with pytest.raises(UsageError, match=r"deploy\.yaml: the graph ends in argmax") as caught:
            bundle.require_outputs(**asked)
        assert "\n" not in str(caught.value)
    bundle.require_outputs()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"outputs": {"confidenze"}}, "unknown .*confidence"),
        ({"outputs": "confidence"}, "a set of words"),
        ({"unknown_below": 0.0}, "between 0 and 1"),
        ({"unknown_below": float("nan")}, "between 0 and 1"),
    ],
)
def test_outputs_that_are_none(brightness: BrightnessNetwork, asked: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        predictor_of(brightness).with_outputs(**asked)


@pytest.fixture
def doubtful(brightness: BrightnessNetwork) -> Predictor:
    """Half of what it sees lies between two of its classes."""
    return predictor_of(brightness, postprocess=Postprocess(temperature=30.0))


def grey(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)[..., None].repeat(3, axis=2)


def test_what_is_not_asked_for_is_not_there(doubtful: Predictor) -> None:
    plain = doubtful(grey(40, 85, 215))
    assert plain.confidence is None and plain.unknown_pixels == 0
    asked = doubtful.with_outputs({"confidence"})(grey(40, 85, 215))
    assert asked.label_map.tobytes() == plain.label_map.tobytes()
    scores = -np.abs(np.array([[40.0, 85, 215]]) - np.array([[40.0], [128], [215]]))
    expected = scipy_softmax(scores / 30, axis=0).max(axis=0)
    np.testing.assert_allclose(asked.confidence, expected[None], atol=1e-6)
    assert doubtful(grey(40)).confidence is None  # the first predictor is as it was


def test_unknown_below(doubtful: Predictor, tmp_path: Path) -> None:
    careful = doubtful.with_outputs({"confidence"}, unknown_below=0.6)
    found = careful(grey(40, 85, 215))
    assert found.label_map.tolist() == [[0, 254, 2]]
    assert (found.confidence < 0.6).tolist() == [[False, True, False]]
    assert found.unknown_pixels == 1 and sum(found.class_pixels.values()) == 2
    assert found.class_table.legend(found.label_map)[-1] == ("unknown", UNKNOWN_COLOUR, 1 / 3)
    save_segmentation(found, "a", tmp_path, with_legend=True)
    with Image.open(tmp_path / "label_maps/a.png") as picture:
        assert np.asarray(picture.convert("RGB"))[0, 1].tolist() == list(UNKNOWN_COLOUR)
    with Image.open(tmp_path / "confidence/a.png") as picture:
        assert picture.mode == "L" and "largest softmax" in picture.info["Description"]
        np.testing.assert_array_equal(np.asarray(picture), np.rint(found.confidence * 255))
    without = doubtful.with_outputs(unknown_below=0.6)(grey(40, 85, 215))
    assert without.confidence is None and without.label_map.tolist() == [[0, 254, 2]]


def test_a_picture_of_confidence_has_its_ends() -> None:
    import io

    with Image.open(io.BytesIO(encode_confidence(np.array([[0, 0.5, 1]], np.float32)))) as picture:
        assert np.asarray(picture).tolist() == [[0, 128, 255]]


def test_a_protocol_that_adds_scores_up_is_refused(doubtful: Predictor) -> None:
    asked = doubtful.with_outputs({"confidence"})
    adding = next(p for p in PROTOCOLS.values() if not p.is_plain)
    with pytest.raises(UsageError, match="take --protocol whole"):
        by_protocol(asked, adding)
    by_adding = by_protocol(doubtful, adding)
    assert doubtful.gives_confidence and not by_adding.gives_confidence
    for more in ({"outputs": {"confidence"}}, {"unknown_below": 0.5}):
        with pytest.raises(UsageError, match="take --protocol whole"):
            by_adding.with_outputs(**more)
    assert by_protocol(asked, PROTOCOLS["whole"]) is asked


def test_a_stream_has_it(doubtful: Predictor, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 4, 6)
    (found,) = doubtful.with_outputs({"confidence"}).stream(tmp_path)
    assert found.segmentation is not None and found.segmentation.confidence.shape == (4, 6)
