"""The faults are what they say, and being noticed is not enough: they are called by name."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.images.labels import CAMVID, CITYSCAPES, generic_table
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.parity import controls
from paddleseg_ext.parity.compare import Comparison, Outcome
from paddleseg_ext.parity.divergence import Divergence, Evidence
from paddleseg_ext.parity.weights import change_scales
from paddleseg_ext.scoring.verdict import RunVerdict


@pytest.mark.parametrize(
    ("table", "file", "raw", "classes"),
    [
        (CITYSCAPES, "a_gtFine_labelIds.png", [7, 8, 33, 0], [1, 2, 255, 255]),
        (CITYSCAPES, "a_gtFine_labelTrainIds.png", [0, 17, 18, 255], [1, 18, 255, 255]),
        (CAMVID, "a.png", [0, 9, 10, 11], [1, 10, 255, 255]),
        (generic_table(3), "a.png", [0, 1, 2, 255], [1, 2, 255, 255]),
    ],
)
def test_a_shifted_table_reads_the_next_class_and_loses_the_last(table, file, raw, classes):
    shifted = controls.shift_labels(table, Path(file))
    lookup = shifted.lookup_for(file)
    assert lookup[raw].tolist() == classes


def judged(name: str, cause: str, stage: str = "static", checkpoint=True) -> controls.Control:
    verdict = RunVerdict("failed", 2, num_different=9, reason="9 pixels differ")
    outcome = Outcome("control", stage, verdict, divergence=Divergence("logits", "0", "x", cause))
    outcome.precision = RuntimeSpec.parse(stage).precision
    shown = SimpleNamespace(
        reference=SimpleNamespace(one_sided=lambda: ""),
        bundle=SimpleNamespace(is_onnx=False),
        evidence=Evidence(checkpoint=object() if checkpoint else None),
    )
    return controls._judge(name, outcome, shown)


def test_a_fault_is_caught_by_its_name_only():
    assert judged("red and blue swapped", "red and blue swapped").caught
    wrong = judged("red and blue swapped", "Normalize dropped")
    assert wrong.caught is False
    assert "it is not called red and blue swapped" in wrong.summary
    assert judged("one weight changed", "").caught is False
    assert judged("Normalize dropped", "", checkpoint=False).caught is False


def test_a_cause_that_nobody_could_tell_is_said_to_be_so():
    nameless = judged("one weight changed", "", checkpoint=False)
    assert nameless.caught
    assert "without a checkpoint its cause cannot be inferred" in nameless.summary
    in_int8 = judged("one weight changed", "", "onnxruntime_int8")
    assert in_int8.caught
    assert "its cause cannot be inferred" in in_int8.summary
    assert in_int8.title == "one weight changed, onnxruntime_int8"
    assert judged("one weight changed", "stale checkpoint: 9", checkpoint=False).caught is False


def test_the_scales_of_int8_weights_come_in_the_order_of_the_layers(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, tensors = onnx.helper, onnx.TensorProto
    scales = {"s1": np.float32([1, 2]), "s2": np.float32([3, 4])}
    weights = {f"w{i}": np.ones((2, 2, 1, 1), np.int8) for i in (1, 2)}
    nodes = [  # the second layer's weights are dequantised first
        helper.make_node("DequantizeLinear", ["w2", "s2"], ["d2"], axis=0),
        helper.make_node("DequantizeLinear", ["w1", "s1"], ["d1"], axis=0),
        helper.make_node("Conv", ["x", "d1"], ["y"]),
        helper.make_node("Conv", ["y", "d2"], ["z"]),
    ]
    sides = ["N", 2, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", tensors.FLOAT, sides)],
        [helper.make_tensor_value_info("z", tensors.FLOAT, sides)],
        [onnx.numpy_helper.from_array(a, name) for name, a in {**scales, **weights}.items()],
    )
    path = tmp_path / "int8.onnx"
    onnx.save(helper.make_model(graph), str(path))
    seen = []

    def change(scale):
        seen.append(scale.tolist())
        return 10 * scale if len(seen) == 1 else None

    change_scales(path, change)
    assert seen == [[1, 2], [3, 4]]
    held = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(str(path)).graph.initializer}
    assert held["s1"].tolist() == [10, 20]
    assert held["s2"].tolist() == [3, 4]
    onnx.save(helper.make_model(helper.make_graph([], "none", [], [])), str(path))
    with pytest.raises(UsageError, match="has no INT8 convolution"):
        change_scales(path, change)


@pytest.mark.parametrize(
    ("checkpoint", "reason"),
    [
        (None, "without a checkpoint it is unknown"),
        (SimpleNamespace(why_stale=lambda bundle: ""), "does not say which checkpoint it is from"),
    ],
)
def test_a_stale_int8_graph_that_nobody_can_tell_is_said_to_show_nothing(
    tmp_path, checkpoint, reason
):
    evidence = Evidence(checkpoint=checkpoint)
    bundle = Bundle(tmp_path / "deploy.yaml", tmp_path / "model.json", None, [], None, "none", None)
    first = Comparison(bundle, SimpleNamespace(), {}, evidence)
    folder = tmp_path / "copies"
    spec = RuntimeSpec("openvino", "int8")
    shown = controls._show("stale checkpoint", lambda *given: bundle, spec, first, folder)
    assert shown.caught is None
    assert reason in shown.summary
    assert not folder.exists()
