"""`--backend auto`: what is recorded as right decides, and nothing is guessed."""

from pathlib import Path

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.machine import cpu_name
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference import choice
from paddleseg_ext.inference.bundle import Bundle, Manifest, bundle_for_onnx
from paddleseg_ext.inference.choice import choose_backend

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


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"cpu": "of another machine"}, "recorded on another CPU, of another machine"),
        ({"version": "0.1"}, "recorded of version 0.1, installed is"),
    ],
)
def test_a_record_of_elsewhere_does_not_count(
    tmp_path: Path, installed: set[str], found: dict, told: str
) -> None:
    verified = RIGHT | {"onnxruntime": RIGHT["onnxruntime"] | found}
    name, reason = choose_backend(make_bundle(tmp_path, verified))
    assert name == "paddle_onednn" and f"; onnxruntime: {told}" in reason
    only = {"paddle_onednn": RIGHT["paddle_onednn"] | found}
    name, reason = choose_backend(make_bundle(tmp_path, only))
    assert name == "paddle" and "no other is verified here" in reason and told in reason


def test_a_record_of_here_counts(
    tmp_path: Path, installed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build's own suffix is not another version."""
    monkeypatch.setattr(choice.metadata, "version", lambda _: "2.6.2.post120")
    here = {"cpu": cpu_name(), "version": "2.6.2"}
    verified = RIGHT | {"onnxruntime": RIGHT["onnxruntime"] | here}
    assert choose_backend(make_bundle(tmp_path, verified))[0] == "onnxruntime"


def test_what_failed_is_not_taken(tmp_path: Path, installed: set[str]) -> None:
    wrong = {"grade": "failed", "passed": False}
    verified = {"onnxruntime_int8": wrong}
    assert choose_backend(make_bundle(tmp_path, verified), "int8")[0] == "openvino"
    verified["openvino_int8"] = wrong
    with pytest.raises(UsageError, match="failed in int8 on this machine: onnxruntime, openvino"):
        choose_backend(make_bundle(tmp_path, verified), "int8")
    with pytest.raises(UsageError, match="failed in fp32 on this machine: paddle;"):
        choose_backend(make_bundle(tmp_path, {"paddle": wrong}))
    # What failed on another machine may be right here.
    verified["openvino_int8"] = wrong | {"cpu": "of another machine"}
    assert choose_backend(make_bundle(tmp_path, verified), "int8")[0] == "openvino"


def test_what_a_new_size_costs_is_told(tmp_path: Path, installed: set[str]) -> None:
    verified = {"openvino_int8": RIGHT["openvino_int8"] | {"new_size_s": 0.46}}
    reason = choose_backend(make_bundle(tmp_path, verified), "int8")[1]
    assert "a new input size takes 0.46 s more" in reason
    verified["openvino_int8"]["new_size_s"] = 0.001
    assert "new input size" not in choose_backend(make_bundle(tmp_path, verified), "int8")[1]


def test_precisions_do_not_mix(tmp_path: Path, installed: set[str]) -> None:
    assert choose_backend(make_bundle(tmp_path, RIGHT), "int8")[0] == "openvino"
    only_fp32 = {"onnxruntime": RIGHT["onnxruntime"]}
    name, reason = choose_backend(make_bundle(tmp_path, only_fp32), "int8")
    assert name == "onnxruntime" and reason.startswith("not verified")


def test_without_a_record_it_is_paddle(tmp_path: Path, installed: set[str]) -> None:
    name, reason = choose_backend(make_bundle(tmp_path, {}))
    assert name == "paddle" and "paddleseg-ext tune" in reason


def test_an_onnx_graph_needs_one_of_its_backends(tmp_path: Path, installed: set[str]) -> None:
    path = tmp_path / "elsewhere.onnx"
    path.write_bytes(b"graph")
    assert choose_backend(bundle_for_onnx(path))[0] == "onnxruntime"
    installed -= {"onnxruntime", "openvino"}
    with pytest.raises(UsageError, match="neither ONNX Runtime nor OpenVINO is installed"):
        choose_backend(bundle_for_onnx(path))
    with pytest.raises(UsageError, match="has no int8 ONNX graph"):
        choose_backend(bundle_for_onnx(path), "int8")


def test_half_precision_is_not_looked_for_in_a_bundle(tmp_path: Path, installed: set[str]) -> None:
    with pytest.raises(UsageError, match="--precision fp16 needs --device gpu") as caught:
        choose_backend(make_bundle(tmp_path, RIGHT), "fp16")
    assert "quantize" not in str(caught.value)
