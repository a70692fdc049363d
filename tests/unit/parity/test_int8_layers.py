"""The layers with the largest quantization error, in a small graph."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import numpy_helper  # noqa: E402

from paddleseg_ext.inference.bundle import Bundle  # noqa: E402
from paddleseg_ext.inference.runtime import RuntimeSpec  # noqa: E402
from paddleseg_ext.parity import int8_layers  # noqa: E402
from paddleseg_ext.parity.int8_layers import FAULT, ROUNDING  # noqa: E402
from paddleseg_ext.parity.layer_finder import LayerFinder  # noqa: E402
from paddleseg_ext.parity.layers import Layer  # noqa: E402
from paddleseg_ext.quantization.graph import QuantizableGraph  # noqa: E402
from tests.small_onnx import IMAGE, MODEL, bundle_of  # noqa: E402


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """The small graph, and the same in INT8."""
    folder = tmp_path / "bundle"
    made = bundle_of(folder, MODEL)
    (tmp_path / "work").mkdir()
    graph = QuantizableGraph(folder / "model.onnx", tmp_path / "work")
    graph.calibrate([IMAGE])
    graph.write(folder / "model_int8.onnx", graph.layers)
    graphs = {"onnx": {"file": "model.onnx"}, "onnx_int8": {"file": "model_int8.onnx"}}
    manifest = SimpleNamespace(graphs=graphs)
    return replace(made, deploy_file=folder / "deploy.yaml", manifest=manifest)


def found_in(bundle: Bundle, engine: str = "onnxruntime") -> Layer:
    found = LayerFinder()(bundle, RuntimeSpec(engine, "int8"), IMAGE[0])
    assert found is not None
    return found


def change_scale(bundle: Bundle, node_input: str, factor: float) -> None:
    """Of what is rounded, or of a convolution's weights."""
    file = bundle.onnx_file("int8")
    model = onnx.load(str(file))
    quantize = next(node for node in model.graph.node if node_input in node.input[:1])
    scale = next(each for each in model.graph.initializer if each.name == quantize.input[1])
    values = numpy_helper.to_array(scale) * np.float32(factor)
    scale.CopyFrom(numpy_helper.from_array(values, scale.name))
    onnx.save(model, str(file))


def test_a_sound_graph_names_the_layers_that_lose_most(bundle: Bundle) -> None:
    found = found_in(bundle)
    assert found.title == ROUNDING, found
    assert found.text.count("%") == 3, found.text


@pytest.mark.parametrize("factor", [100.0, 0.01])
@pytest.mark.parametrize(
    ("tensor", "output"), [("relu", "relu"), ("pool", "pool"), ("w2_quantized", "conv2")]
)
def test_a_wrong_scale_is_placed(bundle: Bundle, tensor: str, output: str, factor: float) -> None:
    change_scale(bundle, tensor, factor)
    found = found_in(bundle)
    assert (found.title, found.output) == (FAULT, output), found
    assert "computes it wrongly" not in found.text


def test_a_runtime_that_computes_a_layer_wrongly(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = int8_layers.RUNTIMES["onnxruntime"]

    def wrong(content: bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        outputs = right(content, feeds)
        outputs[2] = outputs[2] * 2
        return outputs

    monkeypatch.setitem(int8_layers.RUNTIMES, "openvino", wrong)
    found = found_in(bundle, "openvino")
    assert found.title == FAULT
    assert found.text.endswith("as the graph is written: openvino computes it wrongly")
