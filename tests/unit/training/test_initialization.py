"""First weights of published systems: their spread, zeros, and what they leave alone."""

import numpy as np
import paddle
import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.config import load_config
from paddleseg_ext.models.build import build_model
from paddleseg_ext.training.initialization import INITIALIZATIONS, initialize_as

RECIPES = {
    "coincheung_v1": "bisenetv1_coincheung_cityscapes_1024x1024_80k",
    "coincheung_v2": "bisenetv2_coincheung_cityscapes_1024x512_150k",
    "stdc": "stdc1_seg_cityscapes_1024x512_60k",
    "mmseg": "bisenetv1_mmseg_cityscapes_1024x1024_160k",
    "dabnet": "dabnet_r18_cityscapes_1024x1024_80k",
    "tf2": "bisenetv2_tf2_cityscapes_1024x512_168k",
}


def _model(name: str) -> paddle.nn.Layer:
    paddle.seed(0)
    model = build_model(load_config(RECIPES[name]), 19)
    initialize_as(model, name)
    return model


def _spread(layer: paddle.nn.Layer) -> tuple[float, int, int]:
    """Standard deviation of the weights, connections of an input and of an output."""
    out_channels, in_channels, *kernel = layer.weight.shape
    size = int(np.prod(kernel))
    return float(layer.weight.numpy().std()), in_channels * size, out_channels * size


def test_every_recipe_names_its_own() -> None:
    assert set(RECIPES) == set(INITIALIZATIONS)
    for name, recipe in RECIPES.items():
        assert load_config(recipe).initialization == name


def test_coincheungs_bisenetv1_keeps_its_backbone() -> None:
    model = _model("coincheung_v1")
    std, fan_in, _ = _spread(model.head.conv.conv)
    assert std == pytest.approx(fan_in**-0.5, rel=0.02)
    std, fan_in, _ = _spread(model.backbone.layer4[1].conv2)
    assert std == pytest.approx((2 / fan_in) ** 0.5, rel=0.02)


def test_coincheungs_bisenetv2_starts_its_residuals_at_zero() -> None:
    model = _model("coincheung_v2")
    layer = model.semantic.stage4[0]
    assert not layer.project.bn.weight.numpy().any()
    assert layer.shortcut[1].bn.weight.numpy().all()
    std, _, fan_out = _spread(model.head.conv.conv)
    assert std == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)
    std, _, fan_out = _spread(model.detail.stage2[0].conv)
    assert std == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)


def test_mmsegmentations_classifiers_are_small() -> None:
    model = _model("mmseg")
    for head in (model.head, model.aux_head8, model.aux_head16):
        assert head.classifier.weight.numpy().std() == pytest.approx(0.01, rel=0.1)
        assert not head.classifier.bias.numpy().any()
    std, _, fan_out = _spread(model.head.conv.conv)
    assert std == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)
    block = model.backbone.layer3[1]
    assert not block.bn2.weight.numpy().any()
    assert block.bn1.weight.numpy().all()


def test_dabnets_exchange_modules_keep_pytorchs_default() -> None:
    model = _model("dabnet")
    layer = model.exchanges[1].h2l_0
    std, fan_in, _ = _spread(layer)
    assert std == pytest.approx((1 / fan_in / 3) ** 0.5, rel=0.02)
    assert abs(layer.weight.numpy()).max() <= fan_in**-0.5
    assert layer.bias.numpy().any()


def test_stdcs_backbone_and_decoder() -> None:
    model = _model("stdc")
    std, _, fan_out = _spread(model.backbone.stages[1][0].conv2.conv)
    assert std == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)
    std, fan_in, _ = _spread(model.ffm.conv.conv)
    assert std == pytest.approx(fan_in**-0.5, rel=0.03)


def test_tensorflows_weights_are_cut_at_two_standard_deviations() -> None:
    model = _model("tf2")
    layer = model.head.conv.conv
    std, fan_in, _ = _spread(layer)
    assert std == pytest.approx(fan_in**-0.5, rel=0.02)
    assert abs(layer.weight.numpy()).max() <= 2.001 * fan_in**-0.5 / 0.8796


def test_the_default_draws_nothing_and_an_unknown_name_is_refused() -> None:
    model = build_model(load_config(RECIPES["coincheung_v2"]), 3)
    before = model.head.conv.conv.weight.numpy().copy()
    paddle.seed(1)
    state = paddle.randn([1]).item()
    paddle.seed(1)
    initialize_as(model, "default")
    assert paddle.randn([1]).item() == state
    np.testing.assert_array_equal(model.head.conv.conv.weight.numpy(), before)
    with pytest.raises(UsageError, match=r"initialization: .*did you mean 'mmseg'"):
        initialize_as(model, "mmsegg")
