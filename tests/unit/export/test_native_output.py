"""The last enlargement is found where there is one, and refused where there is none."""

import numpy as np
import paddle
import pytest

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.export.native_output import NativeOutput, upsampling_of
from paddleseg_ext.images.functional import resize_logits
from paddleseg_ext.models.backbones.resnet import ResNet18
from paddleseg_ext.models.bisenetv1 import BiSeNetV1


@pytest.mark.parametrize(("variant", "kind"), [("author", "aligned"), ("coincheung", "half_pixel")])
def test_enlarging_the_native_output_gives_the_logits(variant: str, kind: str) -> None:
    paddle.seed(1)
    model = BiSeNetV1(4, ResNet18(), variant)
    assert upsampling_of(model) == kind
    images = paddle.rand([1, 3, 70, 90])
    with paddle.no_grad():
        logits = model(images)[0].numpy()[0]
        native = NativeOutput(model)(images)[0].numpy()[0]
    assert native.shape[1] < 12
    enlarged = resize_logits(native, (90, 70), align_corners=kind == "aligned")
    np.testing.assert_allclose(enlarged, logits, atol=1e-5 * np.abs(logits).max())


def test_a_network_that_ends_in_something_else() -> None:
    with pytest.raises(UsageError, match=r"does not end in a bilinear .* --upsample graph"):
        upsampling_of(BiSeNetV1(4, ResNet18(), "coincheung_202009"))  # pixel shuffle
