"""The layer that is to blame: which graphs are asked, and how often."""

from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from paddleseg_ext.inference.bundle import Bundle  # noqa: E402
from paddleseg_ext.inference.runtime import RuntimeSpec  # noqa: E402
from paddleseg_ext.parity.layer_finder import LayerFinder  # noqa: E402
from tests.planted_faults import faults_of  # noqa: E402
from tests.small_onnx import IMAGE, MODEL, bundle_of  # noqa: E402


def test_a_finder_asks_the_networks_own_graph_first(tmp_path: Path) -> None:
    fault, asked = next(f for f in faults_of(MODEL) if f.name == "Conv weight"), []

    def export() -> Bundle:
        asked.append(1)
        return bundle_of(tmp_path / "own", MODEL)

    bundle, find = bundle_of(tmp_path / "given", fault.model), LayerFinder(export)
    for _ in range(2):  # once per runtime, whatever the number of runs
        found = find(bundle, RuntimeSpec("onnxruntime"), IMAGE[0])
        assert found is not None and found.output == fault.output
    assert asked == [1]
    for spec in (RuntimeSpec("paddle"), RuntimeSpec("openvino", "bf16")):
        assert find(bundle, spec, IMAGE[0]) is None
    # Without a network the runtime is compared with the graph as it is written.
    assert LayerFinder()(bundle, RuntimeSpec("onnxruntime"), IMAGE[0]) is None


def test_a_finder_that_fails_costs_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = bundle_of(tmp_path / "given", MODEL)
    assert LayerFinder()(bundle, RuntimeSpec("onnxruntime"), IMAGE[0, :2]) is None
    assert "no layer is named: " in capsys.readouterr().out
