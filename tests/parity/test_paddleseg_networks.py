"""Our networks against PaddleSeg's own classes, weights copied across by the importer."""

import numpy as np
import paddle
import pytest
from paddle import nn

from paddleseg_ext.checkpoints.store import load_arrays_into
from paddleseg_ext.published.golden import NETWORK_TOLERANCE, build_for
from paddleseg_ext.published.mapping import rename
from paddleseg_ext.published.systems import recognise

pytestmark = pytest.mark.parity


def randomize(model: nn.Layer) -> None:
    """Weights and statistics under which no two layers look alike, at unit scale."""
    generator = np.random.default_rng(0)
    for name, tensor in model.state_dict().items():
        shape = tensor.shape
        if name.endswith("_variance") or (len(shape) == 1 and name.endswith("weight")):
            values = generator.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            values = 0.1 * generator.standard_normal(shape)
        else:
            values = generator.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        tensor.set_value(values.astype(np.float32))


def theirs_and_ours(theirs: nn.Layer) -> tuple[nn.Layer, nn.Layer]:
    randomize(theirs)
    arrays = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    generation = recognise(arrays, "paddleseg", None, "paddleseg")
    ours = build_for(generation, {"num_classes": 19})
    imported = rename(arrays, generation.rules, "paddleseg", wanted=ours.state_dict())
    assert load_arrays_into(ours, imported.arrays, "paddleseg").complete
    for model in (theirs, ours):  # every head, but on running statistics
        model.train()
        for layer in model.sublayers():
            if isinstance(layer, nn.BatchNorm2D | nn.Dropout):
                layer.eval()
    return theirs, ours


def compare(theirs: list, ours: list) -> None:
    for expected, got in zip(theirs, ours, strict=True):
        assert float(expected.abs().max()) > 0.1
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=0, atol=NETWORK_TOLERANCE)


def test_bisenetv1_is_paddlesegs() -> None:
    from paddleseg.models import BiseNetV1
    from paddleseg.models.backbones import ResNet18_vd

    theirs, ours = theirs_and_ours(BiseNetV1(19, ResNet18_vd()))
    images = paddle.randn([2, 3, 64, 96])
    with paddle.no_grad():
        coarse, fine, main = theirs(images)
        compare([main, fine, coarse], ours(images))


@pytest.mark.parametrize("size_hw", [(64, 96), (75, 109)])
def test_bisenetv2_is_paddlesegs(size_hw: tuple[int, int]) -> None:
    from paddleseg.models import BiSeNetV2

    theirs, ours = theirs_and_ours(BiSeNetV2(19))
    images = paddle.randn([2, 3, *size_hw])
    with paddle.no_grad():
        compare(theirs(images), ours(images))


@pytest.mark.parametrize("variant", ["STDC1", "STDC2"])
def test_stdcseg_is_paddlesegs(variant: str) -> None:
    import paddleseg.models.backbones as backbones
    from paddleseg.models import STDCSeg

    theirs, ours = theirs_and_ours(STDCSeg(19, getattr(backbones, variant)()))
    images = paddle.randn([2, 3, 75, 109])
    with paddle.no_grad():
        compare(theirs(images), ours(images))
