"""The first layer that differs, in a small graph."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from paddleseg_ext.parity import layers, onnx_layers  # noqa: E402
from paddleseg_ext.parity.layers import (  # noqa: E402
    difference_of,
    first_layer_between,
    first_layer_in,
    matched,
)
from paddleseg_ext.parity.onnx_layers import OnnxGraph  # noqa: E402
from tests.planted_faults import faults_of, set_attribute  # noqa: E402
from tests.small_onnx import IMAGE, MODEL  # noqa: E402

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
    monkeypatch.setattr(OnnxGraph, "at_a_time", lambda *_: at_a_time)
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
    right = onnx_layers.RUNTIMES[layers.PLAIN]

    def wrong(content: bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        model = onnx.load_from_string(content)
        for node in model.graph.node:
            node.op_type = "HardSigmoid" if node.op_type == "Sigmoid" else node.op_type
        return right(model.SerializeToString(), feeds)

    monkeypatch.setitem(onnx_layers.RUNTIMES, "openvino", wrong)
    found = first_layer_in(OnnxGraph(MODEL), IMAGE, "openvino")
    assert found is not None and found.output == "gate"
    assert "its output differs by up to" in found.text


def test_a_fault_that_shows_only_while_layers_are_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong from the gate on, unless several tensors are asked for at once."""
    right = onnx_layers.RUNTIMES[layers.PLAIN]

    def wrong(content: bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        model = onnx.load_from_string(content)
        for node in model.graph.node if len(model.graph.output) == 1 else ():
            node.op_type = "HardSigmoid" if node.op_type == "Sigmoid" else node.op_type
        return right(model.SerializeToString(), feeds)

    monkeypatch.setitem(onnx_layers.RUNTIMES, "openvino", wrong)
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
