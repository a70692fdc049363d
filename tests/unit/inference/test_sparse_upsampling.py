"""Interpolating only where classes meet gives the map of interpolating everywhere."""

import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.inference import postprocess as module
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.preprocess import Geometry, Step

sparse_upsampling = pytest.importorskip("paddleseg_ext.inference.sparse_upsampling")

UPSAMPLINGS = ["half_pixel", "aligned"]


def compare(scores: np.ndarray, geometry: Geometry, upsampling: str) -> bool:
    """Assert equal maps; returns whether the sparse way was taken."""
    dense = Postprocess(upsampling=upsampling, sparse=False).label_map(scores, geometry)
    taken = []
    real = sparse_upsampling.best_class

    def watched(*arguments):
        taken.append(real(*arguments))
        return taken[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse_upsampling, "best_class", watched)
        sparse = Postprocess(upsampling=upsampling, sparse=True)
        for _ in range(2):  # the first image of a size goes the dense way
            np.testing.assert_array_equal(sparse.label_map(scores, geometry), dense)
    return bool(taken) and taken[-1] is not None


def smooth_scores(seed: int, classes: int, height: int, width: int, scale: float) -> np.ndarray:
    """Regions with borders, as a network's."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(classes, height // 4 + 2, width // 4 + 2)).astype(np.float32)
    planes = [cv2.resize(p, (width, height), interpolation=cv2.INTER_CUBIC) for p in coarse]
    return np.stack(planes) * np.float32(scale)


def geometry_of(network_hw: tuple[int, int], original_hw: tuple[int, int] | None) -> Geometry:
    if original_hw is None:
        return Geometry(network_hw, network_hw)
    return Geometry(original_hw, network_hw, (Step("resize", original_hw),))


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("factor", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("twice", [False, True])
def test_whole_factors(upsampling: str, factor: int, twice: bool) -> None:
    scores = smooth_scores(factor, 7, 24, 40, scale=6)
    network_hw = (24 * factor, 40 * factor)
    original_hw = (network_hw[0] * 2, network_hw[1] * 2) if twice else None
    taken = compare(scores, geometry_of(network_hw, original_hw), upsampling)
    assert taken == (factor > 1 or twice)


sides = st.integers(1, 40)
sizes = st.tuples(sides, sides)


@given(
    st.integers(0, 10**6),
    st.integers(1, 9),
    sizes,
    st.tuples(st.integers(1, 97), st.integers(1, 97)),
    st.none() | st.tuples(st.integers(1, 131), st.integers(1, 131)),
    st.sampled_from(UPSAMPLINGS),
    st.sampled_from([1e-3, 1.0, 40.0, 1e4]),
    st.booleans(),
)
@example(1, 3, (1, 1), (7, 5), (11, 3), "half_pixel", 1.0, True)
@example(1, 3, (2, 2), (1, 1), (4, 4), "aligned", 1.0, False)
@example(1, 3, (7, 4), (1, 1), None, "aligned", 1.0, False)
@settings(max_examples=250, deadline=None)
def test_any_sizes(
    seed: int,
    classes: int,
    native_hw: tuple[int, int],
    network_hw: tuple[int, int],
    original_hw: tuple[int, int] | None,
    upsampling: str,
    scale: float,
    smooth: bool,
) -> None:
    if smooth:
        scores = smooth_scores(seed, classes, *native_hw, scale)
    else:
        rng = np.random.default_rng(seed)
        scores = (rng.normal(size=(classes, *native_hw)) * scale).astype(np.float32)
    compare(scores, geometry_of(network_hw, original_hw), upsampling)


@given(
    st.integers(0, 10**6),
    st.sampled_from([(64, 80), (53, 67), (16, 96)]),
    st.sampled_from(UPSAMPLINGS),
    st.integers(2, 4),
)
@settings(max_examples=40, deadline=None)
def test_ties(seed: int, network_hw: tuple[int, int], upsampling: str, values: int) -> None:
    """Few different values: classes are exactly equal at many pixels, and the first one counts."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, values, (3, 8, 10)).astype(np.float32)
    compare(scores, geometry_of(network_hw, (100, 120)), upsampling)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_a_few_ties_are_settled_without_the_whole_dense_way(upsampling: str) -> None:
    scores = np.zeros((5, 16, 32), np.float32)
    scores[1, :, :16], scores[3, :, 16:] = 8.0, 8.0  # one border, where both are exactly equal
    assert compare(scores, geometry_of((129, 255), None), upsampling)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("seed", range(4))
def test_near_ties_fall_as_the_dense_way_rounds(upsampling: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = smooth_scores(seed, 4, 33, 65, scale=5)
    patch = rng.normal(size=(2, 2)).astype(np.float32) + np.float32(60)
    bits = rng.integers(-1, 2, (2, 2, 2))  # classes 1 and 2 differ by the last bit or not at all
    for index, change in zip((1, 2), bits, strict=True):
        scores[index, 20:22, 30:32] = (patch.view(np.int32) + change.astype(np.int32)).view(
            np.float32
        )
    assert compare(scores, geometry_of((203, 411), (300, 607)), upsampling)


@given(
    st.integers(0, 10**6),
    st.tuples(st.integers(6, 24), st.integers(6, 24)),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([1, 2, 3, 5, 9, 16]),
    st.sampled_from(UPSAMPLINGS),
)
@settings(max_examples=300, deadline=None)
def test_near_ties_between_large_neighbours(
    seed: int, size: tuple[int, int], first: int, shrinks: bool, second: int, upsampling: str
) -> None:
    """At whole factors pixels lie on samples, and what is beside these has weight 0.

    `left + w * (right - left)` rounds by the left sample all the same, also where w is 1.
    """
    network_hw = tuple(max(1, side // first) if shrinks else side * first for side in size)
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(3, *size)).astype(np.float32) * 8
    top, left, span = rng.integers(0, size[0] - 1), rng.integers(0, size[1] - 1), rng.integers(1, 4)
    patch = np.s_[top : top + span, left : left + span]
    level = rng.uniform(0, 0.05, scores[0][patch].shape)
    scores[0][patch] = level
    scores[1][patch] = level + rng.uniform(-1, 1, level.shape) * 3e-7
    scores[2][patch] = -20
    original_hw = (network_hw[0] * second, network_hw[1] * second)
    compare(scores, geometry_of(network_hw, original_hw), upsampling)


def test_a_wide_picture_takes_little_memory() -> None:
    """The tables grow with the side, not with its square."""
    wide = np.repeat(smooth_scores(0, 3, 4, 256, scale=6), 12, axis=2)
    width = wide.shape[2] * 8
    tracemalloc.start()
    try:
        assert compare(wide, geometry_of((32, width), None), "half_pixel")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_padding_between_two_resizings(upsampling: str) -> None:
    steps = (Step("resize", (150, 211)), Step("padding", (75, 101)))
    geometry = Geometry((150, 211), (96, 128), steps)
    assert compare(smooth_scores(3, 6, 12, 16, scale=9), geometry, upsampling)


def test_softmax_that_only_preprocessing_resized() -> None:
    scores = smooth_scores(5, 6, 64, 96, scale=3)
    exponentials = np.exp(scores)
    probabilities = exponentials / exponentials.sum(axis=0)
    assert compare(probabilities, geometry_of((64, 96), (129, 201)), "half_pixel")


@pytest.mark.parametrize("bad", [3e38, 1e-42])
def test_numbers_at_the_ends_of_float32_go_the_dense_way(bad: float) -> None:
    scores = smooth_scores(1, 3, 8, 8, scale=1) * np.float32(1e-45 if bad < 1 else 1)
    scores[1, 4, 4] = bad
    assert not compare(scores, geometry_of((64, 64), None), "half_pixel")


def test_nan_is_an_error_in_either_way() -> None:
    scores = smooth_scores(1, 3, 8, 8, scale=1)
    scores[1, 4, 4] = np.nan
    for _ in range(2):
        with pytest.raises(DataError, match="holds NaN"):
            Postprocess(sparse=True).label_map(scores, geometry_of((64, 64), None))


def test_without_numba_nothing_changes_but_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_numba", lambda: False)
    assert not Postprocess().sparse
    with pytest.raises(UsageError, match=r"paddleseg_ext\[fast\]"):
        Postprocess(sparse=True)


def test_an_interpolation_of_another_kind_is_refused() -> None:
    def cubic(plane: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        return cv2.resize(plane, size_hw[::-1], interpolation=cv2.INTER_CUBIC)

    stages = [sparse_upsampling.Stage((32, 32), cubic)]
    scores = smooth_scores(1, 3, 8, 8, scale=1)
    for _ in range(2):
        assert sparse_upsampling.best_class(scores, stages, lambda p: cubic(p, (32, 32))) is None


def test_a_real_size_takes_the_sparse_way() -> None:
    scores = smooth_scores(2, 19, 64, 128, scale=8)
    assert compare(scores, geometry_of((512, 1024), (1024, 2048)), "aligned")
