"""A small ONNX graph with two branches that meet."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from paddleseg_ext.inference.bundle import Bundle, bundle_for_onnx

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


def bundle_of(folder: Path, model: object) -> Bundle:
    folder.mkdir()
    onnx.save(model, str(folder / "model.onnx"))
    return bundle_for_onnx(folder / "model.onnx")
