"""Engines that need no framework, predictors around them, and what is asked of several engines."""

from typing import Any

import numpy as np

from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.engines.table import open_engine
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec


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


def assert_bf16_is_proven(bundle: Bundle, name: str) -> None:
    """bf16 has kernels of it and another answer, fp32 has none, and each is not the other."""
    batch = np.random.default_rng(1).standard_normal((1, 3, 64, 64)).astype(np.float32)
    answers = {}
    for asked, other in (("bf16", "fp32"), ("fp32", "bf16")):
        spec = RuntimeSpec(name, asked, threads=1)
        engine = open_engine(bundle, spec)
        told = engine.describe()
        assert (told.kernel_precisions.get("bf16", 0) > 0) is (asked == "bf16")
        assert told.precision == asked and spec.shortfall(told) == ""
        missing = RuntimeSpec(name, other, threads=1).shortfall(told)
        assert missing.lower().startswith(f"{other} was asked for")
        answers[asked] = engine.run(batch)
    error = np.abs(answers["bf16"] - answers["fp32"]).max()
    assert 0 < error < 0.05 * np.abs(answers["fp32"]).max()
