"""One bundle in every backend: an ONNX graph that takes bytes, and Paddle's."""

from pathlib import Path

import numpy as np

from paddleseg_ext.inference.backends.activity import shortfall
from paddleseg_ext.inference.backends.open import BACKENDS, open_backend
from paddleseg_ext.inference.bundle import read_bundle


def test_a_bundle_with_bytes_and_onnx_is_one_network(bundle: Path, onnx_bundle: Path) -> None:
    """Against the bundle that takes normalised floats, at a size that is no multiple of any."""
    plain, taking_bytes = read_bundle(bundle), read_bundle(onnx_bundle)
    assert taking_bytes.manifest is not None
    assert taking_bytes.manifest.graphs["onnx"]["opset"] == 17
    assert taking_bytes.input_dtype == "uint8"
    assert [spec["type"] for spec in taking_bytes.transforms] == []
    image = np.random.default_rng(0).integers(0, 256, (75, 109, 3), dtype=np.uint8)
    floats, _ = plain.preprocess()(image)
    pixels, _ = taking_bytes.preprocess()(image)
    assert pixels.dtype == np.uint8
    expected = open_backend(plain, "paddle", threads=1).run(floats[None])
    for name in BACKENDS:
        backend = open_backend(taking_bytes, name, threads=1)
        got = backend.run(pixels[None])
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
        assert shortfall(backend.describe(), name, threads=1) == ""


def test_every_file_is_hashed(onnx_bundle: Path) -> None:
    manifest = read_bundle(onnx_bundle).manifest
    assert manifest is not None
    assert set(manifest.files) == {"model.json", "model.pdiparams", "model.onnx"}
