"""Cross entropy and Dice over all labelled pixels."""

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddleseg_ext.losses.pixel import (
    check_class_count,
    class_weights,
    masked_mean_of_all,
    pixel_cross_entropy,
)


class CrossEntropyLoss(nn.Layer):
    """Mean cross entropy; with several processes, over the pixels of all of them.

    Source: for `avg_non_ignore=False`, mmsegmentation 0.x (and DABNet): the sum over the labelled
    pixels is divided by the number of all pixels.
    """

    def __init__(
        self,
        weight: Sequence[float] | None = None,
        avg_non_ignore: bool = True,
        ignore_index: int = 255,
    ):
        """
        Args:
            weight: one factor per class. The divisor is a number of pixels, as in mmsegmentation;
                PyTorch and PaddleSeg divide by the sum of the pixels' factors.
            avg_non_ignore: divide by the number of labelled pixels; False: of all pixels.
            ignore_index: the label of pixels without loss.

        Raises:
            UsageError: a factor is negative or not finite, or all are 0.
        """
        super().__init__()
        self.avg_non_ignore = avg_non_ignore
        self.ignore_index = ignore_index
        self.weight = class_weights(weight)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss, a scalar, of `(N, C, H, W)` logits and `(N, H, W)` int64 labels.

        Raises:
            UsageError: `weight` has another number of classes.
        """
        check_class_count(self.weight, logits)
        losses, valid = pixel_cross_entropy(logits, labels, self.ignore_index, self.weight)
        return masked_mean_of_all(losses, valid) if self.avg_non_ignore else losses.mean()


class DiceLoss(nn.Layer):
    """One minus the mean Dice coefficient of the classes, from softmax probabilities."""

    def __init__(self, smooth: float = 1.0, ignore_index: int = 255):
        """
        Args:
            smooth: above 0; added to the numerator and the denominator of each class.
            ignore_index: the label of pixels without loss.

        Raises:
            ValueError: `smooth` is not above 0; a class that occurs nowhere would give NaN.
        """
        super().__init__()
        if not smooth > 0:
            raise ValueError(f"smooth must be above 0, got {smooth}")
        self.smooth = smooth
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss, a scalar, of `(N, C, H, W)` logits and `(N, H, W)` int64 labels."""
        num_classes = logits.shape[1]
        valid = (labels != self.ignore_index).unsqueeze(1).astype(logits.dtype)  # (N, 1, H, W)
        safe_labels = paddle.where(labels != self.ignore_index, labels, paddle.zeros_like(labels))
        truth = F.one_hot(safe_labels, num_classes).transpose([0, 3, 1, 2]) * valid
        probability = F.softmax(logits, axis=1) * valid
        overlap = (probability * truth).sum(axis=[0, 2, 3])  # (C,)
        total = (probability + truth).sum(axis=[0, 2, 3])
        return 1.0 - ((2.0 * overlap + self.smooth) / (total + self.smooth)).mean()
