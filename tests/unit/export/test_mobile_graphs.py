"""Converters of phones' engines: in a process of their own, and a failure is one line."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.export import mobile_graphs
from paddleseg_ext.export.mobile_graphs import write_mnn
from paddleseg_ext.export.options import ExportOptions


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Replaces MNN's converter by a function of this body."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(mobile_graphs.metadata, "version", lambda name: "3.6.1")

    def run(body: str) -> dict:
        (tmp_path / "_tools.py").write_text(f"import os\ndef mnnconvert(words):\n{body}\n")
        return write_mnn(tmp_path / "m.onnx", tmp_path / "m.mnn")

    return run


def test_a_graph_is_written_and_named(stand_in, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    body = "    import json; open(words[6], 'w').write(json.dumps(words))"
    assert stand_in(body) == {"file": "m.mnn", "made_by": "MNN 3.6.1"}
    words = json.loads((tmp_path / "m.mnn").read_text())
    assert words[1:4] == ["-f", "ONNX", "--modelFile"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    print('[ERROR] no such operator', flush=True)", r"no such operator \(status 0, and"),
        ("    os.abort()", r"it prints nothing \(its process ended by SIGABRT\)$"),
    ],
)
def test_failures(stand_in, tmp_path: Path, body: str, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CheckFailed, match=message) as caught:
        stand_in(body)
    assert "\n" not in str(caught.value) and not (tmp_path / "m.mnn").exists()


def test_nothing_is_installed_or_sent_while_converting(tmp_path: Path) -> None:
    """MNN's own front installs a package by pip and reports to its makers when it is imported."""
    if importlib.util.find_spec("_tools") is None:
        pytest.skip("MNN is not installed")
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    sides, kind = [1, 3, 4, 4], onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", kind, sides)],
        [helper.make_tensor_value_info("y", kind, sides)],
    )
    onnx.save(helper.make_model(graph, ir_version=8), str(tmp_path / "m.onnx"))
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    pip = bin_folder / "pip"
    pip.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    pip.chmod(0o755)
    path = os.environ["PATH"]
    try:
        os.environ["PATH"] = f"{bin_folder}:{path}"
        write_mnn(tmp_path / "m.onnx", tmp_path / "m.mnn")
    finally:
        os.environ["PATH"] = path
    assert not (tmp_path / "called").exists()


def test_what_the_converter_leaves_where_it_runs_is_deleted(  # type: ignore[no-untyped-def]
    stand_in, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MNN's writes `.__convert_external_data.bin`."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    stand_in("    open('litter.bin', 'w').close(); open(words[6], 'w').write('a graph')")
    assert not list(here.iterdir()) and (tmp_path / "m.mnn").read_text() == "a graph"
    assert not list(tmp_path.rglob("litter.bin"))


def test_it_is_made_of_the_onnx_graph() -> None:
    assert ExportOptions(mnn=True).onnx is True
    with pytest.raises(UsageError, match="--mnn True needs --onnx True"):
        ExportOptions(mnn=True, onnx=False)


def test_ncnns_graph_needs_one_size_and_its_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ExportOptions(ncnn=True, input_shape=(64, 96)).onnx is True
    for options in ({}, {"input_shape": (64, 96), "fold_normalize": True}):
        with pytest.raises(UsageError, match="--ncnn True needs a fixed height and width"):
            ExportOptions(ncnn=True, **options)
    monkeypatch.setattr(mobile_graphs, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install --no-deps -r requirements/pnnx\.txt"):
        mobile_graphs.require_pnnx()


def test_an_operator_that_ncnn_does_not_have_is_named(tmp_path: Path) -> None:
    file = tmp_path / "net.ncnn.param"
    layers = ["Input in0 0 1 in0", "Tensor.slice a 1 1 in0 1", "Convolution b 1 1 1 out0 0=8"]
    file.write_text("\n".join(["7767517", "3 3", *layers]) + "\n")
    assert mobile_graphs._foreign_layers(file) == ["Tensor.slice"]
