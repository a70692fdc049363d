"""What the verb refuses before it runs, and how its results become a grade and an exit status."""

from pathlib import Path

import pytest

from paddleseg_ext.commands import parity as cli
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.parity import report
from paddleseg_ext.parity.compare import Outcome
from paddleseg_ext.parity.controls import Control
from paddleseg_ext.parity.stages import parse_stages
from paddleseg_ext.scoring.verdict import RunVerdict

DEMO = Path(__file__).parents[3] / "configs/bisenetv1/bisenetv1_synthetic_demo.yml"
NOT_DONE = Outcome("evaluation while training", "train", None, note="it scored 32 images")
IDENTICAL = Outcome("static", "static", RunVerdict("identical", 3))
CAUGHT = Control("red and blue swapped", True, "failed", "red and blue swapped", "static")
MISSED = Control("one weight changed", False, "identical", stage="onnxruntime_int8")


def test_the_reference_alone_is_refused():
    words = ["--config", "a.yml", "--model_path", "w", "--image_list", "x", "--stages", "eager"]
    with pytest.raises(UsageError, match="eager is what others are compared with; name one more"):
        cli.check_stages(parse_stages(["eager"]), cli.build_parser().parse_args(words))
    given = cli.build_parser().parse_args([*words, "--results", "val=left"])
    pairs = ["--results", "val=left", "--results", "infer=right"]
    both = cli.build_parser().parse_args([*words, *pairs])
    assert both.results == ["val=left", "infer=right"]
    cli.check_stages(parse_stages(["eager"]), given)


def test_int8_in_paddle_is_refused_with_the_reason():
    with pytest.raises(UsageError, match=r"paddle_int8: Paddle 3\.2\.2 has no INT8 on a CPU"):
        parse_stages(["static,paddle_int8"])


def test_nothing_compared_is_no_pass():
    assert report.overall_grade([NOT_DONE], []) == "not compared"
    with pytest.raises(CheckFailed, match=r"nothing was compared \(evaluation while training: it "):
        cli.conclude([NOT_DONE], [])
    with pytest.raises(CheckFailed, match=r"nothing was compared \(no run\)"):
        cli.conclude([], [])


def test_nothing_compared_is_a_failure_in_junit():
    run = {"name": "train", "grade": None, "summary": "not compared", "seconds": 0.0}
    cases = report.parity_cases({"grade": "not compared", "runs": [run]})
    assert [case.failure for case in cases] == ["nothing was compared", ""]


def test_a_missed_control_and_a_stale_checkpoint_fail_whatever_the_runs_say():
    assert report.overall_grade([NOT_DONE, IDENTICAL], [CAUGHT]) == "identical"
    assert report.overall_grade([IDENTICAL], [CAUGHT, MISSED]) == "failed"
    assert report.overall_grade([IDENTICAL], [CAUGHT], "stale checkpoint: ...") == "failed"
    cli.conclude([IDENTICAL], [CAUGHT])
    with pytest.raises(CheckFailed, match="not noticed: one weight changed, onnxruntime_int8;"):
        cli.conclude([IDENTICAL], [CAUGHT, MISSED])
    with pytest.raises(CheckFailed, match="stale checkpoint: other"):
        cli.conclude([IDENTICAL], [], "stale checkpoint: other")


def test_a_bundles_folder_stands_for_its_deploy_yaml(tmp_path):
    (tmp_path / "deploy.yaml").write_text("Deploy: [1, 2")
    (tmp_path / "val.list").write_text("a.png\n")
    with pytest.raises(UsageError, match=r"deploy\.yaml, line 1"):
        given = ["--bundle", str(tmp_path), "--image_list", str(tmp_path / "val.list")]
        cli.main([*given, "--stages", "paddle,paddle_onednn", "--save_dir", str(tmp_path / "x")])


def test_a_missing_list_is_found_before_anything_is_exported(tmp_path):
    given = [
        "--config",
        "configs/bisenetv1/bisenetv1_synthetic_demo.yml",
        "--image_list",
        "no.list",
    ]
    weights = tmp_path / "model.pdparams"
    weights.write_bytes(b"not read")
    with pytest.raises(UsageError, match=r"no\.list' does not exist"):
        cli.main([*given, "--model_path", str(weights), "--save_dir", str(tmp_path / "parity")])
    assert not (tmp_path / "parity").exists()
