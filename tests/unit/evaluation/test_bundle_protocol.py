"""A bundle is run by the protocol in its manifest, or a line says why it is not."""

from pathlib import Path
from typing import Any

import pytest
from engines import FakeEngine
from numpy.typing import NDArray

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.evaluation.bundle_protocol import by_its_rule, rule_for_bundle
from paddleseg_ext.evaluation.protocols import ProtocolPredictor
from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.manifest import Manifest
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
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


def test_a_protocol_that_was_asked_for_wins_or_is_refused() -> None:
    assert rule_for_bundle(bundle(SLIDE), "ss") == EvaluationRule("ss", absent_class="zero")
    assert rule_for_bundle(bundle(SLIDE), "whole") == EvaluationRule(absent_class="zero")
    with pytest.raises(UsageError, match="--protocol ss: it needs logits"):
        rule_for_bundle(bundle(None, output_op="softmax"), "ss")
