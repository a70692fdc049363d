"""The largest image's time is measured, or calculated from a smaller one's."""

import time

import numpy as np
import pytest

from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.runtime import RuntimeReport
from paddleseg_ext.serving.pace import seconds_for

from .conftest import make_predictor


class Slow(Engine):
    """A network that takes a second for two million pixels."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.shapes.append(batch.shape)
        time.sleep(batch.shape[2] * batch.shape[3] / 2e6)
        return batch

    def describe(self) -> RuntimeReport:
        return RuntimeReport("slow")


def test_large_images_are_calculated() -> None:
    network = Slow()
    assert seconds_for(8_400_000, make_predictor(network)) == pytest.approx(4.1, rel=0.3)
    assert network.shapes == [(1, 3, 512, 512)] * 2


def test_transforms_decide_what_the_network_sees() -> None:
    network = Slow()
    resize = {"type": "Resize", "target_size": [320, 160]}
    seconds_for(8_400_000, make_predictor(network, [resize]))
    assert network.shapes == [(1, 3, 160, 320)] * 2


def test_no_image_of_that_size_is_taken() -> None:
    padding = {"type": "Padding", "target_size": [64, 64]}
    assert seconds_for(8_400_000, make_predictor(Slow(), [padding])) is None
