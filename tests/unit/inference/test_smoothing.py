"""Averages along optical flow: the formula where nothing moves, and the gain where things do."""

import cv2
import numpy as np
import pytest
from engines import FakeEngine, predictor_of

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.inference.flow import TemporalConsistency
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.smoothing import SmoothedPredictor

from .conftest import BrightnessNetwork
from .test_flow import SIZE_HW, rgb, texture, window


class Told(FakeEngine):
    """Gives the scores it was told, a frame after the other."""

    def __init__(self, scores: np.ndarray):
        self.left = list(scores)

    def run(self, batch: np.ndarray) -> np.ndarray:
        return np.stack([self.left.pop(0) for _ in batch])


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("batch", [1, 2])
def test_where_nothing_moves_it_is_the_moving_average(stride: int, batch: int) -> None:
    height, width = SIZE_HW
    shape = (4, 3, height // stride, width // stride)
    told = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    smoothed = SmoothedPredictor(predictor_of(Told(told)), 0.6)
    prepared = smoothed.prepare(rgb(texture()[:height, :width]))
    outputs = []
    for _ in range(4 // batch):
        tensors = np.stack([prepared.tensor] * batch)
        outputs.extend(smoothed.run(tensors, [prepared.geometry] * batch).outputs)
    expected = told[0]
    for number in range(1, 4):
        expected = 0.4 * told[number] + 0.6 * expected
        np.testing.assert_allclose(outputs[number], expected, atol=1e-5)
    np.testing.assert_array_equal(outputs[0], told[0])


def test_a_moving_film_is_steadier_and_no_less_right() -> None:
    """Noise in every frame; the truth is the class of the clean picture."""
    whole, rng = texture(2), np.random.default_rng(3)
    centres = np.array([40, 128, 215])
    truth = np.abs(whole[..., None].astype(int) - centres).argmin(axis=2).astype(np.uint8)
    plain, right = predictor_of(BrightnessNetwork()), {}
    smoothed = SmoothedPredictor(plain, 0.6)
    consistency = {id(plain): TemporalConsistency(), id(smoothed): TemporalConsistency()}
    for number in range(8):
        noisy = rgb(window(whole, number)) + rng.normal(0, 14, (*SIZE_HW, 1))
        image = np.clip(noisy, 0, 255).astype(np.uint8)
        for predictor in (plain, smoothed):
            found = predictor(image).label_map
            consistency[id(predictor)].add(image, found)
            right.setdefault(id(predictor), []).append((found == window(truth, number)).mean())
    before, after = (consistency[id(each)].share for each in (plain, smoothed))
    assert after > before + 0.02
    assert np.mean(right[id(smoothed)]) > np.mean(right[id(plain)]) + 0.01


def test_a_cut_starts_anew() -> None:
    """Another scene: no pixel takes over scores of the one before."""
    predictor = predictor_of(BrightnessNetwork())
    smoothed = SmoothedPredictor(predictor, 0.9)
    dark = np.clip(texture(4)[: SIZE_HW[0], : SIZE_HW[1]] // 4, 0, 255).astype(np.uint8)
    bright = cv2.flip(255 - dark, 0)
    smoothed(rgb(dark))
    found, expected = smoothed(rgb(bright)).label_map, predictor(rgb(bright)).label_map
    assert (found == expected).mean() > 0.99


def test_what_cannot_be_averaged() -> None:
    argmax = predictor_of(BrightnessNetwork("argmax"), postprocess=Postprocess("argmax"))
    with pytest.raises(UsageError, match="--output_op none"):
        SmoothedPredictor(argmax, 0.5)
    engine = BrightnessNetwork()
    engine.streams = 2
    with pytest.raises(UsageError, match="leave --streams out"):
        SmoothedPredictor(predictor_of(engine), 0.5)
