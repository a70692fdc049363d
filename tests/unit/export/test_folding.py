"""Normalisation inside the network: the same answer from bytes, along the borders, too."""

import numpy as np
import paddle
import pytest
from paddle import nn

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.export.folding import fold_normalize, normalize_batch, split_normalize
from paddleseg_ext.inference.preprocess import ImageNormalize

NORMALIZE = {"type": "Normalize", "mean": [0.3, 0.5, 0.7], "std": [0.2, 0.3, 0.1]}


class TwoReaders(nn.Layer):
    """Two convolutions read the image, as BiSeNetV1's two paths do."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Conv2D(3, 4, 7, stride=1, padding=3, bias_attr=False)
        self.context = nn.Conv2D(3, 4, 3, padding=1)

    def forward(self, images):  # type: ignore[no-untyped-def]
        return [self.spatial(images) + self.context(images)]


class ThreeReaders(TwoReaders):
    """Something that is no convolution reads it, too."""

    def forward(self, images):  # type: ignore[no-untyped-def]
        return [super().forward(images)[0] + images.mean(axis=1, keepdim=True)]


class Depthwise(nn.Layer):
    """Each channel by itself: the weights have one input channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 3, 3, padding=1, groups=3)

    def forward(self, images):  # type: ignore[no-untyped-def]
        return [self.conv(images)]


@pytest.mark.parametrize(
    ("network", "folds"), [(TwoReaders, True), (ThreeReaders, False), (Depthwise, False)]
)
def test_bytes_give_the_same_answer_everywhere(network: type[nn.Layer], folds: bool) -> None:
    paddle.seed(1)
    model = network()
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    _, normalize = split_normalize([NORMALIZE])
    taking_bytes = fold_normalize(model, normalize)
    assert (taking_bytes.factor is None) is folds
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 17, 23), dtype=np.uint8)
    expected = model(paddle.to_tensor(normalize_batch(pixels, normalize)))[0].numpy()
    got = taking_bytes(paddle.to_tensor(pixels))[0].numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ([], "got none"),
        ([NORMALIZE, {"type": "Resize"}], "end in their only Normalize"),
        ([NORMALIZE, NORMALIZE], "only Normalize"),
        ([{"type": "Padding", "target_size": [8, 8]}, NORMALIZE], "127.5, which is no byte"),
    ],
)
def test_what_cannot_be_folded(transforms: list, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        split_normalize(transforms)


def test_the_rest_of_the_transforms_stays() -> None:
    resize = {"type": "Resize", "target_size": [8, 8]}
    rest, normalize = split_normalize([resize, {"type": "paddleseg.Normalize"}])
    assert rest == [resize]
    assert isinstance(normalize, ImageNormalize) and normalize.mean == (0.5, 0.5, 0.5)
