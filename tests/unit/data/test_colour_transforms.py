"""Colour changes of published recipes, against their arithmetic pixel by pixel."""

import cv2
import numpy as np
import pytest

from paddleseg_ext.data.colour_transforms import CoinCheungColorJitter, PhotoMetricDistortion

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)


def _changed(transform: object, seed: int) -> np.ndarray:
    np.random.seed(seed)
    return transform({"img": IMAGE.copy()})["img"]  # type: ignore[operator]


@pytest.mark.parametrize("seed", range(5))
def test_coincheungs_jitter(seed: int) -> None:
    found = _changed(CoinCheungColorJitter(), seed)
    np.random.seed(seed)
    brightness, contrast, saturation = np.random.uniform(0.6, 1.4, 3)
    x = np.clip(IMAGE * brightness, 0, 255).astype(np.uint8)
    x = np.clip(74 + (x.astype(float) - 74) * contrast, 0, 255).astype(np.uint8)
    # r' = (r (1 + 2 s) + (g + b) (1 - s)) / 3
    total = x.sum(axis=2, keepdims=True, dtype=float)
    expected = np.clip((3 * saturation * x + (1 - saturation) * total) / 3, 0, 255)
    assert np.abs(found - expected.astype(np.uint8).astype(int)).max() <= 1
    assert (found == expected.astype(np.uint8)).mean() > 0.95


def test_factors_are_never_negative() -> None:
    for seed in range(20):
        assert _changed(CoinCheungColorJitter(5, 5, 5), seed).dtype == np.uint8


class _Draws:
    """Stands for `np.random`: coins and numbers in the order in which they are asked for."""

    def __init__(self, coins: list[int], numbers: list[float]):
        self.coins, self.numbers = coins, numbers

    def randint(self, low: int, high: int | None = None) -> int:
        return self.coins.pop(0)

    def uniform(self, low: float, high: float) -> float:
        return self.numbers.pop(0)


def _distorted(monkeypatch: pytest.MonkeyPatch, coins: list[int], numbers: list[float]) -> tuple:
    draws = _Draws(coins, numbers)
    with monkeypatch.context() as patch:
        patch.setattr(np.random, "randint", draws.randint)
        patch.setattr(np.random, "uniform", draws.uniform)
        image = PhotoMetricDistortion()({"img": IMAGE.copy()})["img"]
    assert not draws.coins
    assert not draws.numbers
    return image


def test_mmsegmentations_distortion(monkeypatch: pytest.MonkeyPatch) -> None:
    # coins: brightness, contrast second, contrast, saturation, hue
    brighter = _distorted(monkeypatch, [1, 1, 0, 0, 0], [20.0])
    np.testing.assert_array_equal(brighter, np.clip(IMAGE.astype(int) + 20, 0, 255))
    contrast = _distorted(monkeypatch, [0, 1, 1, 0, 0], [0.5])
    np.testing.assert_array_equal(contrast, IMAGE // 2)
    last = _distorted(monkeypatch, [1, 0, 0, 0, 1], [-30.0, 1.5])
    np.testing.assert_array_equal(
        last, np.minimum(np.maximum(IMAGE.astype(int) - 30, 0) * 1.5, 255).astype(np.uint8)
    )
    grey = _distorted(monkeypatch, [0, 1, 0, 1, 0], [0.0])
    np.testing.assert_array_equal(grey, np.repeat(IMAGE.max(axis=2, keepdims=True), 3, axis=2))
    turned = _distorted(monkeypatch, [0, 1, 0, 0, 1, -7], [])
    hsv = cv2.cvtColor(IMAGE, cv2.COLOR_RGB2HSV)
    hsv[:, :, 0] = (hsv[:, :, 0].astype(int) - 7) % 180
    np.testing.assert_array_equal(turned, cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def test_half_of_the_changes_are_made() -> None:
    same = sum(
        np.array_equal(_changed(PhotoMetricDistortion(), seed), IMAGE) for seed in range(300)
    )
    assert 5 <= same <= 40  # 1 in 16
