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
from paddleseg_ext.parity.weights import _tensors_in, change_scales
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


def float_graph(folder: Path, weights: np.ndarray, kind: str) -> Bundle:
    """One convolution whose weights are an initializer, a Constant node, or in another file."""
    onnx = pytest.importorskip("onnx")
    helper, sides = onnx.helper, ["N", 2, "H", "W"]
    float_type = helper.np_dtype_to_tensor_dtype(weights.dtype)
    proto = onnx.numpy_helper.from_array(weights, "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", float_type, sides)],
        [helper.make_tensor_value_info("y", float_type, sides)],
        [] if kind == "constant" else [proto],
    )
    if kind == "constant":
        graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=proto))
    path = folder / "net.onnx"
    external = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}
    onnx.save(helper.make_model(graph), str(path), **(external if kind == "external" else {}))
    return Bundle(path, path, None, [], None, "none", None)


@pytest.mark.parametrize("kind", ["initializer", "constant", "external"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("fault", [controls.change_one_weight, controls.change_every_weight])
def test_the_faults_reach_the_weights_of_every_kind_of_onnx(tmp_path, kind, dtype, fault):
    weights = np.arange(1, 9, dtype=dtype).reshape(2, 2, 2, 1)
    sound = float_graph(tmp_path, weights, kind)
    (tmp_path / "copy").mkdir()
    faulty = fault(sound, None, tmp_path / "copy")
    assert isinstance(faulty, Bundle)
    before, after = (list(_tensors_in(each.model_file)) for each in (sound, faulty))
    np.testing.assert_array_equal(before[0], weights)  # the sound one stays
    assert after[0].dtype == dtype
    changed = after[0] != weights
    assert changed.sum() == 1 if fault is controls.change_one_weight else changed.sum() > 4


@pytest.mark.parametrize("fault", [controls.change_one_weight, controls.change_every_weight])
def test_a_fault_that_changes_nothing_is_said_and_not_counted(tmp_path, fault):
    sound = float_graph(tmp_path, np.zeros((2, 2, 1, 1), np.float32), "constant")
    (tmp_path / "copy").mkdir()
    why = fault(sound, None, tmp_path / "copy")
    assert isinstance(why, str) and why.startswith("net.onnx has no ")


@pytest.mark.parametrize(
    ("stage", "changed"),
    [
        ("openvino_bf16", controls.change_one_onnx_weight),
        ("openvino_int8", controls.change_one_scale),
        ("ncnn_bf16", controls.leave_weights),
        ("paddle_onednn_bf16", None),
    ],
)
def test_a_stage_with_a_budget_has_its_own_graph_changed(stage, changed):
    faults = controls._faults_of_weights(RuntimeSpec.parse(stage))
    assert faults.get("one weight changed") is changed
    assert len(faults) == (0 if changed is None else 2)
