"""Online hard example mining: the cross entropy of the pixels the network is least sure of.

The published systems select these pixels by different rules and so train different networks. Here
a batch without a labelled pixel gives 0 and zero gradients under every rule; most originals give
NaN.

`weight` has a factor per class for the losses of the selected pixels. It has no part in selecting
them, as in TorchSeg and PaddleSeg, and the divisor is a number of pixels, as in `CrossEntropyLoss`.
"""

import math
from collections.abc import Sequence

import paddle
from paddle import Tensor, nn

from paddleseg_ext.losses.pixel import (
    check_class_count,
    class_weights,
    masked_mean,
    pixel_cross_entropy,
)

# The published recipes keep at least a sixteenth of the pixels.
KEPT_FRACTION = 16


class _HardPixelLoss(nn.Layer):
    """Base of the rules. A probability p of the true class is a loss of -ln p."""

    def __init__(self, thresh: float, ignore_index: int, weight: Sequence[float] | None = None):
        super().__init__()
        if not 0.0 < thresh < 1.0:
            raise ValueError(f"thresh must be in (0, 1), got {thresh}")
        self.hard_loss = -math.log(thresh)
        self.ignore_index = ignore_index
        self.weight = class_weights(weight)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss, a scalar, of `(N, C, H, W)` logits and `(N, H, W)` int64 labels.

        Raises:
            UsageError: `weight` has another number of classes.
        """
        check_class_count(self.weight, logits)
        losses, valid = pixel_cross_entropy(logits, labels, self.ignore_index)
        if self.weight is None:
            return self.select(losses, losses, valid)
        classes = paddle.where(valid, labels.flatten(), paddle.zeros_like(labels.flatten()))
        return self.select(losses, losses * self.weight.gather(classes), valid)

    def select(self, losses: Tensor, weighted: Tensor, valid: Tensor) -> Tensor:
        """Mean of `weighted` where `losses` selects pixels; both are 0 where not `valid`."""
        raise NotImplementedError


def _mean_of_largest(losses: Tensor, weighted: Tensor, count: int) -> Tensor:
    """Mean of `weighted` where the `count` largest losses are."""
    largest, places = paddle.topk(losses, count)
    return (largest if weighted is losses else weighted.gather(places)).mean()


def _check_min_kept(min_kept: float | None) -> int | None:
    if min_kept is None:
        return None
    if isinstance(min_kept, bool) or not min_kept >= 1 or min_kept % 1 != 0:  # 1.3e5 is a float
        raise ValueError(f"min_kept must be a whole number of at least 1, got {min_kept}")
    return int(min_kept)


class OhemCrossEntropyLoss(_HardPixelLoss):
    """TorchSeg's rule, which PaddleSeg follows.

    A pixel is selected when its probability is at most `max(thresh, p_k)`, where p_k is the k-th
    smallest of the batch and k is `min_kept`. Ignored pixels have probability 1 in this search, so
    a batch with fewer than k labelled pixels keeps them all. (PaddleSeg selects only probabilities
    strictly below.)

    Source: TorchSeg furnace/seg_opr/loss_opr.py, ProbOhemCrossEntropy2d.
    """

    def __init__(
        self,
        thresh: float = 0.7,
        min_kept: int | None = None,
        ignore_index: int = 255,
        weight: Sequence[float] | None = None,
    ):
        """
        Args:
            thresh: probability in (0, 1) up to which a pixel is always hard.
            min_kept: k; by default a sixteenth of the batch's pixels, as the author trained.
            ignore_index: the label of pixels without loss.
            weight: one factor per class.

        Raises:
            UsageError: a factor is negative or not finite, or all are 0.
            ValueError: `thresh` or `min_kept` out of range.
        """
        super().__init__(thresh, ignore_index, weight)
        self.min_kept = _check_min_kept(min_kept)

    def select(self, losses: Tensor, weighted: Tensor, valid: Tensor) -> Tensor:
        count = min(self.min_kept or max(1, losses.size // KEPT_FRACTION), losses.size)
        kth_loss = paddle.topk(losses.detach(), count)[0][-1]
        threshold = kth_loss.clip(max=self.hard_loss)
        return masked_mean(weighted, valid & (losses >= threshold))


class CoinCheungOhemLoss(_HardPixelLoss):
    """CoinCheung's rule: losses above -ln `thresh`, or where these are fewer than a sixteenth of
    the valid pixels, the largest sixteenth.

    Source: CoinCheung/BiSeNet lib/ohem_ce_loss.py, OhemCELoss.
    """

    def __init__(
        self,
        thresh: float = 0.7,
        ignore_index: int = 255,
        weight: Sequence[float] | None = None,
    ):
        """`thresh` in (0, 1) is the probability below which a pixel is always hard."""
        super().__init__(thresh, ignore_index, weight)

    def select(self, losses: Tensor, weighted: Tensor, valid: Tensor) -> Tensor:
        hard = valid & (losses > self.hard_loss)
        least = int(valid.sum()) // KEPT_FRACTION
        if int(hard.sum()) >= least:
            return masked_mean(weighted, hard)
        return _mean_of_largest(losses, weighted, least)


class StdcOhemLoss(_HardPixelLoss):
    """STDC's rule, and with `count_ignored=False` that of the TensorFlow BiSeNetV2.

    Of the losses in descending order, all above -ln `thresh` are selected where entry `min_kept` is
    above it, else the first `min_kept`. STDC counts ignored pixels with loss 0, which lowers the
    mean where few pixels are labelled. The TensorFlow project counts only labelled pixels, and
    fails where there are fewer than `min_kept`; here these are all kept.

    Source: MichaelFan01/STDC-Seg loss/loss.py, OhemCELoss; MaybeShewill-CV/bisenetv2-tensorflow
    bisenet_model/bisenet_v2.py.
    """

    def __init__(
        self,
        thresh: float = 0.7,
        min_kept: int | None = None,
        count_ignored: bool = True,
        ignore_index: int = 255,
        weight: Sequence[float] | None = None,
    ):
        """
        Args:
            thresh: probability in (0, 1) below which a pixel is hard.
            min_kept: by default a sixteenth of the batch's pixels.
            count_ignored: whether ignored pixels are in the order, with loss 0.
            ignore_index: the label of pixels without loss.
            weight: one factor per class.

        Raises:
            UsageError: a factor is negative or not finite, or all are 0.
            ValueError: `thresh` or `min_kept` out of range.
        """
        super().__init__(thresh, ignore_index, weight)
        self.min_kept = _check_min_kept(min_kept)
        self.count_ignored = count_ignored

    def select(self, losses: Tensor, weighted: Tensor, valid: Tensor) -> Tensor:
        count = self.min_kept or max(1, losses.size // KEPT_FRACTION)
        ordered_size = losses.size if self.count_ignored else int(valid.sum())
        if ordered_size == 0:
            return masked_mean(weighted, valid)
        if ordered_size > count:
            entry = paddle.topk(losses.detach(), count + 1)[0][-1]
            if float(entry) > self.hard_loss:
                return masked_mean(weighted, losses > self.hard_loss)
        return _mean_of_largest(losses, weighted, min(count, ordered_size))
