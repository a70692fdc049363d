"""What the verb refuses before it runs, and how its results become a grade and an exit status."""

from pathlib import Path

import pytest

from paddleseg_ext.commands import parity as cli
from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.common.options import read_options
from paddleseg_ext.parity import report
from paddleseg_ext.parity.compare import Outcome
from paddleseg_ext.parity.controls import Control
from paddleseg_ext.parity.parity_run import ParityOptions
from paddleseg_ext.parity.stages import parse_stages
from paddleseg_ext.scoring.verdict import RunVerdict

DEMO = Path(__file__).parents[3] / "configs/bisenetv1/bisenetv1_synthetic_demo.yml"
NOT_DONE = Outcome("evaluation while training", "train", None, note="it scored 32 images")
IDENTICAL = Outcome("static", "static", RunVerdict("identical", 3))
CAUGHT = Control("red and blue swapped", True, "failed", "red and blue swapped", "static")
MISSED = Control("one weight changed", False, "identical", stage="onnxruntime_int8")


def read(*words: str) -> ParityOptions:
    return read_options(ParityOptions, cli.build_parser().parse_args(list(words)))


def test_the_reference_alone_is_refused(tmp_path):
    for name in ("model.pdparams", "image.png"):
        (tmp_path / name).write_bytes(b"not read")
    words = ["--config", "a.yml", "--model_path", str(tmp_path / "model.pdparams")]
    words += ["--image_list", str(tmp_path / "image.png"), "--stages", "eager"]
    with pytest.raises(UsageError, match="eager is what others are compared with; name one more"):
        read(*words).check(has_config=True)
    left, right = f"val={tmp_path}", f"infer={tmp_path}"
    both = read(*words, "--results", left, "--results", right)
    assert both.results == [left, right]
    read(*words, "--results", left).check(has_config=True)


def test_a_checkpoint_needs_its_configuration_and_eager_its_checkpoint():
    with pytest.raises(UsageError, match="--model_path needs the network's --config"):
        ParityOptions("val.list", model_path="w.pdparams").check(has_config=False)
    with pytest.raises(UsageError, match="eager needs the network's checkpoint"):
        ParityOptions("val.list", stages=["eager,static"]).check(has_config=True)
    with pytest.raises(UsageError, match="at least two are expected, got paddle"):
        ParityOptions("val.list", stages=["paddle"]).check(has_config=False)


def test_the_flags_have_the_defaults_of_the_options():
    assert read("--data", "val.list") == ParityOptions("val.list")
    assert read("--data", "val.list", "--negative_controls").negative_controls
    names = [spec.name for spec in ParityOptions("val.list").runtimes(is_legacy=True)]
    assert names == ["paddle", "paddle_onednn"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "a.yml"], "one of --model_path, --bundle and --onnx is expected"),
        (["--onnx", "a.onnx", "--stages", "onnxruntime,paddle"], "paddle cannot run --onnx"),
        (["--onnx", "a.onnx", "--stages", "onnxruntime,openvino"], "--onnx: 'a.onnx' does not"),
        (["--bundle", "none.yaml"], "--bundle: 'none.yaml' does not exist"),
    ],
)
def test_wrong_graphs_are_refused_before_paddle_is_imported(tmp_path, words, message):
    (tmp_path / "image.png").write_bytes(b"not read")
    with pytest.raises(UsageError, match=message):
        cli.main([*words, "--image_list", str(tmp_path / "image.png")])


def test_int8_in_paddle_is_refused_with_the_reason():
    with pytest.raises(UsageError, match=r"paddle_int8: Paddle 3\.2\.2 has no INT8 on a CPU"):
        parse_stages(["static,paddle_int8"])


def test_nothing_compared_is_no_pass():
    assert report.overall_grade([NOT_DONE], []) == "not compared"
    with pytest.raises(CheckFailed, match=r"nothing was compared \(evaluation while training: it "):
        report.check_outcomes([NOT_DONE], [])
    with pytest.raises(CheckFailed, match=r"nothing was compared \(no run\)"):
        report.check_outcomes([], [])


def test_nothing_compared_is_a_failure_in_junit():
    run = {"name": "train", "grade": None, "summary": "not compared", "seconds": 0.0}
    cases = report.parity_cases({"grade": "not compared", "runs": [run]})
    assert [case.failure for case in cases] == ["nothing was compared", ""]


def test_a_missed_control_and_a_stale_checkpoint_fail_whatever_the_runs_say():
    assert report.overall_grade([NOT_DONE, IDENTICAL], [CAUGHT]) == "identical"
    assert report.overall_grade([IDENTICAL], [CAUGHT, MISSED]) == "failed"
    assert report.overall_grade([IDENTICAL], [CAUGHT], "stale checkpoint: ...") == "failed"
    report.check_outcomes([IDENTICAL], [CAUGHT])
    with pytest.raises(CheckFailed, match="not noticed: one weight changed, onnxruntime_int8;"):
        report.check_outcomes([IDENTICAL], [CAUGHT, MISSED])
    with pytest.raises(CheckFailed, match="stale checkpoint: other"):
        report.check_outcomes([IDENTICAL], [], "stale checkpoint: other")


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


def test_quick_is_a_smaller_claim_in_words(tmp_path):
    for name in "abcde":
        (tmp_path / f"{name}.png").write_bytes(b"not read")
    words = ["--image_list", str(tmp_path), "--cpu_threads", "1", "2", "--batch_size", "1", "2"]
    whole, quick = read(*words), read(*words, "--quick")
    assert (len(whole.samples()), whole.ways(), whole.smaller_claim()) == (5, ([1, 2], [1, 2]), "")
    assert [sample.name for sample in quick.samples()] == ["a", "e"]
    assert quick.ways() == ([2], [1])
    assert "2 of 5 images, 2 threads and batches of 1 only" in quick.smaller_claim()
    for more in ("--negative_controls", f"--results=val={tmp_path}"):
        with pytest.raises(UsageError, match="leave one of the two out"):
            read(*words, "--quick", more).check(has_config=True)
