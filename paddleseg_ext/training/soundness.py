"""Checks for values that are not finite, in images, losses and weights. Such weights are not saved.

The loss alone does not show them: on a CPU, ReLU turns NaN into 0.
"""

import math
from collections.abc import Mapping

import paddle
from paddle import Tensor, nn

from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.training.sampling import Batch


def require_finite_images(batch: Batch, iteration: int) -> None:
    """Check the images of a batch at `iteration`, counted from 1.

    Raises:
        CheckFailed: an image contains NaN or infinity; the first is named.
    """
    finite = paddle.isfinite(batch.images).all(axis=[1, 2, 3]).numpy()  # (N,)
    if not finite.all():
        name = batch.names[int(finite.argmin())]
        raise CheckFailed(
            f"iteration {iteration}: the image {name} has values that are not finite after its "
            "transforms; nothing of this iteration was kept. Look at the image and at "
            "train_dataset.transforms (a 'std' of 0?)"
        )


def require_finite_loss(
    value: float, losses: Mapping[str, Tensor], batch: Batch, iteration: int
) -> None:
    """Check a loss at `iteration`, counted from 1.

    Args:
        value: the total.
        losses: its parts of this process by name: "head 0", ...
        batch: of the loss.
        iteration: of the run.

    Raises:
        CheckFailed: naming the iteration, the parts at fault and the images of the batch.
    """
    if math.isfinite(value):
        return
    parts = {name: float(loss) for name, loss in losses.items()}
    bad = [name for name, loss in parts.items() if not math.isfinite(loss)]
    each = ", ".join(f"{name}: {loss}" for name, loss in parts.items())
    raise CheckFailed(
        f"iteration {iteration}: the loss is {value}, from {' and '.join(bad) or 'weights'} "
        f"({each}), on the images {', '.join(batch.names)}; nothing of this "
        "iteration was kept. Look at the images, lower the learning rate, or check the labels "
        "with 'paddleseg-ext data check'"
    )


def require_finite_weights(model: nn.Layer, iteration: int) -> None:
    """Check the weights before they are scored and saved.

    Raises:
        CheckFailed: a tensor is not finite; the first is named.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(paddle.isfinite(tensor).all()):
            raise CheckFailed(
                f"iteration {iteration}: '{name}' is no longer finite, though the loss is; "
                "nothing was saved. Look for images or transforms that give values without "
                "bounds, or lower the learning rate"
            )
