"""`--backend auto`: the recorded verdicts decide, and nothing is guessed."""

from dataclasses import replace
from pathlib import Path

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.machine import cpu_name
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle, bundle_for_onnx
from paddleseg_ext.inference.choice import choose_runtime
from paddleseg_ext.inference.engines.table import EngineEntry
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.verified import Verified

RIGHT = {
    "paddle": Verified("identical", True, ratio=1.0),
    "paddle_onednn": Verified("near-tie", True, ratio=3.5),
    "onnxruntime": Verified("near-tie", True, ratio=5.0),
    "openvino": Verified("failed", False, ratio=9.0),
    "openvino_int8": Verified("within budget", True, ratio=11.0),
}


def chosen(bundle: Bundle, precision: str = "fp32") -> tuple[str, str]:
    spec, reason = choose_runtime(bundle, precision)
    assert spec.precision == precision and spec.device == "cpu"
    return spec.engine, reason


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
    names = {"paddle", "onnxruntime", "openvino"}
    monkeypatch.setattr(EngineEntry, "is_installed", property(lambda entry: entry.package in names))
    return names


def test_the_fastest_that_was_right(tmp_path: Path, installed: set[str]) -> None:
    name, reason = chosen(make_bundle(tmp_path, RIGHT))
    assert name == "onnxruntime" and "near-tie, 5.00 times" in reason


def test_and_is_installed(tmp_path: Path, installed: set[str]) -> None:
    installed.discard("onnxruntime")
    name, reason = chosen(make_bundle(tmp_path, RIGHT))
    assert name == "paddle_onednn" and "not installed: onnxruntime" in reason


def test_a_record_of_another_release_does_not_count(tmp_path: Path, installed: set[str]) -> None:
    told = "recorded of version 0.1, installed is"
    verified = RIGHT | {"onnxruntime": replace(RIGHT["onnxruntime"], version="0.1")}
    name, reason = chosen(make_bundle(tmp_path, verified))
    assert name == "paddle_onednn" and f"; onnxruntime: {told}" in reason
    only = {"paddle_onednn": replace(RIGHT["paddle_onednn"], version="0.1")}
    name, reason = chosen(make_bundle(tmp_path, only))
    assert name == "paddle" and "no other is verified here" in reason and told in reason


def test_on_another_cpu_the_verdict_holds_and_a_fixed_order_decides(
    tmp_path: Path, installed: set[str]
) -> None:
    elsewhere = {
        name: replace(record, cpu="of another machine", passed=True)
        for name, record in RIGHT.items()
    }
    name, reason = chosen(make_bundle(tmp_path, elsewhere))
    assert name == "onnxruntime"  # openvino was faster there
    assert "speed not measured on this CPU, but on of another machine" in reason
    elsewhere["onnxruntime"] = replace(elsewhere["onnxruntime"], passed=False)
    assert chosen(make_bundle(tmp_path, elsewhere))[0] == "openvino"
    # A speed of this machine outranks those of another one.
    elsewhere["paddle_onednn"] = replace(RIGHT["paddle_onednn"], cpu=cpu_name())
    assert chosen(make_bundle(tmp_path, elsewhere))[0] == "paddle_onednn"


@pytest.mark.parametrize(("ratio", "name"), [(5.4, "onnxruntime"), (6.0, "openvino")])
def test_equal_speeds_follow_a_fixed_order(
    tmp_path: Path, installed: set[str], ratio: float, name: str
) -> None:
    verified = RIGHT | {"openvino": Verified("near-tie", True, ratio=ratio)}
    assert chosen(make_bundle(tmp_path, verified))[0] == name


def test_what_is_faster_in_a_lower_precision_is_named(tmp_path: Path, installed: set[str]) -> None:
    reason = chosen(make_bundle(tmp_path, RIGHT))[1]
    assert reason.endswith("; faster, if you name it: openvino_int8 (within budget, 11.00 times)")


def test_a_record_of_here_counts(
    tmp_path: Path, installed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build's own suffix is not another version."""
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.6.2.post120")
    here = replace(RIGHT["onnxruntime"], cpu=cpu_name(), version="2.6.2")
    verified = RIGHT | {"onnxruntime": here}
    assert chosen(make_bundle(tmp_path, verified))[0] == "onnxruntime"


def test_what_failed_is_not_taken(tmp_path: Path, installed: set[str]) -> None:
    wrong = Verified("failed", False)
    verified = {"onnxruntime_int8": wrong}
    assert chosen(make_bundle(tmp_path, verified), "int8")[0] == "openvino"
    verified["openvino_int8"] = wrong
    with pytest.raises(UsageError, match="recorded as failed in int8: onnxruntime, openvino;"):
        chosen(make_bundle(tmp_path, verified), "int8")
    with pytest.raises(UsageError, match="recorded as failed in fp32: paddle;"):
        chosen(make_bundle(tmp_path, {"paddle": wrong}))
    # What failed in another release may be right here.
    verified["openvino_int8"] = replace(wrong, version="0.1")
    assert chosen(make_bundle(tmp_path, verified), "int8")[0] == "openvino"


def test_what_a_new_size_costs_is_told(tmp_path: Path, installed: set[str]) -> None:
    verified = {"openvino_int8": replace(RIGHT["openvino_int8"], new_size_s=0.46)}
    reason = chosen(make_bundle(tmp_path, verified), "int8")[1]
    assert "a new input size takes 0.46 s more" in reason
    verified["openvino_int8"] = replace(RIGHT["openvino_int8"], new_size_s=0.001)
    assert "new input size" not in chosen(make_bundle(tmp_path, verified), "int8")[1]


def test_precisions_do_not_mix(tmp_path: Path, installed: set[str]) -> None:
    assert chosen(make_bundle(tmp_path, RIGHT), "int8")[0] == "openvino"
    only_fp32 = {"onnxruntime": RIGHT["onnxruntime"]}
    name, reason = chosen(make_bundle(tmp_path, only_fp32), "int8")
    assert name == "onnxruntime" and reason.startswith("not verified")


def test_without_a_record_it_is_paddle(tmp_path: Path, installed: set[str]) -> None:
    name, reason = chosen(make_bundle(tmp_path, {}))
    assert name == "paddle" and "paddleseg-ext tune" in reason


def test_an_onnx_graph_needs_one_of_its_backends(tmp_path: Path, installed: set[str]) -> None:
    path = tmp_path / "elsewhere.onnx"
    path.write_bytes(b"graph")
    assert chosen(bundle_for_onnx(path))[0] == "onnxruntime"
    installed -= {"onnxruntime", "openvino"}
    with pytest.raises(UsageError, match="neither ONNX Runtime nor OpenVINO is installed"):
        chosen(bundle_for_onnx(path))
    with pytest.raises(UsageError, match="has no int8 ONNX graph"):
        chosen(bundle_for_onnx(path), "int8")


def test_bf16_needs_no_graph_of_its_own(tmp_path: Path, installed: set[str]) -> None:
    """Of the engines that have it; without an ONNX graph that is Paddle's oneDNN."""
    records = {"openvino_bf16": Verified("within budget", True, ratio=9.0)}
    assert chosen(make_bundle(tmp_path, records), "bf16")[0] == "openvino"
    name, reason = chosen(make_bundle(tmp_path, RIGHT), "bf16")
    assert name == "openvino" and reason.startswith("not verified")
    without = make_bundle(tmp_path, {})
    assert without.manifest
    without = replace(without, manifest=replace(without.manifest, graphs={}))
    assert chosen(without, "bf16")[0] == "paddle_onednn"
    reason = chosen(make_bundle(tmp_path, RIGHT | records))[1]
    assert "faster, if you name it: openvino_int8" in reason and "openvino_bf16 (with" in reason


def test_half_precision_is_not_looked_for_in_a_bundle(tmp_path: Path, installed: set[str]) -> None:
    with pytest.raises(UsageError, match="--precision fp16 needs --device gpu") as caught:
        chosen(make_bundle(tmp_path, RIGHT), "fp16")
    assert "quantize" not in str(caught.value)
