"""The layers of an INT8 graph that lose most, each measured alone.

Each part of the graph between two roundings is run by itself, on the float graph's tensors, and
gives what the next part would be given. So a layer's own loss is seen, not what it inherits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.parity.layers import PLAIN, Layer, Node, ancestors, described
from paddleseg_ext.parity.onnx_layers import RUNTIMES, OnnxGraph

# Of a layer's output, root mean square: more than 256 steps explain.
MOST_LOSS = 0.1
NAMED = 3
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
MADE, STEPS, ROUNDED = "/made", "/steps", "/rounded"
FAULT, ROUNDING = "first layer beyond rounding", "layers that lose most by rounding"


@dataclass(frozen=True)
class Loss:
    """What one layer loses.

    Attributes:
        node: of the float graph.
        output: that is rounded.
        share: root mean square of the change over that of the output.
    """

    node: Node
    output: str
    share: float


def lossy_layers(bundle: Bundle, engine: str, image: NDArray) -> Layer | None:
    """The first layer that loses more than rounding explains, else those that lose most.

    Args:
        bundle: with a float and an INT8 ONNX graph.
        engine: runs the INT8 graph.
        image: the graph's input.

    Returns:
        The layer; None where the two graphs have no tensor in common.
    """
    given = OnnxGraph(bundle.onnx_file("fp32"))
    parts = Int8Parts(OnnxGraph(bundle.onnx_file("int8")), given)
    losses = parts.losses(engine, image)
    if not losses:
        return None
    order = {output: number for number, output in enumerate(parts.ends)}
    wrong = [loss for loss in losses if not loss.share <= MOST_LOSS]
    if not wrong:
        most = sorted(losses, key=lambda loss: -loss.share)[:NAMED]
        text = "; ".join(f"{_named(given, loss.node)}: {loss.share:.1%}" for loss in most)
        return _layer(given, most[0], text, ROUNDING)
    first = min(wrong, key=lambda loss: order[loss.output])
    plain = parts.losses(PLAIN, image, [first.output])[0].share
    text = f"{_named(given, first.node)}: alone it loses {first.share:.1%} of its output"
    if plain <= MOST_LOSS:
        text += f", and {plain:.1%} as the graph is written: {engine} computes it wrongly"
    return _layer(given, first, text, FAULT)


def _named(graph: OnnxGraph, node: Node) -> str:
    return f"layer {graph.layers.index(node) + 1} of {len(graph.layers)}, {described(graph, node)}"


def _layer(graph: OnnxGraph, loss: Loss, text: str, title: str) -> Layer:
    number = graph.layers.index(loss.node) + 1
    return Layer(number, len(graph.layers), loss.node.kind, loss.output, text, title)


class Int8Parts:
    """An INT8 graph cut at each tensor that it rounds.

    Attributes:
        ends: the tensors, in the order of the float graph, and its output.
    """

    def __init__(self, graph: OnnxGraph, given: OnnxGraph):
        """
        Args:
            graph: in QDQ form.
            given: the float graph, with the same names.
        """
        self._given, self._graph = given, graph
        self._makers = {name: node for node in given.layers for name in node.outputs}
        nodes = graph.model.graph.node
        rounds = {node.input[0]: node for node in nodes if node.op_type == QUANTIZE}
        self.ends = [name for name in self._makers if name in rounds or name == given.output]
        self._nodes = []
        for node in nodes:
            copied = type(node)()
            copied.CopyFrom(node)
            for place, name in enumerate(copied.output):
                copied.output[place] = f"{name}{MADE}" if name in self.ends else name
            self._nodes.append(copied)
        self._nodes += [node for end in self.ends for node in _rounding(end, rounds)]
        self._outputs = {
            end: f"{end}{ROUNDED}" if end in rounds else f"{end}{MADE}" for end in self.ends
        }
        self._inputs = {name: list(node.input) for node in self._nodes for name in node.output}

    def losses(self, engine: str, image: NDArray, ends: Sequence[str] | None = None) -> list[Loss]:
        """The loss of each part.

        Args:
            engine: runs the parts; `PLAIN` as they are written.
            image: the graph's input.
            ends: of the parts; None takes all.
        """
        asked = list(self.ends if ends is None else ends)
        at_a_time, found = self._given.at_a_time(image), []
        while asked:
            found += self._run(engine, image, asked[:at_a_time])
            del asked[:at_a_time]
        return found

    def _run(self, engine: str, image: NDArray, ends: Sequence[str]) -> list[Loss]:
        outputs = [self._outputs[end] for end in ends]
        needed = ancestors(outputs, self._inputs)
        nodes = [node for node in self._nodes if needed & set(node.output)]
        read = {name for node in nodes for name in node.input}
        fed = [end for end in self.ends if end in read]
        tensors = dict(self._given.tensors(PLAIN, image)(list(dict.fromkeys([*ends, *fed]))))
        feeds = {name: tensors[name] for name in fed}
        if self._graph.input in read:
            feeds[self._graph.input] = image
        got = RUNTIMES[engine](self._part(nodes, feeds, outputs), feeds)
        return [
            Loss(self._node(end), end, _loss(output, tensors[end]))
            for end, output in zip(ends, got, strict=True)
        ]

    def _part(
        self, nodes: Sequence[Any], feeds: Mapping[str, NDArray], outputs: Sequence[str]
    ) -> bytes:
        import onnx

        value, kind_of = onnx.helper.make_tensor_value_info, onnx.helper.np_dtype_to_tensor_dtype
        read = {name for node in nodes for name in node.input}
        part = onnx.helper.make_graph(
            nodes,
            "parts",
            [value(name, kind_of(fed.dtype), fed.shape) for name, fed in feeds.items()],
            [value(name, onnx.TensorProto.FLOAT, None) for name in outputs],
            [tensor for tensor in self._graph.model.graph.initializer if tensor.name in read],
        )
        model = onnx.helper.make_model(part, opset_imports=self._graph.model.opset_import)
        model.ir_version = self._graph.model.ir_version
        content: bytes = model.SerializeToString()
        return content

    def _node(self, end: str) -> Node:
        """The layer of a part: its last one with weights, else the one that makes its output."""
        inputs = {
            name: [each for each in node.inputs if each not in self.ends]
            for name, node in self._makers.items()
        }
        within = ancestors([end], inputs)
        for name in [each for each in reversed(list(self._makers)) if each in within]:
            if self._makers[name].kind == "Conv":
                return self._makers[name]
        return self._makers[end]


def _rounding(end: str, rounds: Mapping[str, Any]) -> list[Any]:
    """What rounds the output of a part as the next part reads it; nothing where it is not."""
    import onnx

    if end not in rounds:
        return []
    steps, scale = f"{end}{STEPS}", list(rounds[end].input[1:])
    made = [
        onnx.helper.make_node(QUANTIZE, [f"{end}{MADE}", *scale], [steps]),
        onnx.helper.make_node(DEQUANTIZE, [steps, *scale], [f"{end}{ROUNDED}"]),
    ]
    for node in made:
        node.attribute.extend(rounds[end].attribute)
    return made


def _loss(got: NDArray, expected: NDArray) -> float:
    difference = np.sqrt(np.mean(np.square(got - expected), dtype=np.float64))
    return float(difference / max(1e-12, np.sqrt(np.mean(np.square(expected), dtype=np.float64))))
