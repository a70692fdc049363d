"""Cross entropy of each pixel, the base of the segmentation losses."""

import math
from typing import Any

import paddle
import paddle.distributed as dist
import paddle.nn.functional as F
from paddle import Tensor

from paddleseg_ext.common.errors import UsageError, shown


def check_weights(values: Any, where: str, each: str) -> list[float]:
    """The weights; refuses those that are no numbers, negative, not finite, or all 0.

    Args:
        values: of a yml or a call.
        where: the value's place, which the message begins with.
        each: what has a weight each ("class").

    Raises:
        UsageError: naming the wrong value.
    """
    is_list = isinstance(values, list | tuple) and bool(values)
    if not is_list or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise UsageError(f"{where} is a list of one number per {each}, got {shown(values)}")
    if not all(math.isfinite(value) and value >= 0 for value in values) or not any(values):
        raise UsageError(
            f"{where}: numbers of at least 0, not all of them 0, are expected, got {shown(values)}"
        )
    return list(values)


def class_weights(weight: Any) -> Tensor | None:
    """`(C,)` float32 of a loss's `weight`, None where it has none; see `check_weights`."""
    if weight is None:
        return None
    return paddle.to_tensor(check_weights(weight, "weight", "class"), "float32")


def check_class_count(weight: Tensor | None, logits: Tensor) -> None:
    """Raise `UsageError` where `weight` has another number of classes than the logits."""
    if weight is not None and weight.shape[0] != logits.shape[1]:
        raise UsageError(
            f"loss: 'weight' has {weight.shape[0]} numbers for {logits.shape[1]} classes"
        )


def pixel_cross_entropy(
    logits: Tensor, labels: Tensor, ignore_index: int, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cross entropy and validity of each pixel, flat.

    Args:
        logits: `(N, C, H, W)`.
        labels: `(N, H, W)` int64, classes and `ignore_index`.
        weight: `(C,)`, one factor per class.

    Returns:
        `(N*H*W,)` losses, 0 where ignored, and `(N*H*W,)` bool, False where ignored.
    """
    loss = F.cross_entropy(
        logits, labels, weight=weight, axis=1, ignore_index=ignore_index, reduction="none"
    ).flatten()
    valid = (labels != ignore_index).flatten()
    return paddle.where(valid, loss, paddle.zeros_like(loss)), valid


def masked_mean(losses: Tensor, mask: Tensor) -> Tensor:
    """Mean of `losses` where `mask` is True; 0, with zero gradients, where it is True nowhere."""
    weights = mask.astype(losses.dtype)
    return (losses * weights).sum() / weights.sum().clip(min=1.0)


def masked_mean_of_all(losses: Tensor, mask: Tensor) -> Tensor:
    """This process's part of the `masked_mean` over the pixels of all processes.

    The average of the parts over the processes is that mean, however many pixels each process has;
    the same holds for the gradients. With one process the part is `masked_mean`.
    """
    if not dist.is_initialized():
        return masked_mean(losses, mask)
    count = mask.sum()  # an integer: float32 counts up to 2^24 pixels only
    dist.all_reduce(count)
    scale = dist.get_world_size() / count.astype(losses.dtype).clip(min=1.0)
    return (losses * mask.astype(losses.dtype)).sum() * scale
