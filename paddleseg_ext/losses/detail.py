"""Detail guidance: a shallow feature is trained to predict where the labels change.

Paper: Rethinking BiSeNet For Real-time Semantic Segmentation, https://arxiv.org/abs/2104.13188,
section 3.2. Source: MichaelFan01/STDC-Seg loss/detail_loss.py; of `MMSegDetailLoss`
open-mmlab/mmsegmentation 1.2.2, decode_heads/stdc_head.py and losses/{cross_entropy,dice}_loss.py.
"""

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from paddleseg_ext.common.errors import UsageError

THRESHOLD = 0.1
STRIDES = (1, 2, 4)
# The published kernel. There it is a parameter, whose gradient is zero: it only decays.
FUSE_KERNEL = (0.6, 0.3, 0.1)


class DetailAggregateLoss(nn.Layer):
    """Binary cross entropy plus Dice between a detail map and the labels' boundaries."""

    channels = 1  # of the detail map

    def __init__(
        self,
        fuse_kernel: Sequence[float] = FUSE_KERNEL,
        mask_ignored: bool = False,
        ignore_index: int = 255,
    ):
        """
        Args:
            fuse_kernel: weights of the boundaries at strides 1, 2 and 4.
            mask_ignored: leave out pixels that touch ignored ones. The original keeps them: the
                border of an ignored region is a boundary like any other.
            ignore_index: the label that is ignored.

        Raises:
            ValueError: not three weights.
        """
        super().__init__()
        if len(fuse_kernel) != len(STRIDES):
            raise ValueError(f"fuse_kernel has 3 weights, got {list(fuse_kernel)}")
        self.fuse_kernel = tuple(fuse_kernel)
        self.mask_ignored = mask_ignored
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss, a scalar, of `(N, channels, h, w)` logits and `(N, H, W)` int64 labels.

        Raises:
            UsageError: the detail map has another number of channels.
        """
        if logits.shape[1] != self.channels:
            raise UsageError(
                f"{type(self).__name__}: a detail map of {self.channels} channel is expected, got "
                f"{logits.shape[1]}. STDCSeg's variant mmseg has 2 and takes MMSegDetailLoss, the "
                "others have 1 and take DetailAggregateLoss"
            )
        bce, dice = self.parts(logits, labels)
        return bce + dice

    def parts(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Binary cross entropy and Dice, scalars."""
        target = self.boundaries(labels)  # (N, 1, H, W)
        if logits.shape[3] != target.shape[3]:
            logits = F.interpolate(
                logits, size=target.shape[2:], mode="bilinear", align_corners=True
            )
        kept = paddle.ones_like(target)
        if self.mask_ignored:
            ignored = (labels == self.ignore_index).unsqueeze(1).astype("float32")
            kept = 1.0 - F.max_pool2d(ignored, 3, stride=1, padding=1)
        bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        bce = (bce * kept).sum() / kept.sum().clip(min=1.0)
        probability = (F.sigmoid(logits) * kept).flatten(1)  # (N, H*W)
        target = (target * kept).flatten(1)
        overlap = (probability * target).sum(axis=1)
        total = probability.sum(axis=1) + target.sum(axis=1)
        return bce, (1.0 - (2.0 * overlap + 1.0) / (total + 1.0)).mean()

    @paddle.no_grad()
    def boundaries(self, labels: Tensor) -> Tensor:
        """The labels' edges at three strides, fused: `(N, 1, H, W)` float32, 0 or 1."""
        values = labels.unsqueeze(1).astype("float32")
        laplacian = paddle.full([1, 1, 3, 3], -1.0)
        laplacian[0, 0, 1, 1] = 8.0
        fused = paddle.zeros_like(values)
        for stride, weight in zip(STRIDES, self.fuse_kernel, strict=True):
            edges = F.conv2d(values, laplacian, stride=stride, padding=1) > THRESHOLD
            edges = F.interpolate(edges.astype("float32"), size=values.shape[2:], mode="nearest")
            fused = fused + edges * weight
        return (fused > THRESHOLD).astype("float32")


class MMSegDetailLoss(DetailAggregateLoss):
    """The loss of mmsegmentation's detail map of two channels: no boundary, boundary.

    Both are trained by a sigmoid, and Dice has squares in its denominator and one overlap for both.
    """

    channels = 2
    EPSILON = 1e-3

    def __init__(self, fuse_kernel: Sequence[float] = FUSE_KERNEL, ignore_index: int = 255):
        """
        Args:
            fuse_kernel: weights of the boundaries at strides 1, 2 and 4.
            ignore_index: the label that is ignored; its border is a boundary like any other.

        Raises:
            ValueError: not three weights.
        """
        super().__init__(fuse_kernel, ignore_index=ignore_index)

    def parts(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Binary cross entropy and Dice, scalars."""
        boundary = self.boundaries(labels)
        target = paddle.concat([1.0 - boundary, boundary], axis=1)  # (N, 2, H, W)
        logits = F.interpolate(logits, size=target.shape[2:], mode="bilinear", align_corners=True)
        bce = F.binary_cross_entropy_with_logits(logits, target)
        probability, target = F.sigmoid(logits).flatten(1), target.flatten(1)  # (N, 2*H*W)
        overlap = (probability * target).sum(axis=1)
        total = probability.square().sum(axis=1) + target.square().sum(axis=1)
        return bce, (1.0 - 2.0 * overlap / (total + 2.0 * self.EPSILON)).mean()
