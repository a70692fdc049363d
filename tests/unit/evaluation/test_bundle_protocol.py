"""A bundle is run by the protocol in its manifest, or a line says why it is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from engines import FakeEngine
from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.evaluation.bundle_protocol import (
    by_its_rule,
    network_inputs,
    protocol_of,
    rule_for_bundle,
)
from paddleseg_ext.evaluation.protocols import ProtocolPredictor
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor, warn_of_protocol
from paddleseg_ext.inference.preprocess import Preprocess
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
            replace(bundle(EvaluationRule("scale_0.5", absent_class="zero")), input_dtype="uint8"),
            "export it without --fold_normalize",
        ),
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


@pytest.mark.parametrize("name", ["whole", "scale_0.5"])
def test_python_is_told_of_another_protocol(name: str, capsys: pytest.CaptureFixture) -> None:
    warn_of_protocol(Path("deploy.yaml"), EvaluationRule(name))
    said = capsys.readouterr().out
    assert (f"deploy.yaml: this network was evaluated by the protocol {name}" in said) == (
        name != "whole"
    )
