"""The first layer that differs, in a small graph."""

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from paddleseg_ext.inference.bundle import Bundle, bundle_for_onnx  # noqa: E402
from paddleseg_ext.inference.runtime import RuntimeSpec  # noqa: E402
from paddleseg_ext.parity import layers  # noqa: E402
from paddleseg_ext.parity.layers import (  # noqa: E402
    LayerFinder,
    OnnxGraph,
    difference_of,
    first_layer_between,
    first_layer_in,
    matched,
)
from tests.planted_faults import faults_of, set_attribute  # noqa: E402

RNG = np.random.default_rng(0)
IMAGE = RNG.standard_normal((1, 3, 16, 24)).astype(np.float32)


def tensor(name: str, *shape: int) -> object:
    return numpy_helper.from_array(RNG.standard_normal(shape).astype(np.float32), name)


def small_graph() -> object:
    """Two branches that meet: names of tensors are those of their layers."""
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "w1"], ["conv1"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["conv1", "s", "b", "m", "v"], ["norm"]),
        node("Relu", ["norm"], ["relu"]),
        node("MaxPool", ["relu"], ["pool"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", ["pool", "w2"], ["conv2"], pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", ["pool"], ["mean"]),
        node("Sigmoid", ["mean"], ["gate"]),
        node("Mul", ["conv2", "gate"], ["weighted"]),
        node("Resize", ["weighted", "", "scales"], ["up"], mode="linear"),
        node("Concat", ["relu", "up"], ["both"], axis=1),
        node("Conv", ["both", "w3"], ["logits"]),
    ]
    weights = [
        tensor("w1", 8, 3, 3, 3),
        tensor("w2", 8, 8, 3, 3),
        tensor("w3", 5, 16, 1, 1),
        *(tensor(name, 8) for name in "sbm"),
        numpy_helper.from_array(np.abs(RNG.standard_normal(8).astype(np.float32)) + 1, "v"),
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "small",
        [value("image", TensorProto.FLOAT, [1, 3, 16, 24])],
        [value("logits", TensorProto.FLOAT, [1, 5, 16, 24])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


MODEL = small_graph()
FAULTS = {fault.name: fault for fault in faults_of(MODEL)}
TEXTS = {
    "Conv weight": "its weights differ in 57 of 576 values",
    "Conv padding": "its pads is [2, 1, 0, 1] instead of [1, 1, 1, 1]",
    "BatchNormalization epsilon": "its epsilon is 0.5 instead of not set",
    "Resize interpolation": "its mode is nearest instead of linear",
    "Concat order": "its inputs come in another order",
    "Mul operator": "it is a Add instead",
}


@pytest.mark.parametrize("at_a_time", [1, 2, 1000])
def test_every_fault_is_placed(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_at_a_time", lambda _: at_a_time)
    assert len(FAULTS) == 12
    for name, fault in FAULTS.items():
        found = first_layer_between(OnnxGraph(fault.model), OnnxGraph(MODEL), IMAGE)
        assert found is not None and found.output == fault.output, name
        assert TEXTS.get(name, "") in found.text, found.text
        assert found.text.startswith(f"layer {found.number} of 11, {found.kind}")


def test_equal_graphs_and_runtimes_are_no_alarm() -> None:
    assert first_layer_between(OnnxGraph(MODEL), OnnxGraph(MODEL), IMAGE) is None
    pytest.importorskip("openvino")
    assert first_layer_in(OnnxGraph(MODEL), IMAGE, "openvino") is None


def test_layers_of_other_names_correspond_by_their_order() -> None:
    renamed = onnx.ModelProto()
    renamed.CopyFrom(FAULTS["Conv weight"].model)
    for node in renamed.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = f"x_{name}" if name and name != "image" else name
    for each in (*renamed.graph.initializer, *renamed.graph.output):
        each.name = f"x_{each.name}"
    assert matched(OnnxGraph(MODEL), OnnxGraph(renamed))["pool"] == "x_pool"
    found = first_layer_between(OnnxGraph(renamed), OnnxGraph(MODEL), IMAGE)
    assert found is not None and found.output == FAULTS["Conv weight"].output


def test_a_layer_that_is_left_out_is_named() -> None:
    shorter = onnx.ModelProto()
    shorter.CopyFrom(MODEL)
    del shorter.graph.node[2]  # the ReLU
    for node in shorter.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = "norm" if name == "relu" else name
    found = first_layer_between(OnnxGraph(shorter), OnnxGraph(MODEL), IMAGE)
    assert found is not None and (found.output, found.kind) == ("relu", "Relu")
    assert found.text.endswith("it is missing in the graph")


def test_a_runtime_that_computes_a_layer_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    right = layers.RUNTIMES[layers.PLAIN]

    def wrong(content: bytes, name: str, image: np.ndarray) -> list[np.ndarray]:
        model = onnx.load_from_string(content)
        for node in model.graph.node:
            node.op_type = "HardSigmoid" if node.op_type == "Sigmoid" else node.op_type
        return right(model.SerializeToString(), name, image)

    monkeypatch.setitem(layers.RUNTIMES, "openvino", wrong)
    found = first_layer_in(OnnxGraph(MODEL), IMAGE, "openvino")
    assert found is not None and found.output == "gate"
    assert "its output differs by up to" in found.text


def test_a_fault_that_shows_only_while_layers_are_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong from the gate on, unless several tensors are asked for at once."""
    right = layers.RUNTIMES[layers.PLAIN]

    def wrong(content: bytes, name: str, image: np.ndarray) -> list[np.ndarray]:
        model = onnx.load_from_string(content)
        for node in model.graph.node if len(model.graph.output) == 1 else ():
            node.op_type = "HardSigmoid" if node.op_type == "Sigmoid" else node.op_type
        return right(model.SerializeToString(), name, image)

    monkeypatch.setitem(layers.RUNTIMES, "openvino", wrong)
    found = first_layer_in(OnnxGraph(MODEL), IMAGE, "openvino")
    assert found is not None and found.output == "gate"


def test_differences_in_words() -> None:
    a = np.array([1.0, 2.0, np.inf, np.nan], np.float32)
    assert difference_of(a, a.copy(), 1e-6) == ""
    assert difference_of(a[:2], a[:3], 1e-6) == "its output is 3 instead of 2"
    assert difference_of(a[:2], a[:2] + np.float32(1e-3), 1e-3) == ""
    assert "up to 0.1 at a scale of 2" in difference_of(a[:2], a[:2] + np.float32(0.1), 1e-3)
    assert difference_of(a[:2], np.array([1, np.nan], np.float32), 1e-3) == "its output has NaN"
    whole = np.array([1, 2])
    assert difference_of(whole, whole + 1, 10.0) == "its output differs by up to 1 at a scale of 2"


def bundle_of(folder: Path, model: object) -> Bundle:
    folder.mkdir()
    onnx.save(model, str(folder / "model.onnx"))
    return bundle_for_onnx(folder / "model.onnx")


def test_a_finder_asks_the_networks_own_graph_first(tmp_path: Path) -> None:
    fault, asked = FAULTS["Conv weight"], []

    def write() -> Path:
        asked.append(1)
        return bundle_of(tmp_path / "own", MODEL).onnx_file("fp32")

    bundle, find = bundle_of(tmp_path / "given", fault.model), LayerFinder(write)
    for _ in range(2):  # once per runtime, whatever the number of runs
        found = find(bundle, RuntimeSpec("onnxruntime"), IMAGE[0])
        assert found is not None and found.output == fault.output
    assert asked == [1]
    for spec in (RuntimeSpec("paddle"), RuntimeSpec("openvino", "int8")):
        assert find(bundle, spec, IMAGE[0]) is None
    # Without a network the runtime is compared with the graph as it is written.
    assert LayerFinder()(bundle, RuntimeSpec("onnxruntime"), IMAGE[0]) is None


def test_a_finder_that_fails_costs_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = bundle_of(tmp_path / "given", MODEL)
    assert LayerFinder()(bundle, RuntimeSpec("onnxruntime"), IMAGE[0, :2]) is None
    assert "no layer is named: " in capsys.readouterr().out


def test_a_layer_that_cannot_be_computed() -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(MODEL)
    node = next(each for each in broken.graph.node if each.op_type == "MaxPool")
    set_attribute(node, "strides", [1, 1])  # the sizes at the Concat do not fit then
    found = first_layer_between(OnnxGraph(broken), OnnxGraph(MODEL), IMAGE)
    assert found is not None and found.output == "pool"
    node = next(each for each in broken.graph.node if each.op_type == "Conv")
    set_attribute(node, "group", 2)
    found = first_layer_between(OnnxGraph(broken), OnnxGraph(MODEL), IMAGE)
    assert found is not None and found.output == "conv1"
