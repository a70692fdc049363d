"""The doctor's counts are the published ones."""

import paddle
import pytest
from paddle import nn

from paddleseg_ext.export.cost import diagnose
from paddleseg_ext.models.backbones.efficientnet import EfficientNetB1
from paddleseg_ext.models.backbones.resnet import ResNet18
from paddleseg_ext.models.backbones.resnet_vd import ResNet18_vd
from paddleseg_ext.models.backbones.stdcnet import STDCClassifier, STDCNet813, STDCNet1446
from paddleseg_ext.models.backbones.xception import Xception39
from paddleseg_ext.models.bisenetv1 import BiSeNetV1
from paddleseg_ext.models.bisenetv2 import BiSeNetV2, GatherExpand, GatherExpandDown
from paddleseg_ext.models.bisenetv2_variants import BiSeNetV2Variant


@pytest.mark.parametrize(("make", "millions"), [(STDCNet813, 813), (STDCNet1446, 1446)])
def test_stdc_networks_are_named_after_their_work(make, millions: int) -> None:
    """As counters have it: a norm's outputs twice, a ReLU's once, a pooling's inputs once."""
    network = STDCClassifier(1000, make())
    elementwise = 0

    def count(layer, inputs, output) -> None:
        nonlocal elementwise
        if isinstance(layer, nn.BatchNorm2D):
            elementwise += 2 * output.size
        elif isinstance(layer, nn.ReLU):
            elementwise += output.size
        elif isinstance(layer, nn.AvgPool2D):
            elementwise += inputs[0].size

    hooks = [layer.register_forward_post_hook(count) for layer in network.sublayers()]
    with paddle.no_grad():
        network.eval()
        network(paddle.zeros([1, 3, 224, 224]))
    for hook in hooks:
        hook.remove()
    multiply_adds = diagnose(network, [1, 3, 224, 224]).multiply_adds
    assert round((multiply_adds + elementwise) / 1e6) == millions


@pytest.mark.parametrize(
    ("make", "variant", "published"),
    # BiSeNet, table 1, at 640x360: the paper's G is 2^30.
    [(ResNet18, "author", 10.8), (Xception39, "author_x39", 2.9)],
)
def test_bisenetv1_multiply_adds_are_the_papers(make, variant: str, published: float) -> None:
    diagnosis = diagnose(BiSeNetV1(19, make(), variant), [1, 3, 360, 640])
    assert round(diagnosis.multiply_adds / 2**30, 1) == published


def test_tensorflows_bisenetv2_counts_twice() -> None:
    """34.53 GFLOPs at 512x1024 (its issue 24); TensorFlow counts a multiply-add as two."""
    diagnosis = diagnose(BiSeNetV2(19, "tf2"), [1, 3, 256, 512])
    assert 4 * 2 * diagnosis.multiply_adds / 1e9 == pytest.approx(34.53, rel=0.003)
    assert sum(work for work, _ in diagnosis.parts.values()) == diagnosis.multiply_adds


def test_bisenetv2_multiply_adds_are_the_papers_where_expansion_is_read_as_it_says() -> None:
    """21.15 G of 2^30 at 512x1024: the first 3x3 convolution of a gather-and-expansion layer
    expands (section 4.2), and the main head has 512 channels. Counted on a quarter of the pixels.
    """
    model = BiSeNetV2(19, "coincheung")
    diagnosis = diagnose(model, [1, 3, 256, 512])
    main_head = diagnosis.parts["head"][0]
    expanding = 0

    def count(layer, inputs, output) -> None:
        nonlocal expanding
        expanding += output.size * layer.weight.shape[1] * 9

    hooks = [
        layer.conv.conv.register_forward_post_hook(count)
        for layer in model.sublayers()
        if isinstance(layer, GatherExpand | GatherExpandDown)
    ]
    with paddle.no_grad():
        model(paddle.zeros([1, 3, 256, 512]))
    for hook in hooks:
        hook.remove()
    papers = (
        diagnosis.multiply_adds - main_head // 2 + (BiSeNetV2Variant().expansion - 1) * expanding
    )
    assert round(4 * papers / 2**30, 2) == 21.15


def test_resnet18_multiply_adds() -> None:
    """The table of torchvision says 1.81 G with the classifier, which is 0.512 M of them."""
    diagnosis = diagnose(features_of(ResNet18()), [1, 3, 224, 224])
    assert (diagnosis.multiply_adds + 512_000) / 1e9 == pytest.approx(1.814, abs=0.001)
    assert diagnosis.parameters == diagnosis.used_parameters == 11_176_512


def test_efficientnet_multiply_adds() -> None:
    """The paper (table 2) says 0.70 G at 240x240, with a head of 26 M."""
    diagnosis = diagnose(features_of(EfficientNetB1()), [1, 3, 240, 240])
    assert diagnosis.multiply_adds / 1e9 == pytest.approx(0.70 - 0.026, abs=0.02)


def test_dilated_bisenetv1_multiply_adds() -> None:
    """113 G at 512x1024, counted on a quarter of the pixels."""
    diagnosis = diagnose(BiSeNetV1(19, ResNet18_vd(), "paddleseg"), [1, 3, 256, 512])
    assert 4 * diagnosis.multiply_adds / 1e9 == pytest.approx(113, abs=0.5)


def test_strides_and_what_training_adds() -> None:
    diagnosis = diagnose(BiSeNetV1(19, ResNet18(), "author_speed"), [1, 3, 64, 128])
    assert diagnosis.used_parameters < diagnosis.parameters
    text = "\n".join(diagnosis.lines([1, 3, 64, 128]))
    assert "feature 2       1x512x2x4, stride 32" in text
    assert "logits          1x19x8x16, stride 8" in text


def features_of(backbone):
    """A backbone as a network whose output is its last feature."""

    class Features(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.net = backbone

        def forward(self, images):
            return [self.net(images)[-1]]

    return Features()
