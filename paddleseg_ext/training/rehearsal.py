"""A first step on a small crop, so that heads and losses that do not fit end a run beforehand."""

from typing import Any

import numpy as np
import paddle
from paddle import nn

from paddleseg_ext.common.errors import UsageError, reason_of
from paddleseg_ext.common.paddle2_types import types_for
from paddleseg_ext.losses.multi_head import MultiHeadLoss
from paddleseg_ext.training.distillation import Distiller
from paddleseg_ext.training.sampling import SampleKey, SeededSamples

CROP_SIDE = 128  # of the first try; a network that refuses it gets the whole training size
BATCH = 2
GREY = "; for a network of 3 channels leave img_channels out of the data sets"


def rehearse_step(
    model: nn.Layer,
    loss: MultiHeadLoss,
    dataset: Any,
    seed: int,
    distiller: Distiller | None = None,
) -> None:
    """Run the network and its losses once, without gradients; both are left as they were.

    The image is the first training sample, the labels are bands of all classes: some losses take no
    class of a few pixels.

    Args:
        model: with any weights.
        loss: of its heads.
        dataset: of the training.
        seed: of the sample's augmentation.
        distiller: the teacher, which sees the same image; None without one.

    Raises:
        UsageError: the network does not take the images, has another number of heads than
            `loss.coef` weights, or a loss cannot be computed; or the teacher's logits have
            another shape or are not finite.
    """
    sample = SeededSamples(dataset, seed)[SampleKey(0, 0)]
    if isinstance(sample, Exception):
        return  # the loop reads it again, and says which sample it is
    image, has_edges = sample[0], len(sample) > 3
    tries = [image[:, :CROP_SIDE, :CROP_SIDE], image]
    if tries[0].shape == image.shape:
        tries.pop()
    # Paddle counts running statistics among the parameters; they have no gradient.
    moving = [*model.buffers(), *(p for p in model.parameters() if p.stop_gradient)]
    kept = [tensor.clone() for tensor in moving]
    generators = paddle.get_rng_state()
    model.train()
    try:
        for number, crop in enumerate(tries):
            try:
                _run(model, loss, crop, dataset.num_classes, has_edges, distiller)
                return
            except UsageError:
                raise
            except Exception as error:
                if number == len(tries) - 1:
                    size = f"{image.shape[2]}x{image.shape[1]}"
                    grey = "" if image.shape[0] > 1 else GREY
                    raise UsageError(
                        f"the first step of {type(model).__name__} on {image.shape[0]} channels of "
                        f"{size} (width x height) cannot be computed: "
                        f"{reason_of(error)}{grey}"
                    ) from error
    finally:
        for tensor, value in zip(moving, kept, strict=True):
            tensor.set_value(value)
        paddle.set_rng_state(generators)


def _run(
    model: nn.Layer,
    loss: MultiHeadLoss,
    image: np.ndarray,
    num_classes: int,
    has_edges: bool,
    distiller: Distiller | None,
) -> None:
    height, width = image.shape[1:]
    bands = np.arange(BATCH * height * width) * num_classes // (BATCH * height * width)
    labels = bands.reshape(BATCH, height, width)
    with paddle.no_grad():
        images = paddle.to_tensor(np.stack([image] * BATCH).astype(paddle.get_default_dtype()))
        with types_for(model):
            heads = model(images)
        edges = paddle.to_tensor((labels % 2)[:, None]) if has_edges else None
        loss(heads, paddle.to_tensor(labels), edges)
        if distiller is not None:
            distiller.rehearse(images, heads, paddle.to_tensor(labels))
