"""A service whose network needs no framework, and images of many kinds."""

import io
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.runtime import RuntimeReport
from paddleseg_ext.serving.images import ImageLimits
from paddleseg_ext.serving.options import MIB, ServiceSettings
from paddleseg_ext.serving.service import SegmentationService

TABLE = generic_table(3, ["dark", "grey", "bright"])
LIMITS = ImageLimits(max_bytes=200_000, max_pixels=100_000)
BOUNDS = {"max_mib": LIMITS.max_bytes / MIB, "max_megapixels": LIMITS.max_pixels / 1e6}


class BrightnessNetwork(Engine):
    """Class = which third of the brightness range the pixel is in; may be held up or broken."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.is_broken = False

    def run(self, batch: np.ndarray) -> np.ndarray:
        assert self.may_run.wait(10)
        if self.is_broken:
            raise RuntimeError("the runtime says no")
        self.batches.append(batch.shape)
        centers = np.array([40.0, 128.0, 215.0], np.float32)[None, :, None, None]
        return -np.abs(batch.mean(axis=1)[:, None] - centers).astype(np.float32)

    def describe(self) -> RuntimeReport:
        return RuntimeReport("brightness")


def brightness_classes(image: np.ndarray) -> np.ndarray:
    """What `BrightnessNetwork` finds in (H, W, 3) pixels."""
    return BrightnessNetwork().run(image.astype(np.float32).transpose(2, 0, 1)[None])[0].argmax(0)


def make_bundle(transforms: list[dict] | None = None) -> Bundle:
    return Bundle(
        deploy_file=Path("bundle/deploy.yaml"),
        model_file=Path("bundle/model.json"),
        params_file=Path("bundle/model.pdiparams"),
        transforms=transforms or [],
        input_shape=None,
        output_op="none",
        manifest=Manifest("Brightness", TABLE, {"path": "/home/somebody/best.pdparams"}),
    )


def make_predictor(network: Engine, transforms: list[dict] | None = None) -> Predictor:
    bundle = make_bundle(transforms)
    steps = (bundle.preprocess(), bundle.postprocess())
    return Predictor(network, *steps, TABLE, bundle=bundle)


@pytest.fixture
def network() -> BrightnessNetwork:
    return BrightnessNetwork()


@pytest.fixture
def make_service(network: BrightnessNetwork) -> Callable[..., SegmentationService]:
    def make(transforms: list[dict] | None = None, **changes: object) -> SegmentationService:
        values = {"max_batch": 1, "max_wait_ms": 0.0, "queue_size": 4, "deadline": 10.0}
        settings = ServiceSettings(**(BOUNDS | values | changes))
        assert settings.limits == LIMITS
        return SegmentationService(make_predictor(network, transforms), settings)

    return make


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, format=kind, **options)
    return content.getvalue()


def png(height: int = 20, width: int = 30, seed: int = 0) -> bytes:
    return encode(Image.fromarray(noise(height, width, seed=seed)), "PNG")
