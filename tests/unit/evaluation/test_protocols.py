"""Protocols as they run: averages are averages, flips flip back, memory stays bounded."""

import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from engines import FakeEngine, predictor_of
from hypothesis import given, settings
from hypothesis import strategies as st

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.evaluation.protocols import ProtocolPredictor, by_protocol, check_protocol
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.reading import read_image
from paddleseg_ext.inference import pipeline
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.preprocess import Geometry, Preprocess, Step
from paddleseg_ext.scoring.protocols import PROTOCOLS, make_protocol

NUM_CLASSES = 3


class PixelNetwork(FakeEngine):
    """Logits of a pixel from that pixel alone: no protocol may change what is predicted."""

    def __init__(self) -> None:
        self.largest = 0
        self.runs = 0

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.runs += 1
        self.largest = max(self.largest, batch.shape[2] * batch.shape[3])
        return np.ascontiguousarray(batch * np.float32(2))


def predictor(
    name: str, network: PixelNetwork, preprocess: Preprocess | None = None, **options: Any
) -> ProtocolPredictor:
    return ProtocolPredictor(
        predictor_of(network, NUM_CLASSES, preprocess), make_protocol(name, **options)
    )


def run(name: str, batch: np.ndarray, **options):  # type: ignore[no-untyped-def]
    size_hw = (batch.shape[2], batch.shape[3])
    network = PixelNetwork()
    ran = predictor(name, network, **options).run(batch, [Geometry(size_hw, size_hw)] * len(batch))
    return ran.outputs, ran.geometries[0], network


def random_batch(height: int, width: int, count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, NUM_CLASSES, height, width)).astype(np.float32)


@given(st.integers(3, 40), st.integers(3, 40), st.integers(2, 20), st.data())
@settings(max_examples=60, deadline=None)
def test_averaged_windows_give_the_whole_back(
    height: int, width: int, crop: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, crop))
    batch = random_batch(height, width)
    for name in ("slide", "mmseg_slide"):
        output, _, _ = run(name, batch, crop_size=[crop, crop], stride=[stride, stride])
        np.testing.assert_allclose(output, 2 * batch, rtol=1e-5, atol=1e-5)


@given(st.integers(3, 30), st.integers(3, 30), st.integers(2, 40))
@settings(max_examples=40, deadline=None)
def test_summed_windows_keep_the_best_class(height: int, width: int, crop: int) -> None:
    """A pixel's scores do not depend on the crop here, so the sum over crops keeps their order."""
    batch = random_batch(height, width)
    output, geometry, network = run("ssc", batch, crop_size=[crop, crop])
    assert geometry.network_hw == (height, width)
    assert network.largest == crop * crop  # smaller images are padded
    np.testing.assert_array_equal(output.argmax(axis=1), batch.argmax(axis=1))


def test_flips_come_back_unmirrored() -> None:
    batch = random_batch(6, 7)
    for name in ("whole", "mmseg_whole"):
        output, _, network = run(name, batch, flip_horizontal=True)
        assert network.runs == 2
        np.testing.assert_array_equal(output.argmax(axis=1), batch.argmax(axis=1))
    output, _, _ = run("whole", batch, flip_horizontal=True)
    np.testing.assert_allclose(output, 4 * batch, rtol=1e-6)  # the sum of two


class SideNetwork(PixelNetwork):
    """Knows left from right: class 1 in the left half of what it is given, class 2 in the right."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        scores = np.zeros_like(super().run(batch))
        middle = batch.shape[3] // 2
        scores[:, 1, :, :middle] = scores[:, 2, :, middle:] = 5
        scores.flags.writeable = False  # as an engine's memory may be
        return scores


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("whole", {}),
        ("mmseg_whole", {}),
        ("msf", {}),
        ("mscf", {"crop_size": [8, 8]}),
        ("torchseg", {}),
        ("half_resize", {}),
    ],
)
def test_flips_exchange_left_and_right_classes(name: str, options: dict[str, Any]) -> None:
    """Of a network that separates them; unexchanged, the two halves would be a tie."""
    if name not in ("msf", "mscf"):
        options = options | {"flip_horizontal": True}
    inner = predictor_of(SideNetwork(), NUM_CLASSES)
    inner.class_table = generic_table(3, ["face", "l_eye", "r_eye"])
    batch = np.abs(random_batch(8, 8))
    ran = ProtocolPredictor(inner, make_protocol(name, **options)).run(
        batch, [Geometry((8, 8), (8, 8))] * 2
    )
    predicted = ran.outputs.argmax(axis=1)
    assert (predicted[:, :, 0] == 1).all() and (predicted[:, :, -1] == 2).all()
    one, two = ran.outputs[:, 1, :, 0], ran.outputs[:, 2, :, 0]
    assert (one > two * 1.5).all()


def test_window_arithmetic_of_the_flips() -> None:
    """P + p' (half_resize), exp(p + p') (mscf), p p' (torchseg); here p' = p."""
    batch = np.rint(random_batch(8, 8, count=1))  # whole numbers stay what they are as bytes
    batch -= batch.min()
    shifted = np.exp(2 * batch - (2 * batch).max(axis=1, keepdims=True))
    p = shifted / shifted.sum(axis=1, keepdims=True)
    options = {"scales": [2.0], "flip_horizontal": True}  # halved and doubled: as it is
    np.testing.assert_allclose(run("half_resize", batch, **options)[0], 2 * p, rtol=1e-5)

    scores = predictor("mscf", PixelNetwork(), crop_size=[8, 8])._crop_score(batch)
    np.testing.assert_allclose(scores, np.exp(2 * p), rtol=1e-5)
    product = predictor("torchseg", PixelNetwork(), flip_horizontal=True)
    np.testing.assert_allclose(product._crop_score(batch), p * p, rtol=1e-4)


def test_half_resize_halves_bytes() -> None:
    """(0 + 0 + 0 + 1) / 4 is 0 as a byte; normalised first it would be a quarter."""
    pixels = np.zeros((1, 3, 2, 2), np.float32)
    pixels[:, :, 1, 1] = 1
    seen = []

    class Watching(PixelNetwork):
        def run(self, batch: np.ndarray) -> np.ndarray:
            seen.append(batch.copy())
            return super().run(batch)

    halving = predictor("half_resize", Watching(), Preprocess([{"type": "Normalize"}]))
    halving.run(pixels, [Geometry((2, 2), (2, 2))])
    np.testing.assert_array_equal(seen[0], np.full((1, 3, 1, 1), -1, np.float32))


def test_mmseg_brings_scores_to_the_label_first() -> None:
    batch = random_batch(8, 8)
    geometry = Geometry((16, 12), (8, 8), (Step("resize", (16, 12)),))
    mmseg = predictor("mmseg_whole", PixelNetwork(), flip_horizontal=True)
    ran = mmseg.run(batch, [geometry] * 2)
    output = ran.outputs
    assert output.shape == (2, NUM_CLASSES, 16, 12)
    assert ran.geometries == [Geometry((16, 12), (16, 12))] * 2
    np.testing.assert_allclose(output.sum(axis=1), 2.0, rtol=1e-5)  # two softmaxes


def test_label_1_8_is_scored_small() -> None:
    output, geometry, _ = run("label_1_8", random_batch(35, 50))
    assert output.shape[2:] == (4, 6) and geometry.original_hw == (4, 6)
    assert Postprocess().label_map(output[0], geometry).shape == (4, 6)
    output, _, _ = run("label_1_8", random_batch(5, 50))
    assert output.shape[2:] == (1, 6)
    assert make_protocol("label_1_8").label_hw((5, 50)) == (1, 6)


def test_an_image_that_halves_to_nothing_is_named() -> None:
    with pytest.raises(DataError, match=r"300x1 \(width x height\) leaves nothing at scale 0\.5"):
        run("half_resize", random_batch(1, 300))


def test_torchseg_normalises_crops_after_padding_bytes() -> None:
    seen = []

    class Recorder(PixelNetwork):
        def run(self, batch: np.ndarray) -> np.ndarray:
            seen.append(batch.copy())
            return super().run(batch)

    normalize = Preprocess([{"type": "Normalize", "mean": [0.5], "std": [0.5]}])
    image = np.full((1, 3, 10, 30), 255, np.float32)  # wider than the crop, and lower
    torchseg = predictor("torchseg", Recorder(), normalize, crop_size=[20, 20])
    black = np.zeros((4, 4, 3), np.uint8)
    assert torchseg.prepare(black).tensor.max() == 0.0  # not normalised
    torchseg.run(image, [Geometry((10, 30), (10, 30))])
    assert all(crop.shape == (1, 3, 20, 20) for crop in seen)
    assert seen[0][0, 0, 0, 0] == -1.0  # black bytes, normalised
    assert seen[0][0, 0, 10, 0] == 1.0
    seen.clear()
    torchseg.run(image[..., :15], [Geometry((10, 15), (10, 15))])
    assert seen[0][0, 0, 0, 0] == 0.0  # a small image: normalised, then padded with zeros


def test_preprocessing_that_resizes_is_refused_where_the_protocol_says_full_size() -> None:
    resizing = Preprocess([{"type": "Resize", "target_size": [8, 8]}])
    for name, protocol in PROTOCOLS.items():
        if name in ("whole", "slide", "mmseg_whole", "mmseg_slide"):
            check_protocol(protocol, resizing)
        else:
            with pytest.raises(UsageError, match="image at its own size"):
                check_protocol(protocol, resizing)
            with pytest.raises(UsageError, match="image at its own size"):
                by_protocol(predictor_of(PixelNetwork(), NUM_CLASSES, resizing), protocol)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("msf", {}),
        ("mscf", {"crop_size": [64, 64]}),
        ("slide", {"crop_size": [64, 64], "stride": [48, 48]}),
        ("torchseg", {"crop_size": [64, 64]}),
    ],
)
def test_memory_is_bounded_by_two_score_tensors(name: str, options: dict) -> None:
    """With 19 classes at full size: what is summed, and what is added."""

    class Many(PixelNetwork):
        def run(self, batch: np.ndarray) -> np.ndarray:
            n, _, h, w = batch.shape
            return np.zeros((n, 19, h, w), np.float32)

    height, width = 256, 512
    batch = random_batch(height, width, count=1)
    largest_scale = 1.75 if name in ("msf", "mscf") else 1.0
    one = 19 * height * width * 4
    at_scale = one * largest_scale**2
    many = predictor(name, Many(), **options)
    tracemalloc.start()
    many.run(batch, [Geometry((height, width), (height, width))])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The sum, the network's own output and its copy at this size; planes and images besides.
    assert peak < 2 * one + at_scale + 0.35 * at_scale


@pytest.mark.parametrize("name", ["ss", "msf", "ssc", "mscf"])
def test_coincheungs_protocols_take_a_short_side_and_score_at_the_labels_size(name: str) -> None:
    """ADE20K: images are brought to a short side, and scores straight to the label's size."""
    preprocess = Preprocess([{"type": "ResizeByShort", "short_size": 16}])
    image = np.random.default_rng(0).integers(0, 256, (24, 40, 3)).astype(np.uint8)
    batch, geometry = preprocess(image)
    assert batch.shape == (3, 16, 27)
    ran = predictor(name, PixelNetwork(), preprocess).run(batch[None], [geometry])
    assert ran.outputs.shape == (1, NUM_CLASSES, 24, 40)
    assert ran.geometries[0] == Geometry((24, 40), (24, 40))


def test_other_protocols_take_no_short_side() -> None:
    preprocess = Preprocess([{"type": "ResizeByShort", "short_size": 16}])
    for name in ("scale_0.5", "torchseg", "half_resize", "coincheung_demo"):
        with pytest.raises(UsageError, match="image at its own size"):
            check_protocol(PROTOCOLS[name], preprocess)


def test_one_decode_serves_every_scale_and_its_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files:
        cv2.imwrite(str(file), np.zeros((8, 12, 3), np.uint8))
    read = []
    monkeypatch.setattr(
        pipeline, "read_image", lambda *given: read.append(given) or read_image(*given)
    )
    network = PixelNetwork()
    looks = {"scales": [0.5, 1.0, 1.5], "flip_horizontal": True}
    done = list(predictor("whole", network, **looks).stream(files))
    assert all(prediction.error is None for prediction in done)
    assert (len(read), network.runs) == (3, 3 * 3 * 2)
