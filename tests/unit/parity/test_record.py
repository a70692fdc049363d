"""What `parity` found of a backend is kept in the bundle, for `auto` and `bench`."""

from pathlib import Path

import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.common.machine import cpu_name
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import (
    Bundle,
    Manifest,
    bundle_for_onnx,
    read_bundle,
    write_deploy_yaml,
)
from paddleseg_ext.inference.choice import choose_backend, installed_version
from paddleseg_ext.parity import record as record_module
from paddleseg_ext.parity.compare import Outcome
from paddleseg_ext.parity.record import record
from paddleseg_ext.scoring.verdict import FAILED, IDENTICAL, RunVerdict

VERSION = installed_version("paddle")
HERE = {"cpu": cpu_name(), "version": VERSION}
BACKEND = {"name": "paddle_inference", "version": VERSION}


def write_bundle(folder: Path, verified: dict | None = None) -> Bundle:
    folder.mkdir(exist_ok=True)
    (folder / "model.json").write_text("{}")
    (folder / "model.pdiparams").write_bytes(b"weights")
    manifest = Manifest("Network", generic_table(2), verified=verified or {})
    write_deploy_yaml(folder, [], [-1, 3, -1, -1], "none", manifest)
    return read_bundle(folder)


def verified(folder: Path) -> dict:
    manifest = read_bundle(folder).manifest
    assert manifest is not None
    return dict(manifest.verified)


def run(stage: str, grade: str = IDENTICAL, backend: dict | None = None) -> Outcome:
    verdict = RunVerdict(grade, 3, num_different=9 if grade == FAILED else 0)
    return Outcome(f"{stage} threads 1", stage, verdict, backend=backend or dict(BACKEND))


def test_the_worst_of_a_backends_runs_is_kept(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, {"openvino": {"passed": True}})
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
    assert found["openvino"] == {"passed": True}
    assert found["paddle"]["passed"] and not found["paddle_onednn"]["passed"]
    assert found["paddle_onednn"] == {
        "grade": FAILED, "passed": False, "num_different": 9, "num_images": 3, **HERE,
    }  # fmt: skip


def test_auto_refuses_what_failed(tmp_path: Path) -> None:
    fast = {"grade": "near-tie", "passed": True, "ratio": 3.5, **HERE}
    bundle = write_bundle(tmp_path, {"paddle_onednn": fast})
    assert choose_backend(bundle)[0] == "paddle_onednn"
    record(bundle, [run("paddle"), run("paddle_onednn", FAILED)])
    assert choose_backend(read_bundle(tmp_path))[0] == "paddle"
    record(read_bundle(tmp_path), [run("paddle", FAILED)])
    with pytest.raises(UsageError, match="recorded as failed"):
        choose_backend(read_bundle(tmp_path))


def test_a_speed_stays_where_it_holds(tmp_path: Path) -> None:
    for cpu, kept in ((cpu_name(), {"ratio": 3.5}), ("of another machine", {})):
        earlier = {"paddle_onednn": {"passed": True, "ratio": 3.5, "cpu": cpu}}
        record(write_bundle(tmp_path / cpu, earlier), [run("paddle_onednn")])
        found = verified(tmp_path / cpu)["paddle_onednn"]
        assert {k: v for k, v in found.items() if k == "ratio"} == kept and found["passed"]


def test_what_cannot_be_recorded_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path)
    (tmp_path / "elsewhere.onnx").write_bytes(b"graph")
    record(bundle_for_onnx(tmp_path / "elsewhere.onnx"), [run("onnxruntime")])
    assert "not recorded: the bundle has no Manifest" in capsys.readouterr().out
    record(bundle, [run("paddle", FAILED)], stale="stale checkpoint?")
    assert "not recorded: another checkpoint" in capsys.readouterr().out

    def read_only(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(record_module, "record_verified", read_only)
    record(bundle, [run("paddle")])
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "deploy.yaml: Permission denied" in out
    assert verified(tmp_path) == {}
