"""Paddle Inference: flags refused early, flags that reach Paddle, answers that are right."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engines import assert_bf16_is_proven

from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.machine import has_bf16
from paddleseg_ext.inference import runtime
from paddleseg_ext.inference.bundle import Bundle, read_bundle
from paddleseg_ext.inference.engines import paddle_inference, tensorrt
from paddleseg_ext.inference.engines.paddle_inference import (
    WRONG_LEGACY_PASSES,
    PaddleInference,
    build_config,
)
from paddleseg_ext.inference.runtime import RuntimeSpec, ShapeRange, TensorRtOptions

ONE_THREAD = RuntimeSpec("paddle", threads=1)
SHAPES = ShapeRange((1, 3, 32, 48), (2, 3, 64, 96), (2, 3, 64, 128))
LEGACY = Path(__file__).resolve().parents[2] / "data" / "paddle26_gate"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A convolution and a resize, exported; any batch, height and width."""
    import paddle

    class Network(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.conv = paddle.nn.Conv2D(3, 4, 3, stride=2, padding=1)

        def forward(self, images):
            features = self.conv(images)
            size = paddle.shape(images)[2:]
            return paddle.nn.functional.interpolate(features, size, mode="bilinear")

    folder = tmp_path_factory.mktemp("bundle")
    paddle.seed(0)
    network = Network()
    network.eval()
    spec = [paddle.static.InputSpec([None, 3, None, None], "float32")]
    static = paddle.jit.to_static(network, input_spec=spec, full_graph=True)
    paddle.jit.save(static, str(folder / "model"))
    return Bundle(
        deploy_file=folder / "deploy.yaml",
        model_file=folder / "model.json",
        params_file=folder / "model.pdiparams",
        transforms=[],
        input_shape=[-1, 3, -1, -1],
        output_op="none",
        manifest=None,
    )


def spec_of(onednn: bool) -> RuntimeSpec:
    return RuntimeSpec("paddle_onednn" if onednn else "paddle", threads=1)


def test_a_gpu_is_waited_for(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the clock stops; a simulated GPU, which has not finished when `run` returns."""
    import paddle

    backend = PaddleInference(bundle, ONE_THREAD)
    batch = np.zeros((1, 3, 16, 16), np.float32)
    assert backend.run_timed(batch)[1].synchronised  # a CPU has finished

    monkeypatch.setattr(backend, "spec", RuntimeSpec("paddle", device="gpu"))
    monkeypatch.setattr(paddle.device, "synchronize", lambda: time.sleep(0.2))
    times = backend.run_timed(batch)[1]
    assert times.synchronised and times.run_s > 0.2 > times.copy_out_s


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (RuntimeSpec("paddle", device="gpu"), "CPU build"),
        (RuntimeSpec("paddle", tensorrt=TensorRtOptions()), "--use_trt True needs --device gpu"),
        (RuntimeSpec("paddle", "fp16"), "--precision fp32"),
        (RuntimeSpec("paddle", "int8"), "--precision fp32"),
        (RuntimeSpec("paddle", "fp8"), "unknown 'fp8'"),
    ],
)
def test_refused_on_a_cpu_build(
    options: RuntimeSpec, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddleseg_ext.common.machine.has_gpu_build", lambda: False)
    monkeypatch.setattr(runtime, "has_gpu_build", lambda: False)
    with pytest.raises(UsageError) as caught:
        options.check()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (RuntimeSpec("paddle", "int8", "gpu"), "needs --use_trt True"),
        (RuntimeSpec("paddle_onednn", device="gpu"), "is for --device cpu"),
        (RuntimeSpec("paddle", "int8", "gpu", tensorrt=TensorRtOptions()), None),
        (RuntimeSpec("paddle", "fp16", "gpu"), None),
    ],
)
def test_options_on_a_gpu_build(
    options: RuntimeSpec, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddleseg_ext.common.machine.has_gpu_build", lambda: True)
    monkeypatch.setattr(runtime, "has_gpu_build", lambda: True)
    if message is None:
        options.check()
        return
    with pytest.raises(UsageError, match=message):
        options.check()


@pytest.mark.parametrize("onednn", [False, True])
def test_flags_reach_paddle(bundle: Bundle, onednn: bool) -> None:
    config = build_config(bundle, spec_of(onednn))
    assert config.mkldnn_enabled() is onednn
    assert config.cpu_math_library_num_threads() == 1
    assert config.new_ir_enabled() and not config.use_gpu()


@pytest.mark.skipif(not has_bf16(), reason="this CPU has no bfloat16")
def test_onednns_bf16_is_proven_by_its_kernels(bundle: Bundle) -> None:
    assert_bf16_is_proven(bundle, "paddle_onednn")


@pytest.mark.parametrize("onednn", [False, True])
def test_the_wrong_pass_is_deleted_from_legacy_graphs(onednn: bool) -> None:
    passes = PaddleInference(read_bundle(LEGACY), spec_of(onednn)).describe().details["passes"]
    assert any("onednn" in name or "mkldnn" in name for name in passes) is onednn
    assert not set(WRONG_LEGACY_PASSES) & set(passes)


def recorded_config():  # type: ignore[no-untyped-def]
    """Stands in for Paddle's `Config`, which on a CPU build refuses what is for GPUs.

    It knows the methods that Paddle's knows.
    """
    from paddle import inference

    real = inference.Config

    class RecordedConfig:
        def __init__(self, *files: str):
            self.files = files
            self.calls: dict[str, tuple] = {}

        def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
            assert hasattr(real, name), name

            def record(*positional: object, **named: object) -> None:
                self.calls[name] = (positional, named)

            return record

    return RecordedConfig


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("use_trt", [False, True])
def test_gpu_flags_become_calls(
    precision: str,
    use_trt: bool,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Recorded, not run: there is no GPU where these tests run."""
    from paddle import inference

    monkeypatch.setattr(inference, "Config", recorded_config())
    monkeypatch.setattr(tensorrt, "collect_shapes", lambda bundle, shapes, path: path.touch())
    trt = TensorRtOptions(SHAPES, min_subgraph_size=5, cache_dir=tmp_path)
    options = RuntimeSpec("paddle", precision, "gpu", tensorrt=trt if use_trt else None)
    legacy = read_bundle(LEGACY)
    config = build_config(legacy, options)
    calls = config.calls
    kinds = inference.PrecisionType
    kind = {"fp32": kinds.Float32, "fp16": kinds.Half, "int8": kinds.Int8}[precision]
    assert "disable_gpu" not in calls and "enable_mkldnn" not in calls
    if use_trt:
        asked = calls["enable_tensorrt_engine"][1]
        assert asked["precision_mode"] == kind and asked["use_static"] is True
        assert asked["min_subgraph_size"] == 5 and asked["max_batch_size"] == 2
        assert asked["use_calib_mode"] is (precision == "int8")
        file, at_runtime = calls["enable_tuned_tensorrt_dynamic_shape"][0]
        assert Path(file).is_file() and at_runtime is True
        graph, weights = map(Path, config.files)
        assert graph.parent == Path(file).parent and graph.parent.parent == tmp_path
        assert graph.read_bytes() == legacy.model_file.read_bytes()
        assert weights.read_bytes() == legacy.params_file.read_bytes()
    else:
        assert calls["enable_use_gpu"][0][2] == kind
        assert "enable_tensorrt_engine" not in calls


def test_a_graph_of_paddle_3_on_paddle_2(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    import paddle

    monkeypatch.setattr(paddle, "__version__", "2.6.2")
    with pytest.raises(UsageError, match=r"a graph of Paddle 3, and this is Paddle 2\.6\.2"):
        build_config(bundle, RuntimeSpec("paddle"))


@pytest.mark.parametrize("onednn", [False, True])
def test_runs_any_size_and_batch(bundle: Bundle, onednn: bool) -> None:
    import paddle

    backend = PaddleInference(bundle, spec_of(onednn))
    eager = paddle.jit.load(str(bundle.model_file.with_suffix("")))
    rng = np.random.default_rng(0)
    for shape in [(1, 3, 16, 24), (2, 3, 9, 31), (1, 3, 16, 24)]:
        batch = rng.standard_normal(shape).astype(np.float32)
        expected = eager(paddle.to_tensor(batch)).numpy()
        got = backend.run(batch)
        assert got.shape == (shape[0], 4, *shape[2:])
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("onednn", [False, True])
def test_a_graph_of_paddle_2_6_is_right_with_onednn_on(onednn: bool) -> None:
    backend = PaddleInference(read_bundle(LEGACY), spec_of(onednn))
    got = backend.run(np.load(LEGACY / "input.npy"))
    np.testing.assert_allclose(got, np.load(LEGACY / "expected.npy"), rtol=0, atol=1e-5)


def test_the_pass_that_is_deleted_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the test above."""
    monkeypatch.setattr(paddle_inference, "WRONG_LEGACY_PASSES", ())
    backend = PaddleInference(read_bundle(LEGACY), spec_of(True))
    got = backend.run(np.load(LEGACY / "input.npy"))
    assert np.abs(got - np.load(LEGACY / "expected.npy")).max() > 0.01


def test_describe_tells_what_runs(bundle: Bundle) -> None:
    backend = PaddleInference(bundle, spec_of(True))
    told = backend.describe()
    assert told.details["enable_mkldnn"] is True and told.cpu_threads == 1
    assert told.device == "cpu" and told.precision == "fp32"


def test_a_fixed_input_shape_is_held(bundle: Bundle) -> None:
    fixed = replace(bundle, input_shape=[1, 3, 16, 24])
    backend = PaddleInference(fixed, ONE_THREAD)
    assert backend.run(np.zeros((1, 3, 16, 24), np.float32)).shape == (1, 4, 16, 24)
    with pytest.raises(DataError, match=r"24x16 .* got 24x17"):
        backend.run(np.zeros((1, 3, 17, 24), np.float32))
    with pytest.raises(UsageError, match="--batch_size 1"):
        backend.run(np.zeros((2, 3, 16, 24), np.float32))


def test_a_smaller_batch_than_the_graph_takes(bundle: Bundle) -> None:
    batch = np.random.default_rng(0).normal(size=(1, 3, 16, 24)).astype(np.float32)
    alone = PaddleInference(bundle, ONE_THREAD).run(batch)
    backend = PaddleInference(replace(bundle, input_shape=[2, 3, 16, 24]), ONE_THREAD)
    np.testing.assert_array_equal(backend.run(batch), alone)


def test_a_graph_that_paddle_cannot_load(bundle: Bundle, tmp_path: Path) -> None:
    broken = tmp_path / "model.json"
    broken.write_text("{}")
    with pytest.raises(UsageError, match="Paddle cannot load them"):
        PaddleInference(replace(bundle, model_file=broken), ONE_THREAD)
    short = tmp_path / "model.pdiparams"
    short.write_bytes(bundle.params_file.read_bytes()[:10])
    with pytest.raises(UsageError, match=r"model\.pdiparams"):
        PaddleInference(replace(bundle, params_file=short), ONE_THREAD)
