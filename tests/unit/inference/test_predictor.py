"""The predictor: one image, a stream, several threads, and which source opens in which runtime."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from engines import FakeEngine, predictor_of
from PIL import Image

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.pipeline import StreamOptions
from paddleseg_ext.inference.predictor import Predictor, find_class_table
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec

from .conftest import BrightnessNetwork, write_image


def test_a_path_a_picture_and_an_array_are_answered_alike(
    tmp_path: Path, brightness: BrightnessNetwork
) -> None:
    truth = write_image(tmp_path / "a.png", 10, 12)
    pixels = cv2.cvtColor(cv2.imread(str(tmp_path / "a.png")), cv2.COLOR_BGR2RGB)
    predictor = predictor_of(brightness)
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(pixels), pixels):
        result = predictor(image)
        np.testing.assert_array_equal(result.label_map, truth)
        np.testing.assert_array_equal(result.image, pixels)
    assert result.overlay().shape == (10, 12, 3) and result.overlay().dtype == np.uint8
    assert result.class_pixels == {
        name: int((truth == index).sum()) for index, name in enumerate(generic_table(3).class_names)
    }
    assert sum(result.class_pixels.values()) == 120 and result.timings.inference_ms > 0


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8), 7],
)
def test_what_is_no_image(brightness: BrightnessNetwork, image: Any) -> None:
    with pytest.raises(DataError, match=r"\(H, W, 3\) uint8 RGB array is expected"):
        predictor_of(brightness)(image)


def test_a_stream_over_a_folder(tmp_path: Path, brightness: BrightnessNetwork) -> None:
    for name in ("b.png", "a.png", "c/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, 4, 6)
    predictor = predictor_of(brightness)
    for folder in (tmp_path, str(tmp_path)):
        names = [prediction.sample.name for prediction in predictor.stream(folder)]
        assert names == ["a", "b", "c/a"]
    (only,) = predictor.stream(tmp_path / "b.png")
    assert only.label_map is not None
    with pytest.raises(UsageError, match="image list"):
        predictor.stream(tmp_path / "none")


def test_a_streams_answers_are_those_of_the_calls(
    tmp_path: Path, brightness: BrightnessNetwork
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        write_image(path, 10, 12, seed=number)
    predictor = predictor_of(brightness, preprocess=Preprocess([]))
    predictions = list(predictor.stream([*paths, tmp_path / "none.png"]))
    for path, prediction in zip(paths, predictions, strict=False):
        assert prediction.sample.name == path.stem
        np.testing.assert_array_equal(prediction.label_map, predictor(path).label_map)
    assert predictions[-1].segmentation is None and "does not exist" in predictions[-1].error


class Alone(FakeEngine):
    """Fails where two threads are inside at once."""

    def __init__(self) -> None:
        self.inside = Lock()

    def run(self, batch: np.ndarray) -> np.ndarray:
        assert self.inside.acquire(blocking=False), "two runs at once"
        try:
            return np.stack([batch.mean(axis=1), np.full_like(batch[:, 0], 100)], axis=1)
        finally:
            self.inside.release()


def test_several_threads_share_a_predictor() -> None:
    predictor = predictor_of(Alone(), 2)
    images = [np.full((64, 64, 3), value, np.uint8) for value in range(0, 250, 5)]
    start = Barrier(4)

    def answer(image: np.ndarray) -> int:
        if image[0, 0, 0] < 20:
            start.wait(timeout=10)  # the first four begin together
        return int(predictor(image).label_map.max())

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(answer, images))
    assert got == [int(image[0, 0, 0] < 100) for image in images]


def test_a_predictor_closes() -> None:
    engine = Mock(streams=1)
    with predictor_of(engine) as predictor:
        assert not engine.close.called
    assert engine.close.called and predictor.engine is engine


@pytest.mark.parametrize(
    ("open_it", "message"),
    [
        (lambda: Predictor.open("net.pdparams", "openvino"), "export it first"),
        (lambda: Predictor.open("net.pdparams", RuntimeSpec("paddle")), "export it first"),
        (lambda: Predictor.open("net.pdparams", "eagr"), "did you mean 'eager'"),
        (lambda: Predictor.open("nowhere/deploy.yaml"), "does not exist"),
        (lambda: Predictor.open("deploy.yaml", config="x.yml"), "only a checkpoint takes one"),
    ],
)
def test_what_cannot_be_opened(open_it: Callable[[], Predictor], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        open_it()
    assert "\n" not in str(caught.value)


def test_a_number_beside_the_manifests_is_refused() -> None:
    manifest = Manifest("Network", generic_table(5))
    bundle = Bundle(Path("deploy.yaml"), Path("model.json"), None, [], None, "none", manifest)
    for given in (None, 5):
        assert find_class_table(bundle, Mock(), given).num_classes == 5
    with pytest.raises(UsageError, match=r"--num_classes 7: deploy\.yaml says 5; leave"):
        find_class_table(bundle, Mock(), 7)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"num_workers": -1},
        {"streams": 0},
        {"warm_up_runs": -1},
    ],
)
def test_a_stream_is_refused_numbers_out_of_range(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(UsageError, match=f"^{name}: a whole number, at least"):
        StreamOptions(**options)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_a_picture_that_pil_would_clip_is_refused(brightness: BrightnessNetwork, mode: str) -> None:
    with pytest.raises(DataError, match=f"a PIL image '{mode}'"):
        predictor_of(brightness).prepare(Image.new(mode, (8, 8)))


@pytest.mark.parametrize("shape", [(0, 0, 3), (5, 0, 3), (5, 5), (5, 5, 4), (1, 5, 5, 3)])
def test_an_array_that_is_no_picture_is_refused(
    brightness: BrightnessNetwork, shape: tuple[int, ...]
) -> None:
    with pytest.raises(DataError, match=r"an \(H, W, 3\) uint8 RGB array is expected"):
        predictor_of(brightness).prepare(np.zeros(shape, np.uint8))


def test_a_closed_predictor_is_not_used(brightness: BrightnessNetwork) -> None:
    predictor = predictor_of(brightness)
    predictor.close()
    with pytest.raises(UsageError, match="closed"):
        predictor(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("runtime", "settings", "message"),
    [
        ("paddle", {"threads": 0}, "threads: a whole number, from 1 to 1024"),
        ("paddle", {"threads": 10**6}, "threads: a whole number, from 1 to 1024"),
        ("paddle", {"threads": "2"}, "threads: a whole number"),
        ("paddle", {"device": "tpu"}, "device: unknown 'tpu'"),
        ("onnxruntime", {"streams": 0}, "streams: a whole number, at least 1"),
        ("paddle", {"thread": 2}, "unknown key 'thread'.*'threads'"),
    ],
)
def test_a_runtime_is_refused_wrong_settings(
    runtime: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        RuntimeSpec.parse(runtime, **settings).check()


def test_the_report_can_be_made_again_after_a_run(
    brightness: BrightnessNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = predictor_of(brightness)
    before = predictor.describe()
    later = RuntimeReport("brightness", kernels={"Conv avx512": 1})
    monkeypatch.setattr(brightness, "describe", lambda: later)
    assert predictor.describe() is before
    assert predictor.describe(again=True) is later and predictor.describe() is later
