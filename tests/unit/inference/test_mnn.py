"""MNN: one answer with the others, its own report, sessions of streams, a quiet terminal."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engines import convolved, write_onnx

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle, bundle_for_onnx
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.engines.table import open_engine
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.runtime import RuntimeSpec

pytest.importorskip("MNN")
from paddleseg_ext.export.mobile_graphs import write_mnn

# Winograd's way rounds more than a direct convolution.
TOLERANCE = 1e-3


def make_bundle(folder: Path, **graph: object) -> Bundle:
    onnx = write_onnx(folder / "net.onnx", **graph)  # type: ignore[arg-type]
    graphs = {"mnn": write_mnn(onnx, folder / "model.mnn")}
    manifest = Manifest("Network", generic_table(8), graphs=graphs)
    return replace(bundle_for_onnx(onnx, manifest=manifest), deploy_file=folder / "deploy.yaml")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("mnn"))


def opened(bundle: Bundle, **settings: object) -> Engine:
    return open_engine(bundle, RuntimeSpec("mnn", **settings))  # type: ignore[arg-type]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_the_graph_runs_at_any_size_and_outputs_are_apart(bundle: Bundle) -> None:
    engine = opened(bundle, threads=1)
    kept = []
    for shape in [(1, 3, 16, 24), (2, 3, 9, 31), (1, 3, 16, 24)]:
        batch = noise(*shape)
        kept.append((engine.run(batch), convolved(batch)))
    for got, expected in kept:
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


def test_another_type_of_input_than_the_graphs_is_refused(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=r"its input is not uint8, as Deploy\.input_dtype says"):
        opened(replace(bundle, input_dtype="uint8"))


def test_it_says_what_runs(bundle: Bundle) -> None:
    spec = RuntimeSpec("mnn", threads=3, streams=2)
    told = open_engine(bundle, spec).describe()
    assert (told.name, told.device, told.precision) == ("mnn", "cpu", "fp32")
    assert told.cpu_threads == 3 and told.streams == 2
    assert told.kernels["Convolution"] == 1 and told.kernel_precisions["fp32"] >= 1
    assert spec.shortfall(told) == ""
    assert "mnn was asked for" in spec.shortfall(replace(told, name="openvino"))
    unknown = replace(told, precision="unknown", kernel_precisions={"unknown": 1})
    assert "fp32 was asked for, and unknown kernels run" in spec.shortfall(unknown)


def test_small_tiles_round_less_and_are_named(bundle: Bundle) -> None:
    batch, errors = noise(1, 3, 64, 64), {}
    for tiles in ("large", "small"):
        assert bundle.manifest
        graphs = {"mnn": {**bundle.manifest.graphs["mnn"], "tiles": tiles}}
        named = replace(bundle, manifest=replace(bundle.manifest, graphs=graphs))
        engine = opened(named, threads=1)
        assert engine.describe().details["tiles"] == tiles
        errors[tiles] = np.abs(engine.run(batch) - convolved(batch)).max()
    assert errors["small"] < errors["large"] < TOLERANCE
    graphs = {"mnn": {"file": "model.mnn", "tiles": "huge"}}
    with pytest.raises(UsageError, match="mnn: tiles: unknown 'huge'"):
        opened(replace(bundle, manifest=replace(bundle.manifest, graphs=graphs)))


def test_several_threads_may_run_at_once(bundle: Bundle) -> None:
    engine = opened(bundle, threads=2, streams=2)
    batches = [noise(1, 3, side, 40) for side in (16, 24, 32, 16, 24, 32)]
    with ThreadPoolExecutor(4) as pool:
        for batch, got in zip(batches, pool.map(engine.run, batches), strict=True):
            np.testing.assert_allclose(got, convolved(batch), rtol=0, atol=TOLERANCE)


def test_nothing_of_its_own_is_printed(bundle: Bundle, capfd: pytest.CaptureFixture) -> None:
    opened(bundle, threads=1).run(noise(1, 3, 8, 8))
    assert capfd.readouterr().out == ""


def test_a_graph_of_a_fixed_size_and_batch(tmp_path: Path) -> None:
    bundle = replace(make_bundle(tmp_path, sides=(2, 3, 8, 12)), input_shape=[2, 3, 8, 12])
    engine, batch = opened(bundle, threads=1), noise(1, 3, 8, 12)
    np.testing.assert_allclose(engine.run(batch), convolved(batch), rtol=0, atol=TOLERANCE)
    with pytest.raises(DataError, match="exported for inputs of 12x8"):
        engine.run(noise(1, 3, 8, 13))


def test_a_graph_that_takes_bytes(tmp_path: Path) -> None:
    bundle = replace(make_bundle(tmp_path, input_type="UINT8"), input_dtype="uint8")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 12), dtype=np.uint8)
    expected = convolved(pixels.astype(np.float32))
    got = opened(bundle, threads=1).run(pixels)
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def test_a_file_that_is_no_graph(bundle: Bundle, capfd: pytest.CaptureFixture) -> None:
    file = bundle.deploy_file.parent / "broken.mnn"
    file.write_bytes(b"no graph" * 20)
    assert bundle.manifest
    graphs = {"mnn": {"file": file.name}}
    broken = replace(bundle, manifest=replace(bundle.manifest, graphs=graphs))
    with pytest.raises(UsageError, match=r"broken\.mnn: MNN cannot load it") as caught:
        opened(broken)
    assert "\n" not in str(caught.value)


def test_a_bundle_without_such_a_graph_and_what_mnn_does_not_do(tmp_path: Path) -> None:
    plain = bundle_for_onnx(write_onnx(tmp_path / "net.onnx"))
    with pytest.raises(UsageError, match=r"export it with export_model\.py --mnn True"):
        opened(plain)
    with pytest.raises(UsageError, match="mnn runs on a CPU in fp32, got int8"):
        opened(plain, precision="int8")


def test_an_error_while_running_is_one_line(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from paddleseg_ext.inference.engines import mnn_runtime

    engine = opened(bundle, threads=1)
    interpreter, session = engine._idle.get()  # type: ignore[attr-defined]

    class Refusing:
        def __getattr__(self, name: str) -> object:
            return getattr(interpreter, name)

        def runSession(self, session: object) -> int:
            return mnn_runtime.OUT_OF_MEMORY

    engine._idle.put((Refusing(), session))  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="MNN has not enough memory for an input of"):
        engine.run(noise(1, 3, 8, 8))
    assert engine._idle.qsize() == 1  # type: ignore[attr-defined]
