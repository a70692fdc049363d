"""What `parity` found of a backend is kept in the bundle, for `auto` and `bench`."""

from pathlib import Path

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.machine import cpu_name
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle, bundle_for_onnx, read_bundle, write_deploy_yaml
from paddleseg_ext.inference.choice import choose_runtime
from paddleseg_ext.inference.engines.table import ENGINES
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.runtime import RuntimeReport
from paddleseg_ext.inference.verified import Verified
from paddleseg_ext.parity import record as record_module
from paddleseg_ext.parity.compare import Outcome
from paddleseg_ext.parity.record import record
from paddleseg_ext.scoring.verdict import FAILED, IDENTICAL, RunVerdict

VERSION = ENGINES["paddle"].installed_version or ""
REPORT = RuntimeReport("paddle_inference", VERSION)


def write_bundle(folder: Path, verified: dict[str, Verified] | None = None) -> Bundle:
    folder.mkdir(exist_ok=True)
    (folder / "model.json").write_text("{}")
    (folder / "model.pdiparams").write_bytes(b"weights")
    manifest = Manifest("Network", generic_table(2), verified=verified or {})
    write_deploy_yaml(folder, [], [-1, 3, -1, -1], "none", manifest)
    return read_bundle(folder)


def verified(folder: Path) -> dict[str, Verified]:
    return dict(read_bundle(folder).verified)


def run(stage: str, grade: str = IDENTICAL) -> Outcome:
    verdict = RunVerdict(grade, 3, num_different=9 if grade == FAILED else 0)
    return Outcome(f"{stage} threads 1", stage, verdict, report=REPORT)


def test_the_worst_of_a_backends_runs_is_kept(tmp_path: Path) -> None:
    earlier = Verified("near-tie", True)
    bundle = write_bundle(tmp_path, {"openvino": earlier})
    missing = Outcome("onnxruntime", "onnxruntime", RunVerdict(FAILED, 3, reason="not installed"))
    runs = [run("static"), run("paddle"), run("paddle_onednn"), run("paddle_onednn", FAILED)]
    record(
        bundle,
        [
            *runs,
            run("paddle_onednn"),
            missing,
            run("train"),
            run("command"),
            run("paddle_gpu", FAILED),
        ],
    )
    found = verified(tmp_path)
    assert set(found) == {"openvino", "paddle", "paddle_onednn"}
    assert found["openvino"] == earlier
    assert found["paddle"].passed and not found["paddle_onednn"].passed
    assert found["paddle_onednn"] == Verified(
        FAILED, False, 9, 3, command="parity", version=VERSION, cpu=cpu_name()
    )


def test_auto_refuses_what_failed(tmp_path: Path) -> None:
    fast = Verified("near-tie", True, ratio=3.5, cpu=cpu_name(), version=VERSION)
    bundle = write_bundle(tmp_path, {"paddle_onednn": fast})
    assert choose_runtime(bundle)[0].name == "paddle_onednn"
    record(bundle, [run("paddle"), run("paddle_onednn", FAILED)])
    assert choose_runtime(read_bundle(tmp_path))[0].name == "paddle"
    record(read_bundle(tmp_path), [run("paddle", FAILED)])
    with pytest.raises(UsageError, match="recorded as failed in fp32: paddle_onednn, paddle; "):
        choose_runtime(read_bundle(tmp_path))


def test_one_that_is_taken_unverified_is_named_beside_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An INT8 graph that failed in ONNX Runtime, and was not judged in OpenVINO."""
    version = ENGINES["onnxruntime"].installed_version
    for name in ("onnxruntime", "openvino"):
        monkeypatch.setattr(type(ENGINES[name]), "is_installed", True)
    bundle = write_bundle(
        tmp_path, {"onnxruntime_int8": Verified(FAILED, False, version=version or "")}
    )
    monkeypatch.setattr(Bundle, "onnx_file", lambda *_: tmp_path)
    spec, why = choose_runtime(bundle, "int8")
    assert spec.name == "openvino_int8" and "not verified here" in why
    assert why.endswith("; recorded as failed in int8: onnxruntime")


@pytest.mark.parametrize(
    ("made", "kept"),
    [
        ({}, 3.5),
        ({"cpu": cpu_name(), "version": VERSION}, 3.5),
        ({"cpu": "of another machine"}, None),
        ({"version": "0.1"}, None),
    ],
)
def test_a_speed_stays_where_it_holds(tmp_path: Path, made: dict, kept: float | None) -> None:
    earlier = Verified("near-tie", True, ratio=3.5, cpu_threads=2, **made)
    record(write_bundle(tmp_path, {"paddle_onednn": earlier}), [run("paddle_onednn")])
    found = verified(tmp_path)["paddle_onednn"]
    assert (found.ratio, found.cpu_threads) == (kept, kept and 2)
    assert (found.grade, found.passed, found.cpu) == (IDENTICAL, True, cpu_name())


def test_it_outranks_what_export_recorded(tmp_path: Path) -> None:
    earlier = Verified(IDENTICAL, True, num_images=1, command="export", ratio=3.5)
    record(write_bundle(tmp_path, {"paddle_onednn": earlier}), [run("paddle_onednn", FAILED)])
    found = verified(tmp_path)["paddle_onednn"]
    assert (found.passed, found.command, found.num_images) == (False, "parity", 3)
    assert found.ratio == 3.5


def test_what_cannot_be_recorded_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path)
    (tmp_path / "elsewhere.onnx").write_bytes(b"graph")
    record(bundle_for_onnx(tmp_path / "elsewhere.onnx"), [run("onnxruntime")])
    assert "not recorded: the bundle has no Manifest" in capsys.readouterr().out
    record(bundle, [run("paddle", FAILED)], faults=["stale checkpoint: x"])
    assert "not recorded: another checkpoint" in capsys.readouterr().out

    def read_only(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(record_module, "record_verified", read_only)
    record(bundle, [run("paddle")])
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "deploy.yaml: Permission denied" in out
    assert verified(tmp_path) == {}


@pytest.mark.parametrize(
    ("earlier", "grade", "command"),
    [
        (Verified(FAILED, False, 9, 8, command="parity", version=VERSION), IDENTICAL, "parity"),
        (Verified(IDENTICAL, True, 0, 8, command="tune", version=VERSION), IDENTICAL, "tune"),
        (Verified(IDENTICAL, True, 0, 8, version=VERSION), FAILED, "parity --quick"),
        (Verified(IDENTICAL, True, 0, 8, version="0.1"), IDENTICAL, "parity --quick"),
        (Verified(FAILED, False, 9, 1, version=VERSION), IDENTICAL, "parity --quick"),
    ],
)
def test_a_quick_pass_does_not_outrank_more_images(
    tmp_path: Path, earlier: Verified, grade: str, command: str
) -> None:
    record(write_bundle(tmp_path, {"paddle": earlier}), [run("paddle", grade)], quick=True)
    found = verified(tmp_path)["paddle"]
    assert found.command == command
    assert found.passed == (earlier.passed if command != "parity --quick" else grade == IDENTICAL)
