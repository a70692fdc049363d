"""The pages of examples/, with a stand-in for the graph that they download."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from paddleseg_ext.commands import parity

PROJECT = Path(__file__).resolve().parents[2]
PAGE = PROJECT / "examples" / "any_onnx_graph.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def write_detector(path: Path) -> None:
    """(N, 3, H, W) -> (N, 1, H, W), a probability: the brighter, the more of text."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.full((1, 3, 3, 3), 0.2, np.float32), "w")
    bias = onnx.numpy_helper.from_array(np.full(1, -0.5, np.float32), "b")
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["y"], ["p"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "detector",
        [value("x", kind, ["N", 3, "H", "W"])],
        [value("p", kind, ["N", 1, "H", "W"])],
        [weight, bias],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))


def test_any_onnx_graph_goes_through_parity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("onnxruntime", "openvino"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    write_detector(Path("ch_PP-OCRv4_det_infer.onnx"))
    Path("text.yml").write_text(*blocks("yaml"))
    for source in blocks("python"):
        exec(compile(source, PAGE.name, "exec"), {})
    command = shlex.split(blocks("console")[-1].replace("\\\n", " "))
    assert command[:2] == ["paddleseg-ext", "parity"]
    parity.main(command[2:])
    page = Path("output/parity/report.html").read_text()
    assert "PASSED: may be shipped" in page
