"""The layers of an INT8 graph with the largest quantization error, each measured alone.

Each part of the graph between two roundings is run by itself, on the float graph's tensors. So
the error of a layer does not contain the errors of the layers before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.parity.layers import PLAIN, Layer, Node, ancestors, described
from paddleseg_ext.parity.onnx_layers import RUNTIMES, OnnxGraph, part_of
from paddleseg_ext.scoring.metrics import relative_error

# Relative error of a layer's output; 256 steps cause less.
MOST_ERROR = 0.1
NAMED = 3
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
MADE, STEPS, ROUNDED = "/made", "/steps", "/rounded"
FAULT, ROUNDING = "first layer beyond rounding", "layers with the largest quantization error"


@dataclass(frozen=True)
class LayerError:
    """The quantization error of one layer.

    Attributes:
        node: of the float graph.
        output: name of the tensor that is rounded.
        error: relative error of that tensor (`relative_error`).
    """

    node: Node
    output: str
    error: float


def worst_layers(bundle: Bundle, engine: str, image: NDArray) -> Layer | None:
    """The first layer whose error exceeds `MOST_ERROR`, else the three with the largest errors.

    Args:
        bundle: with a float and an INT8 ONNX graph.
        engine: runs the INT8 graph.
        image: the graph's input.

    Returns:
        The layer; None where the two graphs have no tensor in common.
    """
    given = OnnxGraph(bundle.onnx_file("fp32"))
    parts = Int8Parts(OnnxGraph(bundle.onnx_file("int8")), given)
    errors = parts.errors(engine, image)
    if not errors:
        return None
    order = {output: number for number, output in enumerate(parts.ends)}
    wrong = [each for each in errors if not each.error <= MOST_ERROR]
    if not wrong:
        most = sorted(errors, key=lambda each: -each.error)[:NAMED]
        text = "; ".join(f"{_named(given, each.node)}: {each.error:.1%}" for each in most)
        return _layer(given, most[0], text, ROUNDING)
    first = min(wrong, key=lambda each: order[each.output])
    plain = parts.errors(PLAIN, image, [first.output])[0].error
    text = f"{_named(given, first.node)}: alone it changes its output by {first.error:.1%}"
    if plain <= MOST_ERROR:
        text += f", and {plain:.1%} as the graph is written: {engine} computes it wrongly"
    return _layer(given, first, text, FAULT)


def _named(graph: OnnxGraph, node: Node) -> str:
    return f"layer {graph.layers.index(node) + 1} of {len(graph.layers)}, {described(graph, node)}"


def _layer(graph: OnnxGraph, of: LayerError, text: str, title: str) -> Layer:
    number = graph.layers.index(of.node) + 1
    return Layer(number, len(graph.layers), of.node.kind, of.output, text, title)


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

    def errors(
        self, engine: str, image: NDArray, ends: Sequence[str] | None = None
    ) -> list[LayerError]:
        """The quantization error of each part.

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

    def _run(self, engine: str, image: NDArray, ends: Sequence[str]) -> list[LayerError]:
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
            LayerError(self._node(end), end, relative_error(output, tensors[end]))
            for end, output in zip(ends, got, strict=True)
        ]

    def _part(
        self, nodes: Sequence[Any], feeds: Mapping[str, NDArray], outputs: Sequence[str]
    ) -> bytes:
        import onnx

        value, kind_of = onnx.helper.make_tensor_value_info, onnx.helper.np_dtype_to_tensor_dtype
        return part_of(
            self._graph.model,
            nodes,
            [value(name, kind_of(fed.dtype), fed.shape) for name, fed in feeds.items()],
            [value(name, onnx.TensorProto.FLOAT, None) for name in outputs],
        )

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
    """Returns the nodes that round the output of a part; none where the graph does not round it."""
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
