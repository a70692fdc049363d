"""ONNX graphs as layers, with any of their tensors in ONNX Runtime and OpenVINO."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from paddleseg_ext.common.errors import cut
from paddleseg_ext.inference.engines.onnx_providers import CPU, ERRORS_ONLY
from paddleseg_ext.parity.layers import PLAIN, Graph, Node, Tensors, ancestors


class OnnxGraph(Graph):
    """An ONNX graph in memory; without ONNX Runtime's optimisations it runs as it is written."""

    def __init__(self, source: Path | Any):
        """
        Args:
            source: a file, or an `onnx.ModelProto`.
        """
        import onnx

        self.model = onnx.load(str(source)) if isinstance(source, str | Path) else source
        graph = self.model.graph
        self._parameters = {entry.name: entry for entry in graph.initializer}
        self._parameters |= {
            node.output[0]: attribute.t
            for node in graph.node
            if node.op_type == "Constant"
            for attribute in node.attribute
            if attribute.HasField("t")
        }
        self.input = next(each.name for each in graph.input if each.name not in self._parameters)
        self.output = graph.output[0].name
        moving = {self.input}
        self.layers = []
        for node in graph.node:
            if moving & set(node.input):
                moving |= set(node.output)
                self.layers.append(_layer_of(node))
        self._types: dict[str, Any] | None = None
        self._inputs: dict[str, Sequence[str]] = {}

    def parameter(self, name: str) -> NDArray | None:
        """See `Graph.parameter`."""
        from onnx import numpy_helper

        entry = self._parameters.get(name)
        return None if entry is None else numpy_helper.to_array(entry)

    def tensors(self, runtime: str, image: NDArray) -> Tensors:
        """See `Graph.tensors`."""
        run = RUNTIMES[runtime]

        def named(names: Sequence[str]) -> Mapping[str, NDArray]:
            found = run(self._with_outputs(names), {self.input: image})
            return dict(zip(names, found, strict=True))

        return named

    def _with_outputs(self, names: Sequence[str]) -> bytes:
        """The part of the graph that makes these tensors."""
        import onnx

        graph = self.model.graph
        if self._types is None:
            inferred = onnx.shape_inference.infer_shapes(self.model).graph
            known = [*inferred.value_info, *inferred.output]
            self._types = {value.name: value for value in known}
            self._inputs = {name: node.input for node in graph.node for name in node.output}
        needed = ancestors(names, self._inputs)
        nodes = [node for node in graph.node if needed & set(node.output)]
        read = {name for node in nodes for name in node.input}
        empty = onnx.helper.make_empty_tensor_value_info
        return part_of(
            self.model,
            nodes,
            [value for value in graph.input if value.name in read],
            [self._types.get(name) or empty(name) for name in names],
        )


def part_of(
    model: Any, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]
) -> bytes:
    """Returns an ONNX file of some nodes of a model, with the initializers that they read.

    Args:
        model: `onnx.ModelProto`; its opset and version are kept.
        nodes: in order.
        inputs: value infos of the part's inputs.
        outputs: value infos of its outputs.
    """
    import onnx

    read = {name for node in nodes for name in node.input}
    initializers = [tensor for tensor in model.graph.initializer if tensor.name in read]
    graph = onnx.helper.make_graph(nodes, "part", inputs, outputs, initializers)
    part = onnx.helper.make_model(graph, opset_imports=model.opset_import)
    part.ir_version = model.ir_version
    content: bytes = part.SerializeToString()
    return content


def _layer_of(node: Any) -> Node:
    import onnx

    attributes = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto | onnx.GraphProto):
            continue
        attributes[attribute.name] = (
            value.decode(errors="replace") if isinstance(value, bytes) else value
        )
    place = f"tensor {cut(node.output[0], 80)}"
    return Node(node.op_type, list(node.input), list(node.output), attributes, place)


def _run_in_onnxruntime(
    content: bytes, feeds: Mapping[str, NDArray], is_plain: bool = False
) -> list[NDArray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if is_plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    session = onnxruntime.InferenceSession(content, options, providers=[CPU])
    found: list[NDArray] = session.run(None, dict(feeds))
    return found


def _run_in_openvino(content: bytes, feeds: Mapping[str, NDArray]) -> list[NDArray]:
    from paddleseg_ext.inference.engines.openvino_runtime import DEVICE, _core

    model = _core().read_model(content)
    properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    found = _core().compile_model(model, DEVICE, properties)(dict(feeds))
    return [found[place] for place in range(len(model.outputs))]


RUNTIMES: dict[str, Callable[[bytes, Mapping[str, NDArray]], list[NDArray]]] = {
    PLAIN: partial(_run_in_onnxruntime, is_plain=True),
    "onnxruntime": _run_in_onnxruntime,
    "openvino": _run_in_openvino,
}
