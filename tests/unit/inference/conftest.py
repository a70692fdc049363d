"""Images on disk and a network that needs no framework."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from engines import FakeEngine


@dataclass(frozen=True)
class FakeSample:
    """As `data.datasets.Sample`."""

    image: Path
    label: Path | None
    name: str


class BrightnessNetwork(FakeEngine):
    """Class = which third of the brightness range the pixel is in; remembers its batches."""

    def __init__(self, output_op: str = "none"):
        self.output_op = output_op
        self.batches: list[tuple[int, ...]] = []

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.batches.append(batch.shape)
        brightness = batch.mean(axis=1)  # (N, H, W)
        centers = np.array([40.0, 128.0, 215.0], np.float32)
        scores = -np.abs(brightness[:, None] - centers[None, :, None, None])
        if self.output_op == "argmax":
            return scores.argmax(axis=1).astype(np.int32)
        return scores.astype(np.float32)


def write_image(path: Path, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Three gray levels; returns the class ids that `BrightnessNetwork` should find."""
    labels = np.random.default_rng(seed).integers(0, 3, (height, width), dtype=np.uint8)
    gray = np.array([40, 128, 215], np.uint8)[labels]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.merge([gray, gray, gray]))
    return labels


@pytest.fixture
def brightness() -> BrightnessNetwork:
    return BrightnessNetwork()
