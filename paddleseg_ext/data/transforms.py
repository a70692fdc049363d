"""Augmentations with PaddleSeg's names, arguments and dict, so that both can be mixed in a list.

A transform changes `data["img"]` (H, W, 3) and, in the same way, the arrays that
`data["gt_fields"]` names. Random transforms draw from the global `random` and `np.random`, which
the training loop seeds per sample. They draw in PaddleSeg's order, so that equal seeds give equal
crops.

Other values of `type:` are PaddleSeg's own transforms.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from paddleseg_ext.common.errors import UsageError, shown
from paddleseg_ext.images import functional as F

Data = dict[str, Any]


def _size_wh(size: Sequence[int], name: str) -> tuple[int, int]:
    if (
        not isinstance(size, Sequence)
        or len(size) != 2
        or not all(isinstance(side, int) and side > 0 for side in size)
    ):
        raise UsageError(f"{name}: [width, height] is expected, got {shown(size)}")
    return size[0], size[1]


def _resize(data: Data, size_wh: tuple[int, int], interpolation: str = "linear") -> Data:
    data["img"] = F.resize_image(data["img"], size_wh, interpolation)
    for key in data.get("gt_fields", []):
        data[key] = F.resize_label(data[key], size_wh, centred=interpolation == F.PILLOW_LINEAR)
    return data


def _check_interpolation(interp: str, more: Sequence[str] = ()) -> str:
    known = [*(name.upper() for name in (*F.INTERPOLATIONS, F.PILLOW_LINEAR)), *more]
    if interp not in known:
        raise UsageError(f"interp: one of {', '.join(known)} expected, got '{interp}'")
    return interp


class Resize:
    """Resize to `target_size`; with `keep_ratio`, to the largest size that fits into it."""

    def __init__(
        self,
        target_size: Sequence[int] = (512, 512),
        keep_ratio: bool = False,
        size_divisor: int | None = None,
        interp: str = "LINEAR",
    ):
        """
        Args:
            target_size: [width, height].
            size_divisor: both sides are rounded up to a multiple of it.
            interp: NEAREST, LINEAR, CUBIC, AREA, LANCZOS4, PILLOW_LINEAR (antialiased), or RANDOM
                for one of the first five, drawn per image.
        """
        self.target_wh = _size_wh(target_size, "target_size")
        if size_divisor is not None and size_divisor < 1:
            raise UsageError(f"size_divisor: at least 1 is expected, got {size_divisor}")
        self.keep_ratio = keep_ratio
        self.size_divisor = size_divisor
        self.interp = _check_interpolation(interp, ["RANDOM"])

    def __call__(self, data: Data) -> Data:
        height, width = data["img"].shape[:2]
        data["trans_info"].append(("resize", (height, width)))
        interp = random.choice(list(F.INTERPOLATIONS)) if self.interp == "RANDOM" else self.interp
        size_wh = self.target_wh
        if self.keep_ratio:
            size_wh = F.keep_ratio_size_wh((width, height), size_wh)
        if self.size_divisor:
            divisor = self.size_divisor
            size_wh = (
                math.ceil(size_wh[0] / divisor) * divisor,
                math.ceil(size_wh[1] / divisor) * divisor,
            )
        return _resize(data, size_wh, interp.lower())


_ROUNDING: dict[str, Callable[[float], int]] = {
    "nearest": round,
    "down": math.floor,
    "up": math.ceil,
}


class ResizeStepScaling:
    """Scale by a random factor: in equal steps, or continuous where the step is 0."""

    def __init__(
        self,
        min_scale_factor: float = 0.75,
        max_scale_factor: float = 1.25,
        scale_step_size: float = 0.25,
        interp: str = "LINEAR",
        rounding: str = "nearest",
    ):
        """
        Args:
            min_scale_factor: of the sides, as `max_scale_factor`.
            scale_step_size: between two factors.
            interp: as `Resize` has it, without RANDOM. With PILLOW_LINEAR the label is resized as
                Pillow does it, too.
            rounding: of the scaled sides, nearest, down or up.
        """
        if rounding not in _ROUNDING:
            raise UsageError(
                f"rounding: one of {', '.join(_ROUNDING)} is expected, got '{rounding}'"
            )
        self.round = _ROUNDING[rounding]
        self.interp = _check_interpolation(interp)
        if not 0 < min_scale_factor <= max_scale_factor:
            raise UsageError(
                "min_scale_factor: above 0 and at most max_scale_factor is expected, got "
                f"{min_scale_factor} and {max_scale_factor}"
            )
        if scale_step_size < 0:
            raise UsageError(f"scale_step_size: at least 0 is expected, got {scale_step_size}")
        self.min_scale_factor = min_scale_factor
        self.max_scale_factor = max_scale_factor
        self.scale_step_size = scale_step_size

    def __call__(self, data: Data) -> Data:
        height, width = data["img"].shape[:2]
        scale = self._draw()
        size_wh = max(1, self.round(scale * width)), max(1, self.round(scale * height))
        return _resize(data, size_wh, self.interp.lower())

    def _draw(self) -> float:
        low, high = self.min_scale_factor, self.max_scale_factor
        if low == high:
            return low
        if self.scale_step_size == 0:
            return float(np.random.uniform(low, high))
        steps = int((high - low) / self.scale_step_size + 1)
        factors = np.linspace(low, high, steps).tolist()
        np.random.shuffle(factors)  # as PaddleSeg chooses, so that the draws are equal
        return factors[0]


class ResizeRangeScaling:
    """Resize so that the longer side has a random length.

    Source: MaybeShewill-CV/bisenetv2-tensorflow, `RESIZE_METHOD: rangescaling`; PaddleSeg.
    """

    def __init__(self, min_value: int = 400, max_value: int = 600):
        """
        Args:
            min_value: the shortest length, in pixels.
            max_value: the longest.
        """
        if not 0 < min_value <= max_value:
            raise UsageError(
                f"min_value: above 0 and at most max_value is expected, got {min_value} and "
                f"{max_value}"
            )
        self.min_value = min_value
        self.max_value = max_value

    def __call__(self, data: Data) -> Data:
        height, width = data["img"].shape[:2]
        length = self.max_value
        if self.min_value < self.max_value:
            length = int(np.random.uniform(self.min_value, self.max_value) + 0.5)
        scale = length / max(height, width)
        return _resize(data, (max(1, round(scale * width)), max(1, round(scale * height))))


_SMALL = ("pad", "pad_around", "centre", "keep", "enlarge")


class RandomPaddingCrop:
    """Crop a random window; smaller images are padded first, by default right and below."""

    def __init__(
        self,
        crop_size: Sequence[int] = (512, 512),
        im_padding_value: float | Sequence[float] = 127.5,
        label_padding_value: int = 255,
        category_max_ratio: float = 1.0,
        ignore_index: int = 255,
        loop_times: int = 10,
        small: str = "pad",
        enlarge_small: bool = False,
    ):
        """
        Args:
            crop_size: [width, height].
            im_padding_value: 0..255, one value or one per channel.
            category_max_ratio: below 1, up to `loop_times` windows are drawn until no class covers
                more than this share of the labelled pixels.
            ignore_index: the label value that is left out of this share.
            small: what an image smaller than the window gets. `pad`: right and below. `pad_around`:
                half on either side, so that the window varies by a pixel or two
                (CoinCheung/BiSeNet transform_cv2.py). `centre`: half on either side, in the very
                middle (TorchSeg img_utils.py). `keep`: nothing, it stays smaller; `Padding` may
                follow (mmsegmentation). `enlarge`: it is resized by Pillow
                (MichaelFan01/STDC-Seg transform.py).
            enlarge_small: the same as `small: enlarge`, resized by OpenCV.
        """
        if small not in _SMALL:
            raise UsageError(f"small: one of {', '.join(_SMALL)} is expected, got '{small}'")
        self.small = small
        self.crop_wh = _size_wh(crop_size, "crop_size")
        if not 0 < category_max_ratio <= 1:
            raise UsageError(f"category_max_ratio: 0..1 expected, got {category_max_ratio}")
        if loop_times < 1:
            raise UsageError(f"loop_times: at least 1 expected, got {loop_times}")
        self.im_padding_value = im_padding_value
        self.label_padding_value = label_padding_value
        self.category_max_ratio = category_max_ratio
        self.ignore_index = ignore_index
        self.loop_times = loop_times
        self.enlarge_small = enlarge_small

    def __call__(self, data: Data) -> Data:
        if data["img"].shape[1::-1] == self.crop_wh:
            return data
        self._enlarge(data)
        if self.small != "keep":
            self._pad(data)
        left, top = self._draw_window(data["img"].shape[:2])
        if self.category_max_ratio < 1:
            for _ in range(self.loop_times):
                if self._is_varied(F.crop(data["label"], left, top, self.crop_wh)):
                    break
                left, top = self._draw_window(data["img"].shape[:2])
        data["img"] = F.crop(data["img"], left, top, self.crop_wh)
        for key in data.get("gt_fields", []):
            data[key] = F.crop(data[key], left, top, self.crop_wh)
        return data

    def _enlarge(self, data: Data) -> None:
        height, width = data["img"].shape[:2]
        scale = max(self.crop_wh[0] / width, self.crop_wh[1] / height)
        if scale > 1 and (self.enlarge_small or self.small == "enlarge"):
            interpolation = F.PILLOW_LINEAR if self.small == "enlarge" else "linear"
            _resize(data, (int(scale * width + 1), int(scale * height + 1)), interpolation)

    def _pad(self, data: Data) -> None:
        height, width = data["img"].shape[:2]
        lacking = max(0, self.crop_wh[0] - width), max(0, self.crop_wh[1] - height)
        left = top = 0
        target_wh = self.crop_wh
        if self.small == "centre":
            left, top = lacking[0] // 2, lacking[1] // 2
        elif self.small == "pad_around":
            left, top = (side // 2 + 1 if side else 0 for side in lacking)
            target_wh = width + 2 * left, height + 2 * top
        data["img"] = F.pad(data["img"], target_wh, self.im_padding_value, left, top)
        for key in data.get("gt_fields", []):
            data[key] = F.pad(data[key], target_wh, self.label_padding_value, left, top)

    def _draw_window(self, shape_hw: Sequence[int]) -> tuple[int, int]:
        top = int(np.random.randint(0, max(0, shape_hw[0] - self.crop_wh[1]) + 1))
        left = int(np.random.randint(0, max(0, shape_hw[1] - self.crop_wh[0]) + 1))
        return left, top

    def _is_varied(self, label: np.ndarray) -> bool:
        values, counts = np.unique(label, return_counts=True)
        counts = counts[values != self.ignore_index]
        return len(counts) > 1 and counts.max() / counts.sum() < self.category_max_ratio


class Padding:
    """Pad at the right and the bottom up to `target_size`; larger sides are kept."""

    def __init__(
        self,
        target_size: Sequence[int],
        im_padding_value: float | Sequence[float] = 127.5,
        label_padding_value: int = 255,
    ):
        """
        Args:
            target_size: [width, height].
            im_padding_value: one value or one per channel, of the image as it then is.
        """
        self.target_wh = _size_wh(target_size, "target_size")
        self.im_padding_value = im_padding_value
        self.label_padding_value = label_padding_value

    def __call__(self, data: Data) -> Data:
        data["img"] = F.pad(data["img"], self.target_wh, self.im_padding_value)
        for key in data.get("gt_fields", []):
            data[key] = F.pad(data[key], self.target_wh, self.label_padding_value)
        return data


class RandomHorizontalFlip:
    """Exchange left and right with probability `prob`, in the label's pairs of classes, too.

    The data set has the pairs in `data["left_right"]` (`ClassTable.left_right`).
    Source: zllrunning/face-parsing.PyTorch transform.py, HorizontalFlip.
    """

    def __init__(self, prob: float = 0.5):
        self.prob = prob

    def __call__(self, data: Data) -> Data:
        if random.random() < self.prob:
            data["img"] = F.flip_horizontal(data["img"])
            for key in data.get("gt_fields", []):
                data[key] = F.flip_horizontal(data[key])
            if "label" in data and data.get("left_right"):
                data["label"] = F.exchange_classes(data["label"], data["left_right"])
        return data


def _brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=max(0.0, factor))  # a negative factor would invert


def _contrast(image: np.ndarray, factor: float) -> np.ndarray:
    grey = round(float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean()))
    values = np.arange(256, dtype=np.float32) * factor + grey * (1 - factor)
    return cv2.LUT(image, np.clip(values, 0, 255).astype(np.uint8))


def _saturation(image: np.ndarray, factor: float) -> np.ndarray:
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, factor, grey, 1 - factor, 0)


def _hue(image: np.ndarray, delta: float) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)  # hue in 0..255, as PIL has it
    hsv[:, :, 0] += np.uint8(int(delta) % 256)  # uint8 wraps round as the hue circle does
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def _sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
    return cv2.addWeighted(image, factor, cv2.filter2D(image, -1, kernel), 1 - factor, 0)


class RandomDistort:
    """Change brightness, contrast, saturation, hue and sharpness, by default in random order.

    Brightness, contrast, saturation and sharpness are blends with black, the mean grey, the grey
    image and the smoothed image; factor 1 is the image itself.
    """

    def __init__(
        self,
        brightness_range: float = 0.5,
        brightness_prob: float = 0.5,
        contrast_range: float = 0.5,
        contrast_prob: float = 0.5,
        saturation_range: float = 0.5,
        saturation_prob: float = 0.5,
        hue_range: float = 18,
        hue_prob: float = 0.5,
        sharpness_range: float = 0.5,
        sharpness_prob: float = 0,
        in_order: bool = False,
    ):
        """
        Args:
            brightness_range: factors are drawn from 1 - range .. 1 + range.
            hue_range: degrees of a circle of 256, drawn from -range .. range.
            in_order: always brightness, contrast, saturation, sharpness, hue, as STDC-Seg.
        """
        self.in_order = in_order
        change = Callable[[np.ndarray, float], np.ndarray]
        self._steps: list[tuple[change, float, float, float]] = [
            (_brightness, 1, brightness_range, brightness_prob),
            (_contrast, 1, contrast_range, contrast_prob),
            (_saturation, 1, saturation_range, saturation_prob),
            (_sharpness, 1, sharpness_range, sharpness_prob),
            (_hue, 0, hue_range, hue_prob),
        ]

    def __call__(self, data: Data) -> Data:
        image = np.ascontiguousarray(data["img"], np.uint8)
        steps = list(self._steps)
        if not self.in_order:
            random.shuffle(steps)
        for change, centre, reach, probability in steps:
            if np.random.uniform(0, 1) < probability:
                image = change(image, float(np.random.uniform(centre - reach, centre + reach)))
        data["img"] = image
        return data


class Normalize:
    """`(img / 255 - mean) / std` in float32."""

    def __init__(self, mean: Sequence[float] = (0.5,), std: Sequence[float] = (0.5,)):
        """
        Args:
            mean: 1 or 3 values in 0..1, RGB.
            std: as `mean`, none of them 0.
        """
        for name, values in (("mean", mean), ("std", std)):
            if not isinstance(values, Sequence) or len(values) not in (1, 3):
                raise UsageError(
                    f"{name}: a list of 1 or 3 numbers is expected, got {shown(values)}"
                )
        if any(value == 0 for value in std):
            raise UsageError(f"std: no value may be 0, got {list(std)}")
        self.mean = tuple(mean)
        self.std = tuple(std)

    def __call__(self, data: Data) -> Data:
        data["img"] = F.normalize(data["img"], self.mean, self.std)
        return data


class GenerateInstanceTargets:
    """Nothing: MaskFormerLoss gets its masks from the labels of a batch (`losses.multi_head`).

    PaddleSeg's has a mask of every class for each image, 314 MB for 150 classes of 512x512.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255):
        """
        Args:
            num_classes: not used.
            ignore_index: not used.
        """

    def __call__(self, data: Data) -> Data:
        return data
