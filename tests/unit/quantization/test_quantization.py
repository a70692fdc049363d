"""INT8 by itself: ranges from images, the costly layers named, nothing claimed of Paddle."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddleseg_ext.commands.quantize import main
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.bundle import Bundle, bundle_for_onnx
from paddleseg_ext.inference.engines import openvino_runtime
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.engines.table import open_engine
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.quantization import quantize as module
from paddleseg_ext.quantization.graph import QuantizableGraph, ValueCounts
from paddleseg_ext.quantization.quantize import (
    QuantizeOptions,
    Sensitivity,
    check_save_dir,
    choose_float,
    choose_percentile,
    divide,
    keep_within_budget,
    needs_no_ranking,
    rank_layers,
)
from paddleseg_ext.scoring.metrics import relative_error
from paddleseg_ext.scoring.verdict import Budget

onnx = pytest.importorskip("onnx")


def opened(bundle: Bundle, name: str) -> Engine:
    return open_engine(bundle, RuntimeSpec(name, threads=1))


def write_convolutions(path: Path) -> Path:
    """3 -> 8 -> 8 -> 8 -> 5 channels; one channel stretches the range between the first two."""
    helper, tensors = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(0)
    widths = [(8, 3), (8, 8), (8, 8), (5, 8)]
    weights = [rng.standard_normal((*shape, 3, 3)).astype(np.float32) for shape in widths]
    weights[0][0] *= 300  # one channel's range is the range of the whole tensor
    weights[1][:, 0] /= 300
    nodes, tensor = [], "images"
    for i in range(4):
        nodes.append(
            helper.make_node("Conv", [tensor, f"w{i}"], [f"c{i}"], name=f"conv{i}", pads=[1] * 4)
        )
        tensor = f"c{i}"
        if i < 3:
            nodes.append(helper.make_node("Relu", [tensor], [f"r{i}"], name=f"relu{i}"))
            tensor = f"r{i}"
    graph = helper.make_graph(
        nodes,
        "four",
        [helper.make_tensor_value_info("images", tensors.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("c3", tensors.FLOAT, ["N", 5, "H", "W"])],
        [onnx.numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundle_for_onnx(write_convolutions(tmp_path / "four.onnx"))


def test_constants_that_nothing_reads_are_dropped_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime warns of each on standard error, in some 50 lines for a network."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(2)  # as it starts
    model = onnx.load(str(write_convolutions(tmp_path / "four.onnx")))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(3), "unread"))
    onnx.save(model, str(tmp_path / "with.onnx"))
    QuantizableGraph(tmp_path / "with.onnx", tmp_path)
    assert "unread" not in capfd.readouterr().err


@pytest.fixture
def batches() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    sizes = [(16, 24), (12, 20)]
    return [rng.standard_normal((1, 3, *size)).astype(np.float32) for size in sizes]


@pytest.fixture
def graph(bundle: Bundle, batches: list[np.ndarray], tmp_path: Path) -> QuantizableGraph:
    (tmp_path / "work").mkdir()
    made = QuantizableGraph(bundle.onnx_file(), tmp_path / "work")
    made.calibrate(batches)
    return made


@pytest.mark.parametrize("shape", [(1, 3, 40, 50), (2, 1000), (1, 1, 1, 1)])
@pytest.mark.parametrize("percentile", [100.0, 99.99, 99.0, 90.0])
def test_a_range_is_that_of_the_sorted_values(shape: tuple[int, ...], percentile: float) -> None:
    """Against NumPy's quantiles of all values at once; a bin is 1/128 wide."""
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal(shape).astype(np.float32) * size for size in (1e-6, 1, 300)]
    counts = ValueCounts()
    for part in parts:
        counts.add(part)
    low, high = counts.range_of(percentile)
    values = np.sort(np.concatenate([part.ravel() for part in parts]))
    left_out = int(len(values) * (100 - percentile) / 200)
    assert low == pytest.approx(values[left_out], rel=1 / 64)
    assert high == pytest.approx(values[-1 - left_out], rel=1 / 64)
    assert low <= values[left_out] and high >= values[-1 - left_out]  # never less than asked for
    if percentile == 100:
        assert (low, high) == (values[0], values[-1])


def test_a_graph_that_takes_bytes_has_the_ranges_of_its_numbers(
    batches: list[np.ndarray], tmp_path: Path
) -> None:
    model = onnx.load(str(write_convolutions(tmp_path / "four.onnx")))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    cast = onnx.helper.make_node("Cast", ["images"], ["numbers"], to=onnx.TensorProto.FLOAT)
    model.graph.node[0].input[0] = "numbers"
    model.graph.node.insert(0, cast)
    onnx.save(model, str(tmp_path / "four.onnx"))
    (tmp_path / "work").mkdir()
    made = QuantizableGraph(tmp_path / "four.onnx", tmp_path / "work")
    made.calibrate([np.full((1, 3, 16, 24), 200, np.uint8), np.full((1, 3, 12, 20), 3, np.uint8)])
    made.write(tmp_path / "int8.onnx", ["conv0"])
    written = onnx.load(str(tmp_path / "int8.onnx")).graph
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in written.initializer}
    (reader,) = (node for node in written.node if "numbers" in node.input)
    assert tensors[reader.input[1]] == pytest.approx(200 / 255)


def test_ranges_without_the_farthest_values_are_narrower(
    bundle: Bundle, graph: QuantizableGraph, batches: list[np.ndarray], tmp_path: Path
) -> None:
    def first_scale() -> float:
        graph.write(tmp_path / "int8.onnx", ["conv0"])
        written = onnx.load(str(tmp_path / "int8.onnx")).graph
        tensors = {t.name: onnx.numpy_helper.to_array(t) for t in written.initializer}
        (reader,) = (node for node in written.node if "images" in node.input)
        return float(tensors[reader.input[1]])

    values = np.concatenate([batch.ravel() for batch in batches])
    assert first_scale() == pytest.approx((values.max() - values.min()) / 255, rel=1e-5)
    graph.take_percentile(90)
    low, high = np.quantile(values, [0.05, 0.95])
    assert first_scale() == pytest.approx((high - low) / 255, rel=0.02)


def test_auto_takes_the_percentile_by_which_the_fewest_pixels_change(
    bundle: Bundle,
    graph: QuantizableGraph,
    batches: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With values up to 300 times the others' in one image, narrower ranges are the better ones."""
    graph.calibrate([*batches, batches[0] * 300])
    monkeypatch.setattr(module, "PERCENTILES", (100.0, 70.0, 1.0))
    options = QuantizeOptions(cpu_threads=1)
    assert choose_percentile(graph, bundle, batches, options)[0] == 70.0
    given = QuantizeOptions(cpu_threads=1, percentile=99.9)
    assert choose_percentile(graph, bundle, batches, given)[0] == 99.9


@pytest.mark.parametrize(
    ("given", "changed", "reason"),
    [
        ({}, 0.03, "3.00% of the pixels change class, and up to 4.00% may"),
        ({}, 0.05, ""),
        ({"sensitivity": True}, 0.03, ""),
        ({"sensitivity": False}, 0.05, "--sensitivity False"),
        ({"keep_float": 0}, 0.05, "--keep_float 0"),
        ({"keep_float": 2}, 0.03, ""),
        ({"budget": Budget()}, 0.03, ""),
    ],
)
def test_layers_are_measured_where_the_budget_needs_it(
    given: dict[str, Any], changed: float, reason: str
) -> None:
    options = QuantizeOptions(**({"budget": Budget(0.05)} | given))
    assert needs_no_ranking(options, changed) == reason


@pytest.mark.parametrize("percentile", [50.0, 100.1, float("nan"), "most"])
def test_a_percentile_that_is_none_is_refused(percentile: float | str) -> None:
    with pytest.raises(UsageError, match="--percentile: 'auto' or a number from 90 to 100"):
        QuantizeOptions(percentile=percentile)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_int8_kernels_run_and_answer_alike(
    bundle: Bundle, graph: QuantizableGraph, batches: list[np.ndarray], name: str, tmp_path: Path
) -> None:
    target = tmp_path / "int8.onnx"
    graph.write(target, ["conv2"])
    backend = opened(bundle.with_onnx(target), name)
    told = backend.describe()
    assert told.precision == "int8" and told.int8_kernels >= 1
    assert RuntimeSpec(name, "int8", threads=1).shortfall(told) == ""
    assert "fp32 was asked for" in RuntimeSpec(name, threads=1).shortfall(told)
    expected = opened(bundle, "onnxruntime").run(batches[0])
    assert 0 < relative_error(backend.run(batches[0]), expected) < 0.05


def test_a_new_size_is_compiled_on_the_clock(
    bundle: Bundle,
    graph: QuantizableGraph,
    batches: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    graph.write(tmp_path / "int8.onnx", ["conv2"])
    compiled = openvino_runtime._compile

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.2)
        return compiled(*arguments)

    monkeypatch.setattr(openvino_runtime, "_compile", slowly)
    backend = opened(bundle.with_onnx(tmp_path / "int8.onnx"), "openvino")
    times = [backend.run_timed(batch)[1] for batch in (*batches, *batches)]
    assert [time.run_s > 0.2 for time in times] == [True, True, False, False]
    assert all(time.copy_in_s < 0.2 for time in times)


def test_scores_are_not_rounded(bundle: Bundle, graph: QuantizableGraph, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    graph.write(target, graph.layers)
    written = onnx.load(str(target)).graph
    maker = {output: node for node in written.node for output in node.output}
    last = maker[written.output[0].name]
    assert last.op_type == "Conv"
    assert maker[last.input[0]].op_type == "DequantizeLinear"  # it reads INT8 all the same
    noise = np.random.default_rng(2).standard_normal((1, 3, 32, 32)).astype(np.float32)
    output = opened(bundle.with_onnx(target), "onnxruntime").run(noise)
    assert len(np.unique(output)) > 256


@pytest.mark.parametrize("layers", [["conv0"], ["conv1", "conv2"], ["conv0", "conv1", "conv2"]])
def test_a_relu_is_rounded_once_and_from_zero(
    bundle: Bundle,
    graph: QuantizableGraph,
    batches: list[np.ndarray],
    layers: list[str],
    tmp_path: Path,
) -> None:
    graph.write(tmp_path / "int8.onnx", layers)
    written = onnx.load(str(tmp_path / "int8.onnx")).graph
    maker = {output: node for node in written.node for output in node.output}
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in written.initializer}
    largest = largest_of_each_relu(bundle, batches)
    for number in range(3):
        (relu,) = (node for node in written.node if node.name == f"relu{number}")
        assert maker[relu.input[0]].op_type == "Conv"
        (reader,) = (node for node in written.node if relu.output[0] in node.input)
        follows = f"conv{number + 1}" in layers
        assert (reader.op_type == "QuantizeLinear") == (f"conv{number}" in layers or follows)
        if reader.op_type == "QuantizeLinear":
            assert tensors[reader.input[2]] == 0
            assert tensors[reader.input[1]] * 255 == pytest.approx(largest[number], rel=0.01)
    unused = set(tensors) - {name for node in written.node for name in node.input}
    assert not unused


def largest_of_each_relu(bundle: Bundle, batches: list[np.ndarray]) -> list[float]:
    """In float, over the batches."""
    import onnxruntime

    model = onnx.load(str(bundle.onnx_file()))
    names = ["r0", "r1", "r2"]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    runs = [session.run(names, {"images": batch}) for batch in batches]
    return [max(float(run[i].max()) for run in runs) for i in range(3)]


def test_what_a_relu_always_drops_is_no_fault(tmp_path: Path, batches: list[np.ndarray]) -> None:
    """A layer whose values are all negative: no step is left for positive ones."""
    model = onnx.load(str(write_convolutions(tmp_path / "four.onnx")))
    weight = model.graph.initializer[1]
    values = -np.abs(onnx.numpy_helper.to_array(weight))
    weight.CopyFrom(onnx.numpy_helper.from_array(values, "w1"))
    onnx.save(model, str(tmp_path / "four.onnx"))
    (tmp_path / "work").mkdir()
    made = QuantizableGraph(tmp_path / "four.onnx", tmp_path / "work")
    made.calibrate(batches)
    made.write(tmp_path / "int8.onnx", ["conv1"])
    bundle = bundle_for_onnx(tmp_path / "four.onnx")
    expected = opened(bundle, "onnxruntime").run(batches[0])
    for name in ("onnxruntime", "openvino"):
        got = opened(bundle.with_onnx(tmp_path / "int8.onnx"), name).run(batches[0])
        np.testing.assert_array_equal(got, expected)


def test_the_layers_that_cost_most_come_first(
    bundle: Bundle,
    graph: QuantizableGraph,
    batches: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = []

    def watched(bundle: Bundle, spec: RuntimeSpec) -> Engine:
        threads.append(spec.threads)
        return open_engine(bundle, spec)

    monkeypatch.setattr(module, "open_engine", watched)
    options = QuantizeOptions(["onnxruntime", "openvino"], cpu_threads=1)
    assert graph.layers == ["conv0", "conv1", "conv2", "conv3"]
    ranking = rank_layers(graph, bundle, batches, options, tmp_path)
    assert set(threads) == {1} and len(threads) == 9
    # The others read or write the stretched range.
    assert {ranking[2].layer, ranking[3].layer} == {"conv2", "conv3"}
    assert ranking[1].error > 3 * ranking[2].error > 0
    assert 0 <= ranking[-1].changed_pixels <= ranking[0].changed_pixels <= 1


@pytest.mark.parametrize(
    ("keep_float", "kept"), [("auto", ["a", "b"]), (0, []), (1, ["a"]), (9, ["a", "b", "c"])]
)
def test_the_worst_layers_stay_in_float(keep_float: int | str, kept: list[str]) -> None:
    ranking = [Sensitivity("a", 0.3, 0.1), Sensitivity("b", 0.021, 0.1), Sensitivity("c", 0.019, 0)]
    assert choose_float(ranking, keep_float) == kept


@pytest.mark.parametrize("engines", [["onnxruntime"], ["onnxruntime", "openvino"]])
def test_layers_that_add_up_stay_in_float_until_the_budget_is_met(
    engines: list[str], bundle: Bundle, graph: QuantizableGraph, batches: list[np.ndarray]
) -> None:
    """The least steps that meet it; where none does, as if nothing was asked for."""
    expected = [opened(bundle, "onnxruntime").run(batch).argmax(1) for batch in batches]

    def changed(layers: list[str], name: str) -> float:
        graph.write(graph.folder / "own.onnx", layers)
        engine = opened(bundle.with_onnx(graph.folder / "own.onnx"), name)
        pairs = zip(batches, expected, strict=True)
        return float(np.mean([(engine.run(batch).argmax(1) != e).mean() for batch, e in pairs]))

    options = QuantizeOptions(engines, cpu_threads=1)
    order = ["conv1", "conv0", "conv3", "conv2"]
    ranking = [Sensitivity(name, 0.01, 0.0) for name in order]
    costs = [
        max(changed([n for n in order if n not in order[:number]], name) for name in engines)
        for number in range(4)
    ]
    assert costs[0] > costs[1] > costs[2] > 0
    for allowed, number in ((costs[0], 0), (costs[1], 1), (costs[2], 2)):
        given = replace(options, budget=Budget(allowed / module.SHARE_OF_BUDGET * 1.001))
        assert keep_within_budget(graph, ranking, bundle, batches, given) == order[:number]
    impossible = replace(options, budget=Budget(1e-9))
    assert keep_within_budget(graph, ranking, bundle, batches, impossible) == []


def test_a_graph_that_cannot_be_read(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    with pytest.raises(CheckFailed, match="made ready"):
        QuantizableGraph(broken, tmp_path)


def test_nothing_of_others_is_replaced(bundle: Bundle, tmp_path: Path) -> None:
    """The new bundle takes the place of a folder: an empty one, or an earlier result."""
    own = bundle.deploy_file.parent
    for folder in (own, own.parent, own / "..", Path("/")):
        with pytest.raises(UsageError, match="another folder than the bundle's own, or one around"):
            check_save_dir(folder, bundle)
    target = tmp_path / "target"
    check_save_dir(target, bundle)
    target.mkdir()
    check_save_dir(target, bundle)
    for name in ("model.json", "deploy.yaml"):  # a bundle, and not one of ours
        (target / name).write_text("x")
        with pytest.raises(UsageError, match=r"has no quantization\.json"):
            check_save_dir(target, bundle)
    for name in ("quantization.json", "four.onnx", "model_int8.onnx"):
        (target / name).write_text("x")
    check_save_dir(target, bundle)
    (target / "label_maps").mkdir()
    with pytest.raises(UsageError, match="holds 'label_maps'") as caught:
        check_save_dir(target, bundle)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="is a file"):
        check_save_dir(target / "model.json", bundle)


def test_calibration_and_verdict_are_apart_and_repeatable() -> None:
    samples = [Sample(Path(f"{i}.png"), None, str(i)) for i in range(10)]
    calibration, judged = divide(samples, 4, 3, seed=5)
    assert len(calibration) == 4 and len(judged) == 3
    assert not {s.name for s in calibration} & {s.name for s in judged}
    assert divide(samples, 4, 3, seed=5) == (calibration, judged)
    assert divide(samples, 4, 3, seed=6)[0] != calibration


def test_a_short_list_serves_for_both(capsys: pytest.CaptureFixture) -> None:
    samples = [Sample(Path(f"{i}.png"), None, str(i)) for i in range(3)]
    calibration, judged = divide(samples, 8, 2, seed=0)
    assert len(calibration) == 3 and len(judged) == 2
    assert "the same ones" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--backend", "paddle"], "no INT8 on a CPU that runs"),
        (["--keep_float", "2", "--sensitivity", "False"], "needs --sensitivity True"),
        (["--sensitivity", "False"], "does not exist"),
        (["--percentile", "50"], "a number from 90 to 100 is expected, got 50.0"),
        ([], "does not exist"),
    ],
)
def test_wrong_use(flags: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        main(["--config", str(tmp_path / "deploy.yaml"), "--data", "x.list", *flags])
    assert "\n" not in str(caught.value)
