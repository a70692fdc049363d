"""Names the layer that is to blame for a run that differs, in graphs that show their layers."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from paddleseg_ext.common.errors import cut
from paddleseg_ext.common.log import warn
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import as_input, filled
from paddleseg_ext.inference.engines.table import ONNX_ENGINES
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.parity.int8_layers import worst_layers
from paddleseg_ext.parity.layers import Graph, Layer, first_layer_between, first_layer_in
from paddleseg_ext.parity.onnx_layers import OnnxGraph
from paddleseg_ext.parity.stages import STATIC

PADDLE_ENGINES = (STATIC, "paddle", "paddle_onednn")

# Reads a bundle's graph.
Read = Callable[[Bundle], Graph]


def _read_onnx(bundle: Bundle) -> Graph:
    return OnnxGraph(bundle.onnx_file("fp32"))


def _read_paddle(bundle: Bundle) -> Graph:
    from paddleseg_ext.parity.paddle_layers import PaddleGraph  # imports Paddle

    return PaddleGraph(bundle)


class LayerFinder:
    """Names the layer that is to blame for a failed run; once per graph and runtime."""

    def __init__(self, export_network: Callable[[], Bundle] | None = None):
        """
        Args:
            export_network: the bundle of the network itself; None where there is no network, and a
                runtime is compared with the graph as it is written.
        """
        self._export_network = export_network
        self._network: Bundle | None = None
        self._graphs: dict[Read, Graph] = {}
        self._found: dict[tuple[str, str], Layer | None] = {}

    def __call__(self, bundle: Bundle, spec: RuntimeSpec, tensor: NDArray) -> Layer | None:
        """The layer; None where the runtime gives no intermediate tensors, or none differs.

        Args:
            bundle: that was run.
            spec: the runtime of the run.
            tensor: (3, H, W), an input of the network at which the run differs.
        """
        find = self._search_for(bundle, spec)
        if find is None:
            return None
        key = (str(bundle.model_file), spec.name)
        if key not in self._found:
            image = as_input(filled(tensor[np.newaxis], bundle.input_shape), bundle.input_dtype)
            try:
                self._found[key] = find(image)
            # Of five libraries; none of it shall cost the verdict.
            except Exception as error:
                warn(f"[PARITY] no layer is named: {cut(str(error).strip().partition(chr(10))[0])}")
                self._found[key] = None
        return self._found[key]

    def _search_for(
        self, bundle: Bundle, spec: RuntimeSpec
    ) -> Callable[[NDArray], Layer | None] | None:
        """The search in a runtime; None where it gives no intermediate tensors."""
        if spec.device != "cpu":
            return None
        if spec.engine in ONNX_ENGINES and spec.precision == "int8":
            return partial(worst_layers, bundle, spec.engine)
        if spec.precision != "fp32":
            return None
        if spec.engine in ONNX_ENGINES:
            return partial(self._search, _read_onnx, bundle, spec.engine)
        if spec.engine in PADDLE_ENGINES and bundle.model_file.suffix == ".json":
            return partial(self._search, _read_paddle, bundle, spec.engine)
        return None

    def _search(self, read: Read, bundle: Bundle, engine: str, image: NDArray) -> Layer | None:
        graph, reference = read(bundle), self._graph_of_network(read)
        if reference is not None:
            found = first_layer_between(graph, reference, image)
            if found is not None:
                return found
        # The kernels of `static` are those of the graph as it is written.
        return None if engine == STATIC else first_layer_in(graph, image, engine)

    def _graph_of_network(self, read: Read) -> Graph | None:
        if self._export_network is None:
            return None
        if self._network is None:
            self._network = self._export_network()
        has_onnx = self._network.manifest is None or "onnx" in self._network.manifest.graphs
        if read is _read_onnx and not has_onnx:
            return None
        if read not in self._graphs:
            self._graphs[read] = read(self._network)
        return self._graphs[read]
