"""Engines that need no framework, predictors around them, and what is asked of several engines."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddleseg_ext.images.labels import generic_table
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import Engine
from paddleseg_ext.inference.engines.table import open_engine
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.runtime import RuntimeReport, RuntimeSpec

WEIGHTS = np.random.default_rng(3).standard_normal((8, 3, 3, 3)).astype(np.float32)


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


def write_onnx(path: Path, sides: tuple = ("N", 3, "H", "W"), input_type: str = "FLOAT") -> Path:
    """A convolution that keeps the size."""
    onnx = pytest.importorskip("onnx")
    helper, tensors = onnx.helper, onnx.TensorProto
    kind = getattr(tensors, input_type)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
    if input_type != "FLOAT":
        nodes.insert(0, helper.make_node("Cast", ["pixels"], ["x"], to=tensors.FLOAT))
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x" if input_type == "FLOAT" else "pixels", kind, sides)],
        [helper.make_tensor_value_info("y", tensors.FLOAT, ["N", 8, "H", "W"])],
        [onnx.numpy_helper.from_array(WEIGHTS, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def convolved(batch: np.ndarray) -> np.ndarray:
    padded = np.pad(batch, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.einsum("ncyxij,kcij->nkyx", windows, WEIGHTS)
