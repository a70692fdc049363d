"""Online hard example mining: the cross entropy of the pixels the network is least sure of.

Source: TorchSeg's ProbOhemCrossEntropy2d, which PaddleSeg's OhemCrossEntropyLoss follows.
"""

import math

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn


class OhemCrossEntropyLoss(nn.Layer):
    """Mean cross entropy of the hard pixels.

    A pixel is hard when the probability of its true class is at most `max(thresh, p_k)`, p_k
    being the k-th smallest such probability of the batch, k = `min_kept`. Ignored pixels count
    as probability 1 when p_k is sought, so a batch with fewer than k labelled pixels keeps them
    all. PaddleSeg keeps probabilities strictly below the threshold, so one pixel fewer.

    A batch without a single labelled pixel gives 0 and zero gradients, where the original gives
    NaN.
    """

    def __init__(self, thresh: float = 0.7, min_kept: int | None = None, ignore_index: int = 255):
        """
        Args:
            thresh: probability in (0, 1) up to which a pixel is always hard.
            min_kept: k; by default a sixteenth of the batch's pixels, as the author trained.
            ignore_index: the label that is left out.

        Raises:
            ValueError: `thresh` or `min_kept` out of range.
        """
        super().__init__()
        if not 0.0 < thresh < 1.0:
            raise ValueError(f"thresh must be in (0, 1), got {thresh}")
        if min_kept is not None and min_kept < 1:
            raise ValueError(f"min_kept must be at least 1, got {min_kept}")
        self.thresh = thresh
        self.min_kept = min_kept
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            logits: `(N, C, H, W)` float32.
            labels: `(N, H, W)` int64, classes and `ignore_index`.
        """
        pixel_loss = F.cross_entropy(
            logits, labels, axis=1, ignore_index=self.ignore_index, reduction="none"
        ).reshape(labels.shape)
        hard = self._hard_pixels(pixel_loss.detach(), labels != self.ignore_index)
        return (pixel_loss * hard).sum() / hard.sum().clip(min=1.0)

    def _hard_pixels(self, pixel_loss: Tensor, valid: Tensor) -> Tensor:
        """1.0 where a pixel counts, else 0.0; probability = exp(-loss)."""
        losses = paddle.where(valid, pixel_loss, paddle.zeros_like(pixel_loss)).flatten()
        min_kept = self.min_kept or max(1, losses.size // 16)
        # The k-th smallest probability is the k-th largest loss.
        kth_loss = paddle.topk(losses, min(min_kept, losses.size))[0][-1]
        threshold = paddle.minimum(kth_loss, paddle.full_like(kth_loss, -math.log(self.thresh)))
        return (valid & (pixel_loss >= threshold)).astype(pixel_loss.dtype)
