"""ONNX graphs with one fault each: a weight, a padding, an interpolation, an order, an epsilon."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


@dataclass(frozen=True)
class Fault:
    """A changed graph and the layer that was changed."""

    name: str
    model: Any
    output: str


def attributes(node: Any) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def set_attribute(node: Any, name: str, value: Any) -> None:
    kept = [each for each in node.attribute if each.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def become(node: Any, kind: str, **values: Any) -> bool:
    node.op_type = kind
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in values.items())
    return True


def parameters(graph: Any) -> dict[str, Any]:
    held = {each.name: each for each in graph.initializer}
    return held | {
        each.output[0]: attribute.t
        for each in graph.node
        if each.op_type == "Constant"
        for attribute in each.attribute
        if attribute.HasField("t")
    }


def nearest_matrix(node: Any, graph: Any) -> bool:
    """Of an interpolation as a matrix product: each row takes its nearest neighbour alone."""
    held = parameters(graph)
    for name in node.input:
        if name not in held:
            continue
        values = numpy_helper.to_array(held[name])
        for axis in (-1, -2):
            if values.ndim >= 2 and np.allclose(values.sum(axis=axis), 1):
                nearest = np.zeros_like(values)
                places = values.argmax(axis=axis, keepdims=True)
                np.put_along_axis(nearest, places, 1, axis)
                held[name].CopyFrom(numpy_helper.from_array(nearest, name))
                return not np.array_equal(nearest, values)
    return False


def weight(node: Any, graph: Any) -> bool:
    """A tenth of the values of one parameter."""
    held = parameters(graph)
    for name in node.input[1:]:
        if name not in held:
            continue
        values = numpy_helper.to_array(held[name]).copy()
        if values.dtype != np.float32 or values.size < 2:
            continue
        flat = values.reshape(-1)
        flat[: max(1, flat.size // 10)] += 1 + np.abs(flat).max()
        held[name].CopyFrom(numpy_helper.from_array(values, name))
        return True
    return False


def padding(node: Any, _: Any) -> bool:
    """One row is taken from one side and given to the other: the size stays."""
    pads = list(attributes(node).get("pads", ()))
    if len(pads) != 4 or pads[2] < 1:
        return False
    pads[0], pads[2] = pads[0] + 1, pads[2] - 1
    set_attribute(node, "pads", pads)
    return True


def epsilon(node: Any, _: Any) -> bool:
    set_attribute(node, "epsilon", 0.5)
    return True


def interpolation(node: Any, _: Any) -> bool:
    mode = attributes(node).get("mode", b"nearest")
    set_attribute(node, "mode", "linear" if mode == b"nearest" else "nearest")
    return True


def centres(node: Any, _: Any) -> bool:
    mode = attributes(node).get("coordinate_transformation_mode", b"half_pixel")
    other = "asymmetric" if mode != b"asymmetric" else "half_pixel"
    set_attribute(node, "coordinate_transformation_mode", other)
    return True


def order(node: Any, _: Any) -> bool:
    if len(node.input) < 2:
        return False
    names = list(node.input)
    del node.input[:]
    node.input.extend(reversed(names))
    return True


def minus(node: Any, graph: Any) -> bool:
    held = parameters(graph)
    if any(name in held and not numpy_helper.to_array(held[name]).any() for name in node.input):
        return False  # a bias of zeros: the fault would change nothing
    return become(node, "Sub")


def to(kind: str, **values: Any) -> Callable[[Any, Any], bool]:
    return lambda node, _: become(node, kind, **values)


FAULTS: dict[str, dict[str, Callable[[Any, Any], bool]]] = {
    "Conv": {"weight": weight, "padding": padding},
    "ConvTranspose": {"weight": weight},
    "Gemm": {"weight": weight},
    "MatMul": {"interpolation": nearest_matrix},
    "PRelu": {"weight": weight},
    "BatchNormalization": {"epsilon": epsilon, "weight": weight},
    "MaxPool": {"padding": padding},
    "AveragePool": {"padding": padding},
    "Resize": {"interpolation": interpolation, "centres": centres},
    "Concat": {"order": order},
    "Add": {"operator": minus},
    "Mul": {"operator": to("Add")},
    "Relu": {"operator": to("Abs")},
    "LeakyRelu": {"operator": to("Relu")},
    "Sigmoid": {"operator": to("HardSigmoid")},
    "GlobalAveragePool": {"operator": to("GlobalMaxPool")},
    "Softmax": {"operator": to("Softmax", axis=-1)},
}
RANK = 4
LATE = 3  # the fault sits behind a third of the layers of its kind


def faults_of(model: Any) -> Iterator[Fault]:
    """One graph per operator and way to break it, among the layers that make feature maps."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    maps = {
        value.name
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        and len(value.type.tensor_type.shape.dim) == RANK
    }
    for kind, ways in FAULTS.items():
        places = [
            place
            for place, node in enumerate(model.graph.node)
            if node.op_type == kind and node.output[0] in maps
        ]
        for way, change in ways.items():
            for place in [*places[len(places) // LATE :], *places]:
                changed = onnx.ModelProto()
                changed.CopyFrom(model)
                node = changed.graph.node[place]
                if change(node, changed.graph):
                    yield Fault(f"{kind} {way}", changed, node.output[0])
                    break
