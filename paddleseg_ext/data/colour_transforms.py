"""Colour changes of published recipes whose arithmetic `RandomDistort` does not have.

They change `data["img"]`, (H, W, 3) RGB, and draw from the global `np.random`.
"""

from collections.abc import Callable

import cv2
import numpy as np

from paddleseg_ext.data.transforms import Data

Image = np.ndarray
_CONTRAST_CENTRE = 74  # CoinCheung's constant


def _as_bytes(image: Image) -> Image:
    return np.clip(image, 0, 255).astype(np.uint8)


def _by_table(image: Image, values: np.ndarray) -> Image:
    """Every grey level replaced by its entry among 256."""
    return cv2.LUT(image, _as_bytes(values))


def _factor(reach: float) -> float:
    return float(np.random.uniform(max(0.0, 1 - reach), 1 + reach))


class CoinCheungColorJitter:
    """Brightness, then contrast around grey level 74, then saturation around the mean of R, G, B.

    Each factor is drawn from 1 - range .. 1 + range, at least 0, for every image; results are cut
    to whole grey levels.

    Source: CoinCheung/BiSeNet lib/data/transform_cv2.py, ColorJitter.
    """

    def __init__(
        self,
        brightness_range: float = 0.4,
        contrast_range: float = 0.4,
        saturation_range: float = 0.4,
    ):
        self.ranges = brightness_range, contrast_range, saturation_range

    def __call__(self, data: Data) -> Data:
        brightness, contrast, saturation = map(_factor, self.ranges)
        levels = np.arange(256)
        image = np.ascontiguousarray(data["img"], np.uint8)
        image = _by_table(image, levels * brightness)
        image = _by_table(image, _CONTRAST_CENTRE + (levels - _CONTRAST_CENTRE) * contrast)
        mix = np.full((3, 3), 1 - saturation) + 3 * saturation * np.eye(3)
        data["img"] = _as_bytes(image @ mix.astype(np.float32) / 3)
        return data


class PhotoMetricDistortion:
    """mmsegmentation's: brightness, contrast, saturation and hue, each with probability 1/2.

    Brightness adds grey levels, contrast and saturation are factors (saturation and hue in
    OpenCV's HSV, whose hue has 180 steps). Contrast comes second or last.

    Source: mmsegmentation 0.19 datasets/pipelines/transforms.py, PhotoMetricDistortion.
    """

    def __init__(
        self,
        brightness_delta: int = 32,
        contrast_range: float = 0.5,
        saturation_range: float = 0.5,
        hue_delta: int = 18,
    ):
        """
        Args:
            brightness_delta: grey levels, drawn from -delta .. delta.
            contrast_range: factors are drawn from 1 - range .. 1 + range, as for saturation.
            hue_delta: steps of 180 round the circle, drawn from -delta .. delta - 1.
        """
        self.brightness_delta = brightness_delta
        self.contrast_range = contrast_range
        self.saturation_range = saturation_range
        self.hue_delta = hue_delta

    def __call__(self, data: Data) -> Data:
        image = np.ascontiguousarray(data["img"], np.uint8)
        image = self._maybe(self._brightness, image)
        contrast_is_second = bool(np.random.randint(2))
        if contrast_is_second:
            image = self._maybe(self._contrast, image)
        image = self._maybe(self._saturation, image)
        image = self._maybe(self._hue, image)
        if not contrast_is_second:
            image = self._maybe(self._contrast, image)
        data["img"] = image
        return data

    @staticmethod
    def _maybe(change: Callable[[Image], Image], image: Image) -> Image:
        return change(image) if np.random.randint(2) else image

    def _brightness(self, image: Image) -> Image:
        delta = np.random.uniform(-self.brightness_delta, self.brightness_delta)
        return _by_table(image, np.arange(256) + delta)

    def _contrast(self, image: Image) -> Image:
        return _by_table(image, np.arange(256) * _factor(self.contrast_range))

    def _saturation(self, image: Image) -> Image:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        factor = _factor(self.saturation_range)
        hsv[:, :, 1] = _by_table(np.ascontiguousarray(hsv[:, :, 1]), np.arange(256) * factor)
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)

    def _hue(self, image: Image) -> Image:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        shift = np.random.randint(-self.hue_delta, self.hue_delta) if self.hue_delta else 0
        hsv[:, :, 0] = (hsv[:, :, 0].astype(int) + shift) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
