"""`--backend auto`: what is recorded as right decides, and nothing is guessed."""

from pathlib import Path

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.data.labels import generic_table
from paddleseg_ext.inference.backends import choice
from paddleseg_ext.inference.backends.choice import choose_backend
from paddleseg_ext.inference.bundle import Bundle, Manifest, bundle_for_onnx

RIGHT = {
    "paddle": {"grade": "identical", "passed": True, "ratio": 1.0},
    "paddle_onednn": {"grade": "near-tie", "passed": True, "ratio": 3.5},
    "onnxruntime": {"grade": "near-tie", "passed": True, "ratio": 5.0},
    "openvino": {"grade": "failed", "passed": False, "ratio": 9.0},
    "openvino_int8": {"grade": "within budget", "passed": True, "ratio": 11.0},
}


def make_bundle(folder: Path, verified: dict) -> Bundle:
    graphs = {"onnx": {"file": "model.onnx"}, "onnx_int8": {"file": "model_int8.onnx"}}
    for graph in graphs.values():
        (folder / graph["file"]).write_bytes(b"graph")
    manifest = Manifest("Network", generic_table(2), graphs=graphs, verified=verified)
    model = folder / "model.json"
    params = folder / "model.pdiparams"
    return Bundle(folder / "deploy.yaml", model, params, [], None, "none", manifest)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    names = {"paddle", "paddle_onednn", "onnxruntime", "openvino"}
    monkeypatch.setattr(choice, "is_installed", lambda name: name in names)
    return names


def test_the_fastest_that_was_right(tmp_path: Path, installed: set[str]) -> None:
    name, reason = choose_backend(make_bundle(tmp_path, RIGHT))
    assert name == "onnxruntime" and "near-tie, 5.00 times" in reason


def test_and_is_installed(tmp_path: Path, installed: set[str]) -> None:
    installed.discard("onnxruntime")
    name, reason = choose_backend(make_bundle(tmp_path, RIGHT))
    assert name == "paddle_onednn" and "not installed: onnxruntime" in reason


def test_precisions_do_not_mix(tmp_path: Path, installed: set[str]) -> None:
    assert choose_backend(make_bundle(tmp_path, RIGHT), "int8")[0] == "openvino"
    only_fp32 = {"onnxruntime": RIGHT["onnxruntime"]}
    name, reason = choose_backend(make_bundle(tmp_path, only_fp32), "int8")
    assert name == "onnxruntime" and reason.startswith("not verified")


def test_without_a_record_it_is_paddle(tmp_path: Path, installed: set[str]) -> None:
    name, reason = choose_backend(make_bundle(tmp_path, {}))
    assert name == "paddle" and "python -m paddleseg_ext tune" in reason


def test_an_onnx_graph_needs_one_of_its_backends(tmp_path: Path, installed: set[str]) -> None:
    path = tmp_path / "elsewhere.onnx"
    path.write_bytes(b"graph")
    assert choose_backend(bundle_for_onnx(path))[0] == "onnxruntime"
    installed -= {"onnxruntime", "openvino"}
    with pytest.raises(UsageError, match="neither ONNX Runtime nor OpenVINO is installed"):
        choose_backend(bundle_for_onnx(path))
    with pytest.raises(UsageError, match="has no int8 ONNX graph"):
        choose_backend(bundle_for_onnx(path), "int8")
