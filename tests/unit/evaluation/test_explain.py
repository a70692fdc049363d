"""Maps of what a network attends to: what they show on networks that can be worked out by hand."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import cv2
import numpy as np
import pytest
from paddle import nn

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.evaluation.eager import EagerEngine
from paddleseg_ext.evaluation.explain import (
    Explainer,
    class_numbers,
    explain_and_save,
    explainer_of,
    gates_of,
    overlay,
)
from paddleseg_ext.images.labels import ClassTable, generic_table
from paddleseg_ext.inference.postprocess import Postprocess
from paddleseg_ext.inference.predictor import Predictor
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.inference.runtime import RuntimeSpec
from paddleseg_ext.models.backbones.resnet import ResNet18
from paddleseg_ext.models.bisenetv1 import BiSeNetV1
from paddleseg_ext.models.bisenetv1_xception import BiSeNetV1Xception
from paddleseg_ext.models.bisenetv2 import BiSeNetV2
from paddleseg_ext.registry import MODELS

TABLE = generic_table(2, ["left", "right"])


class Gated(nn.Layer):
    """Features are the image's first two channels; the gate has one value for each."""

    GATES: ClassVar = {"": ("conv", "gate")}

    def __init__(self, values: list[float]):
        super().__init__()
        self.conv = nn.Conv2D(3, 2, 1, bias_attr=False)
        self.conv.weight.set_value(np.eye(3, dtype=np.float32)[:2, :, None, None])
        self.gate = nn.Conv2D(2, 2, 1)
        self.gate.weight.set_value(np.zeros((2, 2, 1, 1), np.float32))
        self.gate.bias.set_value(np.array(values, np.float32))

    def forward(self, x):
        features = self.conv(x)
        pooled = nn.functional.adaptive_avg_pool2d(features, 1)
        return features * nn.functional.sigmoid(self.gate(pooled))


class ByHand(nn.Layer):
    """Logits of two classes: the gated features themselves."""

    def __init__(self, values: list[float]):
        super().__init__()
        self.arm = Gated(values)
        self.side = nn.Conv2D(3, 1, 1)

    def forward(self, x):
        self.side(x)
        return [self.arm(x)]


def image() -> np.ndarray:
    """Channel 0 is bright on the left half, channel 1 on the right one."""
    tensor = np.zeros((3, 4, 8), np.float32)
    tensor[0, :, :4], tensor[1, :, 4:] = 2.0, 3.0
    return tensor


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_a_gate_of_channels_is_weighted_by_the_features() -> None:
    model = ByHand([logit(0.25), logit(0.75)])
    model.eval()
    assert list(gates_of(model)) == ["arm"]
    gate = Explainer(model, TABLE, layer="arm").explain(image())[0]
    assert (gate.kind, gate.name) == ("gate", "arm")
    np.testing.assert_allclose(gate.plane[:, :4], 0.25, rtol=1e-5)
    np.testing.assert_allclose(gate.plane[:, 4:], 0.75, rtol=1e-5)
    assert "0.25 to 0.75" in gate.note


def test_grad_cam_is_the_formula() -> None:
    """Alpha is the mean gradient of a class's logits over its pixels; then ReLU of the sum."""
    model = ByHand([logit(0.25), logit(0.75)])
    model.eval()
    explainer = Explainer(model, TABLE, layer="arm.conv")
    cams = {h.name: h for h in explainer.explain(image()) if h.kind == "cam"}
    # Each class has half of the pixels, and its logits depend on its own channel: the map is it.
    for name, half in (("left", slice(0, 4)), ("right", slice(4, 8))):
        plane = cams[name].plane
        np.testing.assert_allclose(plane[:, half], 1.0, rtol=1e-5)
        assert plane.sum() == pytest.approx(16.0, rel=1e-5)
        assert "(16 pixels)" in cams[name].note


def test_a_class_that_is_predicted_nowhere_is_explained_by_all_pixels() -> None:
    model = ByHand([logit(0.25), logit(0.75)])
    model.eval()
    tensor = image()
    tensor[1] = 0.0
    tensor[0] = 1.0
    cam = Explainer(model, TABLE, ["right"], "arm.conv").explain(tensor)[-1]
    assert "no pixel is predicted as it" in cam.note and "0 everywhere" in cam.note
    assert not cam.plane.any()


def test_wrong_layers_are_one_line() -> None:
    model = ByHand([0.0, 0.0])
    model.eval()
    with pytest.raises(UsageError, match=r"no layer 'arm.con' .did you mean 'arm.conv'"):
        Explainer(model, TABLE, layer="arm.con")
    with pytest.raises(UsageError, match="side: the main head's logits do not depend on it"):
        Explainer(model, TABLE, layer="side").explain(image())


@pytest.mark.parametrize(
    ("network", "gates", "layer"),
    [
        (
            lambda: BiSeNetV1(2, ResNet18()),
            {"context_path.arm32", "context_path.arm16", "ffm"},
            "backbone.",
        ),
        (lambda: BiSeNetV2(2), {"bga.detail", "bga.semantic"}, "semantic."),
        (lambda: BiSeNetV1Xception(2), {"arm32", "arm16", "ffm"}, "xception."),
    ],
)
def test_published_networks_name_their_gates(network, gates: set[str], layer: str) -> None:
    model = network()
    model.eval()
    tensor = np.random.default_rng(0).normal(size=(3, 64, 96)).astype(np.float32)
    weights = {name: w.numpy().copy() for name, w in model.state_dict().items()}
    explainer = Explainer(model, TABLE, ["0", "1"])
    heats = explainer.explain(tensor)
    assert {h.name for h in heats if h.kind == "gate"} == gates
    assert [h.name for h in heats if h.kind == "cam"] == ["left", "right"]
    assert explainer.layer is not None and explainer.layer.startswith(layer)
    for heat in heats:
        assert np.isfinite(heat.plane).all() and heat.plane.min() >= 0 and heat.plane.max() <= 1.001
    for name, tensor_now in model.state_dict().items():  # nothing was trained or counted
        np.testing.assert_array_equal(tensor_now.numpy(), weights[name])


def test_the_bins_of_pyramid_pooling_are_no_coarsest_map() -> None:
    pytest.importorskip("paddleseg")
    model = MODELS.find("paddleseg.FastSCNN")(num_classes=2)
    model.eval()
    explainer = Explainer(model, TABLE, ["0"])
    tensor = np.random.default_rng(0).normal(size=(3, 64, 128)).astype(np.float32)
    (cam,) = explainer.explain(tensor)
    assert cam.plane.shape == (2, 4) and "ppm.stages" not in str(explainer.layer)


def test_class_numbers() -> None:
    assert class_numbers([], TABLE) is None
    assert class_numbers(["right", "0", "1"], TABLE) == [1, 0]
    with pytest.raises(UsageError, match=r"no class 'lefd' .did you mean 'left'"):
        class_numbers(["lefd"], TABLE)
    with pytest.raises(UsageError, match="0 to 1 is expected"):
        class_numbers(["2"], TABLE)


def test_an_overlay_is_red_where_the_map_is_high() -> None:
    picture = overlay(
        np.full((40, 200, 3), 128, np.uint8),
        np.tile(np.linspace(0, 1, 200, dtype=np.float32), (40, 1)),
        "note",
        True,
    )
    assert picture.shape[1:] == (200, 3) and picture.shape[0] > 40
    left, right = picture[20, 10].astype(int), picture[20, 185].astype(int)
    assert right[0] > right[2] + 50 and left[2] > left[0]


def by_hand(table: ClassTable) -> Predictor:
    model = ByHand([logit(0.25), logit(0.75)])
    model.eval()
    return Predictor(
        EagerEngine(model),
        Preprocess([{"type": "Normalize"}]),
        Postprocess(),
        table,
        RuntimeSpec("eager"),
    )


def test_classes_whose_names_are_alike_in_a_file_have_a_file_each(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30, 3), np.uint8))
    sample = SimpleNamespace(image=tmp_path / "a.png", label=None, name="a")
    for names, expected in (
        (["a b", "a/b"], ["cam_a_b_0.jpg", "cam_a_b_1.jpg"]),
        (["\u9053" * 100, "right"], ["cam_" + "\u9053" * 60 + ".jpg", "cam_right.jpg"]),
    ):
        predictor = by_hand(generic_table(2, names))
        out = tmp_path / names[1]
        explainer = explainer_of(predictor, names, None, [sample], out)
        assert explain_and_save(predictor, explainer, [sample], out) == 0
        files = {p.name for p in (out / "explain/a").iterdir()}
        assert files == {*expected, "gate_arm.jpg"}


def test_files_and_a_record_are_written_and_a_bad_image_is_left_out(tmp_path: Path) -> None:
    predictor = by_hand(TABLE)
    cv2.imwrite(
        str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    )
    (tmp_path / "b.png").write_bytes(b"no image")
    samples = [
        SimpleNamespace(image=tmp_path / f"{n}.png", label=None, name=f"in/{n}") for n in "ab"
    ]
    out = tmp_path / "out"
    explainer = explainer_of(predictor, ["right"], None, samples, out)
    assert explain_and_save(predictor, explainer, samples, out) == 1
    record = json.loads((tmp_path / "out/explain.json").read_text())
    assert list(record["images"]) == ["in/a"] and record["gates"] == ["arm"]
    files = sorted(p.name for p in (tmp_path / "out/explain/in/a").iterdir())
    assert files == ["cam_right.jpg", "gate_arm.jpg"] == sorted(record["images"]["in/a"])
    assert cv2.imread(str(tmp_path / "out/explain/in/a/gate_arm.jpg")).shape[1] == 30
