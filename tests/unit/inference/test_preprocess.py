"""Preprocessing equals PaddleSeg's transforms, and refuses what it cannot repeat."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.inference.preprocess import Geometry, Preprocess, Step

NORMALIZE = {"type": "Normalize", "mean": [0.3, 0.4, 0.5], "std": [0.2, 0.25, 0.3]}
LISTS = {
    "normalize": [NORMALIZE],
    "default normalize": [{"type": "Normalize"}],
    "resize": [{"type": "Resize", "target_size": [96, 64]}, NORMALIZE],
    "area": [{"type": "Resize", "target_size": [40, 30], "interp": "AREA"}, NORMALIZE],
    "keep ratio": [{"type": "Resize", "target_size": [96, 64], "keep_ratio": True}, NORMALIZE],
    "divisor": [
        {"type": "Resize", "target_size": [96, 64], "keep_ratio": True, "size_divisor": 32}
    ],
    "long": [{"type": "ResizeByLong", "long_size": 77}, NORMALIZE],
    "short": [{"type": "ResizeByShort", "short_size": 33}],
    "short, limited": [{"type": "ResizeByShort", "short_size": 90, "max_size": 101}],
    "limit, above": [{"type": "LimitLong", "max_long": 50}],
    "limit, below": [{"type": "LimitLong", "min_long": 150}],
    "limit, within": [{"type": "LimitLong", "min_long": 10, "max_long": 500}],
    "padding": [{"type": "Padding", "target_size": [128, 100]}, NORMALIZE],
    "all": [
        {"type": "ResizeByLong", "long_size": 90},
        {"type": "Padding", "target_size": [96, 96], "im_padding_value": 3},
        NORMALIZE,
    ],
}


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("size_hw", [(61, 83), (83, 61)])
def test_equals_paddleseg(name: str, size_hw: tuple[int, int]) -> None:
    import paddleseg.transforms as paddleseg_transforms

    image = random_image(*size_hw)
    steps = [
        getattr(paddleseg_transforms, spec["type"])(
            **{key: value for key, value in spec.items() if key != "type"}
        )
        for spec in LISTS[name]
    ]
    compose = paddleseg_transforms.Compose(steps, to_rgb=False)
    theirs = compose({"img": image.astype(np.float32)})

    tensor, geometry = Preprocess(LISTS[name])(image)

    assert tensor.dtype == np.float32 and tensor.flags.c_contiguous
    assert tensor.shape == theirs["img"].shape
    np.testing.assert_allclose(tensor, theirs["img"], rtol=0, atol=1e-6 * max(1, tensor.max()))
    changed = [tuple(before) for _, before in theirs["trans_info"]]
    assert geometry.original_hw == size_hw
    assert Preprocess(LISTS[name]).network_hw(size_hw) == tensor.shape[1:]
    assert {step.before_hw for step in geometry.steps} <= set(changed)


def test_geometry_records_only_changes_of_size() -> None:
    transforms = [
        {"type": "LimitLong", "max_long": 500},
        {"type": "ResizeByLong", "long_size": 40},
        {"type": "Padding", "target_size": [64, 48]},
        NORMALIZE,
    ]
    tensor, geometry = Preprocess(transforms)(random_image(60, 80))
    assert tensor.shape == (3, 48, 64)
    steps = (Step("resize", (60, 80)), Step("padding", (30, 40)))
    assert geometry == Geometry((60, 80), (48, 64), steps)


def test_bgr_swaps_the_channels() -> None:
    image = random_image(5, 4)
    rgb, _ = Preprocess([])(image)
    bgr, _ = Preprocess([], color_order="BGR")(image)
    np.testing.assert_array_equal(bgr, rgb[::-1])


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), short=st.integers(1, 60))
def test_limited_short_side_does_not_leak_to_the_next_image(
    height: int, width: int, short: int
) -> None:
    preprocess = Preprocess([{"type": "ResizeByShort", "short_size": short, "max_size": 80}])
    image = random_image(height, width)
    first, _ = preprocess(image)
    preprocess(random_image(10, 40))
    again, _ = preprocess(image)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ([{"type": "RandomHorizontalFlip"}], "supported: LimitLong, Normalize"),
        ([{"type": "Normalize", "means": [0.5]}], "did you mean 'mean'"),
        ([{"type": "Normalize", "std": [0.0]}], "other than 0"),
        ([{"type": "Normalize", "mean": [0.1, 0.2]}], "1 or 3 numbers"),
        ([{"type": "Resize", "target_size": [512]}], "[width, height]"),
        ([{"type": "Resize", "target_size": [8, 8], "interp": "RANDOM"}], "interp"),
        ([{"type": "Padding"}], "target_size"),
        (["Normalize"], "type: NAME"),
        ({"type": "Normalize"}, "a list is expected"),
        (5, "a list is expected"),
        ([{"mean": [0.5]}], "type: NAME"),
    ],
)
def test_wrong_transforms_are_usage_errors(transforms: list, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Preprocess(transforms)
    assert message in str(caught.value)


def test_unknown_color_order() -> None:
    with pytest.raises(UsageError, match="RGB or BGR"):
        Preprocess([], color_order="GBR")


def test_an_image_larger_than_the_padding_is_a_data_error() -> None:
    preprocess = Preprocess([{"type": "Padding", "target_size": [10, 10]}])
    with pytest.raises(DataError, match=r"at most 10x10 .* got 12x5"):
        preprocess(random_image(5, 12))


def test_a_very_narrow_image_keeps_a_pixel() -> None:
    """Where rounding would leave none, PaddleSeg's OpenCV raises."""
    for transform in (
        {"type": "ResizeByLong", "long_size": 40},
        {"type": "LimitLong", "max_long": 40},
        {"type": "Resize", "target_size": [40, 40], "keep_ratio": True},
    ):
        preprocess = Preprocess([transform])
        tensor, _ = preprocess(random_image(1, 200))
        assert tensor.shape == (3, 1, 40) == (3, *preprocess.network_hw((1, 200)))


def test_the_network_size_of_an_image_too_large_for_the_padding() -> None:
    preprocess = Preprocess([{"type": "Padding", "target_size": [10, 10]}])
    with pytest.raises(DataError, match="at most 10x10"):
        preprocess.network_hw((5, 12))
