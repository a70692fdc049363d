"""Engines by name: one answer from all, and each engine's own report of what runs."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engines import assert_bf16_is_proven, convolved, write_onnx

from paddleseg_ext.common import machine
from paddleseg_ext.common.errors import DataError, UsageError
from paddleseg_ext.common.machine import STARTING_CORES, cores_for, has_bf16
from paddleseg_ext.inference import runtime
from paddleseg_ext.inference.bundle import Bundle, bundle_for_onnx, read_bundle
from paddleseg_ext.inference.engines import onednn_trace, openvino_runtime
from paddleseg_ext.inference.engines.base import (
    Engine,
    GraphEngine,
    RunTimes,
    as_input,
    check_shape,
)
from paddleseg_ext.inference.engines.paddle_inference import CALIBRATING
from paddleseg_ext.inference.engines.table import open_engine
from paddleseg_ext.inference.runtime import (
    RuntimeReport,
    RuntimeSpec,
    TensorRtOptions,
    known_runtimes,
)

LEGACY = Path(__file__).resolve().parents[2] / "data" / "paddle26_gate"
ONNX_ENGINES = ("onnxruntime", "openvino")


def opened(bundle: Bundle, name: str, **settings) -> Engine:  # type: ignore[no-untyped-def]
    return open_engine(bundle, RuntimeSpec(name, **settings))


@pytest.fixture(scope="module")
def onnx_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle_for_onnx(write_onnx(tmp_path_factory.mktemp("onnx") / "elsewhere.onnx"))


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_a_graph_from_elsewhere_runs_at_any_size(onnx_bundle: Bundle, name: str) -> None:
    backend = opened(onnx_bundle, name, threads=1)
    for shape in [(1, 3, 16, 24), (2, 3, 9, 31), (1, 3, 16, 24)]:
        batch = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        got = backend.run(batch)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, convolved(batch), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_an_argmax_that_keeps_its_axis(name: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = write_onnx(tmp_path / "elsewhere.onnx")
    model = onnx.load(str(path))
    model.graph.node.append(onnx.helper.make_node("ArgMax", ["y"], ["ids"], axis=1, keepdims=1))
    ids = onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["N", 1, "H", "W"])
    model.graph.output[0].CopyFrom(ids)
    onnx.save(model, str(path))
    batch = np.random.default_rng(0).standard_normal((2, 3, 9, 31)).astype(np.float32)
    got = opened(bundle_for_onnx(path, [], "argmax"), name, threads=1).run(batch)
    np.testing.assert_array_equal(got, convolved(batch).argmax(axis=1))


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_outputs_of_two_runs_are_apart(onnx_bundle: Bundle, name: str) -> None:
    backend = opened(onnx_bundle, name, threads=1)
    ones = backend.run(np.ones((1, 3, 8, 8), np.float32))
    kept = ones.copy()
    backend.run(np.zeros((1, 3, 8, 8), np.float32))
    np.testing.assert_array_equal(ones, kept)


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_what_runs_is_told_by_the_runtime(onnx_bundle: Bundle, name: str) -> None:
    told = opened(onnx_bundle, name, threads=2).describe()
    assert told.name == name and told.device == "cpu" and told.cpu_threads == 2
    assert told.precision == "fp32" and told.int8_kernels == 0
    assert any("Conv" in kernel for kernel in told.kernels)
    assert RuntimeSpec(name, threads=2).shortfall(told) == ""
    fallen = RuntimeSpec(name, threads=1).shortfall(told)
    assert fallen == "1 threads were asked for, and the runtime has 2"
    assert "no INT8 kernel" in RuntimeSpec(name, "int8").shortfall(told)
    fallen = RuntimeSpec("paddle_onednn").shortfall(told)
    assert fallen == f"paddle_onednn was asked for, and {name} runs"
    assert RuntimeReport.from_dict(told.to_dict()) == told


class Raising(GraphEngine):
    title = "Paddle"

    def __init__(self, error: Exception):
        bundle = Bundle(Path("d.yaml"), Path("m.json"), None, [], None, "none", None)
        super().__init__(bundle, RuntimeSpec("paddle"))
        self.error = error

    def _load(self, bundle: Bundle) -> None:
        pass

    def _compute(self, tensor: np.ndarray):  # type: ignore[no-untyped-def]
        raise self.error

    def describe(self) -> RuntimeReport:
        return RuntimeReport("raising")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            ValueError("C++ Traceback:\n\nInvalidArgumentError: no.\n  [Hint: x]"),
            "InvalidArgumentE",
        ),
        (RuntimeError("no such axis\nat here"), "no such axis;"),
    ],
)
def test_what_a_runtime_throws_is_one_line_with_the_file(error: Exception, told: str) -> None:
    """It is an error of this input alone: another size may run."""
    with pytest.raises(DataError) as raised:
        Raising(error).run(np.zeros((1, 3, 4, 5), np.float32))
    expected = f"m.json: Paddle cannot run it on an input of (1, 3, 4, 5): {told}"
    assert str(raised.value).startswith(expected)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("std::bad_alloc"),
        RuntimeError("x\nResourceExhaustedError: Fail to alloc memory of 8 size."),
        RuntimeError("Failed to allocate memory for requested buffer of size 8"),
    ],
)
def test_an_input_too_large_for_the_memory_says_its_size_and_a_remedy(error: Exception) -> None:
    expected = r"^m\.json: Paddle has not enough memory .* 5x4 \(width x height\): .*LimitLong"
    with pytest.raises(DataError, match=expected):
        Raising(error).run(np.zeros((1, 3, 4, 5), np.float32))


@pytest.mark.parametrize("shape", [(0,), (1, 0, 4, 5), (2, 3, 4, 5), (3, 4)])
def test_an_output_of_another_batch_is_refused(shape: tuple[int, ...]) -> None:
    """OpenVINO returns an empty array, without an error, where memory ends."""

    class Returning(Raising):
        def _compute(self, tensor: np.ndarray):  # type: ignore[no-untyped-def]
            return np.zeros(shape, np.float32), RunTimes(0.0, 0.0)

    words = "not enough memory" if 0 in shape else "its output has the shape"
    with pytest.raises(DataError, match=words):
        Returning(ValueError()).run(np.zeros((1, 3, 4, 5), np.float32))


def test_wrong_use_keeps_its_own_words() -> None:
    with pytest.raises(DataError, match=r"^too large$"):
        Raising(DataError("too large")).run(np.zeros((1, 3, 4, 5), np.float32))


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_streams_share_the_threads_and_may_run_at_once(onnx_bundle: Bundle, name: str) -> None:
    backend = opened(onnx_bundle, name, threads=2, streams=2)
    told = backend.describe()
    assert (told.streams, told.cpu_threads) == (2, 2)
    assert RuntimeSpec(name, threads=2).shortfall(told) == ""
    batches = [np.full((1, 3, 8, 8), value, np.float32) for value in range(20)]
    with ThreadPoolExecutor(2) as pool:
        for batch, got in zip(batches, pool.map(backend.run, batches), strict=True):
            np.testing.assert_allclose(got, convolved(batch), rtol=0, atol=1e-3)


OPENS_TWO_AND_INTERRUPTS = """
import gc, signal, sys
from pathlib import Path
from paddleseg_ext.inference.engines.table import open_engine
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.inference.bundle import bundle_for_onnx

# What a shell starts in the background ignores the signal, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
bundle = bundle_for_onnx(Path(sys.argv[2]))
spec = RuntimeSpec(sys.argv[1], threads=1)
opened = [open_engine(bundle, spec) for _ in range(2)]
while opened:
    del opened[0]  # first come, first gone
    gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_ctrl_c_works_after_backends_have_come_and_gone(tmp_path: Path, name: str) -> None:
    """In a process of its own: where it fails, it takes the process with it."""
    command = [sys.executable, "-c", OPENS_TWO_AND_INTERRUPTS, name]
    done = subprocess.run(
        [*command, write_onnx(tmp_path / "x.onnx")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted"), done.stderr


@pytest.mark.skipif(len(STARTING_CORES) < 2, reason="one core: nothing to bind to")
@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_threads_are_bound_only_where_that_is_asked_for(
    onnx_bundle: Bundle, name: str, pinned: bool
) -> None:
    backend = opened(onnx_bundle, name, threads=2, pinned=pinned)
    assert backend.describe().pinned is pinned
    assert os.sched_getaffinity(0) == STARTING_CORES  # the caller's stay its own


@pytest.mark.skipif(len(STARTING_CORES) < 2, reason="one core: nothing to bind to")
def test_onnx_runtimes_thread_is_on_the_core_that_it_was_given(onnx_bundle: Bundle) -> None:
    tasks = Path("/proc/self/task")
    before = set(tasks.iterdir())
    backend = opened(onnx_bundle, "onnxruntime", threads=2, pinned=True)
    new = set(tasks.iterdir()) - before
    assert cores_for(1) in [sorted(os.sched_getaffinity(int(thread.name))) for thread in new]
    del backend


@pytest.mark.parametrize("name", ["paddle", "paddle_onednn"])
def test_paddles_threads_are_not_bound(name: str) -> None:
    with pytest.raises(UsageError, match=r"--cpu_affinity True: .* --backend onnxruntime or openv"):
        opened(read_bundle(LEGACY), name, pinned=True)


def test_paddle_has_one_stream() -> None:
    with pytest.raises(UsageError, match="several streams need onnxruntime or openvino"):
        opened(read_bundle(LEGACY), "paddle", streams=2)


@pytest.mark.parametrize("name", [*ONNX_ENGINES, "paddle", "paddle_onednn"])
def test_a_timed_run_gives_the_output_of_a_run(onnx_bundle: Bundle, name: str) -> None:
    bundle = onnx_bundle if name in ONNX_ENGINES else read_bundle(LEGACY)
    backend = opened(bundle, name, threads=1)
    batch = np.random.default_rng(1).standard_normal((1, 3, 64, 64)).astype(np.float32)
    expected = backend.run(batch)
    started = time.perf_counter()
    got, times = backend.run_timed(batch)
    assert 0 < times.run_s <= times.total_s <= time.perf_counter() - started
    assert times.synchronised
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_openvino_is_always_told_its_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """By itself it takes bfloat16 where the CPU has it."""
    pytest.importorskip("openvino")
    monkeypatch.setattr(runtime, "has_bf16", lambda: True)
    monkeypatch.setattr(Bundle, "onnx_file", lambda bundle, precision: bundle.model_file)
    given = []
    monkeypatch.setattr(
        openvino_runtime, "_compile", lambda _, properties, size: given.append(properties)
    )
    bundle = bundle_for_onnx(write_onnx(tmp_path / "net.onnx"))
    opened(bundle, "openvino", precision=precision, threads=1)
    wanted = "bf16" if precision == "bf16" else "f32"
    assert [properties["INFERENCE_PRECISION_HINT"] for properties in given] == [wanted]


@pytest.mark.skipif(not has_bf16(), reason="this CPU has no bfloat16")
def test_openvinos_bf16_is_proven_by_its_kernels(onnx_bundle: Bundle) -> None:
    pytest.importorskip("openvino")
    assert_bf16_is_proven(onnx_bundle, "openvino")


@pytest.mark.parametrize("name", ["openvino_bf16", "paddle_onednn_bf16"])
def test_bf16_is_refused_where_it_would_be_slower(
    onnx_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    with pytest.raises(UsageError, match="bf16 needs a CPU with avx512_bf16 or amx_bf16") as caught:
        open_engine(onnx_bundle, RuntimeSpec.parse(name))
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    RuntimeSpec.parse(name).check()
    with pytest.raises(UsageError, match="returns no float32; export it with Paddle 3"):
        opened(read_bundle(LEGACY), "paddle_onednn", precision="bf16")


def test_openvino_that_fell_to_bfloat16_is_noticed(
    onnx_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the type that OpenVINO takes by itself where the CPU has it."""
    openvino = pytest.importorskip("openvino")
    compile_model = openvino.Core.compile_model

    def without_hint(core, model, device, properties):  # type: ignore[no-untyped-def]
        properties = properties | {"INFERENCE_PRECISION_HINT": "bf16"}
        return compile_model(core, model, device, properties)

    monkeypatch.setattr(openvino.Core, "compile_model", without_hint)
    told = opened(onnx_bundle, "openvino", threads=1).describe()
    if told.precision == "fp32":
        pytest.skip("this CPU has no bfloat16, and OpenVINO keeps fp32")
    assert RuntimeSpec("openvino").shortfall(told).startswith("fp32 was asked for")


GPU = RuntimeReport("paddle_inference", device="gpu", precision="fp16", tensorrt_engines=2)
TRT = TensorRtOptions()


@pytest.mark.parametrize(
    ("change", "asked", "said"),
    [
        ({}, {"precision": "fp16", "tensorrt": TRT}, ""),
        ({"tensorrt_engines": 0}, {"precision": "fp16"}, ""),
        ({"device": "cpu"}, {"precision": "fp16"}, "device gpu was asked for"),
        ({}, {"precision": "fp32"}, "fp32 was asked for, and it runs in fp16"),
        ({"precision": CALIBRATING}, {"precision": "int8"}, "runs in fp32, measuring"),
        ({"tensorrt_engines": 0}, {"precision": "fp16", "tensorrt": TRT}, "in an engine"),
    ],
)
def test_a_gpu_that_fell_back_is_reported(change: dict, asked: dict, said: str) -> None:
    missing = RuntimeSpec("paddle", device="gpu", **asked).shortfall(replace(GPU, **change))
    assert said in missing and bool(missing) is bool(said)


@pytest.mark.parametrize("name", ["paddle", "paddle_onednn"])
def test_onednn_kernels_are_seen(name: str) -> None:
    told = opened(read_bundle(LEGACY), name, threads=1).describe()
    assert bool(told.kernels) is (name == "paddle_onednn")
    assert RuntimeSpec(name).shortfall(told) == ""
    other = "paddle" if name == "paddle_onednn" else "paddle_onednn"
    assert "oneDNN was" in RuntimeSpec(other).shortfall(told)


def test_nothing_is_claimed_where_the_log_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn_trace, "MAPS", "/nowhere")
    told = opened(read_bundle(LEGACY), "paddle_onednn", threads=1).describe()
    assert "kernels are unknown" in RuntimeSpec("paddle_onednn").shortfall(told)


@pytest.mark.parametrize(
    "lines",
    [
        [
            "onednn_verbose,v1,primitive,exec,cpu,convolution,brg:avx512,forward,"
            "src:f32:a:blocked:acdb::f0 wei:f32:a,,,mb1,0.3",
            "onednn_verbose,v1,primitive,exec,cpu,reorder,jit:uni,undef,src:f32:a dst:s8:a,,,1,0.1",
        ],
        [
            "onednn_verbose,info,cpu,runtime:OpenMP,nthr:1",
            "onednn_verbose,exec,cpu,convolution,brg:avx512,forward,"
            "src_f32::blocked:acdb::f0 wei_f32::blocked,,,mb1,0.3",
            "onednn_verbose,exec,cpu,reorder,jit:uni,undef,src_f32::a dst_s8::a,,,1,0.1",
        ],
    ],
    ids=["Paddle 3", "Paddle 2.6"],
)
def test_the_log_of_both_versions_is_read(lines: list[str]) -> None:
    found = onednn_trace._parse(lines)
    assert found.kernels == {"convolution brg:avx512": 1, "reorder jit:uni": 1}
    assert found.precisions == {"fp32": 1}


def test_other_output_comes_through_a_trace(capfd: pytest.CaptureFixture) -> None:
    backend = opened(read_bundle(LEGACY), "paddle_onednn", threads=1)
    batch = np.load(LEGACY / "input.npy")

    def run_and_talk() -> None:
        backend.run(batch)
        print("hello", flush=True)

    assert onednn_trace.trace(run_and_talk).precisions["fp32"] > 0
    assert capfd.readouterr().out.strip() == "hello"


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_a_package_that_is_not_installed(
    onnx_bundle: Bundle, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"pip install 'paddleseg_ext\[{name}\]'"):
        opened(onnx_bundle, name)


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_a_file_that_is_no_graph(tmp_path: Path, name: str) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(UsageError, match=r"broken\.onnx: .* cannot") as caught:
        opened(bundle_for_onnx(path), name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_a_size_that_the_graph_does_not_take(tmp_path: Path, name: str) -> None:
    path = write_onnx(tmp_path / "fixed.onnx", (1, 3, 16, 24))
    backend = opened(bundle_for_onnx(path), name, threads=1)
    with pytest.raises(DataError, match=r"24x16 .* got 24x17"):
        backend.run(np.zeros((1, 3, 17, 24), np.float32))
    with pytest.raises(UsageError, match="--batch_size 1"):
        backend.run(np.zeros((2, 3, 16, 24), np.float32))


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_a_smaller_batch_than_the_graph_takes(tmp_path: Path, name: str) -> None:
    """The rest of a folder, or what is left of a batch beside an image that cannot be read."""
    path = write_onnx(tmp_path / "fixed.onnx", (3, 3, 16, 24))
    backend = opened(bundle_for_onnx(path), name, threads=1)
    for number in (1, 2, 3):
        batch = np.random.default_rng(number).normal(size=(number, 3, 16, 24)).astype(np.float32)
        np.testing.assert_allclose(backend.run(batch), convolved(batch), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_a_graph_that_takes_bytes(tmp_path: Path, name: str) -> None:
    path = write_onnx(tmp_path / "bytes.onnx", input_type="UINT8")
    bundle = replace(bundle_for_onnx(path), input_dtype="uint8")
    backend = opened(bundle, name, threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8), dtype=np.uint8)
    expected = convolved(pixels.astype(np.float32))
    for batch in (pixels, pixels.astype(np.float32)):
        np.testing.assert_allclose(backend.run(batch), expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0])
def test_bytes_are_not_made_of_what_is_none(value: float) -> None:
    with pytest.raises(DataError, match="leave Normalize out"):
        as_input(np.full((1, 3, 2, 2), value, np.float32), "uint8")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("openvin", {}, r"did you mean 'openvino'"),
        ("onnxruntime", {"precision": "int9"}, "unknown 'int9'"),
        ("openvino", {"device": "gpu"}, "use --backend paddle or onnxruntime_cuda for a GPU"),
        ("onnxruntime", {"device": "gpu"}, "onnxruntime_cuda: onnxruntime-gpu is not installed"),
        ("openvino", {"precision": "fp16"}, "fp32 or bf16 or int8"),
        ("openvino", {"precision": "int8"}, "paddleseg-ext quantize"),
        ("onnxruntime", {"precision": "bf16"}, "fp32 or int8, got bf16"),
        ("paddle", {"precision": "bf16"}, "--backend paddle_onednn_bf16"),
        ("paddle", {}, "ONNX graph; run it with --backend onnxruntime"),
    ],
)
def test_what_cannot_be_opened(onnx_bundle: Bundle, name: str, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        opened(onnx_bundle, name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_a_bundle_without_onnx_says_how_to_get_it(name: str) -> None:
    with pytest.raises(UsageError, match="--onnx True"):
        opened(read_bundle(LEGACY), name)


def test_every_name_is_parsed_and_spelled_alike() -> None:
    for name, spec in known_runtimes().items():
        assert RuntimeSpec.parse(name) == spec and spec.name == name
    assert RuntimeSpec.parse("openvino_int8", threads=2) == RuntimeSpec(
        "openvino", "int8", threads=2
    )
    on_gpu = RuntimeSpec.parse("paddle_gpu_fp16")
    assert (on_gpu.engine, on_gpu.device, on_gpu.precision) == ("paddle", "gpu", "fp16")
    assert RuntimeSpec.parse("paddle_trt").tensorrt == TensorRtOptions()
    assert {"eager", "static", "paddle", "paddle_onednn"} <= known_runtimes().keys()
    assert openvino_runtime.PRECISIONS["u8"] == "int8"


@pytest.mark.parametrize(
    ("name", "message"),
    [("openvin_int8", "did you mean 'openvino_int8'"), ("paddle_int8", "has no INT8 on a CPU")],
)
def test_names_that_are_no_runtime(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RuntimeSpec.parse(name)


def test_openvino_keeps_a_bounded_number_of_prepared_layers(
    onnx_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default a service that is sent images of all sizes grows until it is killed."""
    pytest.importorskip("openvino")
    from paddleseg_ext.inference.engines import base, openvino_runtime

    given = {}
    compile_graph = openvino_runtime._compile

    def compile_and_note(model: object, properties: dict, size_hw: object) -> object:
        given.update(properties)
        return compile_graph(model, properties, size_hw)

    monkeypatch.setattr(openvino_runtime, "_compile", compile_and_note)
    engine = opened(onnx_bundle, "openvino")
    assert given["CPU_RUNTIME_CACHE_CAPACITY"] == base.MOST_LAYERS
    engine.close()


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        (4, r"1 \(grey\) or 3 \(RGB\) is expected, got 4: .* of 3 input channels$"),
        (1, r"takes 1 channels, got 3; .* with input_shape: \[-1, 1, -1, -1\]$"),
    ],
)
def test_channels_that_images_do_not_have(channels: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_shape([None, channels, None, None], (1, 3, 64, 64))
