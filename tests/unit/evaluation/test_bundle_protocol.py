"""A bundle is run by the protocol in its manifest, or a line says why it is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from engines import FakeEngine
from numpy.typing import NDArray

from paddleseg_ext.bench import tune
from paddleseg_ext.bench.worker import Bench, Candidate
from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.evaluation.bundle_protocol import (
    by_its_rule,
    network_inputs,
    protocol_of,
    rule_for_bundle,
    why_not_by_graph,
)
from paddleseg_ext.evaluation.protocols import ProtocolPredictor
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.images.samples import Sample
from paddleseg_ext.inference.bundle import Bundle, read_bundle, write_deploy_yaml
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor, warn_of_protocol
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.quantization import quantize
from paddleseg_ext.scoring.protocols import EvaluationRule

SLIDE = EvaluationRule("slide", None, False, (64, 48), (48, 32), "zero")


class Silent(FakeEngine):
    def run(self, batch: NDArray) -> NDArray:
        return batch


NAMES = Path("deploy.yaml"), Path("model.json"), Path("model.pdiparams")


def bundle(
    rule: EvaluationRule | None,
    shape: list[int | None] | None = None,
    output_op: str = "none",
    **manifest: Any,
) -> Bundle:
    described = Manifest("net", generic_table(3), evaluation=rule, **manifest)
    return Bundle(*NAMES, [], shape, output_op, described)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (bundle(SLIDE), "on whole images once"),
        (bundle(EvaluationRule("msf", absent_class="zero")), "on whole images once"),
        (
            bundle(EvaluationRule("whole", (0.5, 1.0), True, absent_class="zero")),
            "on whole images once",
        ),
        (bundle(EvaluationRule("ss", absent_class="zero"), output_op="argmax"), "needs logits"),
        (
            bundle(EvaluationRule("ss", absent_class="zero"), upsampling="half_pixel"),
            "export with --upsample graph",
        ),
        (
            bundle(EvaluationRule("ss", absent_class="zero"), [1, 3, 40, 64]),
            "the graph's is fixed",
        ),
    ],
)
def test_what_a_graph_is_not_run_by_is_said(
    found: Bundle, reason: str, capsys: pytest.CaptureFixture
) -> None:
    assert rule_for_bundle(found) == EvaluationRule(absent_class="zero")
    said = [line for line in capsys.readouterr().out.splitlines() if "evaluated by" in line]
    assert len(said) == 1 and reason in said[0]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("scale_0.5", "export it without --fold_normalize"),
        ("half_resize", ""),  # bytes are resized as bytes
        ("ss", ""),  # images whose sides are multiples of 32 stay as they are
        ("slide", "on whole images once"),
    ],
)
def test_a_graph_of_bytes_takes_no_scaled_pixels(name: str, reason: str) -> None:
    rule = SLIDE if name == "slide" else EvaluationRule(name)
    found = why_not_by_graph(rule, replace(bundle(rule), input_dtype="uint8"))
    assert reason in found and bool(found) == bool(reason)


@pytest.mark.parametrize("shape", [None, [-1, 3, -1, -1], [1, 3, 64, 96]])
def test_what_a_graph_can_be_run_by_is_taken(shape: list[int | None] | None) -> None:
    found = bundle(EvaluationRule("ss"), shape)
    assert rule_for_bundle(found) == EvaluationRule("ss")
    parts = Silent(), Preprocess([]), Postprocess(), generic_table(3)
    assert isinstance(by_its_rule(Predictor(*parts, bundle=found)), ProtocolPredictor)
    plain = Predictor(*parts, bundle=bundle(None))
    assert by_its_rule(plain) is plain


@pytest.mark.parametrize(
    ("rule", "seen_hw"),
    [
        (None, (40, 64)),
        ("scale_0.5", (20, 32)),
        ("scale_0.75", (30, 48)),
        ("half_resize", (20, 32)),
    ],
)
def test_a_network_sees_images_of_the_protocols_size(
    rule: str | None, seen_hw: tuple[int, int], tmp_path: Path
) -> None:
    """`quantize` calibrates on these; `tune`, `quantize` and `bench` run by the same protocol."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    found = bundle(EvaluationRule(rule) if rule else None)
    (seen,) = network_inputs(found, [tmp_path / "a.png"])
    assert seen.shape == (1, 3, *seen_hw) and seen.dtype == np.float32
    assert protocol_of(found).name == (rule or "whole")
    given = Recorder()
    parts = given, Preprocess([]), Postprocess(), generic_table(3)
    by_its_rule(Predictor(*parts, bundle=found))(tmp_path / "a.png")
    np.testing.assert_array_equal(given.seen, seen)


class Recorder(FakeEngine):
    seen: NDArray

    def run(self, batch: NDArray) -> NDArray:
        self.seen = batch.copy()
        return batch


def test_a_protocol_that_was_asked_for_wins_or_is_refused() -> None:
    assert rule_for_bundle(bundle(SLIDE), "ss") == EvaluationRule("ss", absent_class="zero")
    assert rule_for_bundle(bundle(SLIDE), "whole") == EvaluationRule(absent_class="zero")
    with pytest.raises(UsageError, match="--protocol ss: it needs logits"):
        rule_for_bundle(bundle(None, output_op="softmax"), "ss")


def test_measuring_verbs_run_a_bundle_by_its_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "model.pdiparams").write_bytes(b"weights")
    manifest = Manifest("net", generic_table(3), evaluation=EvaluationRule("scale_0.5"))
    write_deploy_yaml(tmp_path, [], [-1, 3, -1, -1], "none", manifest)
    found = read_bundle(tmp_path)

    def opened(of: Bundle, *_: Any) -> Predictor:
        return Predictor(Silent(), Preprocess([]), Postprocess(), generic_table(3), bundle=of)

    monkeypatch.setattr(Predictor, "of_bundle", opened)
    trials = [*tune.open_trials(found, 1).values()]
    trials += quantize.open_trials(found, found, quantize.QuantizeOptions(cpu_threads=1)).values()
    predictors = [trial.predictor for trial in trials]
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 64, 3), np.uint8))
    measured = Bench(
        Candidate(tmp_path, RuntimeSpec("paddle")), [Sample(tmp_path / "a.png", None, "a")]
    )
    assert measured.throughput_hw() == (20, 32)
    for predictor in (*predictors, measured.predictor):
        assert isinstance(predictor, ProtocolPredictor) and predictor.protocol.name == "scale_0.5"


@pytest.mark.parametrize("name", ["whole", "scale_0.5"])
def test_python_is_told_of_another_protocol(name: str, capsys: pytest.CaptureFixture) -> None:
    warn_of_protocol(Path("deploy.yaml"), EvaluationRule(name))
    said = capsys.readouterr().out
    assert (f"deploy.yaml: this network was evaluated by the protocol {name}" in said) == (
        name != "whole"
    )
