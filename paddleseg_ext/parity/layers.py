"""The first layer at which two runs of a graph, or of two graphs, differ, by intermediate tensors.

Two graphs are run in one runtime (a graph and the one that was exported from the network), or one
graph in two runtimes. All give any intermediate tensor that is made an output, so the layers are
bisected: the place is a layer whose inputs are equal and whose output is not.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import cut

# Of the largest value of a tensor. In one runtime the layers above a fault are equal to the bit,
# or, where the graphs have other operators for the same, to some 1e-6; two runtimes drift by 1e-5.
SAME_RUNTIME, OTHER_OPERATORS, OTHER_RUNTIME = 1e-6, 1e-4, 1e-3
# The runtime that computes the operators as they are written.
PLAIN = "plain"
# Bytes of intermediate tensors that one run may keep, and how many times the input's bytes one of
# them takes: a guess that only decides how many are asked for at a time.
KEPT_BYTES, TYPICAL_TIMES = 1 << 30, 6
MOST_TENSORS = 1024
# Steps behind the scores: at a tie their numbers differ by whole classes, whoever is right.
CLASS_IDS = ("ArgMax", "Cast", "Squeeze", "argmax", "cast", "squeeze")

# Gives the named tensors of one run.
Tensors = Callable[[Sequence[str]], Mapping[str, NDArray]]


@dataclass(frozen=True)
class Layer:
    """The layer that is to blame.

    Attributes:
        number: from 1, among the `total` layers that depend on the image.
        kind: the operator.
        output: the name of its output in the graph.
        text: one line for people.
        title: what the layer is said to be.
    """

    number: int
    total: int
    kind: str
    output: str
    text: str
    title: str = "first layer to differ"


@dataclass(frozen=True, eq=False)
class Node:
    """One operator of a graph.

    Attributes:
        kind: its name.
        inputs: tensors that it reads; empty names are left out by its author.
        outputs: tensors that it makes.
        attributes: that change what it computes.
        place: where to find it, for people.
    """

    kind: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, Any]
    place: str


class Graph(ABC):
    """A graph: its layers in order, and its tensors in a runtime.

    Attributes:
        layers: what depends on the image, each after its inputs.
        input: name of the image.
        output: name of the first output.
        keeps_names: whether tensors of two graphs of one network have the same names.
    """

    layers: list[Node]
    input: str
    output: str
    keeps_names = True

    @abstractmethod
    def tensors(self, runtime: str, image: NDArray) -> Tensors:
        """The tensors of a run on one input.

        Args:
            runtime: `PLAIN`, or the engine of a stage.
            image: the graph's input.
        """

    @abstractmethod
    def parameter(self, name: str) -> NDArray | None:
        """The values of a parameter; None where the name is of something else."""

    def at_a_time(self, image: NDArray) -> int:
        """How many tensors one run may be asked for."""
        return int(np.clip(KEPT_BYTES // (TYPICAL_TIMES * image.nbytes), 1, MOST_TENSORS))

    def scores(self) -> str:
        """Name of the output, before what makes class ids of it."""
        makers = {name: node for node in self.layers for name in node.outputs}
        name = self.output
        while name in makers and makers[name].kind in CLASS_IDS:
            name = makers[name].inputs[0]
        return name if name in makers else self.output


def first_layer_between(given: Graph, reference: Graph, image: NDArray) -> Layer | None:
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
    is_alike = [node.kind for node in reference.layers] == [node.kind for node in given.layers]
    tolerance = SAME_RUNTIME if is_alike else OTHER_OPERATORS
    at_a_time = min(graph.at_a_time(image) for graph in (reference, given))
    place = _Search(reference, pairs, runs, tolerance, at_a_time).first()
    if place is None:
        return None
    node, difference = place
    partner = next(
        (each for each in given.layers if pairs.get(node.outputs[0]) in each.outputs), None
    )
    why = _why(node, reference, partner, given)
    return _layer(reference, node, f"{why or difference}")


def first_layer_in(graph: Graph, image: NDArray, runtime: str) -> Layer | None:
    """The first layer of a graph that a runtime computes otherwise than `PLAIN`.

    Args:
        graph: run by both.
        image: its input.
        runtime: the engine of a stage.

    Returns:
        The layer; None where the outputs are equal but for rounding.
    """
    pairs = {name: name for node in graph.layers for name in node.outputs if name}
    runs = (graph.tensors(PLAIN, image), graph.tensors(runtime, image))
    # One tensor at a time: each that is asked for parts what a runtime fuses.
    place = _Search(graph, pairs, runs, OTHER_RUNTIME, at_a_time=1).first()
    return _layer(graph, *place) if place is not None else None


def matched(reference: Graph, given: Graph) -> dict[str, str]:
    """Tensor of the reference -> tensor of the given graph, of layers that correspond.

    By name where most names are in both, else by the order of operators. The scores correspond.
    """
    outputs = [
        [name for node in graph.layers for name in node.outputs if name]
        for graph in (reference, given)
    ]
    known = set(outputs[1])
    pairs = {name: name for name in outputs[0] if name in known}
    if len(pairs) < len(outputs[0]) / 2 or not reference.keeps_names:
        kinds = [[node.kind for node in graph.layers] for graph in (reference, given)]
        pairs = {}
        for _, start, end, other, last in SequenceMatcher(
            None, kinds[0], kinds[1], autojunk=False
        ).get_opcodes():
            if end - start == last - other:  # the same layers, or as many others in their place
                both = zip(reference.layers[start:end], given.layers[other:last], strict=True)
                for ours, theirs in both:
                    pairs |= zip(ours.outputs, theirs.outputs, strict=False)
    return pairs | {reference.scores(): given.scores()}


class _Search:
    """Looks for the first layer that differs in two runs of corresponding graphs."""

    def __init__(
        self,
        reference: Graph,
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
        self._output = reference.scores()
        self._pairs = pairs
        self._expected, self._found = runs
        self._tolerance = tolerance
        self._at_a_time = at_a_time
        self._makers = {name: node for node in reference.layers for name in node.outputs}
        self._order = {name: place for place, name in enumerate(self._makers)}
        self._differences: dict[str, str] = {}

    def first(self) -> tuple[Node, str] | None:
        """The node whose inputs agree and whose output does not, and by how much it differs."""
        self._compare([self._output])
        if not self._differences[self._output]:
            return None
        target = self._output
        while True:
            target = self._bisect(target)
            node = self._makers[target]
            inputs = [name for name in node.inputs if name in self._pairs and name in self._makers]
            self._compare(inputs)
            earlier = [name for name in inputs if self._differences[name]]
            if not earlier:
                missing = _without_partner(node, self._pairs, self._makers)
                return missing or node, self._differences[target]
            target = min(earlier, key=self._order.__getitem__)

    def _bisect(self, target: str) -> str:
        """A tensor that differs, where the one before it does not, on the way to the target."""
        inputs = {name: node.inputs for name, node in self._makers.items()}
        line = [name for name in ancestors([target], inputs) if name in self._pairs]
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


def ancestors(names: Sequence[str], inputs: Mapping[str, Sequence[str]]) -> set[str]:
    """The tensors that some tensors are made of, themselves among them.

    Args:
        names: of the tensors.
        inputs: of each tensor that is made.
    """
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in inputs and name not in found:
            found.add(name)
            waiting += inputs[name]
    return found


def _without_partner(
    node: Node, pairs: Mapping[str, str], makers: Mapping[str, Node]
) -> Node | None:
    """The first of the layers right above a node that the other graph lacks; None without one."""
    missing = None
    while True:
        above = [makers[name] for name in node.inputs if name in makers and name not in pairs]
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


def _layer(graph: Graph, node: Node, text: str) -> Layer:
    number, total = graph.layers.index(node) + 1, len(graph.layers)
    what = f"layer {number} of {total}, {described(graph, node)}: {text}"
    return Layer(number, total, node.kind, node.outputs[0], what)


def described(graph: Graph, node: Node) -> str:
    """The operator, the shape of its weights and its place: `Conv 64x3x7x7 (tensor p2o.3)`."""
    values = (graph.parameter(name) for name in node.inputs)
    shapes = [_sides(value) for value in values if value is not None and value.ndim]
    return f"{' '.join([node.kind, *shapes[:1]])} ({node.place})"


def _why(node: Node, reference: Graph, partner: Node | None, given: Graph) -> str:
    """The difference of a layer in the two graphs' files; empty where there is none."""
    if partner is None:
        return "it is missing in the graph"
    if partner.kind != node.kind:
        return f"it is a {partner.kind} instead"
    wanted, got = node.attributes, partner.attributes
    for name in sorted({*wanted, *got}):
        if wanted.get(name) != got.get(name):
            return (
                f"its {name} is {got.get(name, 'not set')} instead of {wanted.get(name, 'not set')}"
            )
    pairs = zip(node.inputs, partner.inputs, strict=False)
    for place, names in enumerate(pairs, 1):
        ours, theirs = reference.parameter(names[0]), given.parameter(names[1])
        if ours is not None and theirs is not None and (text := _other_values(ours, theirs)):
            return f"its {'weights' if place == 2 else f'input {place}'} {text}"
    if list(node.inputs) != list(partner.inputs) and sorted(node.inputs) == sorted(partner.inputs):
        return "its inputs come in another order"
    return ""


def _other_values(wanted: NDArray, got: NDArray) -> str:
    if wanted.shape != got.shape:
        return f"are {_sides(got)} instead of {_sides(wanted)}"
    changed = int(np.count_nonzero(wanted != got))
    return f"differ in {changed} of {wanted.size} values" if changed else ""
