"""`whole` and `slide`, with and without `--aug_eval`, against PaddleSeg's own inference code."""

import numpy as np
import pytest
from engines import predictor_of

from paddleseg_ext.evaluation.eager import EagerEngine
from paddleseg_ext.evaluation.protocols import by_protocol
from paddleseg_ext.inference.preprocess import Preprocess
from paddleseg_ext.scoring.protocols import make_protocol

NUM_CLASSES = 6
SIZE_HW = (75, 110)
NEAR_TIES = 3  # of 8250 pixels
RESIZE = {"type": "Resize", "target_size": [96, 64]}
PADDING = {"type": "Padding", "target_size": [128, 96]}
NORMALIZE = {"type": "Normalize"}
SLIDING = {"crop_size": [48, 40], "stride": [32, 24]}
AUGMENTED = {"scales": [0.75, 1.0, 1.25], "flip_horizontal": True}


@pytest.fixture(scope="module")
def model():  # type: ignore[no-untyped-def]
    import paddle
    from paddle import nn

    class Network(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2D(3, 8, 5, stride=4, padding=2)
            self.last = nn.Conv2D(8, NUM_CLASSES, 3, padding=1)

        def forward(self, images):
            logits = self.last(nn.functional.relu(self.first(images)))
            return [nn.functional.interpolate(logits, images.shape[2:], mode="bilinear")]

    paddle.seed(3)
    network = Network()
    network.eval()
    return network


def make_image() -> np.ndarray:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (-(-SIZE_HW[0] // 9), -(-SIZE_HW[1] // 9), 3), dtype=np.uint8)
    return blocks.repeat(9, 0).repeat(9, 1)[: SIZE_HW[0], : SIZE_HW[1]]


def theirs(model, image: np.ndarray, transforms: list[dict], **options) -> np.ndarray:  # type: ignore[no-untyped-def]
    """(H, W) class ids by PaddleSeg's transforms and `core.infer`."""
    import paddle
    import paddleseg.transforms as T
    from paddleseg.core import infer

    steps = [
        getattr(T, spec["type"])(**{k: v for k, v in spec.items() if k != "type"})
        for spec in transforms
    ]
    data = T.Compose(steps, to_rgb=False)({"img": image.astype(np.float32)})
    images = paddle.to_tensor(data["img"][None])
    is_slide = "crop_size" in options
    with paddle.no_grad():
        if "scales" in options:
            result = infer.aug_inference(
                model, images, trans_info=data["trans_info"], is_slide=is_slide, **options
            )
        else:
            result = infer.inference(
                model, images, trans_info=data["trans_info"], is_slide=is_slide, **options
            )
    return result[0].numpy()[0, 0]


@pytest.mark.parity
@pytest.mark.parametrize(
    "transforms",
    [[NORMALIZE], [RESIZE, NORMALIZE], [NORMALIZE, PADDING], [RESIZE, PADDING, NORMALIZE]],
    ids=["plain", "resized", "padded", "resized and padded"],
)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("whole", {}),
        ("whole", AUGMENTED),
        ("slide", SLIDING),
        ("slide", SLIDING | AUGMENTED),
    ],
    ids=["whole", "whole, augmented", "slide", "slide, augmented"],
)
def test_equals_paddleseg(model, name: str, options: dict, transforms: list[dict]) -> None:  # type: ignore[no-untyped-def]
    image = make_image()
    expected = theirs(model, image, transforms, **options)
    plain = predictor_of(EagerEngine(model), NUM_CLASSES, Preprocess(transforms))
    label_map = by_protocol(plain, make_protocol(name, **options))(image).label_map
    assert len(np.unique(expected)) > 2
    assert (label_map != expected).sum() <= NEAR_TIES
