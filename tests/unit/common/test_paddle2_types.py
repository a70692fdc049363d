"""PaddleSeg's losses, which are written for Paddle 2's arithmetic, on Paddle 3."""

from pathlib import Path

import numpy as np
import paddle
import pytest

from paddleseg_ext.common.paddle2_types import with_paddle2_types
from paddleseg_ext.config import Config
from paddleseg_ext.losses.multi_head import build_loss


def test_a_weighted_cross_entropy_of_paddlesegs() -> None:
    """Its divisor is the sum of the pixels' weights."""
    spec = {"type": "CrossEntropyLoss", "weight": [1.0, 3.0]}
    mixed = {"type": "MixedLoss", "losses": [spec], "coef": [1.0]}
    raw = {"model": {"type": "FCN"}, "loss": {"types": [spec, mixed], "coef": [1.0, 2.0]}}
    loss = build_loss(Config(Path("a.yml"), raw), 255)
    logits = paddle.to_tensor(np.random.default_rng(0).normal(size=(1, 2, 1, 3)), "float32")
    logits.stop_gradient = False
    total, _ = loss([logits, logits], paddle.to_tensor([[[0, 1, 255]]]))
    total.backward()
    assert logits.grad is not None and not logits.grad.numpy()[..., 2].any()
    log_softmax = paddle.nn.functional.log_softmax(logits, axis=1).numpy()[0, :, 0]
    expected = -(log_softmax[0, 0] + 3 * log_softmax[1, 1]) / 4
    assert float(total) == pytest.approx(3 * expected, rel=1e-5)


def test_operators_are_paddles_again_afterwards() -> None:
    whole, floats = paddle.to_tensor([1, 2]), paddle.to_tensor([0.5, 0.5])
    truths = paddle.to_tensor([True, False])
    with with_paddle2_types():
        np.testing.assert_array_equal((floats * whole).numpy(), [0.5, 1.0])
        np.testing.assert_array_equal((floats - truths).numpy(), [-0.5, 0.5])
        np.testing.assert_array_equal((whole * floats).numpy(), [0, 0])  # the left one's type
        assert (1 - whole).dtype == paddle.int64 and (whole + truths).dtype == paddle.int64
    with pytest.raises(TypeError):
        _ = whole * floats


def test_sizes_can_be_joined() -> None:
    """As ISANet (its padding) and PointRend (numbers of points) do."""
    plain = paddle.concat
    sizes = [paddle.to_tensor(6, "int64") // 2, paddle.to_tensor([4, 5], "int32")]
    with with_paddle2_types():
        joined = paddle.concat(sizes)
        assert joined.dtype == paddle.int64 and joined.tolist() == [3, 4, 5]
        halves = [paddle.zeros([2, 1], "float16"), paddle.ones([2, 1], "float16")]
        assert paddle.concat(halves, axis=1).tolist() == [[0, 1], [0, 1]]
    assert paddle.concat is plain
    with pytest.raises(ValueError, match="data_type"):
        paddle.concat([sizes[0].reshape([1]), sizes[1]])
