"""The largest image's time is measured, or calculated from a smaller one's."""

import time

import numpy as np
import pytest

from paddleseg_ext.serving.pace import seconds_for

from .conftest import make_bundle


class Slow:
    """A network that takes a second for two million pixels."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.shapes.append(batch.shape)
        time.sleep(batch.shape[2] * batch.shape[3] / 2e6)
        return batch

    def describe(self) -> dict:
        return {}


def test_large_images_are_calculated() -> None:
    network = Slow()
    assert seconds_for(8_400_000, make_bundle(), network) == pytest.approx(4.1, rel=0.3)
    assert network.shapes == [(1, 3, 512, 512)] * 2


def test_transforms_decide_what_the_network_sees() -> None:
    network = Slow()
    bundle = make_bundle([{"type": "Resize", "target_size": [320, 160]}])
    seconds_for(8_400_000, bundle, network)
    assert network.shapes == [(1, 3, 160, 320)] * 2


def test_no_image_of_that_size_is_taken() -> None:
    bundle = make_bundle([{"type": "Padding", "target_size": [64, 64]}])
    assert seconds_for(8_400_000, bundle, Slow()) is None
