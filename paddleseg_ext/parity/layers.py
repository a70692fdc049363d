"""The first layer at which two runs of ONNX graphs differ, found by their intermediate tensors.

Two graphs are run in one runtime (a graph and the one that was exported from the network), or one
graph in two runtimes. Both give any intermediate tensor that is made an output, so the layers are
bisected: the place is a layer whose inputs are equal and whose output is not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import cut
from paddleseg_ext.common.log import warn
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import as_input, filled
from paddleseg_ext.inference.runtime import RuntimeSpec

# Of the largest value of a tensor. In one runtime the layers above a fault are equal to the bit, or
# nearly so where the graphs are built otherwise; two runtimes drift by some 1e-5.
SAME_RUNTIME, OTHER_RUNTIME = 1e-6, 1e-3
# `plain` is ONNX Runtime without its optimisations: the operators as they are written.
PLAIN = "plain"
# Bytes of intermediate tensors that one run may keep, and how many times the input's bytes one of
# them takes: a guess that only decides how many are asked for at a time.
KEPT_BYTES, TYPICAL_TIMES = 1 << 30, 6
MOST_TENSORS = 1024
QUIET = 3  # of ONNX Runtime's log

# Gives the named tensors of one run.
Tensors = Callable[[Sequence[str]], Mapping[str, NDArray]]


@dataclass(frozen=True)
class Layer:
    """The first layer that differs.

    Attributes:
        number: from 1, among the `total` layers that depend on the image.
        kind: the ONNX operator.
        output: the name of its output in the graph.
        text: one line for people.
    """

    number: int
    total: int
    kind: str
    output: str
    text: str


class OnnxGraph:
    """An ONNX graph in memory: its layers in order, and its tensors in a runtime."""

    def __init__(self, source: Path | Any):
        """
        Args:
            source: a file, or an `onnx.ModelProto`.
        """
        import onnx

        self.model = onnx.load(str(source)) if isinstance(source, str | Path) else source
        graph = self.model.graph
        self.parameters = {entry.name: entry for entry in graph.initializer}
        self.parameters |= {
            node.output[0]: attribute.t
            for node in graph.node
            if node.op_type == "Constant"
            for attribute in node.attribute
            if attribute.HasField("t")
        }
        self.input = next(each.name for each in graph.input if each.name not in self.parameters)
        self.output = graph.output[0].name
        moving = {self.input}
        self.layers: list[Any] = []  # nodes that depend on the image, each after its inputs
        for node in graph.node:
            if moving & set(node.input):
                moving |= set(node.output)
                self.layers.append(node)
        self._types: dict[str, Any] | None = None
        self._makers: dict[str, Any] = {}

    def tensors(self, runtime: str, image: NDArray) -> Tensors:
        """The tensors of a run on one input.

        Args:
            runtime: `PLAIN`, `onnxruntime` or `openvino`.
            image: the graph's input.
        """
        run = RUNTIMES[runtime]

        def named(names: Sequence[str]) -> Mapping[str, NDArray]:
            found = run(self._with_outputs(names), self.input, image)
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
            self._makers = {name: node for node in graph.node for name in node.output}
        needed = set().union(*(_ancestors(name, self._makers) for name in names))
        nodes = [node for node in graph.node if needed & set(node.output)]
        read = {name for node in nodes for name in node.input}
        empty = onnx.helper.make_empty_tensor_value_info
        part = onnx.helper.make_graph(
            nodes,
            "part",
            [value for value in graph.input if value.name in read],
            [self._types.get(name) or empty(name) for name in names],
            [tensor for tensor in graph.initializer if tensor.name in read],
        )
        model = onnx.helper.make_model(part, opset_imports=self.model.opset_import)
        model.ir_version = self.model.ir_version
        content: bytes = model.SerializeToString()
        return content


def _run_in_onnxruntime(
    content: bytes, name: str, image: NDArray, is_plain: bool = False
) -> list[NDArray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if is_plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = QUIET
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found: list[NDArray] = session.run(None, {name: image})
    return found


def _run_in_openvino(content: bytes, name: str, image: NDArray) -> list[NDArray]:
    from paddleseg_ext.inference.engines.openvino_runtime import DEVICE, _core

    model = _core().read_model(content)
    properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    found = _core().compile_model(model, DEVICE, properties)([image])
    return [found[place] for place in range(len(model.outputs))]


RUNTIMES: dict[str, Callable[[bytes, str, NDArray], list[NDArray]]] = {
    PLAIN: partial(_run_in_onnxruntime, is_plain=True),
    "onnxruntime": _run_in_onnxruntime,
    "openvino": _run_in_openvino,
}


def first_layer_between(given: OnnxGraph, reference: OnnxGraph, image: NDArray) -> Layer | None:
    """The first layer of `given` that differs from `reference`'s, both in `PLAIN`.

    Args:
        given: the graph in doubt.
        reference: the right one; its layers may have other names.
        image: the input of both.

    Returns:
        The layer; None where the outputs are equal.
    """
    pairs = matched(reference, given)
    runs = (reference.tensors(PLAIN, image), given.tensors(PLAIN, image))
    place = _Search(reference, pairs, runs, SAME_RUNTIME, _at_a_time(image)).first()
    if place is None:
        return None
    node, difference = place
    partner = next(
        (each for each in given.layers if pairs.get(node.output[0]) in each.output), None
    )
    why = _why(node, reference, partner, given)
    return _layer(reference, node, f"{why or difference}")


def first_layer_in(graph: OnnxGraph, image: NDArray, runtime: str) -> Layer | None:
    """The first layer of a graph that a runtime computes otherwise than `PLAIN`.

    Args:
        graph: run by both.
        image: its input.
        runtime: `onnxruntime` or `openvino`.

    Returns:
        The layer; None where the outputs are equal but for rounding.
    """
    pairs = {name: name for node in graph.layers for name in node.output if name}
    runs = (graph.tensors(PLAIN, image), graph.tensors(runtime, image))
    # One tensor at a time: each that is asked for parts what a runtime fuses.
    place = _Search(graph, pairs, runs, OTHER_RUNTIME, at_a_time=1).first()
    return _layer(graph, *place) if place is not None else None


def _at_a_time(image: NDArray) -> int:
    return int(np.clip(KEPT_BYTES // (TYPICAL_TIMES * image.nbytes), 1, MOST_TENSORS))


def matched(reference: OnnxGraph, given: OnnxGraph) -> dict[str, str]:
    """Tensor of the reference -> tensor of the given graph, of layers that correspond.

    By name where most names are in both, else by the order of operators. The outputs correspond.
    """
    outputs = [
        [name for node in graph.layers for name in node.output if name]
        for graph in (reference, given)
    ]
    known = set(outputs[1])
    pairs = {name: name for name in outputs[0] if name in known}
    if len(pairs) < len(outputs[0]) / 2:
        kinds = [[node.op_type for node in graph.layers] for graph in (reference, given)]
        pairs = {}
        for start, other, size in SequenceMatcher(
            None, kinds[0], kinds[1], autojunk=False
        ).get_matching_blocks():
            for step in range(size):
                ours, theirs = reference.layers[start + step], given.layers[other + step]
                pairs |= zip(ours.output, theirs.output, strict=False)
    return pairs | {reference.output: given.output}


class _Search:
    """Looks for the first layer that differs in two runs of corresponding graphs."""

    def __init__(
        self,
        reference: OnnxGraph,
        pairs: Mapping[str, str],
        runs: tuple[Tensors, Tensors],
        tolerance: float,
        at_a_time: int,
    ):
        """
        Args:
            reference: the right graph.
            pairs: of `matched`.
            runs: of the reference, and of the graph or runtime in doubt.
            tolerance: see `difference_of`.
            at_a_time: tensors that one run may be asked for.
        """
        self._output = reference.output
        self._pairs = pairs
        self._expected, self._found = runs
        self._tolerance = tolerance
        self._at_a_time = at_a_time
        self._makers = {name: node for node in reference.layers for name in node.output}
        self._order = {name: place for place, name in enumerate(self._makers)}
        self._differences: dict[str, str] = {}

    def first(self) -> tuple[Any, str] | None:
        """The node whose inputs agree and whose output does not, and by how much it differs."""
        self._compare([self._output])
        if not self._differences[self._output]:
            return None
        target = self._output
        while True:
            target = self._bisect(target)
            node = self._makers[target]
            inputs = [name for name in node.input if name in self._pairs and name in self._makers]
            self._compare(inputs)
            earlier = [name for name in inputs if self._differences[name]]
            if not earlier:
                missing = _without_partner(node, self._pairs, self._makers)
                return missing or node, self._differences[target]
            target = min(earlier, key=self._order.__getitem__)

    def _bisect(self, target: str) -> str:
        """A tensor that differs, where the one before it does not, on the way to the target."""
        line = [name for name in _ancestors(target, self._makers) if name in self._pairs]
        line.sort(key=self._order.__getitem__)
        low, high = 0, len(line) - 1  # the target itself differs
        while low < high:
            parts = min(self._at_a_time, high - low) + 1
            asked = sorted({low + (high - low) * part // parts for part in range(1, parts)})
            self._compare([line[place] for place in asked])
            high = min((p for p in asked if self._differences[line[p]]), default=high)
            low = max((p + 1 for p in asked if p < high), default=low)
        return line[high]

    def _compare(self, names: Sequence[str]) -> None:
        unknown = [name for name in names if name not in self._differences]
        while unknown:
            asked = unknown[: self._at_a_time]
            wanted = self._expected(asked)
            try:
                got = self._found([self._pairs[name] for name in asked])
            except Exception as error:  # of the runtime's own kind: a layer that cannot be computed
                if len(asked) > 1:
                    self._at_a_time = 1
                    continue
                reason = cut(str(error).strip().partition("\n")[0])
                self._differences[asked[0]] = f"it cannot be computed: {reason}"
            else:
                for name in asked:
                    self._differences[name] = difference_of(
                        wanted[name], got[self._pairs[name]], self._tolerance
                    )
            unknown = unknown[len(asked) :]


def _ancestors(target: str, makers: Mapping[str, Any]) -> set[str]:
    """The tensors that a tensor is made of, itself among them."""
    found: set[str] = set()
    waiting = [target]
    while waiting:
        name = waiting.pop()
        if name in makers and name not in found:
            found.add(name)
            waiting += makers[name].input
    return found


def _without_partner(node: Any, pairs: Mapping[str, str], makers: Mapping[str, Any]) -> Any | None:
    """The first of the layers right above a node that the other graph lacks; None without one."""
    missing = None
    while True:
        above = [makers[name] for name in node.input if name in makers and name not in pairs]
        if not above:
            return missing
        node = missing = above[0]


def difference_of(expected: NDArray, found: NDArray, tolerance: float) -> str:
    """By how much a tensor differs, in words; empty where it agrees.

    Args:
        expected: of the reference.
        found: of the graph or runtime in doubt.
        tolerance: of the largest value of `expected`.
    """
    if expected.shape != found.shape:
        return f"its output is {_sides(found)} instead of {_sides(expected)}"
    if expected.size == 0 or np.array_equal(expected, found):
        return ""
    a, b = expected.astype(np.float64), found.astype(np.float64)
    largest = float(np.nanmax(np.abs(a), initial=0.0))
    with np.errstate(invalid="ignore"):
        difference = np.abs(a - b)
    # Equal infinities, and NaN in both places, are equal.
    difference[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
    most = float(difference.max())
    if np.isnan(most):
        return "its output has NaN"
    if most <= (tolerance * largest if expected.dtype.kind == "f" else 0.0):
        return ""
    return f"its output differs by up to {most:.3g} at a scale of {largest:.3g}"


def _sides(tensor: NDArray) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _layer(graph: OnnxGraph, node: Any, text: str) -> Layer:
    number, total = graph.layers.index(node) + 1, len(graph.layers)
    output = node.output[0]
    what = (
        f"layer {number} of {total}, {_described(graph, node)} (tensor {cut(output, 80)}): {text}"
    )
    return Layer(number, total, node.op_type, output, what)


def _described(graph: OnnxGraph, node: Any) -> str:
    """The operator and the shape of its weights: `Conv 64x3x7x7`."""
    shapes = [
        "x".join(map(str, graph.parameters[name].dims))
        for name in node.input
        if name in graph.parameters and graph.parameters[name].dims
    ]
    return " ".join([node.op_type, *shapes[:1]])


def _why(node: Any, reference: OnnxGraph, partner: Any | None, given: OnnxGraph) -> str:
    """The difference of a layer in the two graphs' files; empty where there is none."""
    if partner is None:
        return "it is missing in the graph"
    if partner.op_type != node.op_type:
        return f"it is a {partner.op_type} instead"
    wanted, got = _attributes(node), _attributes(partner)
    for name in sorted({*wanted, *got}):
        if wanted.get(name) != got.get(name):
            return (
                f"its {name} is {got.get(name, 'not set')} instead of {wanted.get(name, 'not set')}"
            )
    pairs = zip(node.input, partner.input, strict=False)
    for place, (ours, theirs) in enumerate(pairs, 1):
        has_values = ours in reference.parameters and theirs in given.parameters
        if has_values and (
            text := _other_values(reference.parameters[ours], given.parameters[theirs])
        ):
            return f"its {'weights' if place == 2 else f'input {place}'} {text}"
    if list(node.input) != list(partner.input) and sorted(node.input) == sorted(partner.input):
        return "its inputs come in another order"
    return ""


def _attributes(node: Any) -> dict[str, Any]:
    import onnx

    found = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto | onnx.GraphProto):
            continue
        found[attribute.name] = (
            value.decode(errors="replace") if isinstance(value, bytes) else value
        )
    return found


def _other_values(wanted: Any, got: Any) -> str:
    from onnx import numpy_helper

    a, b = numpy_helper.to_array(wanted), numpy_helper.to_array(got)
    if a.shape != b.shape:
        return f"are {_sides(b)} instead of {_sides(a)}"
    changed = int(np.count_nonzero(a != b))
    return f"differ in {changed} of {a.size} values" if changed else ""


class LayerFinder:
    """Names the first layer that differs in a failed run of an ONNX graph; once per runtime."""

    def __init__(self, reference_graph: Callable[[], Path] | None = None):
        """
        Args:
            reference_graph: writes the ONNX graph of the network itself; None where there is no
                network, and a runtime is compared with the graph as it is written.
        """
        self._reference_graph = reference_graph
        self._reference: OnnxGraph | None = None
        self._found: dict[tuple[Path, str], Layer | None] = {}

    def __call__(self, bundle: Bundle, spec: RuntimeSpec, tensor: NDArray) -> Layer | None:
        """The layer; None where the runtime gives no intermediate tensors, or none differs.

        Args:
            bundle: that was run.
            spec: the runtime of the run.
            tensor: (3, H, W), the network's input of an image that differs.
        """
        if spec.engine not in RUNTIMES or spec.precision != "fp32" or spec.device != "cpu":
            return None
        file = bundle.onnx_file("fp32")
        if (file, spec.engine) not in self._found:
            image = as_input(filled(tensor[np.newaxis], bundle.input_shape), bundle.input_dtype)
            try:
                found = self._search(OnnxGraph(file), spec.engine, image)
            # Of four libraries; none of it shall cost the verdict.
            except Exception as error:
                warn(f"[PARITY] no layer is named: {cut(str(error).strip().partition(chr(10))[0])}")
                found = None
            self._found[file, spec.engine] = found
        return self._found[file, spec.engine]

    def _search(self, graph: OnnxGraph, engine: str, image: NDArray) -> Layer | None:
        if self._reference is None and self._reference_graph is not None:
            self._reference = OnnxGraph(self._reference_graph())
        if self._reference is not None:
            found = first_layer_between(graph, self._reference, image)
            if found is not None:
                return found
        return first_layer_in(graph, image, engine)
