"""Wrong arguments of transforms are one line, in training and for bundles, ours and PaddleSeg's."""

from typing import Any

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.transform_arguments import check_transform
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.registry import TRANSFORMS, build

WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("ResizeByLong", {"long_size": "x"}, "a whole number from 1 to 65536, got 'x'"),
    ("ResizeByLong", {"long_size": 0}, "'long_size' must be"),
    ("ResizeByLong", {"long_size": True}, "'long_size' must be"),
    ("ResizeByShort", {"short_size": -1}, "'short_size' must be"),
    ("ResizeByShort", {"short_size": 8, "max_size": "big"}, "'max_size' must be"),
    ("LimitLong", {"max_long": "x"}, "'max_long' must be"),
    ("LimitLong", {"min_long": 0.5}, "'min_long' must be"),
    ("Resize", {"target_size": [8, 8], "size_divisor": -3}, "'size_divisor' must be"),
    ("Resize", {"target_size": 128}, "must be [width, height], got 128; write [128, 128]"),
    ("Resize", {"target_size": [8, 8], "keep_ratio": "no"}, "'keep_ratio' must be true or false"),
    ("Padding", {"target_size": 128}, "write [128, 128]"),
    ("Padding", {"target_size": [8, 8], "im_padding_value": "x"}, "'im_padding_value' must be"),
    ("Padding", {"target_size": [8, 8], "label_padding_value": 256}, "from 0 to 255, got 256"),
    ("Normalize", {"mean": ["a"]}, "'mean' must be a list of numbers"),
    ("Normalize", {"std": [float("nan")]}, "'std' must be a list of numbers"),
]


@pytest.mark.parametrize(("name", "arguments", "words"), WRONG)
def test_for_bundles_and_in_training(name: str, arguments: dict, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Preprocess([{"type": name, **arguments}])
    assert words in str(caught.value) and str(caught.value).startswith(f"transforms: {name}: ")
    with pytest.raises(UsageError) as caught:  # the class is PaddleSeg's, except two
        build(TRANSFORMS, {"type": name, **arguments}, "val_dataset.transforms[1]")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("RandomHorizontalFlip", {"prob": 1.5}, "a number from 0 to 1, got 1.5"),
        ("RandomDistort", {"hue_prob": "often"}, "'hue_prob' must be"),
        ("RandomDistort", {"contrast_range": -1}, "'contrast_range' must be"),
        ("ResizeStepScaling", {"min_scale_factor": 0}, "'min_scale_factor' must be"),
        ("RandomPaddingCrop", {"crop_size": [64]}, "'crop_size' must be [width, height]"),
        ("RandomRotation", {"max_rotation": "x"}, "'max_rotation' must be"),
        ("RandomBlur", {"prob": None}, "'prob' must be"),
    ],
)
def test_of_random_ones(name: str, arguments: dict, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(TRANSFORMS, {"type": name, **arguments}, "train_dataset.transforms[0]")
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"train_dataset.transforms[0]: {name}: ")


def test_right_ones_pass() -> None:
    check_transform("x", {"short_size": [256, 512], "max_size": 1e10, "im_padding_value": [1, 2]})
    check_transform("x", {"size_divisor": None, "max_long": None, "mean": (0.5,), "other": object})
