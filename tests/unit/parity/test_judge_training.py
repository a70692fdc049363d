"""The evaluation while training is compared where it was done alike, and only there."""

from types import SimpleNamespace

import numpy as np
import pytest

from paddleseg_ext.parity.compare import judge_training
from paddleseg_ext.scoring.protocols import PROTOCOLS

COUNTS = np.array([[3, 1], [0, 4]])


@pytest.fixture
def reference():
    table = SimpleNamespace(class_names=("a", "b"))
    return SimpleNamespace(counts=COUNTS, samples=[None], table=table)


def scores(protocol: str, counts=COUNTS) -> dict:
    described = PROTOCOLS[protocol].describe()
    return {"num_images": 1, "protocol": described, "confusion_matrix": counts.tolist()}


def test_equal_and_unequal_counts(reference):
    assert judge_training(scores("whole"), reference).verdict.grade == "identical"
    assert judge_training(scores("whole", COUNTS.T), reference).verdict.grade == "failed"


def test_another_size_is_not_compared(reference):
    outcome = judge_training(scores("whole", COUNTS.T), reference, other_size="it scored with X")
    assert (outcome.verdict, outcome.note) == (None, "it scored with X")


def test_another_protocol_is_not_compared(reference):
    outcome = judge_training(scores("scale_0.75", COUNTS.T), reference)
    assert outcome.verdict is None
    assert "it scored by another protocol, scale_0.75" in outcome.note
