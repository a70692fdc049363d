"""Graphs of Paddle 3 as layers, with any of their values in Paddle Inference.

A value that Paddle's passes fuse away does not exist in the optimised graph. So the part of the
graph that ends at the value is written as a graph of its own, and that is run.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from numpy.typing import NDArray

from paddleseg_ext.common.errors import cut
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.paddle_inference import build_config
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.parity.layers import PLAIN, Graph, Node, Tensors

DIALECT, COMBINE = "pd_op.", "builtin.combine"
DATA, PARAMETER, FETCH = "pd_op.data", "builtin.parameter", "pd_op.fetch"
# Of an operator in the file; they do not change what it computes.
REMARKS = ("stop_gradient", "struct_name", "place")


class PaddleGraph(Graph):
    """The graph of a bundle; `PLAIN` has the kernels of dynamic graph, as the stage `static`."""

    keeps_names = False  # they are made here, of the order of operators

    def __init__(self, bundle: Bundle):
        """
        Args:
            bundle: with a `.json` graph.
        """
        self._bundle = bundle
        self._scope = paddle.static.Scope()
        with _static_graph(self._scope):
            self._executor = paddle.static.Executor(paddle.CPUPlace())
            self._program, inputs, outputs = paddle.static.load_inference_model(
                str(bundle.model_file.with_suffix("")), self._executor
            )
            block = self._program.global_block()
            for operator in [each for each in block.ops if each.name() == FETCH]:
                block.remove_op(operator)
            self._values: dict[str, Any] = {}
            self._names: dict[int, str] = {}
            self.layers = []
            self._read(block.ops)
            self.input, self.output = inputs[0], self._names[outputs[0].id]

    def _read(self, operators: Sequence[Any]) -> None:
        counts: Counter[str] = Counter()
        moving: set[str] = set()
        for operator in operators:
            kind = operator.name().removeprefix(DIALECT)
            counts[kind] += 1
            if operator.name() == COMBINE:
                continue
            attributes = operator.attrs()
            name = attributes.get("parameter_name") if operator.name() == PARAMETER else ""
            name = name or (attributes["name"] if operator.name() == DATA else "")
            name = name or f"{kind}_{counts[kind]}"
            made = []
            for place, value in enumerate(operator.results()):
                made.append(f"{name}.{place}" if place else name)
                self._names[value.id], self._values[made[-1]] = made[-1], value
            read = [self._names[value.id] for value in _operands(operator)]
            if operator.name() == DATA:
                moving |= set(made)
            elif moving & set(read):
                moving |= set(made)
                self.layers.append(self._layer_of(kind, read, made, attributes))

    def _layer_of(
        self, kind: str, read: list[str], made: list[str], attributes: dict[str, Any]
    ) -> Node:
        parameters = [name for name in read if self._is_parameter(name)]
        within = attributes.get("struct_name", "")
        place = f"parameter {parameters[0]}" if parameters else f"output {made[0]}"
        place += f" in {cut(within.strip('/'), 80)}" if within.strip("/") else ""
        kept = {name: value for name, value in attributes.items() if name not in REMARKS}
        return Node(kind, read, made, kept, place)

    def _is_parameter(self, name: str) -> bool:
        return bool(self._values[name].get_defining_op().name() == PARAMETER)

    def parameter(self, name: str) -> NDArray | None:
        """See `Graph.parameter`."""
        if not self._is_parameter(name):
            return None
        return np.array(self._scope.find_var(name).get_tensor())

    def at_a_time(self, image: NDArray) -> int:
        """See `Graph.at_a_time`; one where an operator may write over what another one made."""
        kinds = {node.kind for node in self.layers} - {"batch_norm_"}  # of its statistics only
        return 1 if any(kind.endswith("_") for kind in kinds) else super().at_a_time(image)

    def tensors(self, runtime: str, image: NDArray) -> Tensors:
        """See `Graph.tensors`."""
        run = RUNTIMES[runtime]

        def named(names: Sequence[str]) -> Mapping[str, NDArray]:
            with tempfile.TemporaryDirectory(prefix="part-") as folder:
                found = run(self._write_part(names, Path(folder)), image)
            return dict(zip(names, found, strict=True))

        return named

    def _write_part(self, names: Sequence[str], folder: Path) -> Bundle:
        """The part of the graph that makes these tensors."""
        with _static_graph(self._scope):
            paddle.static.save_inference_model(
                str(folder / "part"),
                [self._values[self.input]],
                [self._values[name] for name in names],
                self._executor,
                program=self._program,
            )
        return replace(
            self._bundle,
            model_file=folder / "part.json",
            params_file=folder / "part.pdiparams",
        )


def _operands(operator: Any) -> Iterator[Any]:
    """Yields the values that an operator reads; of a list each item."""
    for value in operator.operands_source():
        maker = value.get_defining_op()
        if maker is None:  # an option that is left out
            continue
        if maker.name() == COMBINE:
            yield from maker.operands_source()
        else:
            yield value


@contextmanager
def _static_graph(scope: Any) -> Iterator[None]:
    paddle.enable_static()
    try:
        with paddle.static.scope_guard(scope):
            yield
    finally:
        paddle.disable_static()


def _run_plainly(part: Bundle, image: NDArray) -> list[NDArray]:
    graph = paddle.jit.load(str(part.model_file.with_suffix("")))
    graph.eval()
    with paddle.no_grad():
        found = graph(paddle.to_tensor(image))
    return [value.numpy() for value in (found if isinstance(found, list | tuple) else [found])]


def _run_in_inference(part: Bundle, image: NDArray, engine: str) -> list[NDArray]:
    from paddle import inference

    predictor = inference.create_predictor(build_config(part, RuntimeSpec(engine, threads=1)))
    target = predictor.get_input_handle(predictor.get_input_names()[0])
    target.reshape(image.shape)
    target.copy_from_cpu(image)
    predictor.run()
    names = predictor.get_output_names()
    return [predictor.get_output_handle(name).copy_to_cpu() for name in names]


RUNTIMES: dict[str, Callable[[Bundle, NDArray], list[NDArray]]] = {
    PLAIN: _run_plainly,
    "paddle": partial(_run_in_inference, engine="paddle"),
    "paddle_onednn": partial(_run_in_inference, engine="paddle_onednn"),
}
