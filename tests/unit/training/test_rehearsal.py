"""The first step that is tried before a run."""

from typing import Any

import numpy as np
import paddle
import pytest
from paddle import Tensor, nn
from tiny_training import TinyNet, TinySamples

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.losses.multi_head import MultiHeadLoss
from paddleseg_ext.training.rehearsal import rehearse_step

CLASSES = 7


class WithSide(TinySamples):
    """Samples of a side of 32."""

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {"img": np.zeros((3, 32, 32)), "label": np.zeros((1, 32, 32))}


class AreaLoss(nn.Layer):
    """As a contrastive loss: on a quarter of the side, of classes of enough pixels there."""

    def __init__(self, least: int):
        super().__init__()
        self.least = least
        self.seen: Any = None

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.seen = np.unique(labels.numpy())
        images = labels[:, ::4, ::4]
        counts = [int((image == value).sum()) for image in images for value in range(CLASSES)]
        return logits.mean() * (1 // sum(count > self.least for count in counts))


def rehearse(least: int) -> AreaLoss:
    loss = AreaLoss(least)
    heads = MultiHeadLoss([loss, loss], [1.0, 1.0])
    paddle.seed(0)
    rehearse_step(TinyNet(CLASSES), heads, WithSide(4, CLASSES), 0)
    return loss


def test_classes_are_bands_as_wide_as_can_be() -> None:
    loss = rehearse(least=8 * 8 // CLASSES + 4)  # in turns, a class would have 9 pixels
    assert list(loss.seen) == list(range(CLASSES))


def test_a_loss_that_cannot_be_computed_is_refused_beforehand() -> None:
    with pytest.raises(UsageError, match=r"first step of TinyNet .* ZeroDivisionError"):
        rehearse(least=8 * 8)
