"""What goes wrong with a run is its verdict: broken results, fallbacks, runtimes that refuse."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from paddleseg_ext.common.errors import CheckFailed, UsageError
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.reading import read_image
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec
from paddleseg_ext.parity import reference as reference_module
from paddleseg_ext.parity.compare import (
    Comparison,
    ParityRun,
    compare_all,
    compare_run,
    describe,
    evidence_of,
    judge_folder,
    judge_reference,
)
from paddleseg_ext.parity.divergence import Evidence
from paddleseg_ext.parity.record import verdicts
from paddleseg_ext.parity.reference import Reference
from paddleseg_ext.parity.report import check_outcomes
from paddleseg_ext.scoring.verdict import Budget

NORMALIZE = [{"type": "Normalize"}]
EVERYTHING = Budget(1.0, 1.0, 1.0)


class Colors(Engine):
    """A network whose classes are the colours, and which says that ONNX Runtime runs it."""

    def run(self, batch):
        return 10 * batch

    def describe(self):
        return RuntimeReport("onnxruntime", kernels={"Conv": 1})


class Moved(Colors):
    """As after some more training: a few decided pixels differ."""

    def run(self, batch):
        scores = 10 * batch
        scores[:, 0] += 0.5
        return scores


def predictor_of(engine: Engine, name: str = "onnxruntime") -> Predictor:
    parts = Preprocess(NORMALIZE), Postprocess(), generic_table(3)
    return Predictor(engine, *parts, RuntimeSpec.parse(name))


@pytest.fixture
def comparison(tmp_path):
    generator = np.random.default_rng(0)
    image, label = tmp_path / "0.png", tmp_path / "0_label.png"
    cv2.imwrite(str(image), generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    cv2.imwrite(str(label), generator.integers(0, 3, (12, 16), dtype=np.uint8))
    (tmp_path / "maps").mkdir()
    samples = [Sample(image, label, "0")]
    reference = Reference(predictor_of(Colors(), "eager"), samples, tmp_path / "maps")
    files = tmp_path / "deploy.yaml", tmp_path / "model.onnx"
    bundle = Bundle(*files, None, NORMALIZE, None, "none", None)
    return Comparison(bundle, reference, {"fp32": EVERYTHING}, Evidence(NORMALIZE))


def run(comparison, engine):
    spec = RuntimeSpec("onnxruntime")
    return compare_run(ParityRun("run", spec), comparison, lambda: predictor_of(engine))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no whole JSON file"),
        ("[]", "a section is expected, got a list"),
        ('{"evaluation": [1]}', "evaluation: a section is expected"),
        ('{"backend": "x"}', "backend: a section is expected"),
        ('{"backend": {"device": "cpu"}}', "a section with the engine's 'name' is expected"),
        ('{"backend": {"name": "x", "kernels": 1}}', "backend.kernels: a section is expected"),
        ('{"confusion_matrix": "x"}', "3 rows of 3 pixel counts are expected"),
        ('{"confusion_matrix": [[1, 2, 3], [1]]}', "3 rows of 3 pixel counts are expected"),
        ('{"confusion_matrix": [[1, 0], [0, 1]]}', "got int64 of shape (2, 2)"),
        ('{"confusion_matrix": [[0.5, 0, 0], [0, 0, 0], [0, 0, 0]]}', "got float64"),
        ("{}", "neither label maps nor counts"),
    ],
)
def test_a_broken_results_file_is_a_failed_run_that_names_it(
    comparison, tmp_path, content, message
):
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "val.json").write_text(content)
    outcome = judge_folder("val", tmp_path / "left", comparison)
    assert outcome.verdict.grade == "failed"
    assert message in outcome.verdict.reason


def test_counts_of_another_number_of_classes_beside_label_maps_fail(comparison, tmp_path):
    left = tmp_path / "left"
    (left / "label_maps").mkdir(parents=True)
    cv2.imwrite(str(left / "label_maps" / "0.png"), comparison.reference.label_map(0))
    (left / "val.json").write_text(json.dumps({"confusion_matrix": [[1, 0], [0, 1]]}))
    outcome = judge_folder("val", left, comparison)
    assert "got int64 of shape (2, 2)" in outcome.verdict.reason
    assert str(left / "val.json") in outcome.verdict.reason


def test_a_sound_run_is_identical(comparison):
    assert run(comparison, Colors()).verdict.grade == "identical"


def test_a_run_of_another_checkpoint_fails_within_its_budget_too(comparison):
    assert run(comparison, Moved()).verdict.grade == "within-budget"
    why = "stale checkpoint: the bundle was exported from older.pdparams"
    stale = replace(comparison, faults=[why])
    for engine in (Moved(), Colors()):
        outcome = run(stale, engine)
        assert outcome.verdict.grade == "failed"
        assert outcome.verdict.reason == why
        assert outcome.divergence.cause.startswith("stale checkpoint")


@pytest.mark.parametrize(
    ("transforms", "text"),
    [
        ([{"type": "Normalize", "std": [0.505] * 3}], "differs by up to 0.0099"),
        ([{"type": "Normalize", "mean": [0.495]}], "differs by up to 0.01"),
        ([{"type": "Resize", "target_size": [8, 8]}, *NORMALIZE], "is (3, 8, 8) instead of"),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_another_input_tensor_fails_in_every_precision(comparison, transforms, text, precision):
    """The label maps are the reference's: an edit of a percent changes none of them."""
    bundle = replace(comparison.bundle, transforms=transforms)
    budgets = {"fp32": EVERYTHING, "int8": EVERYTHING}
    outcome = compare_run(
        ParityRun("run", RuntimeSpec("onnxruntime", precision=precision)),
        replace(comparison, bundle=bundle, budgets=budgets),
        lambda: predictor_of(Colors()),
    )
    assert outcome.verdict.grade == "failed"
    assert outcome.divergence.place == "input tensor"
    assert "the input tensor " + text in describe(outcome)
    assert "in the bundle" in outcome.divergence.cause


def test_transforms_written_otherwise_that_make_the_same_input_pass(comparison):
    spelt = [
        {"type": "LimitLong", "max_long": 4000},
        {"type": "Normalize", "mean": [0.5, 0.5, 0.5]},
    ]
    same = replace(comparison, bundle=replace(comparison.bundle, transforms=spelt))
    assert run(same, Colors()).verdict.grade == "identical"


def test_a_graph_that_takes_bytes_gets_the_same_bytes(comparison):
    folded = replace(comparison.bundle, transforms=[], input_dtype="uint8")
    assert replace(comparison, bundle=folded).wrong_input is None
    resized = replace(folded, transforms=[{"type": "Resize", "target_size": [8, 8]}])
    assert replace(comparison, bundle=resized).wrong_input.place == "input tensor"
    swapped = Manifest("net", generic_table(3), color_order="BGR")
    found = replace(comparison, bundle=replace(folded, manifest=swapped)).wrong_input
    assert found.cause == "red and blue swapped"


@pytest.mark.parametrize("num_classes", [2, 5])
def test_a_graph_of_another_number_of_classes_is_a_verdict(comparison, num_classes):
    class Other(Colors):
        def run(self, batch):
            shape = (len(batch), num_classes, *batch.shape[2:])
            return np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    outcome = run(replace(comparison, budgets={}), Other())
    assert outcome.verdict.grade == "failed"
    if num_classes == 2:
        assert "the network's output is (2, 12, 16) instead of (3, 12, 16)" in (
            outcome.divergence.text
        )


def test_a_runtime_that_refuses_is_a_verdict(comparison):
    class Refusing(Colors):
        def run(self, batch):
            raise UsageError("model.onnx: it cannot run")

    outcome = run(comparison, Refusing())
    assert (outcome.verdict.grade, outcome.verdict.reason) == (
        "failed",
        "model.onnx: it cannot run",
    )


def test_a_reference_that_fell_back_fails(comparison):
    reference = comparison.reference
    reference.predictor.spec = RuntimeSpec("onnxruntime", "int8")
    fallen = judge_reference(reference)
    assert fallen.name == "onnxruntime_int8 (reference)"
    assert fallen.precision == "int8"
    assert "INT8 was asked for, and no INT8 kernel runs" in fallen.verdict.reason
    outcomes = compare_all(comparison, [], [], None)
    assert [outcome.verdict.grade for outcome in outcomes] == ["failed"]
    reference.predictor.spec = RuntimeSpec("onnxruntime")
    assert judge_reference(reference) is None
    assert compare_all(comparison, [], [], None) == []


def test_an_image_that_the_reference_cannot_read_is_a_failed_outcome(comparison, tmp_path):
    good = comparison.reference.samples[0]
    for name in ("broken", "no_label"):
        (tmp_path / f"{name}.png").write_bytes(good.image.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "bad_label.png").write_bytes(b"no label")
    samples = [
        Sample(tmp_path / "broken.png", None, "broken"),
        good,
        Sample(tmp_path / "no_label.png", tmp_path / "bad_label.png", "no_label"),
    ]
    (tmp_path / "other_maps").mkdir()
    eager = predictor_of(Colors(), "eager")
    partly = replace(comparison, reference=Reference(eager, samples, tmp_path / "other_maps"))
    outcomes = compare_all(partly, [], [], None)
    failed = outcomes[0]
    assert (failed.name, failed.verdict.grade) == ("images of the reference", "failed")
    assert "2 of 3 images cannot be compared" in failed.verdict.reason
    assert "broken.png" in failed.verdict.reason
    assert "bad_label.png" in failed.verdict.reason
    assert "\n" not in failed.verdict.reason
    with pytest.raises(CheckFailed, match="images of the reference"):
        check_outcomes(outcomes, [])
    assert verdicts(partly.bundle, outcomes) == {}  # no runtime is to blame
    other = run(partly, Colors())
    assert (other.verdict.grade, other.verdict.num_images) == ("identical", 1)


def test_a_run_that_fell_back_fails_though_its_maps_are_right(comparison):
    class InPaddle(Colors):
        def describe(self):
            return RuntimeReport("paddle_inference")

    outcome = run(comparison, InPaddle())
    assert outcome.verdict.grade == "failed"
    assert outcome.verdict.num_different == 0
    assert outcome.verdict.reason == (
        "it did not run as asked: onnxruntime was asked for, and paddle_inference runs"
    )


def test_a_folders_backend_is_read_as_a_report_and_its_precision_has_its_budget(
    comparison, tmp_path
):
    left = tmp_path / "left"
    (left / "label_maps").mkdir(parents=True)
    cv2.imwrite(str(left / "label_maps" / "0.png"), comparison.reference.label_map(0))
    report = RuntimeReport("openvino", "2026.4", precision="int8", details={"model": "x"})
    content = {"backend": report.to_dict(), "fullest_batch": 2}
    (left / "inference.json").write_text(json.dumps(content))
    outcome = judge_folder("infer", left, comparison)
    assert (outcome.report, outcome.precision, outcome.fullest_batch) == (report, "int8", 2)
    assert outcome.verdict.grade == "identical"


class Counting(Moved):
    """Counts its runs."""

    runs = 0

    def run(self, batch):
        type(self).runs += 1
        return super().run(batch)


def test_runs_share_what_they_read_and_what_the_reference_computed(
    comparison, tmp_path, monkeypatch
):
    """Four runs that differ at every pixel: each image is read once, the reference runs once."""
    read, opened = [], []
    monkeypatch.setattr(
        reference_module, "read_image", lambda *given: read.append(given) or read_image(*given)
    )
    monkeypatch.setattr(Counting, "runs", 0)
    (tmp_path / "own_maps").mkdir()
    samples = comparison.reference.samples
    reference = Reference(predictor_of(Counting(), "eager"), samples, tmp_path / "own_maps")
    shared = replace(comparison, reference=reference)
    monkeypatch.setattr(
        Comparison, "open", lambda _, spec: opened.append(spec) or predictor_of(Colors())
    )
    runs = [
        ParityRun(f"threads {threads} batch {size}", RuntimeSpec("onnxruntime", threads=None), size)
        for threads in (1, 2)
        for size in (1, 2)
    ]
    outcomes = compare_all(shared, runs, [], None)[-4:]
    assert all(outcome.verdict.num_different for outcome in outcomes)
    assert all(outcome.divergence for outcome in outcomes)
    assert (len(read), Counting.runs, len(opened)) == (1, 1, 1)


def test_what_is_not_kept_is_computed_again(comparison, tmp_path, monkeypatch):
    monkeypatch.setattr(reference_module, "MOST_KEPT_BYTES", 0)
    monkeypatch.setattr(Counting, "runs", 0)
    (tmp_path / "own_maps").mkdir()
    samples = comparison.reference.samples
    reference = Reference(predictor_of(Counting(), "eager"), samples, tmp_path / "own_maps")
    scores = reference.scores(0)
    np.testing.assert_array_equal(scores.argmax(axis=0), reference.label_map(0))
    assert Counting.runs == 2


def test_rounding_in_bf16_is_not_blamed_on_onednn(comparison):
    """FP32 is compared with the same graph without oneDNN, which bf16 does not have."""
    named = {
        name: evidence_of(RuntimeSpec.parse(name), comparison).without_onednn is not None
        for name in ("paddle", "paddle_onednn", "paddle_onednn_bf16", "openvino_bf16")
    }
    assert [name for name, blamed in named.items() if blamed] == ["paddle_onednn"]
