"""The look of a protocol at which two engines differ most."""

import numpy as np

from paddleseg_ext.evaluation.protocols import ProtocolPredictor
from paddleseg_ext.images.labels import ClassTable
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.runtime import RuntimeReport
from paddleseg_ext.parity.looks import worst_look
from paddleseg_ext.scoring.protocols import PROTOCOLS


class Constant(Engine):
    """Scores that are wrong for inputs of one width."""

    def __init__(self, wrong_width: int):
        self.wrong_width = wrong_width

    def run(self, batch: np.ndarray) -> np.ndarray:
        scores = np.zeros((len(batch), 2, *batch.shape[2:]), np.float32)
        scores[:, 1] = 1.0 if batch.shape[3] == self.wrong_width else 0.0
        return scores

    def describe(self) -> RuntimeReport:
        return RuntimeReport("constant")


def look_for(wrong_width: int, protocol: str) -> np.ndarray:
    predictor = Predictor(
        Constant(wrong_width),
        Preprocess([{"type": "Normalize"}]),
        Postprocess(),
        ClassTable("two", ("a", "b"), np.zeros((2, 3), np.uint8)),
    )
    by_protocol = ProtocolPredictor(predictor, PROTOCOLS[protocol])
    prepared = by_protocol.prepare(np.full((64, 128, 3), 255, np.uint8))
    look = worst_look(by_protocol, Constant(0), prepared)
    assert by_protocol.engine is predictor.engine  # the predictor itself is not changed
    return look


def test_the_scale_that_differs_is_given() -> None:
    assert look_for(128, "msf").shape == (3, 64, 128)
    assert look_for(64, "msf").shape == (3, 32, 64)


def test_the_first_look_is_given_where_none_differs() -> None:
    assert look_for(0, "half_resize").shape == (3, 32, 64)
