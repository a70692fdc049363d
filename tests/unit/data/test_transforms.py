"""Augmentations: image and label in step, sizes as asked, draws as PaddleSeg's."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.data import transforms as T

SIDES = st.integers(4, 40)
SEEDS = st.integers(0, 1000)


def _data(height: int, width: int, seed: int = 0) -> dict[str, Any]:
    """An image that shows its label: the red channel is the class times ten."""
    label = np.random.default_rng(seed).integers(0, 19, (height, width)).astype(np.uint8)
    image = np.stack([label * 10, 255 - label, label], axis=2)
    return {"img": image, "label": label, "gt_fields": ["label"], "trans_info": []}


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)


def _run(transform: Any, data: dict[str, Any], seed: int) -> dict[str, Any]:
    _seed(seed)
    return transform(data)


@given(SIDES, SIDES, SIDES, SIDES, SEEDS)
@settings(max_examples=60, deadline=None)
def test_crops_are_padded_and_stay_aligned(
    height: int, width: int, crop_h: int, crop_w: int, seed: int
) -> None:
    crop = T.RandomPaddingCrop([crop_w, crop_h], im_padding_value=77)
    out = _run(crop, _data(height, width, seed), seed)
    assert out["img"].shape == (crop_h, crop_w, 3)
    assert out["label"].shape == (crop_h, crop_w)
    padded = out["label"] == 255
    assert padded.sum() == crop_h * crop_w - min(crop_h, height) * min(crop_w, width)
    assert (out["img"][padded] == 77).all()
    np.testing.assert_array_equal(out["img"][~padded][:, 0], out["label"][~padded] * 10)


def test_small_images_are_enlarged_where_that_is_asked_for() -> None:
    crop = T.RandomPaddingCrop([12, 8], im_padding_value=77, enlarge_small=True)
    out = _run(crop, _data(4, 5), 0)
    assert out["img"].shape == (8, 12, 3)
    assert (out["label"] != 255).all()
    large = _data(20, 30)
    expected = _run(T.RandomPaddingCrop([12, 8]), _data(20, 30), 3)
    np.testing.assert_array_equal(_run(crop, large, 3)["img"], expected["img"])


def test_a_mirrored_sample_exchanges_pairs_of_classes() -> None:
    label = np.array([[2, 2, 0, 255, 3, 4]], np.uint8)
    data = {"img": np.zeros((1, 6, 3), np.uint8), "label": label, "edge": label.copy()}
    data |= {"gt_fields": ["label", "edge"], "left_right": ((2, 3),), "trans_info": []}
    out = T.RandomHorizontalFlip(1.0)(data)
    assert out["label"].tolist() == [[4, 2, 255, 0, 3, 3]]
    assert out["label"].dtype == np.uint8
    assert out["edge"].tolist() == [[4, 3, 255, 0, 2, 2]]
    kept = {"img": data["img"], "label": label, "gt_fields": ["label"], "left_right": ((2, 3),)}
    assert T.RandomHorizontalFlip(0.0)(kept)["label"].tolist() == label.tolist()


@given(SIDES, SIDES, SEEDS)
@settings(max_examples=30, deadline=None)
def test_flips_stay_aligned(height: int, width: int, seed: int) -> None:
    out = _run(T.RandomHorizontalFlip(), _data(height, width, seed), seed)
    np.testing.assert_array_equal(out["img"][:, :, 0], out["label"] * 10)


@given(SIDES, SIDES, SEEDS, st.sampled_from([0, 0.25]))
@settings(max_examples=40, deadline=None)
def test_scaling_stays_in_its_range(height: int, width: int, seed: int, step: float) -> None:
    out = _run(T.ResizeStepScaling(0.5, 2.0, step), _data(height, width, seed), seed)
    assert out["img"].shape[:2] == out["label"].shape
    assert round(0.5 * height) <= out["label"].shape[0] <= round(2 * height)
    assert set(np.unique(out["label"])) <= set(range(19))


@given(SIDES, SIDES, SIDES, SIDES)
@settings(max_examples=40, deadline=None)
def test_resize(height: int, width: int, target_h: int, target_w: int) -> None:
    out = T.Resize([target_w, target_h])(_data(height, width))
    assert out["img"].shape == (target_h, target_w, 3)
    assert out["label"].shape == (target_h, target_w)
    assert out["trans_info"] == [("resize", (height, width))]
    divided = T.Resize([target_w, target_h], size_divisor=8)(_data(height, width))
    assert all(side % 8 == 0 for side in divided["label"].shape)


def test_resize_keeps_the_ratio() -> None:
    out = T.Resize([100, 100], keep_ratio=True)(_data(20, 40))
    assert out["label"].shape == (50, 100)


def test_a_narrow_image_keeps_a_pixel() -> None:
    data = {"img": np.zeros((1, 2000, 3), np.uint8), "gt_fields": [], "trans_info": []}
    assert T.Resize([512, 512], keep_ratio=True)(data)["img"].shape == (1, 512, 3)


def test_a_brightness_below_0_is_black() -> None:
    assert not T._brightness(np.full((2, 2, 3), 200, np.uint8), -0.5).any()


def test_varied_crops_avoid_one_class() -> None:
    data = _data(40, 40)
    data["label"][:, :30] = 0
    crop = T.RandomPaddingCrop([10, 10], category_max_ratio=0.75, loop_times=200)
    for seed in range(20):
        out = _run(crop, dict(data), seed)
        counts = np.bincount(out["label"].ravel())
        assert counts.max() / counts.sum() < 0.75
        assert out["img"].shape == (10, 10, 3)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_distortion_changes_colours_only(seed: int) -> None:
    data = _data(12, 15)
    label = data["label"].copy()
    everything = dict.fromkeys(
        ("brightness_prob", "contrast_prob", "saturation_prob", "hue_prob", "sharpness_prob"), 1.0
    )
    out = _run(T.RandomDistort(**everything), data, seed)
    assert (out["img"].shape, out["img"].dtype) == ((12, 15, 3), np.uint8)
    np.testing.assert_array_equal(out["label"], label)
    assert (out["img"] != _data(12, 15)["img"]).any()
    nothing = T.RandomDistort(0, 1, 0, 1, 0, 1, 0, 0, 0, 1)
    assert np.abs(nothing(_data(12, 15))["img"].astype(int) - _data(12, 15)["img"]).max() <= 1


def test_distortion_is_near_paddlesegs() -> None:
    functional = pytest.importorskip("paddleseg.transforms.functional")
    from PIL import Image

    smooth = np.random.default_rng(0).integers(30, 220, (6, 8, 3), np.uint8)
    image = np.kron(smooth, np.ones((6, 6, 1), np.uint8))
    pairs = [
        (T._brightness, functional.brightness, 1.3),
        (T._contrast, functional.contrast, 0.6),
        (T._saturation, functional.saturation, 1.4),
        (T._hue, functional.hue, 11.0),
    ]
    for ours, theirs, amount in pairs:
        expected = np.asarray(theirs(Image.fromarray(image), amount, amount)).astype(int)
        difference = np.abs(ours(image, amount).astype(int) - expected)
        assert difference.mean() < 2, ours.__name__


@pytest.mark.parametrize("seed", range(5))
def test_equal_seeds_give_paddlesegs_crops(seed: int) -> None:
    theirs = pytest.importorskip("paddleseg.transforms")
    for name, arguments in (
        ("RandomHorizontalFlip", {}),
        ("ResizeStepScaling", {"min_scale_factor": 0.5, "max_scale_factor": 2.0}),
        ("ResizeRangeScaling", {"min_value": 20, "max_value": 60}),
        ("RandomPaddingCrop", {"crop_size": [30, 20]}),
    ):
        ours = _run(getattr(T, name)(**arguments), _data(25, 28), seed)
        given = _data(25, 28)
        if "Padding" in name:  # PaddleSeg's data sets read float32, which 127.5 fits
            given["img"] = given["img"].astype(np.float32)
        reference = _run(getattr(theirs, name)(**arguments), given, seed)
        np.testing.assert_array_equal(ours["label"], reference["label"])
        np.testing.assert_array_equal(ours["img"], reference["img"])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Resize", {"target_size": [0, 4]}),
        ("Resize", {"target_size": 512}),
        ("Resize", {"interp": "linear"}),
        ("Resize", {"size_divisor": 0}),
        ("ResizeStepScaling", {"min_scale_factor": 2.0, "max_scale_factor": 1.0}),
        ("ResizeRangeScaling", {"min_value": 600, "max_value": 400}),
        ("RandomPaddingCrop", {"crop_size": [8]}),
        ("RandomPaddingCrop", {"category_max_ratio": 1.5}),
        ("RandomPaddingCrop", {"loop_times": 0}),
        ("Normalize", {"mean": 0.5}),
        ("Normalize", {"std": [0.5, 0, 0.5]}),
    ],
)
def test_wrong_arguments_are_refused(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(arguments))):
        getattr(T, name)(**arguments)


def test_a_small_image_is_padded_as_each_author_does() -> None:
    def labels(small: str, size: tuple[int, int] = (4, 5)) -> np.ndarray:
        data = _data(*size)
        data["label"][:] = 1
        return _run(T.RandomPaddingCrop([8, 8], im_padding_value=0, small=small), data, 1)["label"]

    assert (labels("pad") == 1)[:4, :5].all()
    centred = labels("centre") == 1
    assert centred[2:6, 1:6].all()
    assert centred.sum() == 20
    around = labels("pad_around")
    assert around.shape == (8, 8)
    assert (around == 1).sum() == 20
    assert not (around == 1)[0].any()
    assert not (around == 1)[-1].any()
    assert labels("keep").shape == (4, 5)
    assert labels("keep", (4, 20)).shape == (4, 8)
    assert (labels("enlarge") == 1).all()
    with pytest.raises(UsageError, match="small: one of pad, pad_around"):
        T.RandomPaddingCrop([8, 8], small="stretch")


def test_padding_follows_a_crop_that_kept_a_small_image() -> None:
    data = _run(T.Padding([9, 8], im_padding_value=0), _data(4, 5), 0)
    assert data["img"].shape == (8, 9, 3)
    assert (data["label"][4:] == 255).all()
    assert (data["img"][:, 5:] == 0).all()
    assert _run(T.Padding([3, 3]), _data(4, 5), 0)["img"].shape == (4, 5, 3)


def test_scaled_sides_are_rounded_as_each_author_does() -> None:
    for rounding, side in (("nearest", 8), ("down", 7), ("up", 8)):
        scaling = T.ResizeStepScaling(1.5, 1.5, rounding=rounding)
        assert _run(scaling, _data(5, 5), 0)["label"].shape == (side, side)
    assert (
        _run(T.ResizeStepScaling(1.1, 1.1, rounding="up"), _data(11, 11), 0)["img"].shape[0] == 13
    )
    with pytest.raises(UsageError, match="rounding: one of nearest, down, up"):
        T.ResizeStepScaling(rounding="off")


def test_images_are_scaled_as_pillow_does_it() -> None:
    from PIL import Image

    data = _data(40, 36)
    out = _run(T.ResizeStepScaling(0.25, 0.25, interp="PILLOW_LINEAR"), _data(40, 36), 0)
    for key, method in (("img", Image.Resampling.BILINEAR), ("label", Image.Resampling.NEAREST)):
        expected = np.asarray(Image.fromarray(data[key]).resize((9, 10), method))
        np.testing.assert_array_equal(out[key], expected)
    with pytest.raises(UsageError, match="interp: one of"):
        T.ResizeStepScaling(interp="RANDOM")


def test_jitter_in_order_is_pillows_enhancement() -> None:
    from PIL import Image, ImageEnhance

    ranges = {"brightness_range": 0.5, "contrast_range": 0.5, "saturation_range": 0.5}
    always = {"brightness_prob": 1.0, "contrast_prob": 1.0, "saturation_prob": 1.0, "hue_prob": 0}
    transform = T.RandomDistort(**ranges, **always, in_order=True)
    found = _run(transform, _data(20, 20), 4)["img"].astype(int)
    np.random.seed(4)
    expected = Image.fromarray(_data(20, 20)["img"])
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        np.random.uniform(0, 1)
        expected = change(expected).enhance(np.random.uniform(0.5, 1.5))
    assert np.abs(found - np.asarray(expected)).max() <= 3  # three roundings
