"""The doctor's counts are the published ones."""

import pytest

from paddleseg_ext.doctor import diagnose
from paddleseg_ext.models.backbones.efficientnet import EfficientNetB1
from paddleseg_ext.models.backbones.resnet import ResNet18
from paddleseg_ext.models.backbones.resnet_vd import ResNet18_vd
from paddleseg_ext.models.backbones.stdcnet import STDCClassifier, STDCNet813, STDCNet1446
from paddleseg_ext.models.bisenetv1 import BiSeNetV1


@pytest.mark.parametrize(
    ("make", "millions"),
    # The networks are named after their multiply-adds at 224x224 (STDC-Seg, table 3); the published
    # count has the norms in it.
    [(STDCNet813, 813), (STDCNet1446, 1446)],
)
def test_stdc_multiply_adds_are_its_name(make, millions: int) -> None:
    diagnosis = diagnose(STDCClassifier(1000, make()), [1, 3, 224, 224])
    assert diagnosis.multiply_adds / 1e6 == pytest.approx(millions, rel=0.01)


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
    from paddle import nn

    class Features(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.net = backbone

        def forward(self, images):
            return [self.net(images)[-1]]

    return Features()
