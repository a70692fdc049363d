"""Engines that need no framework, and predictors around them."""

from typing import Any

from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.runtime import RuntimeReport


class FakeEngine(Engine):
    """Describes itself; subclasses run."""

    def describe(self) -> RuntimeReport:
        return RuntimeReport("fake")


def predictor_of(
    engine: Any,
    num_classes: int = 3,
    preprocess: Preprocess | None = None,
    postprocess: Postprocess | None = None,
) -> Predictor:
    """A predictor for an engine of the tests, by default without transforms."""
    table = generic_table(num_classes)
    return Predictor(engine, preprocess or Preprocess([]), postprocess or Postprocess(), table)
