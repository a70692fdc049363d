"""A graph of a fixed size in OpenCV's DNN module, which knows little of ONNX."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("paddle2onnx")
SHAPE = (1, 3, 64, 128)
COMPUTES_SIZES = {"Shape", "Range", "Slice", "ConstantOfShape", "Constant"}


def network(name: str) -> Any:
    import paddle

    from paddleseg_ext.models.backbones.resnet import ResNet18
    from paddleseg_ext.models.bisenetv1 import BiSeNetV1
    from paddleseg_ext.models.bisenetv2 import BiSeNetV2

    paddle.seed(0)
    model = BiSeNetV1(19, ResNet18()) if name == "BiSeNetV1" else BiSeNetV2(19)
    model.eval()
    return model


@pytest.mark.parametrize(("name", "output_op"), [("BiSeNetV1", "argmax"), ("BiSeNetV2", "none")])
def test_no_pixel_is_another_one(name: str, output_op: str, tmp_path: Path) -> None:
    from paddleseg_ext.export.onnx_conversion import fold_sizes, write_onnx
    from paddleseg_ext.export.options import ExportOptions
    from paddleseg_ext.export.tracing import GRAPH_NAME, write_graph

    options = ExportOptions(tmp_path, input_shape=SHAPE, output_op=output_op)
    write_graph(network(name), options, None, tmp_path / GRAPH_NAME)
    graph = next(path for path in tmp_path.iterdir() if path.suffix in (".json", ".pdmodel"))
    file = tmp_path / "model.onnx"
    write_onnx(graph, tmp_path / "model.pdiparams", file)
    fold_sizes(file, SHAPE, "float32")

    model = onnx.load(str(file))
    onnx.checker.check_model(model, full_check=True)
    assert not {node.op_type for node in model.graph.node} & COMPUTES_SIZES
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    known = {value.name: value for value in [*inferred.value_info, *inferred.output]}
    for node in model.graph.node:
        for name in node.output:
            assert all(dim.dim_value > 0 for dim in known[name].type.tensor_type.shape.dim), name

    images = np.random.default_rng(0).random(SHAPE, np.float32)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: images})[0]
    net = cv2.dnn.readNetFromONNX(str(file))
    net.setInput(images)
    output = net.forward()
    assert output.shape == expected.shape
    if output_op == "none":
        output, expected = output.argmax(axis=1), expected.argmax(axis=1)
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(output, expected)
